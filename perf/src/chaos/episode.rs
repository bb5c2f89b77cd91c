//! One episode: it starts servers, engines and a producer, runs the planned faults while frames
//! flow, heals everything, lets the engines finish, and runs the checker.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::streams::{StreamInfoGroupsReply, StreamPendingReply, StreamRangeReply};
use rustix::process::Signal;
use serde::Serialize;

use super::archive::{Archive, Collector, Stored};
use super::checker::{self, DeadLetter, Evidence, Verdict};
use super::draw::{Planned, Setup, Topology};
use super::engines::{Ended, Engine};
use super::kind::Kind;
use super::names::GROUP;
use super::nemesis::{Nemesis, Outage, Step};
use super::node::until;
use super::producer::Producer;
use super::world::World;
use crate::Outcome;

/// How long the load continues after the last fault.
const AFTERWARDS: Duration = Duration::from_millis(400);
/// Time limit for the engines to finish after everything is healed.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
/// How long there must be no work left before the engines count as finished.
const QUIET: Duration = Duration::from_millis(300);
/// Polling interval for due steps.
const TICK: Duration = Duration::from_millis(10);
/// Delay before a postponed step is tried again, in milliseconds.
const AGAIN_MS: u64 = 60;
/// How late a step may be, in milliseconds.
const LATEST_MS: u64 = 15_000;

/// One line of the log of faults.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub planned_ms: u64,
    pub at_ms: u64,
    pub kind: Kind,
    /// `begin` or `end`.
    pub what: &'static str,
    pub note: String,
}

impl Line {
    pub fn text(&self) -> String {
        let Line { at_ms, kind, what, note, .. } = self;
        format!("{at_ms:>6} ms  {what:<5} {} {note}", kind.name())
    }
}

/// Setup and outcome of an episode.
#[derive(Debug, Serialize)]
pub struct Record {
    pub setup: Setup,
    pub seconds: f64,
    pub drain_seconds: f64,
    pub log: Vec<Line>,
    pub verdict: Verdict,
    pub ended: Vec<Ended>,
    /// Servers that ended unexpectedly.
    pub notes: Vec<String>,
    pub outages: Vec<Outage>,
}

/// Runs an episode. With `logs`, keeps the output of the processes there.
pub fn run(setup: &Setup, plan: &[Planned], bin: &Path, logs: Option<&Path>) -> Outcome<Record> {
    let began = Instant::now();
    let folder = tempfile::Builder::new().prefix("framepress-chaos-").tempdir()?;
    let engine_folder = match logs {
        Some(logs) => {
            let kept = logs.join(format!("episode-{}", setup.episode));
            std::fs::create_dir_all(&kept)?;
            kept
        }
        None => folder.path().to_owned(),
    };
    let world = World::start(setup, folder.path())?;
    let engines = (0..setup.engines)
        .map(|index| Engine::new(index, setup, &world, bin, &engine_folder))
        .collect::<Outcome<Vec<_>>>()?;
    let archive = Arc::new(Archive::new(began));
    let mut nemesis = Nemesis::new(setup.clone(), engines, world, Arc::clone(&archive))?;
    for index in 0..setup.engines {
        nemesis.engines[index].start()?;
    }
    let mut looked = Ok(());
    until("the engines are ready", || {
        looked = nemesis.look();
        looked.is_err() || nemesis.engines.iter().all(Engine::is_at_work)
    })?;
    looked?;

    let (finder, streams) = (nemesis.world.finder(), nemesis.world.streams.clone());
    let rings = nemesis.world.rings.clone();
    // In other topologies the streams move, so they are read at the end.
    let collector = (setup.topology == Topology::Single).then(|| {
        let link = nemesis.world.nodes[0].link();
        Collector::start(Arc::clone(&archive), link, &streams, setup.output_limit > 0)
    });
    let producer = Producer::start(setup, &streams, finder, Arc::clone(&archive), began, &rings)?;
    let log = act(&mut nemesis, plan)?;
    std::thread::sleep(AFTERWARDS);
    let sent = producer.end()?;

    let healed = Instant::now();
    for index in 0..setup.engines {
        until("the engine starts again", || {
            matches!(nemesis.start_engine(index), Ok(Step::Done(_)))
        })?;
    }
    let unfinished = drain(&mut nemesis)?;
    nemesis.notice_other_failovers()?;
    let drain_seconds = healed.elapsed().as_secs_f64();
    stop(&mut nemesis)?;
    drop(collector);
    let (input_left, dead_letters) = last_look(&mut nemesis, &archive)?;

    let results = archive.lock();
    let verdict = checker::check(&Evidence {
        setup,
        sent: &sent,
        results: &results.all,
        dead_letters: &dead_letters,
        ended: &nemesis.ended,
        complaints: &nemesis.complaints,
        excuses: &nemesis.excuses,
        unfinished,
        input_left: &input_left,
    });
    drop(results);
    let ended = std::mem::take(&mut nemesis.ended);
    let notes = std::mem::take(&mut nemesis.notes);
    let outages = std::mem::take(&mut nemesis.outages);
    let seconds = began.elapsed().as_secs_f64();
    Ok(Record { setup: setup.clone(), seconds, drain_seconds, log, verdict, ended, notes, outages })
}

