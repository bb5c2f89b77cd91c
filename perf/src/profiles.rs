//! `profiles`: the shipped profiles compared with the default configuration, alternately.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use framepress::config::{Config, Loader};
use serde::Serialize;

use crate::Outcome;
use crate::common::Spread;
use crate::folder::RunArgs;
use crate::load::files::{Kind, Size, Studio};
use crate::load::{Load, Measured, Program, Trial};

const NAMES: [&str; 3] = ["high-throughput", "low-latency", "bandwidth-optimised"];

#[derive(Args, Clone)]
pub struct ProfilesArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Rounds; each measures every profile
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    /// Size of the frames
    #[arg(long, default_value_t = Size::VGA)]
    pub size: Size,
    /// Where the profiles are
    #[arg(long, default_value = "perf/profiles")]
    pub profiles_dir: PathBuf,
}

#[derive(Serialize)]
struct Row {
    name: String,
    full: Vec<Measured>,
    /// At no more than half of the slowest one's rate, so that all have the same load.
    half: Vec<Measured>,
}

pub fn run(args: &ProfilesArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let studio = Studio::open()?;
    let mut programs = vec![("default".to_owned(), Config::builtin())];
    for name in NAMES {
        let file = args.profiles_dir.join(format!("{name}.yaml"));
        let loaded = Loader::new().file(Some(file)).load()?;
        programs.push((name.to_owned(), loaded.config));
    }
    let mut rows: Vec<Row> = programs
        .iter()
        .map(|(name, _)| Row { name: name.clone(), full: Vec::new(), half: Vec::new() })
        .collect();
    let measure = |config: &Config, load| {
        let program = Program::engine(&args.run.bin, config.clone());
        let trial = Trial {
            program: &program,
            size: args.size,
            kind: Kind::Raw,
            cameras: 4,
            load,
            warm: 1.0,
            seconds: args.seconds,
            log: None,
            interval: 0.5,
        };
        trial.run(&studio)
    };
    for _ in 0..args.rounds.max(1) {
        for (row, (name, config)) in rows.iter_mut().zip(&programs) {
            let run = measure(config, Load::Full)?;
            println!("{name}: {:.1} frames/s", run.fps);
            row.full.push(run);
        }
    }
    let slowest = rows.iter().map(|row| Spread::of(row.full.iter().map(|run| run.fps)).median);
    let rate = slowest.fold(f64::INFINITY, f64::min) / 2.0;
    for _ in 0..args.rounds.max(1) {
        for (row, (_, config)) in rows.iter_mut().zip(&programs) {
            row.half.push(measure(config, Load::Rate(rate))?);
        }
    }
    folder.part("profiles", &rows, &text(args, rate, &rows)?)?;
    Ok(true)
}

fn text(args: &ProfilesArgs, rate: f64, rows: &[Row]) -> Outcome<String> {
    let mut text = format!(
        "## Profiles\n\n`perf/profiles/*.yaml` beside the default configuration, raw frames of {}, \
         {} rounds in turns of {} s. Latency and bytes at {rate:.1} frames/s, half of what the \
         slowest of them does at most. Medians. What is shed at full load comes without a \
         result, and takes little CPU.\n\n\
         | profile | frames/s at most | without result at full load | CPU ms/frame | Redis CPU ms/frame | p50 ms | p99 ms | bytes out/frame | memory MiB |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        args.size, args.rounds, args.seconds
    );
    for Row { name, full, half } in rows {
        let median =
            |runs: &[Measured], of: fn(&Measured) -> f64| Spread::of(runs.iter().map(of)).median;
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
    Ok(text)
}
