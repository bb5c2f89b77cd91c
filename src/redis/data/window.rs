//! Computes how many requests to keep in flight on one connection: twice the rate of answers times
//! the round trip, both measured. The factor lets the rate grow if it can.
//!
//! The rate is sampled as in BBR: the number of answers between sending a request and receiving its
//! answer, divided by the time between the two (draft-cheng-iccrg-delivery-rate-estimation). The
//! highest sample of the last seconds counts, and the lowest round trip. Requests that wait in a
//! full window lengthen the measured round trip. So only a request sent with almost no other in
//! flight can show a longer round trip, and a full window is emptied periodically to measure one.

use std::time::Duration;

use crate::metrics::clock::Tick;

/// Minimum number of requests: one in transit while another is processed.
const LEAST: usize = 2;
/// Number of requests before anything is measured.
const FIRST: usize = 8;
/// How long a rate sample counts at least; at most twice as long.
const RATE_PERIOD: Duration = Duration::from_secs(1);
/// How often a full window is emptied to measure the round trip.
const TRIP_PERIOD: Duration = Duration::from_secs(10);

/// State recorded when a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentRequest {
    at: Tick,
    /// Number of answers received before.
    answered: u64,
    /// Whether too few others are in flight to lengthen its round trip.
    measures: bool,
}

/// The window of one connection.
#[derive(Debug)]
pub(super) struct SendWindow {
    answered: u64,
    /// Highest answers per second in the previous period and in this one.
    rates: [f64; 2],
    rates_since: Tick,
    round_trip: Option<Duration>,
    /// A longer round trip that the next measurement has to confirm.
    longer: Option<Duration>,
    trips_since: Tick,
    /// Whether the window was full in this period.
    was_full: bool,
    /// The window is kept small until a round trip is measured.
    measuring: bool,
    /// One request at a time until [`SendWindow::opens`].
    careful: bool,
}

impl SendWindow {
    pub(super) fn new() -> SendWindow {
        let now = Tick::now();
        SendWindow {
            answered: 0,
            rates: [0.0; 2],
            rates_since: now,
            round_trip: None,
            longer: None,
            trips_since: now,
            was_full: false,
            measuring: false,
            careful: false,
        }
    }

    /// Records that a request is sent while `in_transit` others are in flight.
    pub(super) fn sent(&self, in_transit: usize) -> SentRequest {
        SentRequest { at: Tick::now(), answered: self.answered, measures: in_transit < LEAST }
    }

    /// Records the answer to a request.
    pub(super) fn answered(&mut self, sent: SentRequest) {
        let now = Tick::now();
        self.answered += 1;
        // Two readings of the clock may be equal.
        let trip = now.since(sent.at).max(Duration::from_micros(1));
        self.roll(now);
        let rate = (self.answered - sent.answered) as f64 / trip.as_secs_f64();
        self.rates[1] = self.rates[1].max(rate);
        match self.round_trip {
            Some(known) if trip > known + known / 4 => {
                if sent.measures {
                    self.measuring = false;
                    match self.longer.take() {
                        Some(before) => self.round_trip = Some(before.min(trip)),
                        None => self.longer = Some(trip),
                    }
                }
            }
            known => {
                self.round_trip = Some(known.map_or(trip, |known| known.min(trip)));
                (self.longer, self.measuring) = (None, false);
            }
        }
    }

    /// Notes that a full window held a request back.
    pub(super) fn filled(&mut self) {
        self.was_full = true;
    }

    /// Limits the window to one request until [`SendWindow::opens`], and forgets the rate.
    pub(super) fn restart(&mut self) {
        (self.careful, self.measuring, self.rates) = (true, false, [0.0; 2]);
    }

    /// Ends [`SendWindow::restart`].
    pub(super) fn opens(&mut self) {
        self.careful = false;
    }

