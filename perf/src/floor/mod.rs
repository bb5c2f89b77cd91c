//! `floor`: the engine's CPU time per frame over that of the unavoidable work alone.
//!
//! Both sides process the same frames, all of which wait in the stream before work begins. They run
//! alternately and with the same number of encoding threads, so that both run under the same
//! conditions. The ratio is taken round by round.

mod bare;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use clap::Args;
use framepress::config::{Config, Count, RedisUrl};
use framepress::internals::base::Stop;
use framepress::internals::engine::{Engine, Hooks};
use framepress::internals::image::Format;
use framepress::internals::instruments::{Size, cpu_of_threads};
use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::Outcome;
use crate::common::{CAMERAS, Pictures, Spread, producer};
use crate::folder::{self, Folder};
use crate::server::Server;
use bare::{Bare, Cpu};

/// Pictures sent over and over; enough to be larger than any cache.
const PICTURES: usize = 8;
const QUALITY: u8 = 85;
/// Goal for the ratio.
const GOAL: f64 = 1.15;
/// Name prefixes of the engine's threads.
const ROLES: [&str; 4] = ["fp-read", "fp-dispatch", "fp-work", "fp-commit"];
/// Longest time for one round of one side.
const ROUND_LIMIT: Duration = Duration::from_secs(120);

const CASES: [(&str, Size, Format); 4] = [
    ("raw 640x480", Size::VGA, Format::Raw),
    ("raw 1920x1080", Size::HD, Format::Raw),
    ("JPEG 640x480", Size::VGA, Format::Jpeg),
    ("JPEG 1920x1080", Size::HD, Format::Jpeg),
];

#[derive(Args)]
pub struct FloorArgs {
    /// Rounds of each side
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Frames of 640x480 per round; a quarter of them at 1920x1080
    #[arg(long, default_value_t = 400)]
    frames: u64,
    /// Encoding threads of each side [default: number of cores]
    #[arg(long)]
    workers: Option<usize>,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Also write the figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also make them a part of the run in this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Microseconds of CPU per frame.
#[derive(Serialize)]
struct Round {
    floor: f64,
    floor_read_code_write: [f64; 3],
    engine: f64,
    engine_read_dispatch_work_commit: [f64; 4],
    floor_seconds: f64,
    engine_seconds: f64,
}

#[derive(Serialize)]
struct Case {
    name: &'static str,
    frames: u64,
    workers: usize,
    ratio: Spread,
    rounds: Vec<Round>,
}

pub fn run(args: &FloorArgs) -> Outcome<bool> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.unwrap_or(cores);
    let head = format!(
        "CPU per frame in microseconds, medians of {} rounds, {workers} workers\n\n\
         | case | floor (read, code, write) | engine (read, dispatch, work, commit) | engine / floor: min, median, max | goal |\n\
         | --- | --- | --- | --- | --- |",
        args.rounds
    );
    println!("{head}");
    let mut text = format!("## Floor\n\n{head}\n");
    let mut cases = Vec::new();
    for (name, size, format) in CASES {
        if !name.contains(&args.only) {
            continue;
        }
        let frames = if size == Size::HD { args.frames / 4 } else { args.frames };
        let mut bench = Bench::start(size, format, workers)?;
        bench.round(frames, true)?; // warm up
        let mut rounds = Vec::with_capacity(args.rounds);
        for round in 0..args.rounds {
            rounds.push(bench.round(frames, round % 2 == 0)?);
        }
        bench.end()?;
        let ratio = Spread::of(rounds.iter().map(|round| round.engine / round.floor));
        let case = Case { name, frames, workers, ratio, rounds };
        let line = line_of(&case);
        println!("{line}");
        text.push_str(&line);
        text.push('\n');
        cases.push(case);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, folder::rows(&cases)?)?;
    }
    if let Some(out) = &args.out {
        Folder::open(out.clone(), Path::new("framepress"))?.part("floor", &cases, &text)?;
    }
    Ok(cases.iter().all(|case| case.ratio.median <= GOAL))
}

fn line_of(case: &Case) -> String {
    let median = |figure: &dyn Fn(&Round) -> f64| Spread::of(case.rounds.iter().map(figure)).median;
    let floor: Vec<String> = (0..3)
        .map(|at| format!("{:.0}", median(&|round| round.floor_read_code_write[at])))
        .collect();
    let engine: Vec<String> = (0..4)
        .map(|at| format!("{:.0}", median(&|round| round.engine_read_dispatch_work_commit[at])))
        .collect();
    format!(
        "| {} | {:.0} ({}) | {:.0} ({}) | {:.3}, {:.3}, {:.3} | {GOAL} {} |",
        case.name,
        median(&|round| round.floor),
        floor.join(", "),
        median(&|round| round.engine),
        engine.join(", "),
        case.ratio.min,
        case.ratio.median,
        case.ratio.max,
        if case.ratio.median <= GOAL { "met" } else { "missed" },
    )
}