/// Runs the plan; returns the log of faults.
fn act(nemesis: &mut Nemesis, plan: &[Planned]) -> Outcome<Vec<Line>> {
    let began = Instant::now();
    let now = || began.elapsed().as_millis() as u64;
    // Time, index of the fault, and whether this is its end.
    let mut steps: Vec<(u64, usize, bool)> =
        plan.iter().enumerate().map(|(at, fault)| (fault.at_ms, at, false)).collect();
    let mut log = Vec::new();
    while !steps.is_empty() {
        steps.sort_unstable();
        let (due, index, is_end) = steps[0];
        if now() < due {
            nemesis.look()?;
            std::thread::sleep(TICK.min(Duration::from_millis(due - now().min(due))));
            continue;
        }
        steps.remove(0);
        let fault = &plan[index];
        let at_ms = nemesis.archive.now_ms();
        let step = if is_end { nemesis.end(fault) } else { nemesis.begin(fault) };
        let note = match step {
            Ok(Step::Done(note)) => note,
            Ok(Step::Later) if now() > due_first(fault, is_end) + LATEST_MS => {
                "not possible: something else was in the way all the time".to_owned()
            }
            Ok(Step::Later) => {
                steps.push((now() + AGAIN_MS, index, is_end));
                continue;
            }
            Err(error) if is_end && now() < due_first(fault, is_end) + LATEST_MS => {
                steps.push((now() + AGAIN_MS, index, is_end));
                format!("not yet: {error}")
            }
            Err(error) if is_end => {
                let lines = log.iter().map(Line::text).collect::<Vec<_>>().join("\n");
                return Err(format!("{} does not end: {error}\n{lines}", fault.kind.name()).into());
            }
            Err(error) => format!("not possible: {error}"),
        };
        if !is_end && Nemesis::has_end(fault) {
            steps.push((now() + fault.lasts_ms, index, true));
        }
        let what = if is_end { "end" } else { "begin" };
        let planned_ms = due_first(fault, is_end);
        log.push(Line { planned_ms, at_ms, kind: fault.kind, what, note });
    }
    nemesis.archive.rest(false);
    for engine in &nemesis.engines {
        engine.heal_network();
    }
    Ok(log)
}

/// Planned time of a step.
fn due_first(fault: &Planned, is_end: bool) -> u64 {
    fault.at_ms + if is_end { fault.lasts_ms } else { 0 }
}

