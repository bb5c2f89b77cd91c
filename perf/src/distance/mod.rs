//! `distance`: the engine far from its Redis. A proxy delays what the engine sends and receives;
//! producer and observer are beside the server.
//!
//! The reference is the engine without delay: the key figure is the rate of a backlog over the rate
//! without delay in the same round.

mod engine;
mod measurement;
pub mod place;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use framepress::internals::instruments::Size;
use serde::Serialize;

use self::measurement::{Backlog, Narrow, Point, Stage, Steady};
use crate::Outcome;
use crate::common::Spread;
use crate::folder::RunArgs;
use crate::load::files::{Kind, Studio};
use crate::load::memory_available;

/// Frames per second of all cameras together at the steady rate.
const STEADY_FPS: f64 = 60.0;
/// Seconds at that rate which are not counted.
const WARM_SECONDS: f64 = 2.0;
/// Seconds of a backlog and of a steady rate.
const SECONDS: (f64, f64) = (4.0, 12.0);
/// A backlog may take this many times longer than planned; after that, the rate so far counts.
const PATIENCE: f64 = 3.0;
/// Frames of the run that determines the size of a backlog.
const PROBE_FRAMES: u64 = 120;
/// Most bytes of frames in a backlog: seconds of raw frames, as the first round trips, in which an
/// engine learns the distance, count. The server holds them, so they may use only a part of the
/// memory.
const BACKLOG_BYTES: u64 = 6 << 30;
/// A backlog may use one part in this many of the free memory.
const BACKLOG_SHARE: u64 = 4;
/// The age at which frames are shed in front of a narrow link, in milliseconds.
const MAX_FRAME_AGE_MS: u64 = 2_000;
/// Round trip of a narrow link, in milliseconds.
const NARROW_TRIP_MS: f64 = 20.0;

#[derive(Args, Clone)]
pub struct DistanceArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Another build, measured alternately with the first
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = [Mode::Backlog, Mode::Steady, Mode::Narrow])]
    pub mode: Vec<Mode>,
    /// Round trips in milliseconds; 0, the reference, is always included
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.2, 1.0, 5.0, 10.0, 50.0, 200.0])]
    pub trips: Vec<f64>,
    /// How frames travel in the input stream
    #[arg(long, value_delimiter = ',', default_values_t = [Kind::Jpeg, Kind::Raw])]
    pub input: Vec<Kind>,
    /// Sizes of frames
    #[arg(long, value_delimiter = ',', default_values_t = [Size::VGA, Size::HD])]
    pub size: Vec<Size>,
    /// Encrypted connections; without a value, only these
    #[arg(long, default_value = "both", num_args = 0..=1, default_missing_value = "on")]
    pub tls: Encryption,
    /// Rounds; each measures every distance
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each measurement [default: 4 for a backlog, 12 for a rate]
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Megabits per second of the narrow link
    #[arg(long, value_name = "MBIT", default_value_t = 20.0)]
    pub narrow: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Frames per second of a backlog
    Backlog,
    /// Latency at 60 frames per second
    Steady,
    /// Twice as many frames as the link carries
    Narrow,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Mode::Backlog => "backlog",
            Mode::Steady => "steady",
            Mode::Narrow => "narrow",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encryption {
    Off,
    On,
    Both,
}

impl Encryption {
    fn values(self) -> &'static [bool] {
        match self {
            Encryption::Off => &[false],
            Encryption::On => &[true],
            Encryption::Both => &[false, true],
        }
    }
}

/// Figures of one build at one point.
#[derive(Serialize)]
struct Row {
    /// Index of the build: 0 for the measured one, 1 for the other.
    build: usize,
    point: Point,
    /// Frames per second of its backlogs.
    fps: Option<Spread>,
    /// The same over those without delay, round by round.
    ratio: Option<Spread>,
    /// The same over those of the first build, round by round.
    against_first: Option<Spread>,
    backlogs: Vec<Backlog>,
    steady: Option<Steady>,
}

/// Figures of one build behind a narrow link.
#[derive(Serialize)]
struct NarrowRow {
    build: usize,
    point: Point,
    narrow: Narrow,
}

#[derive(Default, Serialize)]
struct Figures {
    rows: Vec<Row>,
    narrow: Vec<NarrowRow>,
}

pub fn run(args: &DistanceArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let studio = Studio::open()?;
    let mut stage = Stage::open(&studio)?;
    let mut figures = Figures::default();
    for (input, size, tls) in args.combinations() {
        let mut rows = args.rows(input, size, tls);
        if args.mode.contains(&Mode::Backlog) {
            args.backlogs(&mut stage, &mut rows)?;
        }
        if args.mode.contains(&Mode::Steady) && input == Kind::Jpeg {
            args.steadies(&mut stage, &mut rows)?;
        }
        if args.mode.contains(&Mode::Narrow) && input == Kind::Jpeg && size == Size::VGA {
            let point = Point { round_trip_ms: NARROW_TRIP_MS, input, size, tls };
            figures.narrow.extend(args.narrows(&mut stage, point)?);
        }
        figures.rows.extend(rows);
    }
    folder.part("distance", &figures, &report::text(args, &figures)?)?;
    Ok(report::is_met(&figures))
}

