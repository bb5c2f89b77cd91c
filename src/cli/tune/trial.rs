//! Measures one configuration, and compares two.

use std::fmt;
use std::time::Duration;

use super::Goal;
use crate::base::{Fault, Stage, Stop};
use crate::config::Config;
use crate::engine::{Engine, Hooks};
use crate::instruments::{Frames, Load, engine_cpu_ms};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Timer};
use crate::redis::{Control, Streams};

/// Measurements of each side of a comparison.
const PAIRS: usize = 3;
/// A smaller gain does not justify changing a setting.
const GAIN_MIN: f64 = 0.03;
/// Upper limit of a gain, for a present setting that scores nothing.
const GAIN_MAX: f64 = 100.0;
/// Minimum and maximum duration of one measurement in seconds, and the share of it at the beginning
/// that does not count.
const MEASURE_SECONDS: (f64, f64) = (0.4, 8.0);
const WARM_SHARE: f64 = 0.3;

/// The available time.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeBounds {
    pub(super) began: Tick,
    pub(super) whole: Duration,
}

impl TimeBounds {
    fn left(&self) -> f64 {
        self.whole.saturating_sub(self.began.elapsed()).as_secs_f64()
    }
}

/// The result of one measurement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TrialFigures {
    pub(super) fps: f64,
    pub(super) cpu_ms_per_frame: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) bytes_per_result: f64,
    pub(super) encode_p99_ms: f64,
    /// `engine.latency_target_ms`: slower encoding does not count as live.
    pub(super) target_ms: f64,
}

/// A comparison of a candidate with the present setting.
#[derive(Debug)]
pub(super) struct TrialComparison {
    pub(super) knob: &'static str,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) verdict: TrialVerdict,
}

/// The result of a comparison.
#[derive(Debug)]
pub(super) enum TrialVerdict {
    /// Better each time, and by more than the noise.
    Better(Evidence),
    /// Not better, or not by more than the noise.
    Kept(Evidence),
    /// The rules of the configuration forbid it.
    NotValid,
    /// No time was left.
    NoTime,
}

/// Medians of both sides, and the ratio of the scores for each pair of measurements.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) from: TrialFigures,
    pub(super) to: TrialFigures,
    pub(super) gains: Vec<f64>,
    /// The gain that was required.
    pub(super) needed: f64,
}

impl Evidence {
    pub(super) fn gain(&self) -> f64 {
        median(self.gains.iter().copied())
    }
}

impl fmt::Display for TrialComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TrialComparison { knob, from, to, verdict } = self;
        write!(f, "{knob}: {from} against {to}: ")?;
        let evidence = match verdict {
            TrialVerdict::NotValid => return write!(f, "not valid with the other settings"),
            TrialVerdict::NoTime => return write!(f, "not measured, the time was over"),
            TrialVerdict::Better(evidence) => {
                write!(f, "taken, ")?;
                evidence
            }
            TrialVerdict::Kept(evidence) => {
                write!(f, "kept, ")?;
                evidence
            }
        };
        write!(f, "{:.3} times as good (", evidence.gain())?;
        for (at, gain) in evidence.gains.iter().enumerate() {
            write!(f, "{}{gain:.3}", if at > 0 { ", " } else { "" })?;
        }
        write!(
            f,
            "; more than {:.3} needed); {} -> {}",
            evidence.needed, evidence.from, evidence.to
        )
    }
}

impl fmt::Display for TrialFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.1} frames/s, {:.2} ms CPU, p99 {:.1} ms, {:.0} bytes",
            self.fps, self.cpu_ms_per_frame, self.p99_ms, self.bytes_per_result
        )
    }
}

/// The state shared by all measurements.
#[derive(Debug)]
pub(super) struct Trials {
    goal: Goal,
    frames: Frames,
    cameras: u32,
    bounds: TimeBounds,
    stop: Stop,
    /// For the goal latency: half of the maximum rate of the first configuration.
    rate: Option<f64>,
    /// Duration of a measurement beyond its own time, in seconds: starting and ending an engine.
    overhead: f64,
    first: TrialFigures,
}

impl Trials {
    pub(super) fn new(
        goal: Goal,
        frames: Frames,
        cameras: u32,
        bounds: TimeBounds,
        stop: Stop,
    ) -> Trials {
        let first = TrialFigures::default();
        Trials { goal, frames, cameras, bounds, stop, rate: None, overhead: 0.0, first }
    }

    pub(super) fn goal(&self) -> Goal {
        self.goal
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_draining()
    }

    /// The result of the original configuration at its maximum.
    pub(super) fn first(&self) -> TrialFigures {
        self.first
    }

