//! Computes when frames are due. Pure arithmetic: the caller reads the clock and waits.

use std::time::Duration;

/// A constant frame rate without drift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    fps: f64,
}

impl Pace {
    /// A pace of `fps` frames per second; `None` unless `fps` is finite and positive.
    pub fn new(fps: f64) -> Option<Self> {
        (fps.is_finite() && fps > 0.0).then_some(Pace { fps })
    }

    /// When frame `number` is due, relative to frame 0; saturates at [`Duration::MAX`].
    pub fn due(&self, number: u64) -> Duration {
        Duration::try_from_secs_f64(number as f64 / self.fps).unwrap_or(Duration::MAX)
    }

    /// How long to wait for frame `number` if `elapsed` has passed; zero if it is late.
    pub fn wait(&self, number: u64, elapsed: Duration) -> Duration {
        self.due(number).saturating_sub(elapsed)
    }

    /// How late frame `number` is if `elapsed` has passed; zero if it is not yet due.
    pub fn late(&self, number: u64, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(self.due(number))
    }

    /// The last frame due if `elapsed` has passed, for a live source that skips missed frames.
    pub fn frame_at(&self, elapsed: Duration) -> u64 {
        // Rounding must not make a frame appear not yet due at its due time.
        (elapsed.as_secs_f64() * self.fps + 1e-6).floor() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_seconds_bring_no_drift() {
        let pace = Pace::new(29.97).unwrap();
        assert_eq!(pace.due(0), Duration::ZERO);
        assert_eq!(pace.due(29_970).as_millis(), 1_000_000);
        for number in [1, 2, 3, 1000, 29_970, 1_000_003] {
            assert_eq!(pace.frame_at(pace.due(number)), number);
        }
    }

    #[test]
    fn waiting_and_lateness_are_never_both() {
        let pace = Pace::new(10.0).unwrap();
        let (early, late) = (Duration::from_millis(450), Duration::from_millis(580));
        assert_eq!(pace.wait(5, early), Duration::from_millis(50));
        assert_eq!(pace.late(5, early), Duration::ZERO);
        assert_eq!(pace.wait(5, late), Duration::ZERO);
        assert_eq!(pace.late(5, late), Duration::from_millis(80));
    }

    #[test]
    fn rates_that_are_none_are_refused_and_slow_ones_do_not_overflow() {
        assert!([0.0, -1.0, f64::NAN, f64::INFINITY].iter().all(|&fps| Pace::new(fps).is_none()));
        assert_eq!(Pace::new(1e-300).unwrap().due(1), Duration::MAX);
    }
}
