//! Background work of `run`: configuration reloads at SIGHUP, summaries, and reports of repeated
//! faults.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::logging::{self, EACH};
use super::summary::Summary;
use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop};
use crate::config::{Changes, Config, Loader};
use crate::engine::EngineView;

/// Interval of checking for due work.
const TICK: Duration = Duration::from_secs(1);

/// A thread for this work; ends when the value is dropped.
#[derive(Debug)]
pub(in crate::cli) struct ConfigKeeper {
    /// Dropped to end the thread.
    end: Option<Sender<()>>,
    thread: Option<Running>,
}

impl ConfigKeeper {
    /// Starts the thread. It loads the configuration through `loader` on each `reload`.
    pub(in crate::cli) fn start(
        view: EngineView,
        config: Config,
        loader: impl Fn() -> Loader + Send + 'static,
        reload: Receiver<()>,
        stop: &Stop,
    ) -> Result<ConfigKeeper, Fault> {
        let (end, ended) = bounded(0);
        let identity = Identity { role: Role::Keep, index: 0, core: None };
        let thread = threads::spawn(identity, stop, move || {
            keep(&view, config, &loader, &reload, &ended);
            Ok(())
        })?;
        Ok(ConfigKeeper { end: Some(end), thread: Some(thread) })
    }
}

impl Drop for ConfigKeeper {
    fn drop(&mut self) {
        drop(self.end.take());
        drop(self.thread.take());
    }
}

fn keep(
    view: &EngineView,
    mut config: Config,
    loader: &impl Fn() -> Loader,
    reload: &Receiver<()>,
    ended: &Receiver<()>,
) {
    let mut summary = Summary::start(view);
    let ticks = crossbeam_channel::tick(TICK);
    loop {
        crossbeam_channel::select! {
            recv(ended) -> _ => return,
            recv(reload) -> asked => {
                if asked.is_err() {
                    return;
                }
                read_again(view, &mut config, loader());
            }
            recv(ticks) -> _ => {
                logging::report_repeats();
                summary.tick(view, config.log.summary_seconds);
            }
        }
    }
}

/// Applies the changes that need no restart, and logs the others. A wrong configuration changes
/// nothing.
fn read_again(view: &EngineView, config: &mut Config, loader: Loader) {
    let loaded = match loader.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            for fault in &error.faults {
                tracing::error!(target: EACH, "the new configuration is wrong: {fault}");
            }
            let count = error.faults.len();
            tracing::error!(target: EACH, "the engine keeps its configuration: the new one has {count} faults");
            return;
        }
    };
    let changes = config.take_live(&loaded.config);
    view.reload(config);
    // Logged at the more verbose of the old and the new level, because the operator waits for the
    // result.
    let shown_before = tracing::enabled!(tracing::Level::INFO);
    if shown_before {
        answer(&loaded.notes, &changes);
    }
    logging::set_level(config.log.level);
    if !shown_before {
        answer(&loaded.notes, &changes);
    }
}

fn answer(notes: &[String], changes: &Changes) {
    for note in notes {
        tracing::info!("{note}");
    }
    for key in &changes.needs_restart {
        tracing::warn!(
            target: EACH,
            key,
            "{key} has changed, which takes effect only after a restart"
        );
    }
    match changes.taken.as_slice() {
        [] => tracing::info!("the configuration has been read again: no change to apply"),
        taken => tracing::info!("the configuration has been read again: {}", taken.join(", ")),
    }
}
