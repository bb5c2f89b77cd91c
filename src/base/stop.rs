//! The stop signal: passed to each user, never global.
//!
//! It has three levels and only ever rises: running, draining (take no more frames, finish those in
//! hand), and now (a stop at once; what is not committed stays pending in Redis).
//!
//! A waiting thread does not need to poll it. A sleeping thread waits on a condition variable, a
//! thread waiting on a channel selects a channel that closes, and a thread waiting on a socket
//! polls a descriptor that becomes readable.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StopLevel {
    Running,
    Draining,
    Now,
}

/// A shared, clonable stop signal with three levels: running, draining, and now. It only rises; after
/// a stop, take a new one.
///
/// | level | an engine | a producer |
/// | --- | --- | --- |
/// | draining | takes no more frames and finishes those in hand | sends nothing again, and `enqueue` no longer waits for room |
/// | now | leaves what is not committed pending in Redis | no longer waits for answers either |
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<StopShared>,
}

#[derive(Debug)]
struct StopShared {
    level: Mutex<StopLevel>,
    changed: Condvar,
    /// Made when a thread first waits on a descriptor; `None` if the system had none left.
    bell: OnceLock<Option<OwnedFd>>,
    /// Dropped at a stop at once.
    staying: Mutex<Option<Sender<Infallible>>>,
    leaving: Receiver<Infallible>,
}

impl Default for Stop {
    fn default() -> Self {
        // Room for one: each wait on a channel without room allocates memory.
        let (staying, leaving) = bounded(1);
        let shared = StopShared {
            level: Mutex::new(StopLevel::Running),
            changed: Condvar::new(),
            bell: OnceLock::new(),
            staying: Mutex::new(Some(staying)),
            leaving,
        };
        Stop { shared: Arc::new(shared) }
    }
}

impl Stop {
    /// Asks for an orderly end.
    pub fn drain(&self) {
        self.raise(StopLevel::Draining);
    }

    /// Asks all threads to stop at once.
    pub fn now(&self) {
        self.raise(StopLevel::Now);
    }

    /// Whether no more frames are to be taken.
    pub fn is_draining(&self) -> bool {
        *self.shared.level.lock() >= StopLevel::Draining
    }

    /// Whether all threads are to stop at once.
    pub fn is_now(&self) -> bool {
        *self.shared.level.lock() == StopLevel::Now
    }

    /// Sleeps for `duration`, or until draining begins. Returns whether it has begun.
    pub fn sleep(&self, duration: Duration) -> bool {
        self.wait(duration, StopLevel::Draining)
    }

    /// Sleeps for `duration`, or until a stop at once. Returns whether that has come. For threads
    /// that go on working while draining.
    #[doc(hidden)]
    pub fn sleep_unless_now(&self, duration: Duration) -> bool {
        self.wait(duration, StopLevel::Now)
    }

    fn wait(&self, duration: Duration, level: StopLevel) -> bool {
        let StopShared { level: lock, changed, .. } = &*self.shared;
        let mut current = lock.lock();
        // A spurious wake-up only shortens one sleep of a caller that loops anyway.
        if *current < level {
            changed.wait_for(&mut current, duration);
        }
        *current >= level
    }

    /// A channel that never delivers anything and closes at a stop at once.
    #[doc(hidden)]
    pub fn leaving(&self) -> &Receiver<Infallible> {
        &self.shared.leaving
    }

    /// A descriptor that is readable once draining begins. `None` if the system has no descriptor
    /// left; the caller must then check the signal now and then.
    #[doc(hidden)]
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        let make = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        let bell = self.shared.bell.get_or_init(make).as_ref()?;
        // A thread that raised the signal before the descriptor existed has not made it readable.
        if self.is_draining() {
            ring(bell);
        }
        Some(bell.as_fd())
    }

    fn raise(&self, level: StopLevel) {
        let shared = &*self.shared;
        let mut current = shared.level.lock();
        *current = (*current).max(level);
        shared.changed.notify_all();
        drop(current);
        if let Some(Some(bell)) = shared.bell.get() {
            ring(bell);
        }
        if level == StopLevel::Now {
            shared.staying.lock().take();
        }
    }
}

fn ring(bell: &OwnedFd) {
    // A write fails only if the counter is full, and then the descriptor is readable already.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// Raises the signal when a thread unwinds, so that its neighbours stop instead of waiting.
#[derive(Debug)]
pub struct StopOnPanic {
    /// The signal to raise.
    pub stop: Stop,
    /// Marks a panic before the thread has ended. Set before the signal is raised.
    pub panicked: Arc<AtomicBool>,
}

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.panicked.store(true, Ordering::Release);
            self.stop.now();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn the_level_never_falls() {
        let stop = Stop::default();
        assert!(!stop.is_draining());
        stop.now();
        stop.drain();
        assert!(stop.is_now() && stop.is_draining());
        assert!(stop.sleep(Duration::from_secs(60)), "a raised signal cuts the sleep short");
    }

    #[test]
    fn waiting_threads_are_told() {
        let is_readable = |bell: BorrowedFd<'_>| {
            let mut watched = [PollFd::new(&bell, PollFlags::IN)];
            poll(&mut watched, Some(&Timespec::default())).unwrap() == 1
        };
        let (early, late) = (Stop::default(), Stop::default());
        assert!(!is_readable(early.bell().unwrap()));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| early.leaving().recv().is_err());
            early.drain();
            assert!(is_readable(early.bell().unwrap()) && !waiter.is_finished());
            early.now();
            assert!(waiter.join().unwrap());
        });
        late.drain();
        assert!(is_readable(late.bell().unwrap()), "also if it is asked for afterwards");
    }
}
