//! `failover`: how long no result comes while another server takes the place of the primary, and
//! what becomes of the frames.
//!
//! Each round has a deployment of its own: a primary, two replicas, three Sentinels. An engine with
//! the default time-outs works under a steady load until the primary is killed, falls silent (it is
//! stopped: nothing is reset, nobody answers), or is replaced by order. The clock runs from there
//! to the first result that the new primary has of its own. A silent primary is woken afterwards, as
//! it would be when its host comes back. At the end every entry that has survived must have one
//! result on the new primary.

mod deployment;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use framepress::Producer;
use framepress::base::Stop;
use framepress::camera::ProducerOptions;
use framepress::config::{Config, Loader};
use framepress::engine::{self, Engine, Hooks};
use framepress::image::Format;
use redis::streams::{StreamInfoGroupsReply, StreamRangeReply};
use rustix::process::Signal;
use serde::Serialize;

use crate::Outcome;
use crate::common::{CAMERAS, Pictures, Spread};
use crate::folder::RunArgs;
use deployment::{Deployment, Process, until};

const INPUT: &str = "camera_frames";
const OUTPUT: &str = "processed_frames";
const GROUP: &str = "stream_processor";

/// Longest time without results beyond the time after which a primary counts as gone.
const GOAL_SECONDS: f64 = 2.0;

/// How often the servers are asked for results.
const LOOK: Duration = Duration::from_millis(2);

/// How long the load goes on after the first result.
const AFTERWARDS: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct FailoverArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Failovers of each kind
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// What happens to the primary
    #[arg(long, value_delimiter = ',', default_values_t = [Kind::Kill, Kind::Ordered, Kind::Silent])]
    kind: Vec<Kind>,
    /// Silence after which a primary counts as gone, in milliseconds
    #[arg(long, default_value_t = 500)]
    down_after_ms: u64,
    /// Frames per second over all cameras
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
}

/// What happens to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Kill,
    Ordered,
    Silent,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Kill => "kill",
            Kind::Ordered => "ordered",
            Kind::Silent => "silent",
        })
    }
}

/// One failover.
#[derive(Serialize)]
struct Round {
    kind: Kind,
    /// From the failover to the first result that the new primary has of its own.
    seconds: f64,
    /// Of that, what is not the time after which a primary counts as gone. By order, nobody waits
    /// for that.
    seconds_beyond_down_after: f64,
    /// Frames whose sending was confirmed.
    confirmed: u64,
    /// Of those, the ones that no server has any more.
    lost: u64,
    /// Entries on the new primary: all of them must have one result.
    entries: u64,
    /// Entries of frames sent again because the answer to the first time was lost.
    sent_twice: u64,
    doubled: u64,
    without_result: u64,
}

#[derive(Serialize)]
struct Figures {
    down_after_ms: u64,
    rate: f64,
    goal_seconds_beyond_down_after: f64,
    all_within_goal: bool,
    rounds: Vec<Round>,
}

pub fn run(args: &FailoverArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let mut rounds = Vec::new();
    for &kind in &args.kind {
        for number in 1..=args.rounds {
            let round = round(args, kind).map_err(|error| format!("{kind} {number}: {error}"))?;
            println!(
                "{kind} {number}: {:.3} s, {:.3} s beyond down-after; {} of {} frames lost, {} \
                 entries doubled, {} without result",
                round.seconds,
                round.seconds_beyond_down_after,
                round.lost,
                round.confirmed,
                round.doubled,
                round.without_result
            );
            rounds.push(round);
        }
    }
    let within = |round: &Round| round.seconds_beyond_down_after <= GOAL_SECONDS;
    let figures = Figures {
        down_after_ms: args.down_after_ms,
        rate: args.rate,
        goal_seconds_beyond_down_after: GOAL_SECONDS,
        all_within_goal: rounds.iter().all(within),
        rounds,
    };
    folder.part("failover", &figures, &text(args, &figures)?)?;
    let kept = figures.rounds.iter().all(|round| round.doubled + round.without_result == 0);
    Ok(figures.all_within_goal && kept)
}