    /// Warms the machine up and measures the maximum, which determines the rate.
    pub(super) fn prepare(&mut self, config: &Config) -> Result<(), Fault> {
        let seconds = (self.bounds.left() / 20.0).clamp(MEASURE_SECONDS.0, MEASURE_SECONDS.1);
        self.first = self.measure(config, seconds)?;
        if self.goal == Goal::Latency {
            self.rate = Some((self.first.fps / 2.0).max(1.0));
        }
        Ok(())
    }

    /// Measures both alternately. `left` comparisons, including this one, share the remaining time.
    pub(super) fn compare(
        &mut self,
        pair: &[Config; 2],
        left: usize,
    ) -> Result<TrialVerdict, Fault> {
        let rounds = (2 * PAIRS * left.max(1)) as f64;
        let seconds = self.bounds.left() / rounds - self.overhead;
        if seconds < MEASURE_SECONDS.0 && self.bounds.left() < self.shortest() {
            return Ok(TrialVerdict::NoTime);
        }
        let seconds = seconds.clamp(MEASURE_SECONDS.0, MEASURE_SECONDS.1);
        let mut sides = [Vec::new(), Vec::new()];
        for round in 0..PAIRS {
            // Alternate which side goes first, so that a drift of the machine favours neither.
            for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
                sides[side].push(self.measure(&pair[side], seconds)?);
            }
            let hopeless = || {
                let gains = self.gains(&sides);
                gains.len() > 1 && gains.iter().all(|gain| *gain < 1.0 - GAIN_MIN)
            };
            if self.stop.is_draining() || hopeless() {
                break;
            }
        }
        let gains = self.gains(&sides);
        let scores = || sides[0].iter().map(|figures| self.score(figures));
        let most = scores().fold(0.0, f64::max);
        let least = scores().fold(f64::INFINITY, f64::min);
        let noise = (most - least) / median(scores()).max(1e-12);
        let needed = 1.0 + noise.max(GAIN_MIN);
        let [from, to] = sides.map(|side| medians(&side));
        let evidence = Evidence { from, to, gains, needed };
        let always = evidence.gains.len() == PAIRS && evidence.gains.iter().all(|gain| *gain > 1.0);
        let is_better = always && evidence.gain() > needed;
        Ok(if is_better { TrialVerdict::Better(evidence) } else { TrialVerdict::Kept(evidence) })
    }

    /// Minimum duration of a comparison, in seconds.
    fn shortest(&self) -> f64 {
        (2 * PAIRS) as f64 * (MEASURE_SECONDS.0 + self.overhead)
    }

    fn gains(&self, sides: &[Vec<TrialFigures>; 2]) -> Vec<f64> {
        let pairs = sides[0].iter().zip(&sides[1]);
        pairs.map(|(from, to)| gain(self.goal, from, to)).collect()
    }

    fn score(&self, figures: &TrialFigures) -> f64 {
        score(self.goal, figures)
    }

    /// Runs one engine under load for a while.
    fn measure(&mut self, config: &Config, seconds: f64) -> Result<TrialFigures, Fault> {
        let began = Tick::now();
        let stop = Stop::default();
        let engine = Engine::start(config, Hooks::default(), stop.clone())?;
        let view = engine.view().clone();
        let warm = Duration::from_secs_f64(seconds * WARM_SHARE);
        let load = Load {
            frames: self.frames.clone(),
            cameras: self.cameras,
            rate: self.rate,
            count: u64::MAX,
            limit: Duration::from_secs_f64(seconds),
            warm,
            wait_for_rest: false,
        };
        let loaded = Tick::now();
        let mut mark = None;
        let mut last = None;
        let timeout = Duration::from_secs(config.redis_queue.timeout);
        let driven = load.drive(&view, timeout, &self.stop, |_, _| {
            let now = (loaded.elapsed(), view.metrics.ledger.read().out, engine_cpu_ms());
            if now.0 >= warm {
                mark.get_or_insert(now);
                last = Some(now);
            }
        });
        // The remaining frames are not needed.
        stop.now();
        let ended = engine.wait();
        // Otherwise the next engine would recover the frames left by this one.
        let mut control = Control::new(&view.topology, timeout);
        let mut streams = view.plan.streams.iter().flat_map(Streams::all);
        let removed = streams.try_for_each(|stream| control.remove(stream));
        let driven = driven?;
        ended.and(removed)?;
        self.overhead = (began.elapsed().as_secs_f64() - seconds).max(self.overhead * 0.8);
        let metrics = &view.metrics;
        let (fps, cpu_ms_per_frame) = match (mark, last) {
            (Some(from), Some(to)) if to.1 > from.1 => {
                let frames = (to.1 - from.1) as f64;
                (frames / (to.0 - from.0).as_secs_f64().max(1e-9), (to.2 - from.2) / frames)
            }
            _ => (0.0, 0.0),
        };
        let results = metrics.ledger.read().out.max(1) as f64;
        Ok(TrialFigures {
            fps,
            cpu_ms_per_frame,
            p50_ms: driven.latency.quantile_ms(0.5),
            p99_ms: driven.latency.quantile_ms(0.99),
            bytes_per_result: metrics.get(Counter::BytesOut) as f64 / results,
            encode_p99_ms: metrics.distribution(Timer::Stage(Stage::Encode)).quantile_ms(0.99),
            target_ms: config.engine.latency_target_ms as f64,
        })
    }
}