impl DistanceArgs {
    fn combinations(&self) -> Vec<(Kind, Size, bool)> {
        let mut all = Vec::new();
        for &size in &self.size {
            for &input in &self.input {
                all.extend(self.tls.values().iter().map(|&tls| (input, size, tls)));
            }
        }
        all
    }

    fn builds(&self) -> Vec<&PathBuf> {
        std::iter::once(&self.run.bin).chain(&self.against).collect()
    }

    /// A row for each round trip and build, beginning with those without delay.
    fn rows(&self, input: Kind, size: Size, tls: bool) -> Vec<Row> {
        let mut trips = self.trips.clone();
        trips.push(0.0);
        trips.sort_by(f64::total_cmp);
        trips.dedup();
        let mut rows = Vec::new();
        for round_trip_ms in trips {
            rows.extend((0..self.builds().len()).map(|build| Row {
                build,
                point: Point { round_trip_ms, input, size, tls },
                fps: None,
                ratio: None,
                against_first: None,
                backlogs: Vec::new(),
                steady: None,
            }));
        }
        rows
    }

    fn backlogs(&self, stage: &mut Stage<'_>, rows: &mut [Row]) -> Outcome<()> {
        let seconds = self.seconds.unwrap_or(SECONDS.0);
        let limit = Duration::from_secs_f64(seconds * PATIENCE);
        let local = rows[0].point;
        let stream = "backlog";
        stage.fill(stream, &local, PROBE_FRAMES)?;
        let probe = stage.backlog(&self.run.bin, &local, stream, PROBE_FRAMES, limit)?;
        let bytes = BACKLOG_BYTES.min(memory_available()? / BACKLOG_SHARE);
        let most = (bytes as f64 / probe.read_bytes_per_frame.max(1.0)) as u64;
        let frames = ((probe.fps * seconds) as u64).clamp(PROBE_FRAMES, most.max(PROBE_FRAMES));
        stage.fill(stream, &local, frames - PROBE_FRAMES)?;
        for round in 0..self.rounds.max(1) {
            for at in 0..rows.len() {
                // Rotate the order, so that each goes first in some round.
                let at = (at + round) % rows.len();
                let Row { build, point, backlogs, .. } = &mut rows[at];
                let measured =
                    stage.backlog(self.builds()[*build], point, stream, frames, limit)?;
                println!("{}: {:.1} frames/s", report::name(point, *build), measured.fps);
                backlogs.push(measured);
            }
        }
        stage.remove(stream)?;
        let fps =
            |row: &Row| row.backlogs.iter().map(|measured| measured.fps).collect::<Vec<f64>>();
        let locals: Vec<Vec<f64>> = rows[..self.builds().len()].iter().map(fps).collect();
        let mut first = Vec::new();
        for row in rows {
            let own = fps(row);
            let over = |other: &[f64]| Spread::of(own.iter().zip(other).map(|(a, b)| a / b));
            row.fps = Some(Spread::of(own.iter().copied()));
            row.ratio = Some(over(&locals[row.build]));
            row.against_first = (row.build > 0).then(|| over(&first));
            if row.build == 0 {
                first = own;
            }
        }
        Ok(())
    }

    fn steadies(&self, stage: &mut Stage<'_>, rows: &mut [Row]) -> Outcome<()> {
        let seconds = self.seconds.unwrap_or(SECONDS.1);
        for Row { build, point, steady, .. } in rows {
            let bin = self.builds()[*build];
            let measured = stage.steady(bin, point, STEADY_FPS, WARM_SECONDS, seconds)?;
            println!(
                "{}: {STEADY_FPS} frames/s: p99 {:.0} ms",
                report::name(point, *build),
                measured.engine_ms.p99
            );
            *steady = Some(measured);
        }
        Ok(())
    }

    fn narrows(&self, stage: &mut Stage<'_>, point: Point) -> Outcome<Vec<NarrowRow>> {
        let seconds = self.seconds.unwrap_or(SECONDS.1);
        let mut rows = Vec::new();
        for (build, bin) in self.builds().into_iter().enumerate() {
            let narrow = stage.narrow(bin, &point, self.narrow, seconds, MAX_FRAME_AGE_MS)?;
            println!(
                "{}, {} Mbit/s: {:.1} frames/s of {:.1} that fit, p99 {:.0} ms old",
                report::name(&point, build),
                self.narrow,
                narrow.results_fps,
                narrow.carried_fps_at_most,
                narrow.age_ms.p99
            );
            rows.push(NarrowRow { build, point, narrow });
        }
        Ok(rows)
    }
}
