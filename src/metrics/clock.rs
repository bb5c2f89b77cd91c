//! The clock. No other file reads it, so what a frame's times mean is decided here: durations
//! come from the monotonic clock, times of day are seconds since the Unix epoch.
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(Instant);

impl Tick {
    /// This moment.
    pub fn now() -> Tick {
        Tick(Instant::now())
    }

    /// Time since this moment.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Tick) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// The moment `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Tick {
        Tick(self.0 + duration)
    }
}

/// Seconds since the Unix epoch.
pub fn unix_seconds() -> f64 {
    unix_time().as_secs_f64()
}

/// Milliseconds since the Unix epoch: the unit of a Redis entry id.
pub fn unix_millis() -> u64 {
    u64::try_from(unix_time().as_millis()).unwrap_or(u64::MAX)
}

fn unix_time() -> Duration {
    // A clock set before 1970 reads as the epoch itself rather than stopping the engine.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clock of a Redis server, as far as it is known: ours plus a measured difference.
#[derive(Debug, Default)]
pub struct RemoteClock {
    ahead_micros: AtomicI64,
}

impl RemoteClock {
    /// Sets by how much it is ahead of ours, in seconds.
    #[allow(clippy::cast_possible_truncation)] // saturates
    pub fn set_ahead_seconds(&self, seconds: f64) {
        self.ahead_micros.store((seconds * 1e6) as i64, Ordering::Relaxed);
    }

    /// Time since an entry was added, by its id; zero if it seems to come from the future.
    pub fn age_of(&self, entry_millis: u64) -> Duration {
        let ours = i64::try_from(unix_time().as_micros()).unwrap_or(i64::MAX);
        let now = ours.saturating_add(self.ahead_micros.load(Ordering::Relaxed));
        let entry = i64::try_from(entry_millis.saturating_mul(1000)).unwrap_or(i64::MAX);
        Duration::from_micros(u64::try_from(now.saturating_sub(entry)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_an_entry_is_told_by_the_clock_that_made_its_id() {
        let clock = RemoteClock::default();
        let entry = unix_millis() - 10_000;
        let seconds = |clock: &RemoteClock| clock.age_of(entry).as_secs();
        let before = seconds(&clock);
        assert!((10..60).contains(&before), "{before}");
        // A server whose clock is an hour ahead gave this id to an entry an hour ago.
        clock.set_ahead_seconds(3600.0);
        assert!((3610..3660).contains(&seconds(&clock)));
        clock.set_ahead_seconds(-3600.0);
        assert_eq!(clock.age_of(entry), Duration::ZERO, "from the future");
        assert_eq!(clock.age_of(u64::MAX), Duration::ZERO, "no id is too large");
    }
}
