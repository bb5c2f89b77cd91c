//! The stop signal: handed in, never global.
//!
//! Three levels, and it only ever rises: running, draining (stop taking frames, finish those in
//! hand), and now (leave everything; what is not committed stays pending in Redis).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Running,
    Draining,
    Now,
}

/// A shared, clonable stop signal.
#[derive(Clone, Debug)]
pub struct Stop {
    shared: Arc<(Mutex<Level>, Condvar)>,
}

impl Default for Stop {
    fn default() -> Self {
        Stop { shared: Arc::new((Mutex::new(Level::Running), Condvar::new())) }
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
        *self.shared.0.lock() >= Level::Draining
    }

    /// Whether everything is to be left as it is.
    pub fn is_now(&self) -> bool {
        *self.shared.0.lock() == Level::Now
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
        let (lock, changed) = &*self.shared;
        let mut current = lock.lock();
        // A spurious wake-up only shortens one sleep of a caller that loops anyway.
        if *current < level {
            changed.wait_for(&mut current, duration);
        }
        *current >= level
    }

    fn raise(&self, level: Level) {
        let (lock, changed) = &*self.shared;
        let mut current = lock.lock();
        *current = (*current).max(level);
        changed.notify_all();
    }
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
}
