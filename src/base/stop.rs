//! The stop signal: handed in, never global.
//!
//! Three levels, and it only ever rises: running, draining (stop taking frames, finish those in
//! hand), and now (leave everything; what is not committed stays pending in Redis).
//!
//! A waiting thread has no need to look at it again and again: for sleepers there is a condition variable,
//! for those who wait at a channel a channel that closes, for those who wait at a socket a descriptor
//! that becomes readable.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, eventfd};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Running,
    Draining,
    Now,
}

/// A shared, clonable stop signal.
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    level: Mutex<Level>,
    changed: Condvar,
    /// Made for the first who waits at a descriptor; `None` if the system had none left.
    bell: OnceLock<Option<OwnedFd>>,
    /// Dropped when everybody is to leave.
    staying: Mutex<Option<Sender<Infallible>>>,
    leaving: Receiver<Infallible>,
}

impl Default for Stop {
    fn default() -> Self {
        // With room for one: a thread that waits at a channel without room takes memory each time.
        let (staying, leaving) = bounded(1);
        let shared = Shared {
            level: Mutex::new(Level::Running),
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
        self.raise(Level::Draining);
    }

    /// Asks everybody to leave at once.
    pub fn now(&self) {
        self.raise(Level::Now);
    }

    /// Whether no more frames are to be taken.
    pub fn is_draining(&self) -> bool {
        *self.shared.level.lock() >= Level::Draining
    }

    /// Whether everything is to be left as it is.
    pub fn is_now(&self) -> bool {
        *self.shared.level.lock() == Level::Now
    }

    /// Sleeps for `duration`, or until draining begins. Says whether it has begun.
    pub fn sleep(&self, duration: Duration) -> bool {
        self.wait(duration, Level::Draining)
    }

    /// Sleeps for `duration`, or until everybody is to leave. Says whether that is so. For those
    /// whose work goes on while draining.
    pub fn sleep_unless_now(&self, duration: Duration) -> bool {
        self.wait(duration, Level::Now)
    }

    fn wait(&self, duration: Duration, level: Level) -> bool {
        let Shared { level: lock, changed, .. } = &*self.shared;
        let mut current = lock.lock();
        // A spurious wake-up only shortens one sleep of a caller that loops anyway.
        if *current < level {
            changed.wait_for(&mut current, duration);
        }
        *current >= level
    }

    /// A channel that nothing ever comes from, and that closes when everybody is to leave.
    pub fn leaving(&self) -> &Receiver<Infallible> {
        &self.shared.leaving
    }

    /// A descriptor that is readable from the beginning of draining on. `None` if the system has no
    /// descriptor left: then the caller has to look now and then.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        let make = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        let bell = self.shared.bell.get_or_init(make).as_ref()?;
        // A thread that raised the signal before the bell was there has not rung it.
        if self.is_draining() {
            ring(bell);
        }
        Some(bell.as_fd())
    }

    fn raise(&self, level: Level) {
        let shared = &*self.shared;
        let mut current = shared.level.lock();
        *current = (*current).max(level);
        shared.changed.notify_all();
        drop(current);
        if let Some(Some(bell)) = shared.bell.get() {
            ring(bell);
        }
        if level == Level::Now {
            shared.staying.lock().take();
        }
    }
}

fn ring(bell: &OwnedFd) {
    // It fails only if the counter is full: then the descriptor is readable already.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

/// Raises the signal when a thread unwinds, so that its neighbours leave instead of waiting.
#[derive(Debug)]
pub struct StopOnPanic {
    /// What is raised.
    pub stop: Stop,
    /// The mark by which a panic is known before the thread has ended. Set first.
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
    fn whoever_waits_is_told() {
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