/// Larger is better; 0 for a setting that does not meet the goal, or without a result.
fn score(goal: Goal, figures: &TrialFigures) -> f64 {
    let is_timed = figures.fps > 0.0 && figures.p99_ms > 0.0;
    match goal {
        Goal::Throughput => figures.fps,
        Goal::Latency if is_timed => 1.0 / figures.p99_ms,
        Goal::Bandwidth if figures.fps > 0.0 && figures.encode_p99_ms <= figures.target_ms => {
            1.0 / figures.bytes_per_result.max(1.0)
        }
        Goal::Latency | Goal::Bandwidth => 0.0,
    }
}

/// How many times as good the candidate is, at most [`GAIN_MAX`]; 1 if the present setting has no
/// result.
fn gain(goal: Goal, from: &TrialFigures, to: &TrialFigures) -> f64 {
    if from.fps <= 0.0 || (goal == Goal::Latency && from.p99_ms <= 0.0) {
        return 1.0;
    }
    (score(goal, to) / score(goal, from).max(1e-12)).min(GAIN_MAX)
}

fn medians(side: &[TrialFigures]) -> TrialFigures {
    let of = |figure: fn(&TrialFigures) -> f64| median(side.iter().map(figure));
    TrialFigures {
        fps: of(|figures| figures.fps),
        cpu_ms_per_frame: of(|figures| figures.cpu_ms_per_frame),
        p50_ms: of(|figures| figures.p50_ms),
        p99_ms: of(|figures| figures.p99_ms),
        bytes_per_result: of(|figures| figures.bytes_per_result),
        encode_p99_ms: of(|figures| figures.encode_p99_ms),
        target_ms: of(|figures| figures.target_ms),
    }
}

/// The middle value, the lower of two; 0 if there are none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASURED: TrialFigures = TrialFigures {
        fps: 100.0,
        cpu_ms_per_frame: 2.0,
        p50_ms: 5.0,
        p99_ms: 20.0,
        bytes_per_result: 50_000.0,
        encode_p99_ms: 30.0,
        target_ms: 100.0,
    };

    #[test]
    fn each_goal_has_its_own_idea_of_better() {
        let quick = TrialFigures { p99_ms: 10.0, fps: 50.0, ..MEASURED };
        assert_eq!(gain(Goal::Latency, &MEASURED, &quick), 2.0);
        assert_eq!(gain(Goal::Throughput, &MEASURED, &quick), 0.5);
        let small = TrialFigures { bytes_per_result: 25_000.0, ..MEASURED };
        assert_eq!(gain(Goal::Bandwidth, &MEASURED, &small), 2.0);
        let slow = TrialFigures { encode_p99_ms: 180.0, ..small };
        assert_eq!(gain(Goal::Bandwidth, &MEASURED, &slow), 0.0, "too slow for live pictures");
        assert_eq!(gain(Goal::Bandwidth, &slow, &MEASURED), GAIN_MAX);
        let asked_for = TrialFigures { target_ms: 200.0, ..slow };
        assert_eq!(gain(Goal::Bandwidth, &MEASURED, &asked_for), 2.0);
    }

    #[test]
    fn what_has_shown_nothing_neither_wins_nor_loses_by_it() {
        for goal in [Goal::Latency, Goal::Throughput, Goal::Bandwidth] {
            assert_eq!(gain(goal, &TrialFigures::default(), &MEASURED), 1.0);
            assert_eq!(gain(goal, &MEASURED, &TrialFigures::default()), 0.0);
        }
        let untimed = TrialFigures { p99_ms: 0.0, ..MEASURED };
        assert_eq!(gain(Goal::Latency, &MEASURED, &untimed), 0.0);
    }
}
