//! `kill`: SIGKILL at random moments, under load; every frame must come out exactly once.
//!
//! Frames of several cameras go in all the time, so that there is always work in hand. Each round
//! lets the engines run for a moment of random length, kills one of them, and starts it again. At
//! the end the producer stops, the engines finish what is left, and every frame id sent is looked
//! for in the output.
//!
//! With one engine the frames of each camera must also come out in the order they went in: nothing
//! of a camera is stored before what came earlier, and a restart begins with what is pending.
//! Several engines take the frames of a camera in turns, so that nothing is promised about order.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Args;
use framepress::image::Format;
use framepress::redis::Address;
use redis::streams::StreamRangeReply;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::Outcome;
use crate::common::{CAMERAS, Chance, Pictures, producer, seed_of_now};
use crate::server::{Plain, Server};

const INPUT: &str = "camera_frames";
const OUTPUT: &str = "processed_frames";
const GROUP: &str = "stream_processor";
const DEAD_LETTERS: &str = "camera_frames:dlq";

/// Entries read at a time when the output is counted.
const PAGE: usize = 500;
/// How often the stream is filled up.
const TOP_UP: Duration = Duration::from_millis(5);
/// How long an engine may take to end when it is asked to.
const END_LIMIT: Duration = Duration::from_secs(20);

#[derive(Args)]
pub struct KillArgs {
    /// How often an engine is killed
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Engines that share the consumer group; one is killed at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    engines: u32,
    /// Where chance comes from [default: the clock; always printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Longest time between two kills, in milliseconds
    #[arg(long, default_value_t = 600)]
    pause_max_ms: u64,
    /// Frames waiting or in work, over all cameras: what is done is made up for at once
    #[arg(long, default_value_t = 100)]
    backlog: u64,
    /// What becomes of acknowledged input: keep, delete or trim_acked
    #[arg(long, default_value = "delete")]
    retention: String,
    /// Longest wait for the engines to finish what is left, in seconds
    #[arg(long, default_value_t = 60)]
    drain_seconds: u64,
    /// The program to kill
    #[arg(long, default_value = "target/release/framepress")]
    bin: PathBuf,
    /// Also write the figures here
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What came of it.
#[derive(Serialize)]
struct Figures {
    seed: u64,
    rounds: u64,
    engines: u32,
    seconds: f64,
    sent: u64,
    out: u64,
    lost: u64,
    doubled: u64,
    unknown: u64,
    /// Results stored after a later one of their camera; `None` where order is not promised.
    out_of_order: Option<u64>,
    dead_letters: u64,
    unfinished: u64,
    /// Pending entries at the moment of each kill, added up: what the kills could have lost.
    in_hand_at_kills: u64,
    /// Kills while at least one entry was pending.
    kills_with_frames_in_hand: u64,
    ended_orderly: bool,
}

pub fn run(args: &KillArgs) -> Outcome<bool> {
    if !args.bin.is_file() {
        return Err(format!("no program at {}; see --bin", args.bin.display()).into());
    }
    let seed = args.seed.unwrap_or_else(seed_of_now);
    println!("seed {seed}: {} kills, {} engines", args.rounds, args.engines);
    let mut chance = Chance::new(seed);
    let mut server = Server::start()?;
    server.plain.run::<()>(&["XGROUP", "CREATE", INPUT, GROUP, "0", "MKSTREAM"])?;
    let folder = tempfile::tempdir()?;
    let began = Instant::now();
    let mut engines = (0..args.engines)
        .map(|index| Engine::start(args, &server, folder.path(), index))
        .collect::<Outcome<Vec<_>>>()?;
    let load = Load::start(server.address(), args.backlog)?;

    let (mut in_hand_at_kills, mut kills_with_frames_in_hand) = (0, 0);
    for round in 0..args.rounds {
        std::thread::sleep(Duration::from_millis(chance.below(args.pause_max_ms.max(1))));
        let victim = usize::try_from(chance.below(args.engines.into()))?;
        let engine = &mut engines[victim];
        if let Some(status) = engine.child.try_wait()? {
            return Err(format!("round {round}: engine {victim} had ended with {status}").into());
        }
        engine.kill()?;
        let pending: redis::streams::StreamPendingReply =
            server.plain.run(&["XPENDING", INPUT, GROUP])?;
        in_hand_at_kills += pending.count() as u64;
        kills_with_frames_in_hand += u64::from(pending.count() > 0);
        *engine = Engine::start(args, &server, folder.path(), u32::try_from(victim)?)?;
    }

    let sent = load.end()?;
    let until = Instant::now() + Duration::from_secs(args.drain_seconds);
    let mut unfinished = server.plain.unfinished(INPUT, GROUP)?;
    while unfinished > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
        unfinished = server.plain.unfinished(INPUT, GROUP)?;
    }
    let mut ended_orderly = true;
    for engine in &mut engines {
        ended_orderly &= engine.end()?;
    }
    let Seen { times: seen, out_of_order } = outputs(&mut server.plain)?;
    let times = |id: &String| seen.get(id).copied().unwrap_or(0);
    let known: u64 = sent.iter().map(times).sum();
    let out = seen.values().sum();
    let figures = Figures {
        seed,
        rounds: args.rounds,
        engines: args.engines,
        seconds: began.elapsed().as_secs_f64(),
        sent: sent.len() as u64,
        out,
        lost: sent.iter().filter(|id| times(id) == 0).count() as u64,
        doubled: seen.values().filter(|&&times| times > 1).count() as u64,
        unknown: out - known,
        out_of_order: (args.engines == 1).then_some(out_of_order),
        dead_letters: server.plain.run(&["XLEN", DEAD_LETTERS])?,
        unfinished,
        in_hand_at_kills,
        kills_with_frames_in_hand,
        ended_orderly,
    };
    println!("{}", serde_json::to_string_pretty(&figures)?);
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&figures)?)?;
    }
    let good = figures.lost + figures.doubled + figures.unknown + figures.dead_letters == 0
        && figures.unfinished == 0
        && figures.out_of_order.unwrap_or(0) == 0
        && ended_orderly;
    let claim = match figures.out_of_order {
        Some(_) => "every frame exactly once, each camera's in order",
        None => "every frame exactly once",
    };
    println!("{}{claim}", if good { "" } else { "NOT " });
    Ok(good)
}