/// Holds the engine's workers while the stream is being filled.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock() = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.closed.lock();
        while *closed {
            self.changed.wait(&mut closed);
        }
    }
}

/// Both sides, ready.
struct Bench {
    pictures: Pictures,
    bare: Vec<Bare>,
    engine: Engine,
    gate: Arc<Gate>,
    input: String,
    output: String,
    sent: u64,
    // Declared last, so that all its clients are dropped first.
    server: Server,
}

impl Bench {
    fn start(size: Size, format: Format, workers: usize) -> Outcome<Bench> {
        let mut server = Server::start()?;
        server.plain.run::<()>(&[
            "XGROUP",
            "CREATE",
            bare::STREAM,
            bare::GROUP,
            "0",
            "MKSTREAM",
        ])?;
        let mut config = Config::builtin();
        config.redis_queue.url = RedisUrl::parse(&server.url())?;
        config.redis_queue.compression_quality = QUALITY;
        config.analysis.enabled = false;
        config.engine.workers = Count::Fixed(workers);
        config.stats.addr = None;
        let gate = Arc::new(Gate::default());
        let probe = {
            let gate = Arc::clone(&gate);
            Arc::new(move |_: &str| gate.pass())
        };
        let engine = Engine::start(
            &config,
            Hooks { probe: Some(probe), ..Hooks::default() },
            Stop::default(),
        )?;
        let socket = server.address().to_string();
        let bare = (0..workers).map(|index| Bare::new(&socket, index, QUALITY, size));
        Ok(Bench {
            pictures: Pictures::of_a_road(size, format, PICTURES)?,
            bare: bare.collect::<Outcome<_>>()?,
            engine,
            gate,
            input: config.redis_queue.input_queue,
            output: config.redis_queue.output_queue,
            sent: 0,
            server,
        })
    }

    fn end(self) -> Outcome<()> {
        self.engine.stop().drain();
        Ok(self.engine.wait()?)
    }

    fn round(&mut self, frames: u64, bare_first: bool) -> Outcome<Round> {
        let first = if bare_first { Some(self.bare_round(frames)?) } else { None };
        let (engine, engine_wall) = self.engine_round(frames)?;
        let (floor, floor_wall) = match first {
            Some(first) => first,
            None => self.bare_round(frames)?,
        };
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / frames as f64;
        Ok(Round {
            floor: micros(floor.sum()),
            floor_read_code_write: [floor.read, floor.code, floor.write].map(micros),
            engine: micros(engine.iter().sum()),
            engine_read_dispatch_work_commit: engine.map(micros),
            floor_seconds: floor_wall.as_secs_f64(),
            engine_seconds: engine_wall.as_secs_f64(),
        })
    }

    fn fill(&self, stream: &str, frames: u64) -> Outcome<()> {
        let mut producer = producer(self.server.address(), stream)?;
        for number in 0..frames {
            let camera = format!("camera-{}", number as usize % CAMERAS);
            let id = format!("frame-{number:08}");
            producer.send(&self.pictures.frame(number, &id, &camera))?;
        }
        Ok(())
    }

    fn bare_round(&mut self, frames: u64) -> Outcome<(Cpu, Duration)> {
        self.fill(bare::STREAM, frames)?;
        let done = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let cpu = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .bare
                .iter_mut()
                .map(|bare| {
                    let done = &done;
                    scope.spawn(move || bare.work(done, frames))
                })
                .collect();
            threads.into_iter().try_fold(Cpu::default(), |sum, thread| {
                let cpu = thread.join().map_err(|_| "a thread of the floor panicked")??;
                Outcome::Ok(sum.plus(&cpu))
            })
        })?;
        let wall = began.elapsed();
        self.server.plain.run::<()>(&["XTRIM", bare::STREAM, "MAXLEN", "0"])?;
        self.server.plain.run::<()>(&["DEL", bare::OUTPUT])?;
        Ok((cpu, wall))
    }

    fn engine_round(&mut self, frames: u64) -> Outcome<([Duration; ROLES.len()], Duration)> {
        let before = cpu_of_threads(ROLES)?;
        self.gate.set(true);
        self.fill(&self.input, frames)?;
        self.sent += frames;
        let began = Instant::now();
        self.gate.set(false);
        let ledger = &self.engine.view().metrics.ledger;
        while ledger.read().in_flight > 0 || ledger.read().out < self.sent {
            if began.elapsed() > ROUND_LIMIT {
                return Err(format!("the engine did not finish: {:?}", ledger.read()).into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let wall = began.elapsed();
        let after = cpu_of_threads(ROLES)?;
        self.server.plain.run::<()>(&["XTRIM", &self.input, "MAXLEN", "0"])?;
        self.server.plain.run::<()>(&["DEL", &self.output])?;
        Ok((std::array::from_fn(|role| after[role].saturating_sub(before[role])), wall))
    }
}
