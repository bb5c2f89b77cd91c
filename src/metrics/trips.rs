//! Round trips to servers: how long a question and its answer are under way when the server
//! answers at once. Windows are sized by the shortest of the last moments, for a longer one has
//! waited somewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::Tick;

/// For how long the shortest round trip counts: at least this, at most twice as long. A route that
/// has become longer is believed after that.
const MEMORY: Duration = Duration::from_secs(10);

/// Servers remembered; the one that was asked for the longest time ago is forgotten first.
const SERVERS_MAX: usize = 64;

/// No round trip is known.
const UNKNOWN: u64 = u64::MAX;

/// The round trip to one server.
#[derive(Debug)]
pub struct RoundTrip {
    shortest_us: AtomicU64,
    epochs: Mutex<Epochs>,
}

/// The shortest round trip of this stretch of time and of the one before, in microseconds.
#[derive(Debug)]
struct Epochs {
    began: Tick,
    current_us: u64,
    previous_us: u64,
}

impl Default for RoundTrip {
    fn default() -> Self {
        let epochs = Epochs { began: Tick::now(), current_us: UNKNOWN, previous_us: UNKNOWN };
        RoundTrip { shortest_us: AtomicU64::new(UNKNOWN), epochs: Mutex::new(epochs) }
    }
}

impl RoundTrip {
    /// Takes note of a question that was answered after this time.
    pub fn sample(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(UNKNOWN);
        let mut epochs = self.epochs.lock();
        if epochs.began.elapsed() >= MEMORY {
            *epochs =
                Epochs { began: Tick::now(), current_us: UNKNOWN, previous_us: epochs.current_us };
        }
        epochs.current_us = epochs.current_us.min(us);
        let shortest = epochs.current_us.min(epochs.previous_us);
        self.shortest_us.store(shortest, Ordering::Relaxed);
    }

    /// The shortest of the last moments; `None` before the first answer.
    pub fn shortest(&self) -> Option<Duration> {
        let us = self.shortest_us.load(Ordering::Relaxed);
        (us != UNKNOWN).then(|| Duration::from_micros(us))
    }
}

/// The round trips to all servers spoken to.
#[derive(Debug, Default)]
pub struct RoundTrips {
    /// By address; the last one asked for comes last.
    servers: Mutex<Vec<(String, Arc<RoundTrip>)>>,
}

impl RoundTrips {
    /// The one to this server, to be kept and used again.
    pub fn of(&self, server: &str) -> Arc<RoundTrip> {
        let mut servers = self.servers.lock();
        let known = servers.iter().position(|(name, _)| name == server);
        let known = match known {
            Some(index) => servers.remove(index),
            None => (server.to_owned(), Arc::default()),
        };
        let round_trip = Arc::clone(&known.1);
        if servers.len() == SERVERS_MAX {
            servers.remove(0);
        }
        servers.push(known);
        round_trip
    }

    /// The shortest round trip to the server that is farthest away.
    pub fn longest(&self) -> Option<Duration> {
        self.servers.lock().iter().filter_map(|(_, round_trip)| round_trip.shortest()).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_shortest_of_the_last_moments_counts_and_a_longer_route_is_believed() {
        let round_trip = RoundTrip::default();
        assert_eq!(round_trip.shortest(), None);
        [50, 20, 90].iter().for_each(|&ms| round_trip.sample(ms * MS));
        assert_eq!(round_trip.shortest(), Some(20 * MS));
        let pass = || round_trip.epochs.lock().began = Tick::now().before(MEMORY);
        pass();
        round_trip.sample(80 * MS);
        assert_eq!(round_trip.shortest(), Some(20 * MS), "it was the shortest a moment ago");
        pass();
        round_trip.sample(85 * MS);
        assert_eq!(round_trip.shortest(), Some(80 * MS));
    }

    #[test]
    fn servers_are_told_apart_and_forgotten_when_there_are_too_many() {
        let trips = RoundTrips::default();
        trips.of("near").sample(MS);
        trips.of("far").sample(50 * MS);
        assert_eq!(trips.of("near").shortest(), Some(MS));
        assert_eq!(trips.longest(), Some(50 * MS));
        (0..SERVERS_MAX - 1).for_each(|index| drop(trips.of(&index.to_string())));
        assert_eq!(trips.of("near").shortest(), Some(MS), "asked for lately");
        assert_eq!(trips.longest(), Some(MS), "the far one has been forgotten");
    }
}
