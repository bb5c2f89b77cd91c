//! How much may be in flight to a server and back: the amount that passes in twice the round trip
//! at the recent rate (the bandwidth-delay product, with room to grow). So throughput does not
//! depend on the distance. More would only wait in buffers, where nothing can be shed.
//!
//! The idea is that of BBR (Cardwell and others, "BBR: Congestion-Based Congestion Control", 2016):
//! use the largest recent delivery rate and the shortest recent round trip. Each is measured while
//! the other does not disturb it.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::clock::Tick;
use crate::metrics::{RoundTrip, WindowGauge};

/// Factor on one round trip's worth. With a factor of 2, a window that is too small doubles with
/// every round trip.
const GAIN: f64 = 2.0;

/// The same while the rate rises, so that the window adapts to a backlog within few round trips. On
/// a narrow link, an excess lasts for one slice.
const GAIN_RISING: f64 = 4.0;

/// The rate counts as rising if a slice has this many times the largest rate before it. That is
/// more than cameras that send together by chance, and less than the effect of a growing window.
const RISE: f64 = 1.25;

/// The rate expected before one is measured, and after a pause: a few cameras. It keeps the first
/// frames after a pause from waiting for the window to grow.
const RATE_MIN: f64 = 100.0;

/// Shortest time over which a rate is measured: replies come in bursts.
const SLICE_MIN: Duration = Duration::from_millis(50);

/// Number of slices of which the largest rate counts.
const SLICES: usize = 8;

/// The window of one connection.
#[derive(Debug)]
pub(super) struct MeasuredWindow {
    round_trip: Arc<RoundTrip>,
    /// Items per second in each of the last slices.
    rates: [f64; SLICES],
    next: usize,
    slice_began: Tick,
    slice_items: u64,
    gauge: WindowGauge,
}

impl MeasuredWindow {
    /// A window for the server with this round trip.
    pub(super) fn new(round_trip: Arc<RoundTrip>, gauge: WindowGauge) -> MeasuredWindow {
        MeasuredWindow {
            round_trip,
            rates: [0.0; SLICES],
            next: 0,
            slice_began: Tick::now(),
            slice_items: 0,
            gauge,
        }
    }

    /// Continues with another server.
    pub(super) fn move_to(&mut self, round_trip: Arc<RoundTrip>) {
        self.round_trip = round_trip;
    }

    /// Counts items that have come back.
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub(super) fn returned(&mut self, items: u64) {
        let slice = SLICE_MIN.max(self.trip());
        if self.slice_began.elapsed() >= slice {
            self.next = (self.next + 1) % SLICES;
            (self.slice_began, self.slice_items) = (Tick::now(), 0);
        }
        // The current slice counts as if nothing more came in it, so a window that is too small
        // grows before the slice ends.
        self.slice_items += items;
        let time = self.slice_began.elapsed().max(slice);
        self.rates[self.next] = self.slice_items as f64 / time.as_secs_f64();
    }

    /// Items that may be in flight beyond those that a server on the same machine needs.
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

    /// Updates the gauge: items in flight, and the limit.
    pub(super) fn show(&mut self, items: usize, limit: usize) {
        self.gauge.set(items, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Metrics, WindowStage};

    const TRIP: Duration = Duration::from_millis(100);

    fn window() -> MeasuredWindow {
        let metrics = Metrics::new();
        let round_trip = metrics.round_trips.of("server");
        round_trip.sample(TRIP);
        MeasuredWindow::new(round_trip, WindowGauge::new(&metrics, WindowStage::Read))
    }

    /// Begins a slice in which this many items come back.
    fn pass(window: &mut MeasuredWindow, items: u64) {
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
        // The window is larger than needed here.
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
        let mut window = MeasuredWindow::new(metrics.round_trips.of("server"), gauge);
        (0..2).for_each(|_| pass(&mut window, 500));
        assert_eq!(window.extra(), 0, "its round trip is not known");
        metrics.round_trips.of("server").sample(Duration::from_micros(50));
        assert!(window.extra() <= 1, "at 10,000 a second");
    }
}
