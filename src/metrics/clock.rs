//! The clock. No other file reads it, so what a frame's times mean is decided here: durations
//! come from the monotonic clock, times of day are seconds since the Unix epoch.
#![allow(clippy::disallowed_methods)]

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
