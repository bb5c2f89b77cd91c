//! Begins and ends the faults.
//!
//! One thread executes the plan in order. Brief and indivisible faults (a server that is stopped,
//! or restarted) happen within one call. All others have a separate beginning and end, so that
//! faults of different lanes overlap.

mod processes;
mod server;
mod streams;
mod topology;

use std::sync::Arc;
use std::thread::JoinHandle;

use serde::Serialize;

use super::archive::Archive;
use super::cost::{Cost, Doubles};
use super::draw::{Planned, Setup};
use super::engines::{Ended, Engine};
use super::excuses::Excuses;
use super::kind::Kind;
use super::node::Link;
use super::snapshot::Snapshot;
use super::world::World;
use crate::Outcome;

/// Longest time, in milliseconds, between storing a result that the archive sees and losing its
/// answer.
const ANSWER_MS: u64 = 500;

/// Engines that end unexpectedly are restarted at most this often.
const COMPLAINTS_MAX: usize = 10;

/// Outcome of a step.
pub enum Step {
    /// Done, with a note on what it did.
    Done(String),
    /// Postponed: another fault is in progress.
    Later,
}

impl Step {
    fn done(what: impl Into<String>) -> Outcome<Step> {
        Ok(Step::Done(what.into()))
    }
}

/// Gap in the results because of a failover: from its beginning to the first result of the new
/// primary.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Outage {
    pub kind: Kind,
    pub ms: u64,
}

/// All targets of faults.
pub struct Nemesis {
    pub setup: Setup,
    // Drop order: engines before their servers.
    pub engines: Vec<Engine>,
    pub world: World,
    pub archive: Arc<Archive>,
    pub admin: Link,
    pub excuses: Excuses,
    pub ended: Vec<Ended>,
    /// Forbidden behaviour of engines.
    pub complaints: Vec<String>,
    /// Servers that ended unexpectedly. They keep their data, so this excuses nothing.
    pub notes: Vec<String>,
    pub outages: Vec<Outage>,
    /// The expected primary of the Sentinels after the last failover.
    primary_expected: Option<usize>,
    /// Number of current faults during which no engine is started.
    spoiling: usize,
    /// Whether the consumer of the output deletes what it has read, or has done so once.
    are_results_deleted: bool,
    /// When a group was destroyed under several engines, and the frames that were pending then.
    in_transit: Option<(u64, Vec<String>)>,
    /// When the group was last destroyed.
    group_destroyed_ms: Option<u64>,
    /// Commands that keep the server busy.
    busy: Vec<JoinHandle<()>>,
}

impl Nemesis {
    pub fn new(
        setup: Setup,
        engines: Vec<Engine>,
        world: World,
        archive: Arc<Archive>,
    ) -> Outcome<Nemesis> {
        let admin = world.nodes[world.holder()?].link();
        let are_results_deleted = setup.output_limit > 0;
        Ok(Nemesis {
            setup,
            engines,
            world,
            archive,
            admin,
            excuses: Excuses::default(),
            ended: Vec::new(),
            complaints: Vec::new(),
            notes: Vec::new(),
            outages: Vec::new(),
            primary_expected: None,
            spoiling: 0,
            are_results_deleted,
            in_transit: None,
            group_destroyed_ms: None,
            busy: Vec::new(),
        })
    }

