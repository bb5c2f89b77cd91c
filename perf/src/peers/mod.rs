//! `peers`: the engine compared with Python and Node programs that do the same work, on the same
//! frames, through a Redis of the same kind, alternately within one run.
//!
//! Each peer runs as many processes as there are cores, so that it can use the whole machine.

pub mod environment;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use framepress::config::Config;
use framepress::internals::instruments::Size;
use serde::Serialize;

use crate::Outcome;
use crate::common::Spread;
use crate::folder::{RunArgs, cores};
use crate::load::files::{Kind, Studio, Subject};
use crate::load::{Load, Measured, Program, Trial};
use environment::Environment;

/// Goal for frames per CPU-second over those of the replaced system.
const GOAL: f64 = 10.0;
/// Goal for bytes of results over JSON with base64 of the raw frames.
const BYTES_GOAL: f64 = 0.05;

#[derive(Args, Clone)]
pub struct PeersArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4.0)]
    pub seconds: f64,
    /// Rounds; each measures every side at full load
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    /// Where Python and Node packages are installed; may be deleted at any time
    #[arg(long, default_value = "target/perf-peers")]
    pub peers_dir: PathBuf,
    /// Only sides whose name contains this, besides the engine
    #[arg(long, default_value = "")]
    pub only: String,
    /// Only this size
    #[arg(long)]
    pub size: Option<Size>,
}

/// What to do with the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Task {
    /// Including figures, ML image and thumbnail.
    Full,
    /// The picture alone: raw RGB in, JPEG out.
    Code,
}

struct Side {
    name: &'static str,
    task: Task,
    kind: Kind,
    program: Program,
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    scene: &'static str,
    task: Task,
    kind: Kind,
    size: Size,
    full: Vec<Measured>,
    half: Measured,
    /// Frames per CPU-second of the engine on the same task and kind, over this side's.
    engine_over_this: Option<Spread>,
}

#[derive(Serialize)]
struct Figures {
    rows: Vec<Row>,
    skipped: Vec<String>,
}

pub fn run(args: &PeersArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let mut studios = vec![Studio::open()?];
    let (environment, mut skipped) = Environment::prepare(&args.peers_dir);
    match Studio::of_recording()? {
        Ok(studio) => studios.push(studio),
        Err(folder) => {
            skipped.push(format!("frames of a recording: no car_*.png in {}", folder.display()));
        }
    }
    skipped.iter().for_each(|line| eprintln!("\nSKIPPED: {line}\n"));
    let sides: Vec<Side> = sides(args, &environment)
        .into_iter()
        .filter(|side| is_engine(side) || side.name.contains(&args.only))
        .collect();
    let mut rows = Vec::new();
    for studio in &studios {
        // The content of pictures matters only if they are analysed and decoded.
        let sides: Vec<&Side> = sides
            .iter()
            .filter(|side| studio.subject == Subject::Road || side.kind == Kind::Json)
            .collect();
        for size in [Size::VGA, Size::HD] {
            if args.size.is_none_or(|only| only == size) {
                rows.extend(measure(args, studio, &sides, size)?);
            }
        }
    }
    let figures = Figures { rows, skipped };
    folder.part("peers", &figures, &text(args, &figures)?)?;
    Ok(figures
        .rows
        .iter()
        .filter(|row| row.name == "Python, replaced system")
        .all(|row| row.engine_over_this.is_some_and(|ratio| ratio.median >= GOAL)))
}

fn is_engine(side: &Side) -> bool {
    matches!(side.program, Program::Engine { .. })
}

fn sides(args: &PeersArgs, environment: &Environment) -> Vec<Side> {
    let engine = |task: Task| {
        let mut config = Config::builtin();
        let full = task == Task::Full;
        config.analysis.enabled = full;
        config.analysis.ml_image = full;
        config.analysis.thumbnail = full;
        Program::engine(&args.run.bin, config)
    };
    let side = |name, task, kind, program| Side { name, task, kind, program };
    let mut sides = vec![
        side("Framepress", Task::Full, Kind::Json, engine(Task::Full)),
        side("Framepress", Task::Full, Kind::Raw, engine(Task::Full)),
        side("Framepress", Task::Code, Kind::Raw, engine(Task::Code)),
    ];
    let peer = |command: Vec<String>| Program::Peer { command, processes: cores() };
    if let Some(python) = &environment.python {
        let script = |task: &str| {
            vec![python.clone(), "perf/peers/python/peer.py".to_owned(), task.to_owned()]
        };
        let legacy = peer(script("legacy"));
        sides.push(side("Python, replaced system", Task::Full, Kind::Json, legacy));
        sides.push(side("Python, tuned", Task::Code, Kind::Raw, peer(script("tuned"))));
    }
    if let Some(script) = &environment.node {
        let command = vec!["node".to_owned(), script.clone()];
        sides.push(side("Node", Task::Code, Kind::Raw, peer(command)));
    }
    sides
}

