//! `migration`: the replaced system with Kafka, JSON and Python, compared with Framepress, and with
//! both connected by the bridge; the same frames, alternately within one run.
//!
//! A measurement has an open loop, whose frames are timed from when they should have been sent to
//! when the reader had the decoded result, and then a closed loop at full load. Bytes on the wire
//! are counted in separate measurements, in which all clients go through proxies.

mod child;
mod coded;
mod intake;
mod kafka;
mod measurement;
mod ports;
mod reader;
mod report;
mod store;

use std::path::PathBuf;

use clap::Args;
use framepress::internals::instruments::Size;
use serde::Serialize;

use self::coded::{CodedFrames, FrameCoding};
use self::kafka::KafkaNode;
use self::measurement::{Measured, Plan, Stage};
use crate::Outcome;
use crate::folder::RunArgs;
use crate::load::files::Studio;
use crate::peers::environment;

/// Cameras, and partitions of a topic.
const CAMERAS: u64 = 4;
/// Seconds of an open loop that are not measured.
const WARM: f64 = 2.0;
/// Frames whose bytes are counted: each picture equally often.
const COUNTED_FRAMES: f64 = 32.0;

#[derive(Args, Clone)]
pub struct MigrationArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Frame sizes
    #[arg(long, value_delimiter = ',', default_values_t = [Size::VGA, Size::HD])]
    pub sizes: Vec<Size>,
    /// Frames per second of all cameras together, for each size: a rate that every system sustains
    #[arg(long, value_delimiter = ',', default_values_t = [20.0, 4.0])]
    pub rates: Vec<f64>,
    /// The same if cameras send PNG
    #[arg(long, value_delimiter = ',', default_values_t = [15.0, 2.0])]
    pub png_rates: Vec<f64>,
    /// Seconds at that rate
    #[arg(long, default_value_t = 8.0)]
    pub seconds: f64,
    /// Seconds at full load
    #[arg(long, default_value_t = 4.0)]
    pub full_seconds: f64,
    /// Rounds; each measures every system
    #[arg(long, default_value_t = 2)]
    pub rounds: usize,
    /// One round of the first size in about a minute; the figures are not meaningful
    #[arg(long)]
    pub quick: bool,
    /// Frames of this video file, decoded by ffmpeg [default: a painted road]
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,
    /// Where `tests/kafka/fetch.sh` has put Kafka
    #[arg(long, value_name = "DIR", default_value = "target/kafka")]
    pub kafka: PathBuf,
    /// Where Python packages are installed; may be deleted at any time
    #[arg(long, default_value = "target/perf-peers")]
    pub peers_dir: PathBuf,
}

/// The three states of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Era {
    Before,
    Between,
    After,
}

impl Era {
    fn name(self) -> &'static str {
        match self {
            Era::Before => "before: Kafka, Python",
            Era::Between => "between: Kafka, bridge, Framepress",
            Era::After => "after: Redis, Framepress",
        }
    }

    fn has_kafka(self) -> bool {
        self != Era::After
    }

    fn has_redis(self) -> bool {
        self != Era::Before
    }
}

/// The systems, and how cameras encode their pictures.
const SYSTEMS: [(Era, FrameCoding); 4] = [
    (Era::Before, FrameCoding::Jpeg),
    (Era::Before, FrameCoding::Png),
    (Era::Between, FrameCoding::Jpeg),
    (Era::After, FrameCoding::Jpeg),
];

/// Figures of one system at one size.
#[derive(Serialize)]
struct Row {
    size: Size,
    era: Era,
    coding: FrameCoding,
    /// Frames per second of the open loop.
    rate: f64,
    /// Bytes of a camera's picture.
    picture_bytes: f64,
    rounds: Vec<Measured>,
    counted: Measured,
}

#[derive(Serialize)]
struct Figures {
    scene: &'static str,
    rows: Vec<Row>,
    skipped: Vec<String>,
}