    /// Begins a fault.
    pub fn begin(&mut self, fault: &Planned) -> Outcome<Step> {
        let is_starting = |engine: &Engine| engine.is_running() && !engine.was_ready;
        if fault.kind.spoils_start() && self.engines.iter().any(is_starting) {
            return Ok(Step::Later);
        }
        let cost = Cost::of(fault.kind);
        if cost.doubles == Doubles::Unanswered {
            let begins = self.archive.now_ms();
            let until = begins + fault.lasts_ms + ANSWER_MS;
            self.excuses.unanswered.push((begins.saturating_sub(ANSWER_MS), until));
        }
        self.excuses.reordered |= cost.reorders;
        self.excuses.miscounted |= cost.miscounts;
        if fault.kind.spoils_start() {
            self.spoiling += 1;
        }
        use Kind::*;
        match fault.kind {
            KillEngine => self.kill_engine(fault.engine),
            TermEngine => self.term_engine(fault.engine),
            StopEngine => self.stop_engine(fault.engine),
            ClockOfEngine => self.step_clock_of_engine(fault),
            Cut | CutInBulk | CutInRequest | Stall => self.disturb(fault),
            GroupDestroy | GroupSetIdSame | GroupSetIdBack | FlushAll | DelInput | DelOutput
            | XdelPending | XtrimInput => self.change_streams(fault),
            OutputType => self.replace_output(),
            OutputFull => {
                self.archive.rest(true);
                Step::done("")
            }
            StopServer | RestartServer | CrashServer | RestartEmpty | ClockOfServer => {
                self.disturb_server(fault)
            }
            FailoverKill | FailoverOrdered | FailoverSilent | MoveSlot => self.reorganise(fault),
            _ => self.trouble(fault),
        }
    }

    /// Ends a lasting fault.
    pub fn end(&mut self, fault: &Planned) -> Outcome<Step> {
        use Kind::*;
        let step = match fault.kind {
            KillEngine | TermEngine => return self.start_engine(fault.engine),
            StopEngine => self.continue_engine(fault.engine),
            ClockOfEngine => self.right_clock_of_engine(fault.engine),
            Cut | CutInBulk | CutInRequest | Stall => self.calm(fault),
            OutputType => self.restore_output(),
            OutputFull => {
                self.archive.rest(false);
                Step::done("")
            }
            ClockOfServer => self.right_clock_of_server(),
            _ => self.relieve(fault),
        };
        if fault.kind.spoils_start() && step.is_ok() {
            self.spoiling = self.spoiling.saturating_sub(1);
        }
        step
    }

    /// Whether the fault has a separate end step.
    pub fn has_end(fault: &Planned) -> bool {
        use Kind::*;
        match fault.kind {
            // These begin and end in one step.
            StopServer | RestartServer | CrashServer | RestartEmpty | FailoverSilent => false,
            KillEngine | TermEngine => true,
            _ => fault.lasts_ms > 0,
        }
    }

    /// Checks the engines, and records those that have ended.
    pub fn look(&mut self) -> Outcome<()> {
        self.busy.retain(|thread| !thread.is_finished());
        for node in &mut self.world.nodes {
            if let Some(how) = node.ended_by_itself()? {
                self.notes.push(how);
                node.spawn(&[])?;
            }
        }
        for engine in &mut self.engines {
            match engine.look()? {
                None => {}
                Some(Ok(ended)) => self.ended.push(ended),
                Some(Err(complaint)) => {
                    self.complaints.push(complaint.clone());
                    if self.complaints.len() > COMPLAINTS_MAX {
                        return Err(format!("engines end again and again; {complaint}").into());
                    }
                    engine.start()?;
                }
            }
        }
        Ok(())
    }

    /// A connection to the server that has the streams.
    pub fn holder(&mut self) -> Outcome<&mut Link> {
        let port = self.world.nodes[self.world.holder()?].port;
        if self.admin.port() != port {
            self.admin = Link::to(port);
        }
        Ok(&mut self.admin)
    }

    /// Takes a snapshot of the streams and runs a command in the same step, like
    /// [`Snapshot::with`]; tries again while the server is busy.
    fn snapshot(&mut self, command: &[&str]) -> Outcome<Snapshot> {
        self.snapshot_of(command, false)
    }

    /// The same; `output_ends` says whether the command removes the output stream.
    fn snapshot_of(&mut self, command: &[&str], output_ends: bool) -> Outcome<Snapshot> {
        let began = std::time::Instant::now();
        loop {
            let World { streams, .. } = &self.world;
            match Snapshot::with(&mut self.admin, streams, &self.archive, command, output_ends) {
                Ok(snapshot) => return Ok(snapshot),
                Err(error) => {
                    let busy = error.to_string().contains("BUSY");
                    if !busy || began.elapsed().as_secs() > 5 {
                        return Err(error);
                    }
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        }
    }
}
