//! The only place that starts threads. Each thread has a role, a number and a choice of core, and
//! its handle reports its end.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::{Fault, Stop, stop::StopOnPanic};

/// What a thread does. The name shown by `top -H` is derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads an input stream.
    Read,
    /// Hands frames to the workers in order.
    Dispatch,
    /// Decodes, analyses and encodes; belongs to the rayon pool.
    Work,
    /// Writes results and acknowledges.
    Commit,
    /// Serves statistics.
    Stats,
    /// Keeps the leases of streams.
    Lease,
    /// Watches the queues, does the housekeeping, and checks for another primary.
    Watch,
    /// Produces frames.
    Camera,
    /// Sends the frames of cameras.
    Send,
    /// Carries messages between Kafka and Redis.
    Bridge,
    /// Waits for signals.
    Signal,
    /// Builds the engine. This is not a separate thread but the one that starts the engine.
    Build,
    /// Reports the engine's state to the service manager.
    Notify,
    /// Maintains the log (summaries, repeated lines) and reloads the configuration.
    Keep,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Dispatch => "dispatch",
            Role::Work => "work",
            Role::Commit => "commit",
            Role::Stats => "stats",
            Role::Lease => "lease",
            Role::Watch => "watch",
            Role::Camera => "camera",
            Role::Send => "send",
            Role::Bridge => "bridge",
            Role::Signal => "signal",
            Role::Build => "build",
            Role::Notify => "notify",
            Role::Keep => "keep",
        }
    }
}

/// The name of thread `index` of a role; at most 15 bytes, the kernel's limit.
pub fn name_of(role: Role, index: usize) -> String {
    format!("fp-{}-{index}", role.name())
}

/// The identity of a thread. It deliberately has no default.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// What it does.
    pub role: Role,
    /// Its number among the threads of its role.
    pub index: usize,
    /// The core it is pinned to; `None` leaves it to the scheduler.
    pub core: Option<usize>,
}

/// The loop hook, called with its role by a thread of the engine at each loop iteration and by the
/// builder at each step. Tests use it to panic in one thread. The default does nothing.
#[derive(Clone, Default)]
pub struct LoopHook(Option<Arc<dyn Fn(Role) + Send + Sync>>);

impl LoopHook {
    /// Calls `body`.
    pub fn new(body: impl Fn(Role) + Send + Sync + 'static) -> LoopHook {
        LoopHook(Some(Arc::new(body)))
    }

    /// Calls the hook at the beginning of a loop iteration of `role`.
    pub fn call(&self, role: Role) {
        if let Some(body) = &self.0 {
            body(role);
        }
    }
}

impl fmt::Debug for LoopHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "LoopHook(called)" } else { "LoopHook" })
    }
}

/// A running thread; dropping the handle waits for the thread.
#[derive(Debug)]
#[must_use = "a thread that is not joined cannot report its fault"]
pub struct Running {
    name: String,
    handle: Option<JoinHandle<Result<(), Fault>>>,
    panicked: Arc<AtomicBool>,
}

impl Running {
    /// Waits for the thread to end and returns its result.
    ///
    /// # Errors
    /// The thread's own fault, or [`Fault::ThreadPanicked`] with the panic message.
    pub fn join(mut self) -> Result<(), Fault> {
        self.join_once()
    }

    /// Detaches the thread: its end is neither awaited nor reported. For an exit that must not hang
    /// on a system call without a time limit.
    pub fn abandon(mut self) {
        self.handle = None;
    }

    /// Whether the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Whether the thread has panicked, and has ended or is about to.
    pub fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    fn join_once(&mut self) -> Result<(), Fault> {
        match self.handle.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(end)) => end,
            Some(Err(payload)) => Err(Fault::ThreadPanicked {
                thread: self.name.clone(),
                message: panic_message(&*payload),
            }),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(fault) = self.join_once() {
            tracing::error!("{fault}");
        }
    }
}

/// Starts a thread. If it cannot be started, or its body panics, `stop` is raised to "now", so that
/// no thread waits for it or for the threads started before it.
///
/// # Errors
/// [`Fault::Io`] when the operating system refuses another thread.
pub fn spawn(
    identity: Identity,
    stop: &Stop,
    body: impl FnOnce() -> Result<(), Fault> + Send + 'static,
) -> Result<Running, Fault> {
    let name = name_of(identity.role, identity.index);
    let panicked = Arc::new(AtomicBool::new(false));
    let guard = StopOnPanic { stop: stop.clone(), panicked: Arc::clone(&panicked) };
    #[allow(clippy::disallowed_methods)] // the one permitted call
    let handle = thread::Builder::new()
        .name(name.clone())
        .spawn(move || {
            let _guard = guard;
            pin_current(identity.core);
            body()
        })
        .map_err(|source| {
            stop.now();
            Fault::io(format!("cannot start thread {name}"), source)
        })?;
    Ok(Running { name, handle: Some(handle), panicked })
}

/// Pins the calling thread to `core`, if one is given. A refusal only logs a warning, because
/// pinning affects only speed.
pub fn pin_current(core: Option<usize>) {
    #[cfg(target_os = "linux")]
    if let Some(core) = core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        if let Err(errno) = rustix::thread::sched_setaffinity(None, &set) {
            tracing::warn!("cannot pin a thread to core {core}: {errno}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

/// Lowers the priority of the calling thread and of the threads it starts afterwards. For work that
/// frames must not wait for. A refusal has no other effect.
pub fn step_back() {
    #[cfg(target_os = "linux")] // elsewhere it would affect the whole process
    if let Err(errno) = rustix::process::setpriority_process(None, 10) {
        tracing::debug!("cannot lower the priority of a thread: {errno}");
    }
}

/// The cores this process may run on, by their numbers.
pub fn allowed_cores() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        return (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    }
    (0..parallelism()).collect()
}

/// How many threads can actually run at once, given affinity and cgroup quota.
pub fn parallelism() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs work that may panic on outside input because its library has no error for it. Returns
/// `None` if it panicked. The panic is not logged.
pub fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    IS_CAUGHT.set(true);
    let end = catch_unwind(AssertUnwindSafe(work)).ok();
    IS_CAUGHT.set(false);
    end
}

/// Whether a panic of the calling thread is expected.
pub fn is_caught() -> bool {
    IS_CAUGHT.get()
}

/// The text of a caught panic.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_panics_on_is_caught_and_nothing_else_is_hidden() {
        assert_eq!(caught(|| 7), Some(7));
        assert_eq!(caught(|| panic!("it was {}", is_caught())), None::<()>);
        assert!(!is_caught());
    }

    const ANYWHERE: Identity = Identity { role: Role::Watch, index: 0, core: None };

    #[test]
    fn a_panic_raises_the_stop_and_is_reported_with_its_message() {
        let stop = Stop::default();
        let running = spawn(ANYWHERE, &stop, || panic!("the wheel came off")).unwrap();
        let fault = running.join().unwrap_err();
        assert!(fault.to_string().contains("fp-watch-0 panicked: the wheel came off"), "{fault}");
        assert!(stop.is_now());
    }

    #[test]
    fn names_fit_the_kernels_limit() {
        for role in [Role::Dispatch, Role::Commit, Role::Signal] {
            assert!(name_of(role, 999).len() <= 15);
        }
    }
}
