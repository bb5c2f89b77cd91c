//! `soak`: memory, page faults and latency over time, at a steady rate.

use std::fmt::Write as _;

use clap::Args;
use framepress::config::Config;
use framepress::internals::instruments::Size;
use serde::Serialize;

use crate::Outcome;
use crate::folder::RunArgs;
use crate::load::files::{Kind, Studio};
use crate::load::{Load, Measured, Program, Sample, Trial};
use crate::plot::{self, Axes};

/// Goal for resident memory with the default configuration at 1920x1080, in MiB.
const GOAL_MIB: f64 = 200.0;
/// Growth from the second quarter to the last that still counts as flat, in MiB.
const FLAT_MIB: f64 = 4.0;
/// Lines of the allocator's statistics, at the end of the program's output.
const ALLOCATOR_LINES: usize = 40;

#[derive(Args, Clone)]
pub struct SoakArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Minutes to run
    #[arg(long, default_value_t = 3.0)]
    pub minutes: f64,
    /// Frames per second over all cameras [default: half of this machine's maximum]
    #[arg(long)]
    pub rate: Option<f64>,
    /// Size of the frames
    #[arg(long, default_value_t = Size::HD)]
    pub size: Size,
    /// Cameras
    #[arg(long, default_value_t = 4)]
    pub cameras: u64,
}

#[derive(Serialize)]
struct Figures {
    minutes: f64,
    rate: f64,
    /// Peak memory of the second quarter of the time, and of the last.
    early_mib: f64,
    late_mib: f64,
    flat: bool,
    /// Page faults per thousand frames in the second half: memory that the allocator still requests
    /// from the kernel.
    late_faults_per_thousand: f64,
    run: Measured,
    /// The allocator's final statistics, unchanged.
    allocator: Vec<String>,
}

pub fn run(args: &SoakArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let studio = Studio::open()?;
    let program = Program::engine(&args.run.bin, Config::builtin());
    let trial = |load, seconds, log, interval| Trial {
        cameras: args.cameras,
        log,
        interval,
        ..Trial::new(&program, (args.size, Kind::Raw), load, seconds)
    };
    let rate = match args.rate {
        Some(rate) => rate,
        None => trial(Load::Full, 4.0, None, 1.0).run(&studio)?.fps / 2.0,
    };
    let seconds = args.minutes * 60.0;
    let interval = (seconds / 240.0).max(1.0);
    println!("{} minutes at {rate:.1} frames/s of {}", args.minutes, args.size);
    let run =
        trial(Load::Rate(rate), seconds, Some(folder.path("soak.hlog")), interval).run(&studio)?;
    let figures = judge(args, rate, run);
    let latency = figures.run.results.intervals.iter();
    let latency = latency.filter(|interval| interval.frames > 0);
    plot::lines(
        &folder.path("soak-memory.svg"),
        &Axes { title: "Resident memory over time", x: "seconds", y: "MiB" },
        &[("resident".into(), of(&figures.run.samples, |sample| sample.rss_mib))],
    )?;
    plot::lines(
        &folder.path("soak-latency.svg"),
        &Axes { title: "Latency over time", x: "seconds", y: "ms" },
        &[
            ("p50".into(), latency.clone().map(|part| (part.at, part.p50)).collect()),
            ("p99".into(), latency.map(|part| (part.at, part.p99)).collect()),
        ],
    )?;
    folder.part("soak", &figures, &text(args, &figures)?)?;
    Ok(figures.flat && figures.late_mib <= GOAL_MIB && figures.run.missing == 0)
}

fn of(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    samples.iter().map(|sample| (sample.at.max(0.0), figure(sample))).collect()
}

fn judge(args: &SoakArgs, rate: f64, run: Measured) -> Figures {
    let samples = &run.samples;
    let part = |from: f64, to: f64| {
        let at = |share: f64| (samples.len() as f64 * share) as usize;
        &samples[at(from).min(samples.len())..at(to).min(samples.len())]
    };
    let most = |part: &[Sample]| part.iter().map(|sample| sample.rss_mib).fold(0.0, f64::max);
    let (early_mib, late_mib) = (most(part(0.25, 0.5)), most(part(0.75, 1.0)));
    let half = part(0.5, 1.0);
    let late_faults_per_thousand = match (half.first(), half.last()) {
        (Some(first), Some(last)) if last.done > first.done => {
            (last.page_faults - first.page_faults) as f64 * 1000.0 / (last.done - first.done) as f64
        }
        _ => 0.0,
    };
    let said: Vec<&str> = run.said.lines().collect();
    let allocator = said[said.len().saturating_sub(ALLOCATOR_LINES)..].iter();
    Figures {
        minutes: args.minutes,
        rate,
        early_mib,
        late_mib,
        flat: late_mib - early_mib <= FLAT_MIB,
        late_faults_per_thousand,
        allocator: allocator.map(|line| (*line).to_owned()).collect(),
        run,
    }
}

fn text(args: &SoakArgs, figures: &Figures) -> Outcome<String> {
    let latency = &figures.run.results.latency_ms;
    let mut text = format!(
        "## Soak\n\n{} minutes at {:.1} frames/s of {}, raw, {} cameras, default configuration.\n\n\
         | figure | value |\n| --- | --- |\n",
        args.minutes, figures.rate, args.size, args.cameras
    );
    let mut row = |name: &str, value: String| writeln!(text, "| {name} | {value} |");
    row("frames", figures.run.results.frames.to_string())?;
    row("without result", figures.run.missing.to_string())?;
    row("resident memory, most in the second quarter", format!("{:.1} MiB", figures.early_mib))?;
    row("resident memory, most in the last quarter", format!("{:.1} MiB", figures.late_mib))?;
    row(
        "page faults per 1000 frames, second half",
        format!("{:.1}", figures.late_faults_per_thousand),
    )?;
    row(
        "latency",
        format!("p50 {:.1}, p99 {:.1}, max {:.1} ms", latency.p50, latency.p99, latency.max),
    )?;
    row(
        "goal: flat, at most 200 MiB at 1920x1080",
        format!(
            "{}, {}",
            if figures.flat { "flat" } else { "not flat" },
            if figures.late_mib <= GOAL_MIB { "met" } else { "missed" }
        ),
    )?;
    text.push_str(
        "\nHeap allocations per frame are counted by the test `allocations`; from outside only \
         pages that had to be mapped can be seen. Plots: [memory](soak-memory.svg), \
         [latency](soak-latency.svg).\n",
    );
    Ok(text)
}
