//! `path`: CPU cost of a frame in the producer, in Redis and in the engine, with the pixels through
//! Redis or in a ring, as RGB and as planes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use framepress::config::Config;
use framepress::internals::instruments::Size;
use serde::Serialize;
use turbojpeg::{Compressor, Subsamp, YuvImage};

use crate::Outcome;
use crate::common::{Spread, thread_cpu};
use crate::folder::RunArgs;
use crate::load::files::{self, Kind, Studio};
use crate::load::{Load, Measured, Program, Trial};

/// The four paths: name, pixel layout, whether the pixels lie in a ring.
const ROUTES: [(&str, Kind, bool); 4] = [
    ("RGB through Redis", Kind::Raw, false),
    ("planes through Redis", Kind::Planes, false),
    ("RGB in a ring", Kind::Raw, true),
    ("planes in a ring", Kind::Planes, true),
];

const SIZES: [Size; 3] = [Size::VGA, Size::HD, Size { width: 3840, height: 2160 }];

/// Quality of the results; the built-in default.
const QUALITY: i32 = 85;

/// Encodings of one measurement of the floor.
const ENCODINGS: usize = 24;

#[derive(Args, Clone)]
pub struct PathArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Rounds; each measures every path
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Frame sizes
    #[arg(long, value_delimiter = ',', default_values_t = SIZES)]
    pub sizes: Vec<Size>,
    /// Frames of this video file, decoded by ffmpeg [default: a painted road]
    #[arg(long, value_name = "FILE")]
    pub video: Option<PathBuf>,
    /// Folder for the rings: on a tmpfs
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub memory: PathBuf,
}

#[derive(Serialize)]
struct Route {
    name: &'static str,
    full: Vec<Measured>,
    half: Measured,
}

#[derive(Serialize)]
struct Case {
    size: Size,
    scene: &'static str,
    /// CPU time of the encoding from planes alone, in milliseconds.
    floor_ms: Spread,
    routes: Vec<Route>,
}

pub fn run(args: &PathArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let studio = match &args.video {
        Some(file) => Studio::of_video(file.clone())?,
        None => Studio::open()?,
    };
    let memory = tempfile::tempdir_in(&args.memory)?;
    let cases = args
        .sizes
        .iter()
        .map(|&size| measure(args, &studio, memory.path(), size))
        .collect::<Outcome<Vec<_>>>()?;
    let name = if args.video.is_some() { "path-video" } else { "path" };
    folder.part(name, &cases, &text(&cases)?)?;
    Ok(true)
}

fn measure(args: &PathArgs, studio: &Studio, memory: &Path, size: Size) -> Outcome<Case> {
    let trial = |kind: Kind, is_ring: bool, load: Load| {
        let mut config = Config::builtin();
        config.ring.dir = is_ring.then(|| memory.to_owned());
        let program = Program::engine(&args.run.bin, config);
        let trial =
            Trial { interval: 0.5, ..Trial::new(&program, (size, kind), load, args.seconds) };
        trial.run(studio)
    };
    let mut floor = Vec::new();
    let mut full: Vec<Vec<Measured>> = vec![Vec::new(); ROUTES.len()];
    for _ in 0..args.rounds.max(1) {
        let frames = files::load(&studio.frames(size, Kind::Planes)?)?;
        for ((name, kind, is_ring), runs) in ROUTES.into_iter().zip(&mut full) {
            floor.push(encoding_ms(&frames, size)?);
            let run = trial(kind, is_ring, Load::Full)?;
            println!("{size}, {name}: {:.1} frames/s, {:.2} ms", run.fps, whole(&run));
            runs.push(run);
        }
    }
    let mut routes = Vec::new();
    for ((name, kind, is_ring), full) in ROUTES.into_iter().zip(full) {
        let most = Spread::of(full.iter().map(|run| run.fps)).median;
        let half = trial(kind, is_ring, Load::Rate((most / 2.0).max(1.0)))?;
        routes.push(Route { name, full, half });
    }
    Ok(Case { size, scene: studio.subject.name(), floor_ms: Spread::of(floor), routes })
}

/// Producer, Redis and engine together, in milliseconds of CPU per frame.
fn whole(run: &Measured) -> f64 {
    run.producer_cpu_ms_per_frame + run.redis_cpu_ms_per_frame + run.cpu_ms_per_frame
}

/// CPU time of libjpeg-turbo for one picture of prepared planes.
fn encoding_ms(frames: &[Vec<u8>], size: Size) -> Outcome<f64> {
    let (width, height) = (size.width as usize, size.height as usize);
    let mut compressor = Compressor::new()?;
    compressor.set_quality(QUALITY)?;
    compressor.set_subsamp(Subsamp::Sub2x2)?;
    let mut out = vec![0; compressor.buf_len(width, height)?];
    let began = thread_cpu();
    for pixels in frames.iter().cycle().take(ENCODINGS) {
        let planes =
            YuvImage { pixels: &pixels[..], width, align: 1, height, subsamp: Subsamp::Sub2x2 };
        compressor.compress_yuv_to_slice(planes, &mut out)?;
    }
    Ok((thread_cpu() - began).as_secs_f64() * 1e3 / ENCODINGS as f64)
}

fn text(cases: &[Case]) -> Outcome<String> {
    let mut text = String::from(
        "## Cost of a frame\n\nCPU milliseconds per frame under full load, the median of the rounds. \
         Producer, Redis, engine and consumer share the machine. The producer has its frames in memory \
         and decodes nothing. The floor is libjpeg-turbo's encoding from planes alone. Planes are \
         `yuv420p` of limited range, which the engine converts to full range for JPEG.\n\n\
         | size | path | producer | Redis | engine | whole | of the floor | frames/s | p50, p99 at half load, ms |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for Case { size, floor_ms, routes, .. } in cases {
        writeln!(text, "| {size} | floor | | | | {:.2} | 1 | | |", floor_ms.median)?;
        for Route { name, full, half } in routes {
            let median = |of: fn(&Measured) -> f64| Spread::of(full.iter().map(of)).median;
            let latency = half.results.latency_ms;
            writeln!(
                text,
                "| {size} | {name} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1}, {:.1} |",
                median(|run| run.producer_cpu_ms_per_frame),
                median(|run| run.redis_cpu_ms_per_frame),
                median(|run| run.cpu_ms_per_frame),
                median(whole),
                median(whole) / floor_ms.median,
                median(|run| run.fps),
                latency.p50,
                latency.p99,
            )?;
        }
    }
    Ok(text)
}
