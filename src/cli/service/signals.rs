//! The two-step stop: the first SIGTERM or SIGINT drains, the second exits at once.

use std::time::Duration;

use crossbeam_channel::Sender;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::{Handle, Signals};

use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop, private};
use crate::cli::output::{out, progress};
use crate::metrics::clock::Tick;

/// Exit code after a second signal.
const STOPPED_AT_ONCE: i32 = 130;

/// Signals that follow the first within this time belong to the same request. `timeout` of
/// coreutils sends two, one to its child and one to the whole process group. A terminal and a
/// service manager may both send one. A user who wants to leave at once waits longer before the
/// second signal.
const SAME_REQUEST: Duration = Duration::from_millis(250);

/// If the shutdown takes longer and the log does not show it, standard error does.
const QUIET: Duration = Duration::from_secs(1);

/// How often to check whether the shutdown is complete.
const LOOK: Duration = Duration::from_millis(10);

/// Watches for signals until dropped.
#[derive(Debug)]
pub(in crate::cli) struct SignalWatch {
    handle: Handle,
    thread: Option<Running>,
}

impl SignalWatch {
    pub(in crate::cli) fn start(stop: &Stop) -> Result<SignalWatch, Fault> {
        SignalWatch::watch(stop, &[SIGINT, SIGTERM], None)
    }

    /// The same; each SIGHUP also goes to `reload`. Several pending ones count as one.
    pub(in crate::cli) fn with_reload(
        stop: &Stop,
        reload: Sender<()>,
    ) -> Result<SignalWatch, Fault> {
        SignalWatch::watch(stop, &[SIGINT, SIGTERM, SIGHUP], Some(reload))
    }

    /// For commands without work to finish. The first signal ends the process as it would without a
    /// watch, but temporary files are removed. It also ends a process with id 1 in a container,
    /// which the kernel protects from signals.
    pub(in crate::cli) fn at_once() -> Result<SignalWatch, Fault> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|source| Fault::io("cannot watch for signals", source))?;
        let handle = signals.handle();
        let identity = Identity { role: Role::Signal, index: 0, core: None };
        let thread = threads::spawn(identity, &Stop::default(), move || {
            if let Some(signal) = signals.forever().next() {
                private::remove_all();
                // The parent process sees the death by signal, as without a watch.
                if !rustix::process::getpid().is_init() {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
                std::process::exit(STOPPED_AT_ONCE);
            }
            Ok(())
        })?;
        Ok(SignalWatch { handle, thread: Some(thread) })
    }

    fn watch(
        stop: &Stop,
        watched: &[i32],
        reload: Option<Sender<()>>,
    ) -> Result<SignalWatch, Fault> {
        let mut signals = Signals::new(watched)
            .map_err(|source| Fault::io("cannot watch for signals", source))?;
        let handle = signals.handle();
        let ended = handle.clone();
        let raised = stop.clone();
        let identity = Identity { role: Role::Signal, index: 0, core: None };
        let thread = threads::spawn(identity, stop, move || {
            if first(&mut signals, &raised, reload.as_ref()) {
                second(&mut signals, &ended);
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

/// Waits for the first signal and raises the stop. Returns whether a signal arrived.
fn first(signals: &mut Signals, raised: &Stop, reload: Option<&Sender<()>>) -> bool {
    for signal in signals.forever() {
        if signal == SIGHUP {
            if let Some(reload) = reload {
                let _ = reload.try_send(());
            }
            continue;
        }
        if raised.is_draining() {
            leave();
        }
        tracing::info!("stopping; a second signal ends it at once");
        raised.drain();
        return true;
    }
    false
}

/// Exits at the second signal. If the log does not show the first signal and the shutdown takes
/// long, standard error does.
fn second(signals: &mut Signals, ended: &Handle) {
    let began = Tick::now();
    while began.elapsed() < SAME_REQUEST && !ended.is_closed() {
        std::thread::sleep(LOOK);
        signals.pending().for_each(drop);
    }
    if !tracing::enabled!(tracing::Level::INFO) {
        while began.elapsed() < QUIET && !ended.is_closed() {
            if signals.pending().any(|signal| signal != SIGHUP) {
                leave();
            }
            std::thread::sleep(LOOK);
        }
        if !ended.is_closed() {
            let text = "framepress: stopping; a second signal ends it at once";
            progress::above(|| out::remark(text));
        }
    }
    if signals.forever().any(|signal| signal != SIGHUP) {
        leave();
    }
}

/// Makes a write beyond the file size limit fail instead of ending the process.
pub(in crate::cli) fn survive_file_limits() {
    // A handler rather than SIG_IGN, which child processes would inherit.
    let reached = std::sync::Arc::default();
    let _ = signal_hook::flag::register(SIGXFSZ, reached);
}

fn leave() -> ! {
    tracing::warn!("second signal: ending at once");
    private::remove_all();
    std::process::exit(STOPPED_AT_ONCE);
}
