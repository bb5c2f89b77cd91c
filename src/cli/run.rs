//! `framepress run`: the engine, until stopped.

use clap::Args;

use super::notify::Notifier;
use super::signals::SignalWatch;
use super::{Common, Failure};
use crate::base::Stop;
use crate::engine::{Engine, Hooks};
use crate::http::{Listener, Serving};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  framepress run --config framepress.yaml\n\n\
    The first SIGTERM or SIGINT finishes the frames in hand, the second leaves at once.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Where the statistics are served, as in 127.0.0.1:8080; `null` for nowhere
    #[arg(long, value_name = "ADDR")]
    stats_addr: Option<String>,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut loader = args.common.loader();
    if let Some(addr) = &args.stats_addr {
        loader = loader.flag("stats.addr", addr);
    }
    let config = args.common.load(loader)?.config;
    let stop = Stop::default();
    let _signals = SignalWatch::start(&stop)?;
    let notifier = Notifier::start(&stop)?;

    // The port is taken before the first frame is read, so that a second engine by mistake does
    // not get that far.
    let listener = config.stats.addr.as_ref().map(Listener::bind).transpose()?;
    let engine = match Engine::start(&config, Hooks::default(), stop.clone()) {
        Ok(engine) => engine,
        // Stopped while waiting for Redis: as asked for, not a failure.
        Err(fault) if stop.is_draining() => {
            tracing::info!("stopped before it could start: {fault}");
            return Ok(());
        }
        Err(fault) => return Err(fault.into()),
    };
    let view = engine.view().clone();
    notifier.watch(&view);
    let server = match listener {
        Some(listener) => {
            tracing::info!("statistics on http://{}", listener.addr());
            let token = config.stats.token.clone();
            Some(listener.serve(view.clone(), token, &stop)?)
        }
        None => None,
    };
    let end = engine.wait();
    let served = server.map_or(Ok(()), Serving::end);
    let account = view.metrics.ledger.read();
    tracing::info!(
        "ended: {} read, {} out, {} dead-lettered, {} rejected, {} shed, {} lost, {} in flight",
        account.read,
        account.out,
        account.dead_lettered,
        account.rejected,
        account.shed,
        account.lost,
        account.in_flight,
    );
    Ok(end.and(served)?)
}