fn text(args: &FailoverArgs, figures: &Figures) -> Outcome<String> {
    let mut text = String::from("## Failover\n\n");
    writeln!(
        text,
        "Seconds from the failover to the first result on the new primary, without the {} ms after \
         which a primary counts as gone (by order, nobody waits for them); {} frames/s.\n",
        figures.down_after_ms, figures.rate
    )?;
    text.push_str("| what | rounds | least | median | most | lost | sent twice | doubled | without result |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for &kind in &args.kind {
        let rounds = || figures.rounds.iter().filter(|round| round.kind == kind);
        let sum = |of: fn(&Round) -> u64| rounds().map(of).sum::<u64>();
        let spread = Spread::of(rounds().map(|round| round.seconds_beyond_down_after));
        writeln!(
            text,
            "| {kind} | {} | {:.2} | {:.2} | {:.2} | {} of {} | {} | {} | {} |",
            rounds().count(),
            spread.min,
            spread.median,
            spread.max,
            sum(|round| round.lost),
            sum(|round| round.confirmed),
            sum(|round| round.sent_twice),
            sum(|round| round.doubled),
            sum(|round| round.without_result)
        )?;
    }
    let verdict = if figures.all_within_goal { "All" } else { "NOT all" };
    writeln!(text, "\n{verdict} rounds within down-after and {GOAL_SECONDS} s.")?;
    Ok(text)
}

fn round(args: &FailoverArgs, kind: Kind) -> Outcome<Round> {
    let down_after = Duration::from_millis(args.down_after_ms);
    let deployment = Deployment::start(down_after)?;
    let config = Loader::new()
        .flag("redis_queue.url", deployment.url())
        .flag("redis_queue.input_queue", INPUT)
        .flag("redis_queue.output_queue", OUTPUT)
        .flag("redis_queue.consumer_group", GROUP)
        .flag("redis_queue.retention", "keep")
        .flag("redis_queue.max_queue_length", "1000000000")
        // A failover may cost every entry a delivery.
        .flag("redis_queue.retry_attempts", "1000")
        .flag("stats.addr", "null")
        .load()?
        .config;
    let stop = Stop::default();
    let engine = Engine::start(&config, Hooks::default(), stop.clone())?;
    let load = Load::start(&config, args.rate)?;
    until("results before the failover", || engine.view().metrics.ledger.read().out > 100)?;

    let primary = &deployment.servers[0];
    let began = match kind {
        Kind::Ordered => deployment.order()?,
        Kind::Kill | Kind::Silent => {
            let began = Instant::now();
            primary.signal(if kind == Kind::Kill { Signal::KILL } else { Signal::STOP })?;
            began
        }
    };
    let (new, seconds) = first_result(&deployment.servers[1..], began)?;
    std::thread::sleep(AFTERWARDS);
    if kind == Kind::Silent {
        primary.signal(Signal::CONT)?;
        deployment.wait_for_old_primary()?;
    }
    let confirmed = load.end()?;
    let mut connection = new.connect()?;
    until("every entry done", || unfinished(&mut connection).is_ok_and(|count| count == 0))?;
    stop.drain();
    engine.wait()?;

    let waited_for = if kind == Kind::Ordered { Duration::ZERO } else { down_after };
    let kept = Kept::on(&mut connection)?;
    Ok(Round {
        kind,
        seconds,
        seconds_beyond_down_after: seconds - waited_for.as_secs_f64(),
        lost: confirmed.iter().filter(|id| !kept.frames.contains(*id)).count() as u64,
        confirmed: confirmed.len() as u64,
        entries: kept.entries,
        sent_twice: kept.entries - kept.frames.len() as u64,
        doubled: kept.doubled,
        without_result: kept.without_result,
    })
}

