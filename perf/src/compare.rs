//! `compare`: two builds of the engine alternately, for example with and without profile-guided
//! optimisation.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use framepress::config::Config;
use serde::Serialize;

use crate::Outcome;
use crate::common::Spread;
use crate::folder::RunArgs;
use crate::load::files::{Kind, Size, Studio};
use crate::load::{Load, Measured, Program, Trial};

#[derive(Args, Clone)]
pub struct CompareArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// The other build
    #[arg(long, value_name = "FILE")]
    pub against: PathBuf,
    /// What the other build is, and the part of the run it becomes
    #[arg(long, default_value = "pgo")]
    pub name: String,
    /// Rounds; each measures both builds
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
}

#[derive(Serialize)]
struct Case {
    name: &'static str,
    /// CPU per frame of the other build over that of the first, round by round.
    ratio: Spread,
    first: Vec<Measured>,
    other: Vec<Measured>,
}

pub fn run(args: &CompareArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let studio = Studio::open()?;
    let mut full = Config::builtin();
    full.analysis.ml_image = true;
    full.analysis.thumbnail = true;
    let mut plain = Config::builtin();
    plain.analysis.enabled = false;
    let mut cases = Vec::new();
    for (name, config, kind) in [
        ("raw, picture alone", &plain, Kind::Raw),
        ("raw, figures, ML image, thumbnail", &full, Kind::Raw),
        ("JSON, figures, ML image, thumbnail", &full, Kind::Json),
    ] {
        cases.push(measure(args, &studio, name, config, kind)?);
    }
    folder.part(&args.name, &cases, &text(args, &cases)?)?;
    Ok(true)
}

fn measure(
    args: &CompareArgs,
    studio: &Studio,
    name: &'static str,
    config: &Config,
    kind: Kind,
) -> Outcome<Case> {
    let builds = [&args.run.bin, &args.against].map(|bin| Program::engine(bin, config.clone()));
    let mut runs = [Vec::new(), Vec::new()];
    for round in 0..args.rounds.max(1) {
        for side in if round % 2 == 0 { [0, 1] } else { [1, 0] } {
            let trial = Trial {
                program: &builds[side],
                size: Size::VGA,
                kind,
                cameras: 4,
                load: Load::Full,
                warm: 1.0,
                seconds: args.seconds,
                log: None,
                interval: 1.0,
            };
            runs[side].push(trial.run(studio)?);
        }
    }
    let [first, other] = runs;
    let pairs = first.iter().zip(&other);
    let ratio = Spread::of(pairs.map(|(one, two)| two.cpu_ms_per_frame / one.cpu_ms_per_frame));
    println!("{name}: {:.3} ({:.3} to {:.3})", ratio.median, ratio.min, ratio.max);
    Ok(Case { name, ratio, first, other })
}

fn text(args: &CompareArgs, cases: &[Case]) -> Outcome<String> {
    let mut text = format!(
        "## {}\n\nTwo builds in turns, {} rounds of {} s at full load, 640x480, CPU per frame of \
         the engine. A ratio below 1 is a gain.\n\n\
         | work | plain, ms/frame | {}, ms/frame | ratio: min, median, max |\n\
         | --- | --- | --- | --- |\n",
        args.name, args.rounds, args.seconds, args.name
    );
    for Case { name, ratio, first, other } in cases {
        let median =
            |runs: &[Measured]| Spread::of(runs.iter().map(|run| run.cpu_ms_per_frame)).median;
        writeln!(
            text,
            "| {name} | {:.3} | {:.3} | {:.3}, {:.3}, {:.3} |",
            median(first),
            median(other),
            ratio.min,
            ratio.median,
            ratio.max
        )?;
    }
    Ok(text)
}