    /// Maximum number of requests in flight.
    pub(super) fn limit(&self) -> usize {
        if self.careful {
            return 1;
        }
        if self.measuring {
            return LEAST;
        }
        let trip = self.round_trip.unwrap_or_default();
        let twice = 2.0 * self.rates[0].max(self.rates[1]) * trip.as_secs_f64();
        let least = if self.answered < FIRST as u64 { FIRST } else { LEAST };
        (twice.ceil() as usize).max(least)
    }

    fn roll(&mut self, now: Tick) {
        let trip = self.round_trip.unwrap_or_default();
        if now.since(self.rates_since) >= RATE_PERIOD.max(trip * 4) {
            self.rates = [self.rates[1], 0.0];
            self.rates_since = now;
        }
        if now.since(self.trips_since) >= TRIP_PERIOD.max(trip * 50) {
            self.trips_since = now;
            self.measuring = std::mem::take(&mut self.was_full);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records the answer to a request that was sent `trip` ago, with `since` answers since then
    /// including its own, and as many requests in flight before it.
    fn answer(window: &mut SendWindow, trip: Duration, since: u64) {
        let mut sent = window.sent(since as usize - 1);
        sent.at = sent.at.before(trip);
        sent.answered = (window.answered + 1).saturating_sub(since);
        window.answered(sent);
    }

    #[test]
    fn the_window_follows_rate_and_round_trip() {
        let mut window = SendWindow::new();
        assert_eq!(window.limit(), FIRST, "nothing is known yet");
        for _ in 0..40 {
            answer(&mut window, Duration::from_millis(100), 10);
        }
        // 100 answers per second at 100 ms: 10 are in flight, and twice as many are allowed.
        assert!((19..=21).contains(&window.limit()), "{}", window.limit());
        let mut window = SendWindow::new();
        for _ in 0..40 {
            answer(&mut window, Duration::from_micros(50), 1);
        }
        assert_eq!(window.limit(), LEAST, "beside the server");
    }

    #[test]
    fn after_a_refusal_it_begins_with_one() {
        let mut window = SendWindow::new();
        for _ in 0..40 {
            answer(&mut window, Duration::from_millis(100), 10);
        }
        window.restart();
        assert_eq!(window.limit(), 1);
        answer(&mut window, Duration::from_millis(100), 1);
        assert_eq!(window.limit(), 1, "an answer alone does not open it: it may be a refusal");
        window.opens();
        assert_eq!(window.limit(), LEAST);
    }

    #[test]
    fn a_longer_round_trip_counts_when_no_own_queue_can_be_the_cause() {
        let (near, far) = (Duration::from_millis(10), Duration::from_millis(80));
        let mut window = SendWindow::new();
        for _ in 0..40 {
            answer(&mut window, near, 10);
        }
        let limit = window.limit();
        for _ in 0..40 {
            answer(&mut window, far, 10);
        }
        assert!(window.limit() <= limit, "others were under way");
        answer(&mut window, far, 1);
        answer(&mut window, near, 1);
        answer(&mut window, far, 1);
        assert!(window.limit() <= limit, "one alone may be chance");
        answer(&mut window, far, 1);
        assert!(window.limit() >= 6 * limit, "{} after {limit}", window.limit());
    }

    #[test]
    fn a_full_window_is_emptied_now_and_then() {
        let mut window = SendWindow::new();
        for _ in 0..40 {
            answer(&mut window, Duration::from_millis(10), 10);
        }
        window.trips_since = Tick::now().before(TRIP_PERIOD);
        answer(&mut window, Duration::from_millis(12), 10);
        assert!(window.limit() > LEAST, "it was not full");
        window.filled();
        window.trips_since = Tick::now().before(TRIP_PERIOD);
        answer(&mut window, Duration::from_millis(20), 10);
        assert_eq!(window.limit(), LEAST);
        answer(&mut window, Duration::from_millis(12), 2);
        assert!(window.limit() > LEAST, "measured");
    }
}
