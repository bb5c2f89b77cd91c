//! Round trips to servers: the time from a request to its answer if the server answers at once.
//! Windows are sized by the shortest recent round trip, because a longer one includes waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::Tick;

/// How long the shortest round trip counts: at least this, at most twice as long. A longer route is
/// accepted after that.
const MEMORY: Duration = Duration::from_secs(10);

/// Most servers remembered; the one used least recently is forgotten first.
const SERVERS_MAX: usize = 64;

/// Marks an unknown round trip.
const UNKNOWN: u64 = u64::MAX;

/// The round trip to one server.
#[derive(Debug)]
pub struct RoundTrip {
    shortest_us: AtomicU64,
    epochs: Mutex<Epochs>,
}

/// The shortest round trips of the current and the previous period, in microseconds.
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
    /// Adds a request that was answered after `time`.
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

    /// The shortest recent round trip; `None` before the first answer.
    pub fn shortest(&self) -> Option<Duration> {
        let us = self.shortest_us.load(Ordering::Relaxed);
        (us != UNKNOWN).then(|| Duration::from_micros(us))
    }
}

/// The round trips to all servers spoken to.
#[derive(Debug, Default)]
pub struct RoundTrips {
    /// By address; the most recently used one comes last.
    servers: Mutex<Vec<(String, Arc<RoundTrip>)>>,
}

impl RoundTrips {
    /// The round trip to this server, to be kept and used again.
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

    /// The round trip to the farthest server.
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
