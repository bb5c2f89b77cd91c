//! `compare`: several sides of the engine alternately: the shipped profiles beside the default
//! configuration, or with `--against` two builds, for example with and without profile-guided
//! optimisation.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use framepress::config::{Config, Loader};
use framepress::internals::instruments::Size;
use serde::Serialize;

use crate::Outcome;
use crate::common::Spread;
use crate::folder::{Folder, RunArgs};
use crate::load::files::{Kind, Studio};
use crate::load::{Load, Measured, Program, Trial};

const PROFILES: [&str; 3] = ["high-throughput", "low-latency", "bandwidth-optimised"];

#[derive(Args, Clone)]
pub struct CompareArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Another build, instead of the profiles
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// What the other build is, and the part of the run it becomes
    #[arg(long, default_value = "pgo", requires = "against")]
    pub name: String,
    /// Rounds; each measures every side
    #[arg(long, default_value_t = 4)]
    pub rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Size of the frames
    #[arg(long, default_value_t = Size::VGA)]
    pub size: Size,
    /// Where the profiles are
    #[arg(long, default_value = "perf/profiles")]
    pub profiles_dir: PathBuf,
}

pub fn run(args: &CompareArgs) -> Outcome<bool> {
    let (folder, studio) = (args.run.folder()?, Studio::open()?);
    match &args.against {
        Some(other) => builds(args, &studio, other.clone(), &folder)?,
        None => profiles(args, &studio, &folder)?,
    }
    Ok(true)
}

/// Measures all sides in every round, in alternating order. The runs of each side.
fn alternately(
    args: &CompareArgs,
    studio: &Studio,
    sides: &[Program],
    kind: Kind,
    load: Load,
) -> Outcome<Vec<Vec<Measured>>> {
    let mut runs: Vec<Vec<Measured>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..args.rounds.max(1) {
        for step in 0..sides.len() {
            let side = if round % 2 == 0 { step } else { sides.len() - 1 - step };
            let trial = Trial::new(&sides[side], (args.size, kind), load, args.seconds);
            runs[side].push(trial.run(studio)?);
        }
    }
    Ok(runs)
}

fn median(runs: &[Measured], of: fn(&Measured) -> f64) -> f64 {
    Spread::of(runs.iter().map(of)).median
}

/// One kind of work, done by both builds.
#[derive(Serialize)]
struct Case {
    name: &'static str,
    /// CPU per frame of the other build over that of the first, round by round.
    ratio: Spread,
    first: Vec<Measured>,
    other: Vec<Measured>,
}

fn builds(args: &CompareArgs, studio: &Studio, other: PathBuf, folder: &Folder) -> Outcome<()> {
    let mut full = Config::builtin();
    full.analysis.ml_image = true;
    full.analysis.thumbnail = true;
    let mut plain = Config::builtin();
    plain.analysis.enabled = false;
    let bins = [args.run.bin.clone(), other];
    let mut cases = Vec::new();
    for (name, config, kind) in [
        ("raw, picture alone", &plain, Kind::Raw),
        ("raw, figures, ML image, thumbnail", &full, Kind::Raw),
        ("JSON, figures, ML image, thumbnail", &full, Kind::Json),
    ] {
        let sides = bins.each_ref().map(|bin| Program::engine(bin, config.clone()));
        let mut runs = alternately(args, studio, &sides, kind, Load::Full)?.into_iter();
        let (first, other) = (runs.next().unwrap_or_default(), runs.next().unwrap_or_default());
        let pairs = first.iter().zip(&other);
        let ratio = Spread::of(pairs.map(|(one, two)| two.cpu_ms_per_frame / one.cpu_ms_per_frame));
        println!("{name}: {:.3} ({:.3} to {:.3})", ratio.median, ratio.min, ratio.max);
        cases.push(Case { name, ratio, first, other });
    }
    let mut text = format!(
        "## {}\n\nTwo builds, alternately, {} rounds of {} s at full load, {}, CPU per frame of the \
         engine. A ratio below 1 is a gain.\n\n\
         | work | plain, ms/frame | {}, ms/frame | ratio: min, median, max |\n\
         | --- | --- | --- | --- |\n",
        args.name, args.rounds, args.seconds, args.size, args.name
    );
    for Case { name, ratio: Spread { min, median: middle, max }, first, other } in &cases {
        let cpu = |runs: &[Measured]| median(runs, |run| run.cpu_ms_per_frame);
        let (first, other) = (cpu(first), cpu(other));
        writeln!(text, "| {name} | {first:.3} | {other:.3} | {min:.3}, {middle:.3}, {max:.3} |")?;
    }
    folder.part(&args.name, &cases, &text)
}

/// One configuration.
#[derive(Serialize)]
struct Row {
    name: String,
    full: Vec<Measured>,
    /// At half of the slowest one's rate, so that all have the same load.
    half: Vec<Measured>,
}

fn profiles(args: &CompareArgs, studio: &Studio, folder: &Folder) -> Outcome<()> {
    let mut configs = vec![("default".to_owned(), Config::builtin())];
    for name in PROFILES {
        let file = args.profiles_dir.join(format!("{name}.yaml"));
        configs.push((name.to_owned(), Loader::new().file(Some(file)).load()?.config));
    }
    let sides: Vec<Program> =
        configs.iter().map(|(_, config)| Program::engine(&args.run.bin, config.clone())).collect();
    let full = alternately(args, studio, &sides, Kind::Raw, Load::Full)?;
    let slowest = full.iter().map(|runs| median(runs, |run| run.fps));
    let rate = slowest.fold(f64::INFINITY, f64::min) / 2.0;
    let half = alternately(args, studio, &sides, Kind::Raw, Load::Rate(rate))?;
    let rows: Vec<Row> = configs
        .into_iter()
        .zip(full.into_iter().zip(half))
        .map(|((name, _), (full, half))| Row { name, full, half })
        .collect();
    let mut text = format!(
        "## Profiles\n\n`perf/profiles/*.yaml` compared with the default configuration, raw frames of \
         {}, {} rounds of {} s, alternately. Latency and bytes at {rate:.1} frames/s, half of the \
         slowest one's maximum. Medians. A frame shed at full load has no result, and takes little \
         CPU.\n\n\
         | profile | frames/s at most | without result at full load | CPU ms/frame | Redis CPU ms/frame | p50 ms | p99 ms | bytes out/frame | memory MiB |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        args.size, args.rounds, args.seconds
    );
    for Row { name, full, half } in &rows {
        writeln!(
            text,
            "| {name} | {:.1} | {:.0} | {:.2} | {:.2} | {:.1} | {:.1} | {:.0} | {:.0} |",
            median(full, |run| run.fps),
            median(full, |run| run.missing as f64),
            median(full, |run| run.cpu_ms_per_frame),
            median(full, |run| run.redis_cpu_ms_per_frame),
            median(half, |run| run.results.latency_ms.p50),
            median(half, |run| run.results.latency_ms.p99),
            median(half, |run| run.bytes_out_per_frame),
            median(full, |run| run.rss_mib_max),
        )?;
    }
    folder.part("profiles", &rows, &text)
}