pub fn run(args: &MigrationArgs) -> Outcome<bool> {
    let args = &args.clone().checked()?;
    let mut skipped = Vec::new();
    let mut noted = |what: &str, found: Result<_, String>| {
        found.map_err(|why| skipped.push(format!("{what}: {why}"))).ok()
    };
    let jars = noted("all that needs Kafka", kafka::find(&args.kafka));
    let python = environment::python(&args.peers_dir.join("python")).map(PathBuf::from);
    let python = noted("the system before", python);
    skipped.iter().for_each(|line| eprintln!("\nSKIPPED: {line}\n"));
    let folder = args.run.folder()?;
    let studio = match &args.video {
        Some(file) => Studio::of_video(file.clone())?,
        None => Studio::open()?,
    };
    let kafka = jars.map(|jars| KafkaNode::start(&jars)).transpose()?;
    let systems: Vec<(Era, FrameCoding)> = SYSTEMS
        .into_iter()
        .filter(|(era, _)| kafka.is_some() || !era.has_kafka())
        .filter(|(era, _)| python.is_some() || *era != Era::Before)
        .collect();
    let python = python.map(|path| path.to_string_lossy().into_owned());
    let mut stage = Stage::open(&args.run.bin, python, kafka)?;
    let mut rows = Vec::new();
    for at in 0..args.sizes.len() {
        rows.extend(measure(args, &mut stage, &studio, &systems, at)?);
    }
    let figures = Figures { scene: studio.subject.name(), rows, skipped };
    let (text, is_met) = report::text(args, &figures)?;
    folder.part("migration", &figures, &text)?;
    Ok(is_met)
}

impl MigrationArgs {
    fn checked(mut self) -> Outcome<MigrationArgs> {
        if self.quick {
            (self.seconds, self.full_seconds, self.rounds) = (2.0, 1.5, 1);
            self.sizes.truncate(1);
        }
        for (name, rates) in [("--rates", &self.rates), ("--png-rates", &self.png_rates)] {
            if rates.len() < self.sizes.len() || rates.iter().any(|rate| *rate <= 0.0) {
                return Err(format!("{name}: valid: a rate above 0 for each of --sizes").into());
            }
        }
        Ok(self)
    }
}

/// Measures all systems at the size with this index.
fn measure(
    args: &MigrationArgs,
    stage: &mut Stage,
    studio: &Studio,
    systems: &[(Era, FrameCoding)],
    at: usize,
) -> Outcome<Vec<Row>> {
    let size = args.sizes[at];
    let jpeg = CodedFrames::of(studio, size, FrameCoding::Jpeg)?;
    let png = CodedFrames::of(studio, size, FrameCoding::Png)?;
    let coded = |coding| if coding == FrameCoding::Jpeg { &jpeg } else { &png };
    let rate = |coding| match coding {
        FrameCoding::Jpeg => args.rates[at],
        FrameCoding::Png => args.png_rates[at],
    };
    let mut rounds: Vec<Vec<Measured>> = systems.iter().map(|_| Vec::new()).collect();
    for round in 0..args.rounds.max(1) {
        for index in 0..systems.len() {
            // Rotate the order, so that each goes first in some round.
            let index = (index + round) % systems.len();
            let (era, coding) = systems[index];
            let plan = Plan {
                rate: rate(coding),
                warm: WARM,
                seconds: args.seconds,
                full_seconds: args.full_seconds,
                is_counted: false,
            };
            let run = stage.measure(era, coded(coding), &plan)?;
            println!(
                "{size} {}, {}: p50 {:.1} ms, p99 {:.1} ms at {} frames/s; {:.1} frames/s at full load",
                era.name(),
                coding.name(),
                run.p50_ms,
                run.p99_ms,
                plan.rate,
                run.full_fps
            );
            rounds[index].push(run);
        }
    }
    let mut rows = Vec::new();
    for (&(era, coding), rounds) in systems.iter().zip(rounds) {
        let rate = rate(coding);
        let plan = Plan {
            rate,
            warm: 0.0,
            seconds: COUNTED_FRAMES / rate,
            full_seconds: 0.0,
            is_counted: true,
        };
        let counted = stage.measure(era, coded(coding), &plan)?;
        let picture_bytes = coded(coding).bytes();
        rows.push(Row { size, era, coding, rate, picture_bytes, rounds, counted });
    }
    Ok(rows)
}