/// Waits until no work is left; returns the work left after the limit.
fn drain(nemesis: &mut Nemesis) -> Outcome<Option<String>> {
    let began = Instant::now();
    let mut quiet_since: Option<Instant> = None;
    let mut left = String::new();
    while began.elapsed() < DRAIN_LIMIT {
        nemesis.look()?;
        match unfinished(nemesis) {
            Ok(None) => {
                if quiet_since.get_or_insert_with(Instant::now).elapsed() > QUIET {
                    return Ok(None);
                }
            }
            Ok(Some(what)) => (left, quiet_since) = (what, None),
            Err(error) => (left, quiet_since) = (error.to_string(), None),
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    Ok(Some(left))
}

/// Work that the group has not finished, in words.
fn unfinished(nemesis: &mut Nemesis) -> Outcome<Option<String>> {
    let input = nemesis.world.streams.input.clone();
    let link = nemesis.holder()?;
    if !link.run::<bool>(&["EXISTS", &input])? {
        return Ok(None);
    }
    let groups: StreamInfoGroupsReply = link.run(&["XINFO", "GROUPS", &input])?;
    let Some(ours) = groups.groups.into_iter().find(|group| group.name == GROUP) else {
        return Ok(Some("the group is gone".to_owned()));
    };
    // Redis' own lag figure is wrong after some deletions.
    let after = format!("({}", ours.last_delivered_id);
    let waiting: StreamRangeReply = link.run(&["XRANGE", &input, &after, "+", "COUNT", "1"])?;
    let pending: StreamPendingReply = link.run(&["XPENDING", &input, GROUP])?;
    if waiting.ids.is_empty() && pending.count() == 0 {
        return Ok(None);
    }
    let behind = if waiting.ids.is_empty() { "nothing" } else { "something" };
    Ok(Some(format!("{} pending, {behind} not delivered", pending.count())))
}

/// Asks each engine for its account and ends it, one after the other.
fn stop(nemesis: &mut Nemesis) -> Outcome<()> {
    for index in 0..nemesis.engines.len() {
        let engine = &mut nemesis.engines[index];
        let mut account = None;
        let _ = until("the account is closed", || {
            account = engine.account().ok().or(account);
            account.is_some_and(|account| account.in_flight == 0)
        });
        engine.signal(Signal::TERM)?;
        let (mut ended, complaints) = (nemesis.ended.len(), nemesis.complaints.len());
        until("the engine ends", || {
            let looked = nemesis.look();
            looked.is_err() || nemesis.ended.len() > ended || nemesis.complaints.len() > complaints
        })?;
        while ended < nemesis.ended.len() {
            let last = &mut nemesis.ended[ended];
            last.at_the_end = true;
            match (account, last.account) {
                (Some(asked), Some(told)) if (asked.read, asked.out) != (told.read, told.out) => {
                    nemesis.complaints.push(format!(
                        "engine {index} said {} read, {} out, and at its end {} read, {} out",
                        asked.read, asked.out, told.read, told.out
                    ));
                }
                (None, _) => nemesis
                    .complaints
                    .push(format!("engine {index} did not tell its account over HTTP")),
                _ => {}
            }
            last.account = account.or(last.account);
            if !last.status.contains("exit status: 0") {
                let complaint = format!("engine {index} ended with {}", last.status);
                nemesis.complaints.push(complaint);
            }
            ended += 1;
        }
    }
    Ok(())
}

/// Reads the rest of the output, the dead letters, and which frames are still in the input.
fn last_look(
    nemesis: &mut Nemesis,
    archive: &Archive,
) -> Outcome<(std::collections::HashSet<String>, Vec<DeadLetter>)> {
    let streams = nemesis.world.streams.clone();
    let link = nemesis.holder()?;
    while archive.read(link, &streams.output, false)? > 0 {}
    let text = |entry: &redis::streams::StreamId, name: &str| {
        entry.get::<String>(name).unwrap_or_default()
    };
    let input: StreamRangeReply = link.run(&["XRANGE", &streams.input, "-", "+"])?;
    let left = input.ids.iter().map(|entry| text(entry, "frame_id")).collect();
    let letters: StreamRangeReply = link.run(&["XRANGE", &streams.dead_letters, "-", "+"])?;
    let letter = |entry: &redis::streams::StreamId| DeadLetter {
        entry: text(entry, "original_id"),
        frame: text(entry, "frame_id"),
        reason: text(entry, "reason"),
    };
    Ok((left, letters.ids.iter().map(letter).collect()))
}

/// Formats a result for a person.
pub fn line_of(stored: &Stored) -> String {
    format!(
        "{} (entry {}) stored as {} at {} ms",
        stored.frame, stored.source, stored.id, stored.at_ms
    )
}