/// What is in the output.
#[derive(Default)]
struct Seen {
    /// How often each frame id is there.
    times: HashMap<String, u64>,
    /// Results behind a later one of their camera.
    out_of_order: u64,
}

fn outputs(server: &mut Plain) -> Outcome<Seen> {
    let mut seen = Seen::default();
    let mut last_of_camera: HashMap<String, String> = HashMap::new();
    let mut from = "-".to_owned();
    loop {
        let page: StreamRangeReply =
            server.run(&["XRANGE", OUTPUT, &from, "+", "COUNT", &PAGE.to_string()])?;
        let Some(last) = page.ids.last() else { return Ok(seen) };
        from = format!("({}", last.id);
        for entry in &page.ids {
            let id = entry.get::<String>("frame_id").ok_or("a result without frame_id")?;
            let camera = entry.get::<String>("camera_id").ok_or("a result without camera_id")?;
            // Ids have leading zeros: they sort as they were sent.
            let before = last_of_camera.entry(camera).or_default();
            seen.out_of_order += u64::from(id < *before);
            before.clone_from(&id);
            *seen.times.entry(id).or_default() += 1;
        }
    }
}

/// One engine process. Killed when dropped.
struct Engine {
    child: Child,
}

impl Engine {
    /// The name of a consumer is stable, so that a restart finds its own pending entries.
    fn start(args: &KillArgs, server: &Server, folder: &Path, index: u32) -> Outcome<Engine> {
        let mut config = String::from("redis_queue:\n");
        writeln!(config, "  url: {}", server.url())?;
        writeln!(config, "  input_queue: {INPUT}\n  output_queue: {OUTPUT}")?;
        writeln!(config, "  consumer_group: {GROUP}\n  consumer_name: engine-{index}")?;
        writeln!(config, "  retention: {}", args.retention)?;
        // Kills are not the entry's fault: none may become a dead letter, and none be trimmed.
        writeln!(config, "  retry_attempts: 10000\n  max_queue_length: 1000000000")?;
        writeln!(config, "stats:\n  addr: null\nlog:\n  level: warn")?;
        let path = folder.join(format!("engine-{index}.yaml"));
        std::fs::write(&path, config)?;
        let child = Command::new(&args.bin)
            .arg("run")
            .arg("--config")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Engine { child })
    }

    fn kill(&mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end; whether it did, in time and without a complaint.
    fn end(&mut self) -> Outcome<bool> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let until = Instant::now() + END_LIMIT;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A thread that keeps the stream filled until told to stop; its result is what was added.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Vec<String>>>,
}

impl Load {
    fn start(address: &Address, backlog: u64) -> Outcome<Load> {
        let pictures = Pictures::of_a_road((320, 240), Format::Jpeg, CAMERAS)?;
        let mut producer = producer(address, INPUT)?;
        let mut plain = Plain::connect(address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut sent = Vec::new();
            while !flag.load(Ordering::Relaxed) {
                for _ in plain.unfinished(INPUT, GROUP)?..backlog {
                    let number = sent.len() as u64;
                    let id = format!("frame-{number:08}");
                    let camera = format!("camera-{}", number as usize % CAMERAS);
                    producer.send(&pictures.frame(number, &id, &camera))?;
                    sent.push(id);
                }
                std::thread::sleep(TOP_UP);
            }
            Ok(sent)
        });
        Ok(Load { stop, thread })
    }

    fn end(self) -> Outcome<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the producer panicked")?
    }
}
