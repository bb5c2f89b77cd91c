//! `latency`: open loop at shares of the measured maximum. Each frame is timed from when it should
//! have been sent.

use std::fmt::Write as _;

use clap::Args;
use framepress::config::Config;
use framepress::internals::instruments::Size;
use serde::Serialize;

use crate::Outcome;
use crate::common::Spread;
use crate::folder::{Folder, RunArgs};
use crate::load::files::{Kind, Studio};
use crate::load::{Load, Measured, Program, Trial};
use crate::plot;

/// Sizes with their goal for the 99th percentile at half of the maximum, in milliseconds.
const CASES: [(Size, f64); 2] = [(Size::VGA, 25.0), (Size::HD, 50.0)];
/// The 99th percentile at any measured rate.
const NEVER_ABOVE_MS: f64 = 100.0;
/// Frames per second at which each frame finds an idle engine.
const IDLE_RATE: f64 = 2.0;

#[derive(Args, Clone)]
pub struct LatencyArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Seconds at each rate
    #[arg(long, default_value_t = 12.0)]
    pub seconds: f64,
    /// Seconds of each of the runs that measure the maximum
    #[arg(long, default_value_t = 4.0)]
    pub full_seconds: f64,
    /// Runs that measure the maximum; the median counts
    #[arg(long, default_value_t = 3)]
    pub full_runs: usize,
    /// Shares of the maximum, in percent
    #[arg(long, value_delimiter = ',', default_values_t = [25, 50, 75, 90])]
    pub percent: Vec<u32>,
    /// Cameras
    #[arg(long, default_value_t = 4)]
    pub cameras: u64,
    /// Only this size
    #[arg(long)]
    pub size: Option<Size>,
}

#[derive(Serialize)]
struct Case {
    size: Size,
    goal_ms: f64,
    max_fps: Spread,
    full: Vec<Measured>,
    rates: Vec<(u32, Measured)>,
    idle: Measured,
}

pub fn run(args: &LatencyArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let studio = Studio::open()?;
    let program = Program::engine(&args.run.bin, Config::builtin());
    let mut cases = Vec::new();
    for (size, goal_ms) in
        CASES.into_iter().filter(|case| args.size.is_none_or(|only| only == case.0))
    {
        cases.push(measure(args, &folder, &studio, &program, size, goal_ms)?);
    }
    for case in &cases {
        let lines: Vec<plot::Line> = case
            .rates
            .iter()
            .map(|(percent, run)| {
                (format!("{percent} %: {:.0} frames/s", run.fps), run.results.percentiles.clone())
            })
            .collect();
        let title = format!("Latency of {} frames at shares of the maximum", case.size);
        let path = folder.path(&format!("latency-{}.svg", case.size));
        plot::percentiles(&path, &title, &lines, Some(case.goal_ms))?;
    }
    folder.part("latency", &cases, &text(args, &cases)?)?;
    Ok(cases.iter().all(Case::is_met))
}

fn measure(
    args: &LatencyArgs,
    folder: &Folder,
    studio: &Studio,
    program: &Program,
    size: Size,
    goal_ms: f64,
) -> Outcome<Case> {
    let trial = |load, seconds, log| Trial {
        cameras: args.cameras,
        warm: 1.5,
        log,
        ..Trial::new(program, (size, Kind::Raw), load, seconds)
    };
    let full = (0..args.full_runs.max(1))
        .map(|_| trial(Load::Full, args.full_seconds, None).run(studio))
        .collect::<Outcome<Vec<_>>>()?;
    let max_fps = Spread::of(full.iter().map(|run| run.fps));
    println!("{size}: at most {:.1} frames/s", max_fps.median);
    let mut rates = Vec::new();
    for &percent in &args.percent {
        let rate = max_fps.median * f64::from(percent) / 100.0;
        let log = folder.path(&format!("latency-{size}-{percent}.hlog"));
        let run = trial(Load::Rate(rate), args.seconds, Some(log)).run(studio)?;
        println!("{size} at {percent} %: p99 {:.1} ms", run.results.latency_ms.p99);
        rates.push((percent, run));
    }
    let log = folder.path(&format!("latency-{size}-idle.hlog"));
    let idle = trial(Load::Rate(IDLE_RATE), args.seconds, Some(log)).run(studio)?;
    Ok(Case { size, goal_ms, max_fps, full, rates, idle })
}

impl Case {
    fn is_met(&self) -> bool {
        self.rates.iter().all(|(percent, run)| {
            let p99 = run.results.latency_ms.p99;
            run.missing == 0 && p99 <= NEVER_ABOVE_MS && (*percent != 50 || p99 <= self.goal_ms)
        })
    }
}

fn text(args: &LatencyArgs, cases: &[Case]) -> Outcome<String> {
    let mut text = format!(
        "## Latency\n\nOpen loop, default configuration, raw frames of {} cameras, {} s at each \
         rate; from when a frame should have been sent to when its result has been read. Feeder, \
         consumer and Redis share the machine with the engine. The maximum is the median of {} \
         closed-loop runs. The line `idle` is {IDLE_RATE} frames/s: each frame finds the engine \
         asleep.\n\n\
         | size | load | frames/s | p50 | p90 | p99 | p99.9 | max | frames | without result | goal for p99 |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        args.cameras, args.seconds, args.full_runs
    );
    for case in cases {
        let idle = std::iter::once(("idle".to_owned(), &case.idle, None));
        let rates = case.rates.iter().map(|(percent, run)| {
            let goal = if *percent == 50 { case.goal_ms } else { NEVER_ABOVE_MS };
            (format!("{percent} %"), run, Some(goal))
        });
        for (load, run, goal) in idle.chain(rates) {
            let l = &run.results.latency_ms;
            let goal = goal.map_or(String::new(), |goal| {
                let met = if l.p99 <= goal { "met" } else { "missed" };
                format!("{goal} ms: {met}")
            });
            writeln!(
                text,
                "| {} | {load} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} | {goal} |",
                case.size,
                run.fps,
                l.p50,
                l.p90,
                l.p99,
                l.p999,
                l.max,
                run.results.frames,
                run.missing
            )?;
        }
    }
    text.push('\n');
    for case in cases {
        writeln!(
            text,
            "Maximum at {0}: {1:.1} frames/s (runs from {2:.1} to {3:.1}). Plot: \
             [latency-{0}.svg](latency-{0}.svg); HdrHistogram logs: `latency-{0}-*.hlog`.\n",
            case.size, case.max_fps.median, case.max_fps.min, case.max_fps.max
        )?;
    }
    Ok(text)
}