/// Which of the replicas has become the primary, and the seconds until it had a result of its own.
fn first_result(replicas: &[Process], began: Instant) -> Outcome<(&Process, f64)> {
    let mut connections = replicas.iter().map(Process::connect).collect::<Outcome<Vec<_>>>()?;
    // How many results a new primary had when it was first seen to be one.
    let mut had: Vec<Option<u64>> = vec![None; replicas.len()];
    let limit = Duration::from_secs(120);
    while began.elapsed() < limit {
        for (at, connection) in connections.iter_mut().enumerate() {
            let mut question = redis::pipe();
            question.atomic().cmd("ROLE").cmd("XLEN").arg(OUTPUT);
            let answer = question.query::<(Vec<redis::Value>, u64)>(connection);
            let Ok((role, length)) = answer else {
                // A Sentinel has it leave all its clients when it is promoted.
                *connection = replicas[at].connect()?;
                continue;
            };
            let is_primary =
                matches!(role.first(), Some(redis::Value::BulkString(name)) if name == b"master");
            if !is_primary {
                continue;
            }
            match had[at] {
                None => had[at] = Some(length),
                Some(had) if length > had => {
                    return Ok((&replicas[at], began.elapsed().as_secs_f64()));
                }
                Some(_) => {}
            }
        }
        std::thread::sleep(LOOK);
    }
    Err(format!("no result within {limit:?} after the failover").into())
}

/// Entries that are not delivered, or delivered and not acknowledged.
fn unfinished(connection: &mut redis::Connection) -> Outcome<u64> {
    let groups: StreamInfoGroupsReply =
        redis::cmd("XINFO").arg("GROUPS").arg(INPUT).query(connection)?;
    let ours = groups.groups.into_iter().find(|ours| ours.name == GROUP);
    let ours = ours.ok_or("the group is gone")?;
    let after = format!("({}", ours.last_delivered_id);
    let rest: StreamRangeReply =
        redis::cmd("XRANGE").arg(INPUT).arg(after).arg("+").query(connection)?;
    Ok((rest.ids.len() + ours.pending) as u64)
}

/// What the new primary has in the end.
struct Kept {
    entries: u64,
    frames: HashSet<String>,
    doubled: u64,
    without_result: u64,
}

impl Kept {
    fn on(connection: &mut redis::Connection) -> Outcome<Kept> {
        let mut all = |stream: &str| -> Outcome<StreamRangeReply> {
            Ok(redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(connection)?)
        };
        let mut results: HashMap<String, u64> = HashMap::new();
        for result in all(OUTPUT)?.ids {
            let entry = result.get("source_id").ok_or("a result without source_id")?;
            *results.entry(entry).or_default() += 1;
        }
        let inputs = all(INPUT)?.ids;
        let times = |id: &String| results.get(id).copied().unwrap_or(0);
        Ok(Kept {
            entries: inputs.len() as u64,
            frames: inputs.iter().filter_map(|entry| entry.get("frame_id")).collect(),
            doubled: inputs.iter().filter(|entry| times(&entry.id) > 1).count() as u64,
            without_result: inputs.iter().filter(|entry| times(&entry.id) == 0).count() as u64,
        })
    }
}

/// A thread that sends frames at a steady rate; its result is what was confirmed.
struct Load {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Outcome<Vec<String>>>,
}

impl Load {
    fn start(config: &Config, rate: f64) -> Outcome<Load> {
        let stop = Stop::default();
        let (topology, _) = engine::find_server(&config.redis_queue, &stop)?;
        let options = ProducerOptions {
            topology,
            streams: engine::input_streams(config),
            length_max: 0,
            wait_replicas: 0,
            timeout: Duration::from_secs(config.redis_queue.timeout),
            retry: true,
        };
        let mut producer = Producer::connect(options, &stop)?;
        let pictures = Pictures::of_a_road((320, 240), Format::Jpeg, CAMERAS)?;
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let pause = Duration::from_secs_f64(1.0 / rate);
            let mut next = Instant::now();
            let mut confirmed = Vec::new();
            while !flag.load(Ordering::Relaxed) {
                let number = confirmed.len() as u64;
                let camera = format!("camera-{}", confirmed.len() % CAMERAS);
                let id = format!("frame-{number:08}");
                producer.send(&pictures.frame(number, &id, &camera))?;
                confirmed.push(id);
                // What could not be sent meanwhile is not made up for: cameras do not either.
                let now = Instant::now();
                next = (next + pause).max(now);
                std::thread::sleep(next - now);
            }
            Ok(confirmed)
        });
        Ok(Load { ended, thread })
    }

    fn end(self) -> Outcome<Vec<String>> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the producer panicked")?
    }
}
