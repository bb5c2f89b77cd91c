//! The one door for threads: each has a role, a number and a word on its core, and none outlives
//! its handle unnoticed.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use super::{Fault, Stop, stop::StopOnPanic};

/// What a thread does. The name shown by `top -H` is made of it.
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
    /// Watches queues, does the housekeeping, looks out for another primary.
    Watch,
    /// Produces frames.
    Camera,
    /// Sends the frames of cameras.
    Send,
    /// Carries messages between Kafka and Redis.
    Bridge,
    /// Waits for signals.
    Signal,
    /// Builds the engine; not a thread of its own, but whoever starts it.
    Build,
    /// Tells the service manager how the engine stands.
    Notify,
    /// Keeps the log: summaries, repetitions, and a configuration read again.
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

/// Who a thread is. There is no default on purpose.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// What it does.
    pub role: Role,
    /// Its number among those of the same role.
    pub index: usize,
    /// The core it stays on; `None` leaves it to the scheduler.
    pub core: Option<usize>,
}

/// Called by a thread of the engine at each turn of its loop, and by the builder at each step, with
/// what it does: for tests of what its panic does to the others. The default does nothing.
#[derive(Clone, Default)]
pub struct Turn(Option<Arc<dyn Fn(Role) + Send + Sync>>);

impl Turn {
    /// Calls `body`.
    pub fn new(body: impl Fn(Role) + Send + Sync + 'static) -> Turn {
        Turn(Some(Arc::new(body)))
    }

    /// A thread of that role begins a turn.
    pub fn begins(&self, role: Role) {
        if let Some(body) = &self.0 {
            body(role);
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Turn(called)" } else { "Turn" })
    }
}

/// A running thread; dropping the handle waits for the thread.
#[derive(Debug)]
#[must_use = "a thread that nobody joins cannot report its fault"]
pub struct Running {
    name: String,
    handle: Option<JoinHandle<Result<(), Fault>>>,
    panicked: Arc<AtomicBool>,
}

impl Running {
    /// Waits for the end and says how it ended.
    ///
    /// # Errors
    /// The thread's own fault, or [`Fault::ThreadPanicked`] with the panic message.
    pub fn join(mut self) -> Result<(), Fault> {
        self.join_once()
    }

    /// Gives the thread up: it is neither waited for nor heard of again. For an end that must not
    /// hang on a system call without limit.
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

/// Starts a thread. If it cannot be started, or its body panics, `stop` is raised to "now" so that
/// nobody waits for it, nor for the threads started before it.
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
    #[allow(clippy::disallowed_methods)] // this is the door
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

/// Keeps the calling thread on `core`, if one is named. A refusal is only worth a warning: the
/// engine is slower without, not wrong.
pub fn pin_current(core: Option<usize>) {
    #[cfg(target_os = "linux")]
    if let Some(core) = core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        if let Err(errno) = rustix::thread::sched_setaffinity(None, &set) {
            tracing::warn!("cannot stay on core {core}: {errno}");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

/// Lets the calling thread, and those it starts from now on, step back behind all others: for work
/// that frames must not wait for. Where the system refuses, nothing is lost but that.
pub fn step_back() {
    #[cfg(target_os = "linux")] // elsewhere it would be the whole process
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

/// How many threads can really run at once: affinity and cgroup quota considered.
pub fn parallelism() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Runs what may panic on outside input, for which its library has no error; `None` if it did. Nothing is
/// said about the panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    IS_CAUGHT.set(true);
    let end = catch_unwind(AssertUnwindSafe(work)).ok();
    IS_CAUGHT.set(false);
    end
}

/// Whether a panic of this thread is expected now.
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
