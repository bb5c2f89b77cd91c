//! The clock. No other file reads it, so the meaning of a frame's times is decided here: durations
//! come from the monotonic clock, times of day are seconds since the Unix epoch.
#![allow(clippy::disallowed_methods)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

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

    /// Time until this moment; zero if it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Tick) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// The moment `duration` earlier; this moment itself if the clock cannot represent it.
    #[must_use]
    pub fn before(self, duration: Duration) -> Tick {
        Tick(self.0.checked_sub(duration).unwrap_or(self.0))
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

/// Nanoseconds since the Unix epoch, precise enough to tell moments apart.
pub fn unix_nanos() -> u128 {
    unix_time().as_nanos()
}

/// The current time as a date from 1970 to 9999, clamped. Many protocols cannot represent a date
/// outside these years.
pub fn calendar_time() -> SystemTime {
    const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);
    UNIX_EPOCH + unix_time().min(LAST_SECOND)
}

/// Time since the Unix epoch; zero before.
pub fn since_epoch() -> Duration {
    unix_time()
}

fn unix_time() -> Duration {
    // A clock set before 1970 reads as the epoch itself rather than stopping the engine.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clock of a Redis server: the server's time at one moment of the local monotonic clock, and
/// its accuracy. Changes of the local system clock have no effect.
///
/// A sample gives the server's time at some moment within its round trip. The middle of the round
/// trip is wrong by at most half of it (Cristian, "Probabilistic clock synchronization", 1989).
#[derive(Debug, Default)]
pub struct RemoteClock {
    known: Mutex<Option<KnownClock>>,
}

/// An accepted sample.
#[derive(Clone, Copy, Debug)]
struct KnownClock {
    at: Tick,
    /// The server's clock at that moment.
    server: Duration,
    /// Largest error of `server`.
    error: Duration,
}

/// Largest drift between two good clocks: 100 microseconds a second.
const DRIFT_PER_SECOND: Duration = Duration::from_micros(100);

/// Tolerance before an id counts as ahead of the server's clock. Redis reads its clock once for
/// many commands, and two servers of a failover may differ by milliseconds.
const AHEAD_MIN: Duration = Duration::from_millis(1000);

impl KnownClock {
    /// Largest error of the server's clock as computed for this moment.
    fn error(&self) -> Duration {
        let drift = self.at.elapsed().as_secs_f64() * DRIFT_PER_SECOND.as_secs_f64();
        self.error + Duration::from_secs_f64(drift)
    }

    fn now(&self) -> Duration {
        self.server + self.at.elapsed()
    }
}

impl RemoteClock {
    /// Adds a sample: `server` is the time in an answer that has just arrived to a request sent at
    /// `asked`. A sample with a long round trip is inaccurate. It counts only if it is more
    /// accurate than what is known, or proves that the clock was set.
    pub fn sample(&self, server: Duration, asked: Tick) {
        let at = Tick::now();
        let half = at.since(asked) / 2;
        let sample = KnownClock { at, server: server + half, error: half };
        let mut known = self.known.lock();
        let is_better = known.is_none_or(|known| {
            let apart = known.now().abs_diff(sample.server);
            sample.error <= known.error() || apart > sample.error + known.error()
        });
        if is_better {
            *known = Some(sample);
        }
    }

    /// Time since an entry was added, by its id. Zero if the id is ahead of the clock or the clock
    /// has not been read yet.
    pub fn age_of(&self, entry_millis: u64) -> Duration {
        let known = *self.known.lock();
        let entry = Duration::from_millis(entry_millis);
        known.map_or(Duration::ZERO, |known| known.now().saturating_sub(entry))
    }

    /// By how much an id is ahead of the clock, if that exceeds the tolerance. After the server's
    /// clock is set back, Redis continues from the last id.
    pub fn ahead(&self, entry_millis: u64) -> Option<Duration> {
        let known = (*self.known.lock())?;
        let ahead = Duration::from_millis(entry_millis).saturating_sub(known.now());
        (ahead > AHEAD_MIN + known.error()).then_some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: Duration = Duration::from_secs(1_000_000);

    fn millis(time: Duration) -> u64 {
        u64::try_from(time.as_millis()).unwrap()
    }

    #[test]
    fn the_age_of_an_entry_is_told_by_the_clock_that_made_its_id() {
        let clock = RemoteClock::default();
        let entry = millis(SERVER) - 10_000;
        assert_eq!(clock.age_of(entry), Duration::ZERO, "not known yet");
        clock.sample(SERVER, Tick::now());
        assert!((10..60).contains(&clock.age_of(entry).as_secs()));
        assert_eq!(clock.age_of(u64::MAX), Duration::ZERO, "no id is too large");
    }

    #[test]
    fn a_slow_answer_is_not_believed_unless_it_proves_that_the_clock_was_set() {
        let clock = RemoteClock::default();
        clock.sample(SERVER, Tick::now());
        let entry = millis(SERVER) - 10_000;
        let minute_ago = Tick::now().before(Duration::from_secs(60));
        clock.sample(SERVER - Duration::from_secs(15), minute_ago);
        assert!((10..15).contains(&clock.age_of(entry).as_secs()), "wrong by up to 30 s");
        clock.sample(SERVER + Duration::from_secs(3600), minute_ago);
        assert!(clock.age_of(entry).as_secs() >= 3600);
    }

    #[test]
    fn an_id_ahead_of_the_clock_is_noticed() {
        let clock = RemoteClock::default();
        assert_eq!(clock.ahead(u64::MAX), None, "not known yet");
        clock.sample(SERVER, Tick::now());
        assert_eq!(clock.ahead(millis(SERVER)), None);
        assert_eq!(clock.ahead(millis(SERVER) + 500), None, "clocks are read once in a while");
        let hour = clock.ahead(millis(SERVER) + 3_600_000).unwrap();
        assert!((3500..=3600).contains(&hour.as_secs()));
    }
}
