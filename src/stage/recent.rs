//! Figures of the last seconds: rates, latencies, and their history over the last minutes. They are
//! differences between samples, because totals since the start say little about the present.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Stage;
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Conservation, Distribution, Metrics, Timer};

/// Time over which figures are taken.
const SPAN: Duration = Duration::from_secs(10);

/// Samples kept, a second or more apart.
const LOOKS: usize = 16;

/// Points of history kept: five minutes.
const HISTORY: usize = 300;

/// Frames per second over the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Entries read.
    pub read: f64,
    /// Results stored.
    pub out: f64,
    /// Dead letters stored.
    pub dead_lettered: f64,
}

/// Times over the last ten seconds, in milliseconds; 0 if there was no frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Recent {
    /// End to end: 50 %.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// Mean of a frame in each stage: read, queue wait, decode, analyse, encode, commit.
    pub stages: [f64; Stage::ALL.len()],
}

/// One point of history.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Point {
    /// Seconds since the Unix epoch.
    pub time: f64,
    /// Results per second, over ten seconds.
    pub fps: f64,
    /// End to end over ten seconds, in milliseconds; absent if there was no frame.
    pub p50: Option<f64>,
    /// The same: 99 %.
    pub p99: Option<f64>,
    /// Entries not delivered yet; all entries of the input stream if Redis cannot tell.
    pub waiting: u64,
}

/// The last five minutes, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct History(VecDeque<Point>);

impl History {
    /// Its points.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        self.0.iter().copied()
    }

    /// Adds the current figures.
    pub(super) fn add(&mut self, rates: &Rates, recent: &Recent, waiting: u64) {
        if self.0.len() >= HISTORY {
            self.0.pop_front();
        }
        let some = |value: f64| (value > 0.0).then_some(value);
        self.0.push_back(Point {
            time: unix_seconds(),
            fps: rates.out,
            p50: some(recent.p50),
            p99: some(recent.p99),
            waiting,
        });
    }
}

/// The figures at one moment.
#[derive(Debug)]
struct Look {
    at: Tick,
    account: Conservation,
    latency: Distribution,
    /// Count and sum in seconds of each stage.
    stages: [(u64, f64); Stage::ALL.len()],
}

/// The last samples.
#[derive(Debug, Default)]
pub(super) struct Looks(VecDeque<Look>);

impl Looks {
    /// Takes a sample, and returns the figures since the oldest sample kept.
    pub(super) fn look(&mut self, metrics: &Metrics) -> (Rates, Recent) {
        let now = Look {
            at: Tick::now(),
            account: metrics.ledger.read(),
            latency: metrics.distribution(Timer::EndToEnd),
            stages: Stage::ALL.map(|stage| {
                let times = metrics.distribution(Timer::Stage(stage));
                (times.count(), times.sum_seconds())
            }),
        };
        let figures = self.0.front().map_or_else(Default::default, |before| between(before, &now));
        self.0.push_back(now);
        let is_old = |look: &Look| look.at.elapsed() + SPAN / 20 >= SPAN;
        while self.0.len() > LOOKS || self.0.get(1).is_some_and(is_old) {
            self.0.pop_front();
        }
        figures
    }
}

#[allow(clippy::cast_precision_loss)] // frames of ten seconds
fn between(before: &Look, now: &Look) -> (Rates, Recent) {
    let seconds = now.at.since(before.at).as_secs_f64();
    let rate = |now: u64, before: u64| {
        if seconds > 0.0 { (now - before) as f64 / seconds } else { 0.0 }
    };
    let (a, b) = (&before.account, &now.account);
    let rates = Rates {
        read: rate(b.read, a.read),
        out: rate(b.out, a.out),
        dead_lettered: rate(b.dead_lettered, a.dead_lettered),
    };
    let latency = now.latency.since(&before.latency);
    let mut stages = [0.0; Stage::ALL.len()];
    for ((mean, now), before) in stages.iter_mut().zip(now.stages).zip(before.stages) {
        let count = now.0 - before.0;
        *mean = if count > 0 { 1000.0 * (now.1 - before.1) / count as f64 } else { 0.0 };
    }
    let recent = Recent {
        p50: latency.quantile_ms(0.5),
        p90: latency.quantile_ms(0.9),
        p99: latency.quantile_ms(0.99),
        max: latency.max_ms(),
        stages,
    };
    (rates, recent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_looks_decide_and_history_is_bounded() {
        let metrics = Metrics::new();
        let recorder = metrics.recorder();
        let mut looks = Looks::default();
        recorder.record(Timer::EndToEnd, Duration::from_secs(5));
        assert_eq!(looks.look(&metrics).1, Recent::default(), "there is nothing to compare with");
        recorder.record(Timer::EndToEnd, Duration::from_millis(20));
        recorder.record(Timer::Stage(Stage::Encode), Duration::from_millis(4));
        let (_, recent) = looks.look(&metrics);
        assert!((recent.p99 - 20.0).abs() < 0.5, "what came before does not count: {recent:?}");
        assert!((recent.stages[Stage::Encode as usize] - 4.0).abs() < 0.1, "{recent:?}");
        for _ in 0..=LOOKS {
            looks.look(&metrics);
        }
        assert_eq!(looks.look(&metrics).1, Recent::default(), "it was long ago");

        let mut history = History::default();
        for waiting in 0..=HISTORY as u64 {
            history.add(&Rates::default(), &recent, waiting);
        }
        let points: Vec<_> = history.points().collect();
        assert_eq!((points.len(), points[0].waiting), (HISTORY, 1));
    }
}
