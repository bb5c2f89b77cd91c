//! `scale`: throughput and CPU per frame by workers, cameras, frame size and batch size.

use std::fmt::Write as _;

use clap::Args;
use framepress::config::{Assignment, Config, Count};
use framepress::internals::instruments::Size;
use serde::Serialize;

use crate::Outcome;
use crate::folder::{RunArgs, cores};
use crate::load::files::{Kind, Studio};
use crate::load::{Load, Measured, Program, Trial};
use crate::plot::{self, Axes};

/// The curve bends if one more worker adds less than this share of its ideal gain.
const BEND: f64 = 0.8;

#[derive(Args, Clone)]
pub struct ScaleArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Worker threads [default: 1 to twice the cores, in doubling steps]
    #[arg(long, value_delimiter = ',')]
    pub workers: Vec<usize>,
    /// Cameras
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1000])]
    pub cameras: Vec<u64>,
    /// Frame sizes
    #[arg(long, value_delimiter = ',', default_values_t = SIZES)]
    pub sizes: Vec<Size>,
    /// Entries per read
    #[arg(long, value_delimiter = ',', default_values_t = [1, 5, 20, 100])]
    pub batches: Vec<usize>,
    /// Engines that share twelve shards and the cores, each shard under a lease
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3])]
    pub engines: Vec<usize>,
}

/// Shards of a group with several engines: spread evenly over 1, 2, 3, 4 and 6 of them.
const SHARDS: usize = 12;
/// Their cameras, several on each shard.
const SHARD_CAMERAS: u64 = 48;

const SIZES: [Size; 5] = [
    Size { width: 320, height: 240 },
    Size::VGA,
    Size { width: 1280, height: 720 },
    Size::HD,
    Size { width: 3840, height: 2160 },
];

#[derive(Serialize)]
struct Point {
    series: &'static str,
    setting: String,
    value: f64,
    run: Measured,
}

pub fn run(args: &ScaleArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let studio = Studio::open()?;
    let mut points = Vec::new();
    let mut measure = |series, setting: String, value, program: Program, size, cameras| {
        let trial = Trial {
            cameras,
            interval: 0.5,
            ..Trial::new(&program, (size, Kind::Raw), Load::Full, args.seconds)
        };
        let run = trial.run(&studio).map_err(|error| format!("{series} {setting}: {error}"))?;
        println!("{series} {setting}: {:.1} frames/s", run.fps);
        points.push(Point { series, setting, value, run });
        Outcome::Ok(())
    };
    let engine = |config| Program::engine(&args.run.bin, config);
    for workers in worker_steps(args) {
        let mut config = Config::builtin();
        config.engine.workers = Count::Fixed(workers);
        measure("workers", workers.to_string(), workers as f64, engine(config), Size::VGA, 4)?;
    }
    for &cameras in &args.cameras {
        let program = engine(Config::builtin());
        measure("cameras", cameras.to_string(), cameras as f64, program, Size::VGA, cameras)?;
    }
    for &size in &args.sizes {
        let megapixels = size.raw_bytes() as f64 / 3e6;
        measure("size", size.to_string(), megapixels, engine(Config::builtin()), size, 4)?;
    }
    for &batch in &args.batches {
        let mut config = Config::builtin();
        config.redis_queue.batch_size = batch;
        measure("batch", batch.to_string(), batch as f64, engine(config), Size::VGA, 4)?;
    }
    for assignment in [Assignment::Exclusive, Assignment::Shared] {
        for &engines in &args.engines {
            let mut config = Config::builtin();
            config.redis_queue.shards = SHARDS;
            config.redis_queue.assignment = assignment;
            let bin = args.run.bin.clone();
            let program = Program::Engine { bin, config: Box::new(config), engines };
            let series = match assignment {
                Assignment::Exclusive => "engines, exclusive",
                _ => "engines, shared",
            };
            let count = engines as f64;
            measure(series, engines.to_string(), count, program, Size::VGA, SHARD_CAMERAS)?;
        }
    }
    let series = |name: &str| -> Vec<&Point> {
        points.iter().filter(|point| point.series == name).collect()
    };
    draw(
        &folder.path("scale-workers.svg"),
        "Throughput by workers, 640x480",
        "workers",
        &series("workers"),
        |point| point.run.fps,
        "frames/s",
    )?;
    draw(
        &folder.path("scale-size.svg"),
        "Pixels per second by frame size",
        "megapixels of a frame",
        &series("size"),
        |point| point.run.fps * point.value,
        "megapixels/s",
    )?;
    folder.part("scale", &points, &text(args, &points)?)?;
    Ok(true)
}

fn worker_steps(args: &ScaleArgs) -> Vec<usize> {
    if !args.workers.is_empty() {
        return args.workers.clone();
    }
    let mut steps: Vec<usize> =
        (0..).map(|power| 1 << power).take_while(|&count| count <= 2 * cores()).collect();
    steps.push(cores());
    steps.sort_unstable();
    steps.dedup();
    steps
}

fn draw(
    path: &std::path::Path,
    title: &str,
    x: &str,
    points: &[&Point],
    of: impl Fn(&Point) -> f64,
    y: &str,
) -> Outcome<()> {
    let line = points.iter().map(|point| (point.value, of(point))).collect();
    plot::lines(path, &Axes { title, x, y }, &[(y.to_owned(), line)])
}

fn text(args: &ScaleArgs, points: &[Point]) -> Outcome<String> {
    let mut text = format!(
        "## Scale\n\nFull load, {} s each, default configuration but for the setting named, raw \
         frames of 640x480 and 4 cameras unless said otherwise; several engines have {SHARDS} \
         shards and {SHARD_CAMERAS} cameras between them. Redis, feeder and consumer share \
         the {} cores with the engine.\n\n\
         | what | setting | frames/s | megapixels/s | CPU ms/frame | Redis CPU ms/frame | switches/frame | memory MiB | out of order |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        args.seconds,
        cores()
    );
    for Point { series, setting, run, .. } in points {
        let megapixels = run.fps * run.size.raw_bytes() as f64 / 3e6;
        writeln!(
            text,
            "| {series} | {setting} | {:.1} | {megapixels:.1} | {:.2} | {:.2} | {:.1} | {:.0} | {} |",
            run.fps,
            run.cpu_ms_per_frame,
            run.redis_cpu_ms_per_frame,
            run.switches_per_frame,
            run.rss_mib_max,
            run.results.out_of_order
        )?;
    }
    text.push('\n');
    let workers: Vec<&Point> = points.iter().filter(|point| point.series == "workers").collect();
    let bend = workers.windows(2).find(|pair| {
        let gain = pair[1].run.fps / pair[0].run.fps;
        gain < BEND * pair[1].value / pair[0].value
    });
    match bend {
        Some([before, after]) => writeln!(
            text,
            "The curve bends at {} workers: {} bring {:.2} times the frames of {} where {:.1} \
             times would be proportional. Per frame the engine takes {:.2} ms of CPU and Redis \
             {:.2} ms, and feeder and consumer theirs, on {} cores. Plots: \
             [workers](scale-workers.svg), [frame size](scale-size.svg).",
            after.setting,
            after.setting,
            after.run.fps / before.run.fps,
            before.setting,
            after.value / before.value,
            after.run.cpu_ms_per_frame,
            after.run.redis_cpu_ms_per_frame,
            cores()
        )?,
        _ => writeln!(
            text,
            "The curve of workers does not bend within what was measured. Plots: \
             [workers](scale-workers.svg), [frame size](scale-size.svg)."
        )?,
    }
    Ok(text)
}
