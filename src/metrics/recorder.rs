//! Latency recorders: one set of HDR histograms per thread behind a lock that nobody else wants
//! except a reader of the statistics, merged on reading.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::Timer;

/// Longest duration told apart, in microseconds: ten minutes. Longer ones count as this.
const LONGEST_US: u64 = 600_000_000;

/// Two significant digits: 1 % resolution at about 20 kB a histogram.
const SIGNIFICANT_DIGITS: u8 = 2;

type Set = Vec<Histogram<u64>>;

fn histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used)] // constant arguments, covered by every test
    Histogram::new_with_bounds(1, LONGEST_US, SIGNIFICANT_DIGITS)
        .expect("constant bounds are valid")
}

/// Records durations on behalf of one thread.
#[derive(Clone, Debug)]
pub struct Recorder {
    set: Arc<Mutex<Set>>,
}

impl Recorder {
    /// Records one duration.
    pub fn record(&self, timer: Timer, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(LONGEST_US).max(1);
        self.set.lock()[timer.index()].saturating_record(micros);
    }
}

/// All recorders of an engine.
#[derive(Debug, Default)]
pub(super) struct Recorders {
    sets: Mutex<Vec<Arc<Mutex<Set>>>>,
}

impl Recorders {
    pub(super) fn add(&self) -> Recorder {
        let set = Arc::new(Mutex::new((0..Timer::COUNT).map(|_| histogram()).collect()));
        self.sets.lock().push(Arc::clone(&set));
        Recorder { set }
    }

    pub(super) fn distribution(&self, timer: Timer) -> Distribution {
        let mut merged = histogram();
        for set in self.sets.lock().iter() {
            // Same bounds everywhere, so adding cannot fail.
            let _ = merged.add(&set.lock()[timer.index()]);
        }
        Distribution { merged }
    }
}

/// A distribution of durations. Every figure is in milliseconds, and 0 when nothing was recorded.
#[derive(Clone, Debug)]
pub struct Distribution {
    merged: Histogram<u64>,
}

impl Distribution {
    /// The duration that the share `quantile` (0 to 1) of all records did not exceed.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        if self.merged.is_empty() { 0.0 } else { to_ms(self.merged.value_at_quantile(quantile)) }
    }

    /// The longest.
    pub fn max_ms(&self) -> f64 {
        if self.merged.is_empty() { 0.0 } else { to_ms(self.merged.max()) }
    }

    /// The shortest.
    pub fn min_ms(&self) -> f64 {
        if self.merged.is_empty() { 0.0 } else { to_ms(self.merged.min()) }
    }

    /// The arithmetic mean.
    pub fn mean_ms(&self) -> f64 {
        if self.merged.is_empty() { 0.0 } else { self.merged.mean() / 1000.0 }
    }

    /// What has been recorded since `earlier`, a distribution of the same timer.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let mut merged = self.merged.clone();
        // Nothing is ever taken out of a recorder, so it cannot fail.
        let _ = merged.subtract(&earlier.merged);
        Distribution { merged }
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.merged.len()
    }
}

#[allow(clippy::cast_precision_loss)] // microseconds below 2^53
fn to_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn recorders_of_several_threads_merge_and_long_durations_saturate() {
        let metrics = Metrics::new();
        let (one, other) = (metrics.recorder(), metrics.recorder());
        for ms in 1..=100 {
            one.record(Timer::EndToEnd, Duration::from_millis(ms));
        }
        other.record(Timer::EndToEnd, Duration::from_secs(100_000));
        let merged = metrics.distribution(Timer::EndToEnd);
        assert_eq!(merged.count(), 101);
        assert!((merged.quantile_ms(0.5) - 51.0).abs() < 1.0);
        assert!((merged.max_ms() - 600_000.0).abs() < 6_000.0);
        assert_eq!(metrics.distribution(Timer::Processing).max_ms(), 0.0);

        (0..50).for_each(|_| one.record(Timer::EndToEnd, Duration::from_millis(3)));
        let lately = metrics.distribution(Timer::EndToEnd).since(&merged);
        assert_eq!(lately.count(), 50);
        assert!((lately.quantile_ms(0.99) - 3.0).abs() < 0.1);
    }
}