fn measure(args: &PeersArgs, studio: &Studio, sides: &[&Side], size: Size) -> Outcome<Vec<Row>> {
    let trial = |side: &Side, load| {
        let trial = Trial::new(&side.program, (size, side.kind), load, args.seconds);
        trial.run(studio).map_err(|error| format!("{}, {size}: {error}", side.name))
    };
    let mut full: Vec<Vec<Measured>> = sides.iter().map(|_| Vec::new()).collect();
    for _ in 0..args.rounds.max(1) {
        for (side, runs) in sides.iter().zip(&mut full) {
            let run = trial(side, Load::Full)?;
            println!(
                "{} {size} {:?} {}: {:.1} frames/s, {:.2} ms of CPU per frame",
                studio.subject.name(),
                side.task,
                side.name,
                run.fps,
                run.cpu_ms_per_frame
            );
            runs.push(run);
        }
    }
    let cpu =
        |runs: &[Measured]| -> Vec<f64> { runs.iter().map(|run| run.cpu_ms_per_frame).collect() };
    sides
        .iter()
        .zip(&full)
        .map(|(side, runs)| {
            let most = Spread::of(runs.iter().map(|run| run.fps)).median;
            let half = trial(side, Load::Rate((most / 2.0).max(0.5)))?;
            let engine = sides.iter().position(|other| {
                is_engine(other) && (other.task, other.kind) == (side.task, side.kind)
            });
            let engine_over_this = engine.filter(|_| !is_engine(side)).map(|engine| {
                let pairs = cpu(runs).into_iter().zip(cpu(&full[engine]));
                Spread::of(pairs.map(|(this, engine)| this / engine))
            });
            Ok(Row {
                name: side.name,
                scene: studio.subject.name(),
                task: side.task,
                kind: side.kind,
                size,
                full: runs.clone(),
                half,
                engine_over_this,
            })
        })
        .collect()
}

fn text(args: &PeersArgs, figures: &Figures) -> Outcome<String> {
    let mut text = format!(
        "## Peers\n\nThe same frames through a Redis of its own for each run, {} rounds of {} s at \
         full load, then {} s in an open loop at half of the side's own maximum for the latency. \
         Peers run {} processes each. CPU is that of the side alone, without Redis, feeder and \
         consumer. `Full`: figures, ML image and thumbnail; `Code`: the picture alone. `road`: the \
         synthetic road, with the noise of a sensor in dim light; `recording`: frames of a traffic \
         camera.\n\n\
         | scene | task | input | size | side | frames/s | CPU ms/frame | frames per CPU-second, engine over this: min, median, max | memory MiB | p50 ms | p99 ms | bytes in | bytes out |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        args.rounds,
        args.seconds,
        args.seconds,
        cores()
    );
    for row in &figures.rows {
        let median = |of: &dyn Fn(&Measured) -> f64| Spread::of(row.full.iter().map(of)).median;
        let ratio = row.engine_over_this.map_or(String::new(), |ratio| {
            format!("{:.1}, {:.1}, {:.1}", ratio.min, ratio.median, ratio.max)
        });
        let latency = &row.half.results.latency_ms;
        writeln!(
            text,
            "| {} | {:?} | {} | {} | {} | {:.1} | {:.2} | {ratio} | {:.0} | {:.1} | {:.1} | {:.0} | {:.0} |",
            row.scene,
            row.task,
            row.kind.name(),
            row.size,
            row.name,
            median(&|run| run.fps),
            median(&|run| run.cpu_ms_per_frame),
            median(&|run| run.rss_mib_max),
            latency.p50,
            latency.p99,
            row.half.bytes_in_per_frame,
            row.half.bytes_out_per_frame,
        )?;
    }
    text.push('\n');
    for row in &figures.rows {
        if row.name == "Python, replaced system"
            && let Some(ratio) = row.engine_over_this
        {
            let met = if ratio.median >= GOAL { "met" } else { "missed" };
            writeln!(
                text,
                "- Goal, {} {}: at least {GOAL} times the frames per CPU-second of the replaced \
                 system: {:.1}, {met}.",
                row.scene, row.size, ratio.median
            )?;
        }
        if row.name == "Framepress" && row.task == Task::Code {
            let json = row.size.raw_bytes().div_ceil(3) * 4 + 120;
            let share = row.half.bytes_out_per_frame / json as f64;
            let met = if share <= BYTES_GOAL { "met" } else { "missed" };
            writeln!(
                text,
                "- Goal, {}: results take at most {BYTES_GOAL} of JSON with base64 of the raw \
                 frames: {share:.3}, {met}.",
                row.size
            )?;
        }
    }
    for line in &figures.skipped {
        writeln!(text, "- **Skipped**: {line}")?;
    }
    Ok(text)
}
