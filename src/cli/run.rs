//! `framepress run`: runs the engine until stopped.

use clap::Args;

use super::common::Common;
use super::failure::Failure;
use super::service::keeper::ConfigKeeper;
use super::service::notify::Notifier;
use super::service::signals::SignalWatch;
use crate::base::{Stop, descriptors};
use crate::config::Loader;
use crate::engine::{Engine, Hooks};
use crate::http::{Listener, Serving};

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress run --config framepress.yaml\n  \
    framepress run --redis-url redis://10.0.0.5:6379 --stats-addr 127.0.0.1:9100\n  \
    REDIS_QUEUE__COMPRESSION_QUALITY=70 framepress run\n\n\
    The first SIGTERM or SIGINT finishes the frames in work, the second ends the engine at once.\n\
    At a SIGHUP the engine reads the configuration again: it applies what can change at run time,\n\
    logs what needs a restart, and keeps its configuration if the new one is wrong. Environment\n\
    variables and flags keep their values from the start, and still override the file.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Address of the statistics server, as in 127.0.0.1:8080; `null` for none
    #[arg(long, value_name = "ADDR")]
    stats_addr: Option<String>,
}

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = args.common.load(loader(args))?.config;
    let stop = Stop::default();
    // Capacity 1, so that several pending reload requests count as one.
    let (hang_up, reload) = crossbeam_channel::bounded(1);
    let _signals = SignalWatch::with_reload(&stop, hang_up)?;
    let notifier = Notifier::start(&stop)?;

    // The port is bound before the first frame is read, so that a second engine started by mistake
    // fails early. The server also starts here, because waiting for Redis may take long.
    descriptors::raise();
    let listener = config.stats.addr.as_ref().map(Listener::bind).transpose()?;
    let server = match listener {
        Some(listener) => {
            tracing::info!("statistics on http://{}", listener.addr());
            let listener =
                listener.with_hosts(&config.stats.hosts).leaving(config.redis_queue.pool_size);
            Some(listener.serve_before_start(config.stats.token.clone(), &stop)?)
        }
        None => None,
    };
    let engine = match Engine::start(&config, Hooks::default(), stop.clone()) {
        Ok(engine) => engine,
        // A stop while waiting for Redis is not a failure.
        Err(fault) if stop.is_draining() => {
            tracing::info!("stopped before it could start: {fault}");
            return Ok(());
        }
        Err(fault) => return Err(fault.into()),
    };
    let view = engine.view().clone();
    notifier.watch(&view);
    if let Some(server) = &server {
        server.show(view.clone());
    }
    let again = args.clone();
    let keeper = ConfigKeeper::start(view.clone(), config, move || loader(&again), reload, &stop)?;
    let end = engine.wait();
    drop(keeper);
    let served = server.map_or(Ok(()), Serving::end);
    let account = view.metrics.ledger.read();
    // Frames are handed over only if streams are exclusive.
    let handed_over = match account.handed_over {
        0 => String::new(),
        count => format!(", {count} handed over"),
    };
    tracing::info!(
        "ended: {} read, {} out, {} dead-lettered, {} rejected, {} shed, {} lost{}, {} in flight",
        account.read,
        account.out,
        account.dead_lettered,
        account.rejected,
        account.shed,
        account.lost,
        handed_over,
        account.in_flight,
    );
    Ok(end.and(served)?)
}

/// The configuration layers, at the start and at each reload.
fn loader(args: &RunArgs) -> Loader {
    let loader = args.common.loader();
    match &args.stats_addr {
        Some(addr) => loader.flag("stats.addr", addr),
        None => loader,
    }
}
