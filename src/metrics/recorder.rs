//! Latency recorders: one set of HDR histograms for each thread, merged on reading. Only a reader
//! of the statistics contends for a set's lock.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::Timer;

/// Longest duration recorded, in microseconds: ten minutes. Longer ones count as this.
const LONGEST_US: u64 = 600_000_000;

/// Two significant digits: 1 % resolution at about 20 kB a histogram.
const SIGNIFICANT_DIGITS: u8 = 2;

type Set = Vec<Histogram<u64>>;

fn histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used)] // constant arguments, covered by every test
    Histogram::new_with_bounds(1, LONGEST_US, SIGNIFICANT_DIGITS)
        .expect("constant bounds are valid")
}

/// Records durations of one thread.
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
            // The bounds are the same everywhere, so adding cannot fail.
            let _ = merged.add(&set.lock()[timer.index()]);
        }
        Distribution { merged }
    }
}

/// A distribution of durations. Every figure is in milliseconds, and 0 if nothing was recorded.
#[derive(Clone, Debug)]
pub struct Distribution {
    merged: Histogram<u64>,
}

impl Distribution {
    /// The duration that a share of `quantile` (0 to 1) of all records did not exceed.
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

    /// The sum, in seconds, with the recorder's resolution of 1 %; it never falls.
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub fn sum_seconds(&self) -> f64 {
        let middle = |value: u64| self.merged.median_equivalent(value) as f64;
        let counts = self.merged.iter_recorded();
        let micros: f64 =
            counts.map(|it| middle(it.value_iterated_to()) * it.count_at_value() as f64).sum();
        micros / 1e6
    }

    /// For each of `bounds`, ascending and in seconds: how many durations did not exceed it.
    /// Durations are rounded up within the recorder's resolution of 1 %.
    pub fn cumulative(&self, bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len()];
        for recorded in self.merged.iter_recorded() {
            let longest = self.merged.highest_equivalent(recorded.value_iterated_to());
            let fits = bounds.partition_point(|bound| *bound < to_ms(longest) / 1000.0);
            if let Some(count) = counts.get_mut(fits) {
                *count += recorded.count_at_value();
            }
        }
        for index in 1..counts.len() {
            counts[index] += counts[index - 1];
        }
        counts
    }

    /// The durations recorded since `earlier`, which is of the same timer.
    #[must_use]
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let mut merged = self.merged.clone();
        // Counts only grow and the bounds are the same, so subtracting cannot fail.
        let _ = merged.subtract(&earlier.merged);
        Distribution { merged }
    }

    /// Number of durations recorded.
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

    #[test]
    fn cumulative_counts_never_promise_more_than_was_recorded() {
        let metrics = Metrics::new();
        let recorder = metrics.recorder();
        for ms in 1..=100 {
            recorder.record(Timer::EndToEnd, Duration::from_millis(ms));
        }
        let merged = metrics.distribution(Timer::EndToEnd);
        let counts = merged.cumulative(&[0.000_5, 0.010_5, 0.2]);
        assert_eq!(counts, [0, 10, 100]);
        assert!((merged.sum_seconds() - 5.05).abs() < 0.06, "{}", merged.sum_seconds());
        assert_eq!(metrics.distribution(Timer::Processing).cumulative(&[1.0]), [0]);
    }
}
