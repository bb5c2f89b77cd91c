//! How much may be under way to a server and back: as much as passes in twice the round trip at the
//! rate of the last moments (the bandwidth-delay product, with room to grow), so that throughput
//! does not depend on the distance. More would only wait in buffers, where nothing can be shed.
//!
//! The idea is that of BBR (Cardwell and others, "BBR: Congestion-Based Congestion Control", 2016):
//! the largest delivery rate and the shortest round trip seen lately, each measured while the other
//! does not disturb it.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::clock::Tick;
use crate::metrics::{RoundTrip, WindowGauge};

/// How much more than one round trip's worth may be under way. Twice as much lets a window that is
/// too small double with every round trip.
const GAIN: f64 = 2.0;

/// The same while the rate rises, so that a backlog is met in few round trips. On a narrow link,
/// what is too much of it lasts for one slice.
const GAIN_RISING: f64 = 4.0;

/// The rate rises if a slice has so many times the largest rate before it: more than the chance of
/// cameras that come together, less than what a growing window brings.
const RISE: f64 = 1.25;

/// The rate that is expected before one is measured, and after a pause: a few cameras. So the first
/// frames after a pause do not wait for the window to grow.
const RATE_MIN: f64 = 100.0;

/// Shortest time over which a rate is measured: replies come in bursts.
const SLICE_MIN: Duration = Duration::from_millis(50);

/// Measurements of which the largest counts.
const SLICES: usize = 8;

/// The window of one connection.
#[derive(Debug)]
pub(super) struct Window {
    round_trip: Arc<RoundTrip>,
    /// Of the last slices of time, items a second.
    rates: [f64; SLICES],
    next: usize,
    slice_began: Tick,
    slice_items: u64,
    gauge: WindowGauge,
}

impl Window {
    /// For a server at that distance.
    pub(super) fn new(round_trip: Arc<RoundTrip>, gauge: WindowGauge) -> Window {
        Window {
            round_trip,
            rates: [0.0; SLICES],
            next: 0,
            slice_began: Tick::now(),
            slice_items: 0,
            gauge,
        }
    }

    /// The server is another one from now on.
    pub(super) fn move_to(&mut self, round_trip: Arc<RoundTrip>) {
        self.round_trip = round_trip;
    }

    /// Takes note of so many items that have come back.
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub(super) fn returned(&mut self, items: u64) {
        let slice = SLICE_MIN.max(self.trip());
        if self.slice_began.elapsed() >= slice {
            self.next = (self.next + 1) % SLICES;
            (self.slice_began, self.slice_items) = (Tick::now(), 0);
        }
        // The slice that has only begun counts as if nothing more came in it: a window that is too
        // small need not wait for its end.
        self.slice_items += items;
        let time = self.slice_began.elapsed().max(slice);
        self.rates[self.next] = self.slice_items as f64 / time.as_secs_f64();
    }

    /// Items that may be under way beyond those that a server beside us would need.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive and small
    pub(super) fn extra(&self) -> usize {
        let latest = self.rates[self.next];
        let before = (0..SLICES).filter(|at| *at != self.next).map(|at| self.rates[at]);
        let before = before.fold(RATE_MIN, f64::max);
        let gain = if latest > RISE * before { GAIN_RISING } else { GAIN };
        (gain * before.max(latest) * self.trip().as_secs_f64()).round() as usize
    }

    /// The round trip; zero while it is not known.
    pub(super) fn trip(&self) -> Duration {
        self.round_trip.shortest().unwrap_or_default()
    }

    /// Shows how many items are under way, and how many may be.
    pub(super) fn show(&mut self, items: usize, limit: usize) {
        self.gauge.set(items, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, WindowStage};

    const TRIP: Duration = Duration::from_millis(100);

    fn window() -> Window {
        let metrics = Metrics::new();
        let round_trip = metrics.round_trips.of("server");
        round_trip.sample(TRIP);
        Window::new(round_trip, WindowGauge::new(&metrics, WindowStage::Read))
    }

    /// A slice of time begins in which so many items come back.
    fn pass(window: &mut Window, items: u64) {
        window.slice_began = Tick::now().before(TRIP);
        window.returned(items);
    }

    #[test]
    fn it_is_twice_what_passes_in_a_round_trip() {
        let mut window = window();
        assert_eq!(window.extra(), 20, "a few cameras");
        (0..2).for_each(|_| pass(&mut window, 100));
        assert!((190..=200).contains(&window.extra()), "{}", window.extra());
    }

    #[test]
    fn it_grows_while_it_is_the_limit_and_shrinks_when_less_is_needed() {
        let mut window = window();
        pass(&mut window, 20);
        for _ in 0..3 {
            let before = window.extra();
            pass(&mut window, before as u64);
            assert!(window.extra() >= 39 * before / 10, "{} after {before}", window.extra());
        }
        // It is no longer the limit.
        let most = window.extra();
        pass(&mut window, most as u64 / 4);
        assert!(window.extra() <= most / 2 + 1, "{} after {most}", window.extra());
        (0..SLICES).for_each(|_| pass(&mut window, 1));
        assert_eq!(window.extra(), 20);
    }

    #[test]
    fn it_grows_before_a_slice_has_ended() {
        let mut window = window();
        pass(&mut window, 0);
        (0..40).for_each(|_| window.returned(1));
        assert!((152..=160).contains(&window.extra()), "{}", window.extra());
    }

    #[test]
    fn a_server_beside_us_needs_nothing_more() {
        let metrics = Metrics::new();
        let gauge = WindowGauge::new(&metrics, WindowStage::Commit);
        let mut window = Window::new(metrics.round_trips.of("server"), gauge);
        (0..2).for_each(|_| pass(&mut window, 500));
        assert_eq!(window.extra(), 0, "its round trip is not known");
        metrics.round_trips.of("server").sample(Duration::from_micros(50));
        assert!(window.extra() <= 1, "at 10,000 a second");
    }
}
