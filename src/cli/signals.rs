//! The two-step stop: the first SIGTERM or SIGINT drains, the second exits at once.

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop};

/// Exit code after a second signal.
const STOPPED_AT_ONCE: i32 = 130;

/// Watches for signals until dropped.
#[derive(Debug)]
pub(super) struct SignalWatch {
    handle: Handle,
    thread: Option<Running>,
}

impl SignalWatch {
    pub(super) fn start(stop: &Stop) -> Result<SignalWatch, Fault> {
        SignalWatch::watch(stop, &[SIGINT, SIGTERM], None)
    }

    /// The same, and each SIGHUP goes to `reload`; one that finds another still there is that one.
    pub(super) fn with_reload(stop: &Stop, reload: Sender<()>) -> Result<SignalWatch, Fault> {
        SignalWatch::watch(stop, &[SIGINT, SIGTERM, SIGHUP], Some(reload))
    }

    fn watch(
        stop: &Stop,
        watched: &[i32],
        reload: Option<Sender<()>>,
    ) -> Result<SignalWatch, Fault> {
        let mut signals = Signals::new(watched)
            .map_err(|source| Fault::io("cannot watch for signals", source))?;
        let handle = signals.handle();
        let raised = stop.clone();
        let identity = Identity { role: Role::Signal, index: 0, core: None };
        let thread = threads::spawn(identity, stop, move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    if let Some(reload) = &reload {
                        let _ = reload.try_send(());
                    }
                    continue;
                }
                if raised.is_draining() {
                    tracing::warn!("second signal: leaving at once");
                    std::process::exit(STOPPED_AT_ONCE);
                }
                tracing::info!("stopping; a second signal leaves at once");
                raised.drain();
            }
            Ok(())
        })?;
        Ok(SignalWatch { handle, thread: Some(thread) })
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
        drop(self.thread.take());
    }
}
