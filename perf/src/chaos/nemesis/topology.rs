//! Faults of the arrangement of servers: failovers, and slots that move.

use std::time::Duration;

use framepress::redis::slot_of;
use rustix::process::Signal;

use super::{Nemesis, Outage, Step};
use crate::Outcome;
use crate::chaos::draw::{Planned, Topology};
use crate::chaos::kind::Kind;
use crate::chaos::node::until;
use crate::chaos::world::SERVICE;

/// Before a failover: replication is later than the primary by less than this.
const REPLICATION_MS: u64 = 1_000;
/// After it: the producer has followed by then.
const FOLLOWED_MS: u64 = 1_000;
/// How long a result of the new primary is waited for.
const RESULT_MS: u64 = 5_000;
/// The old primary learns that it is one no longer after less than this.
const OLD_PRIMARY_MS: u64 = 1_500;

impl Nemesis {
    pub(super) fn reorganise(&mut self, fault: &Planned) -> Outcome<Step> {
        if fault.kind == Kind::MoveSlot {
            return self.move_slot();
        }
        let begins = self.archive.now_ms();
        let from = begins.saturating_sub(REPLICATION_MS);
        let old = self.world.holder()?;
        match fault.kind {
            Kind::FailoverKill => self.world.nodes[old].end(Signal::KILL)?,
            Kind::FailoverSilent => self.world.nodes[old].signal(Signal::STOP)?,
            _ => {
                let mut sentinel = self.world.sentinels[0].link();
                // A replica that has just come up is not good enough for a moment.
                until("the failover is accepted", || {
                    sentinel.run::<()>(&["SENTINEL", "FAILOVER", SERVICE]).is_ok()
                })?;
            }
        }
        let world = &self.world;
        until("another primary", || world.holder().is_ok_and(|new| new != old))?;
        let new = self.world.holder()?;
        until("the new primary says that it is one", || {
            let told: String =
                self.world.nodes[new].link().run(&["INFO", "replication"]).unwrap_or_default();
            told.contains("role:master")
        })?;
        let outage = self.first_result(new).map(|at_ms| at_ms - begins);
        if let Some(ms) = outage {
            self.outages.push(Outage { kind: fault.kind, ms });
        }
        // The old primary takes writes meanwhile, if it is there.
        std::thread::sleep(Duration::from_millis(fault.pick % OLD_PRIMARY_MS));
        match fault.kind {
            Kind::FailoverKill => self.world.nodes[old].spawn(&[])?,
            Kind::FailoverSilent => self.world.nodes[old].signal(Signal::CONT)?,
            _ => {}
        }
        // The Sentinels would say so as well, ten seconds later.
        let port = self.world.nodes[new].port.to_string();
        let mut link = self.world.nodes[old].link();
        link.insist::<String>(&["REPLICAOF", "127.0.0.1", &port])?;
        self.world.wait_for_replicas()?;
        let until = self.archive.now_ms() + FOLLOWED_MS;
        self.excuses.unreplicated.push((from, until));
        self.primary_expected = Some(new);
        let results = match outage {
            Some(ms) => format!("results again after {ms} ms"),
            None => "no engine was at work".to_owned(),
        };
        Step::done(format!("from server {old} to {new}, {results}"))
    }

    /// A failover that was not ordered here, as of a machine that is too slow, costs what others do.
    pub fn notice_other_failovers(&mut self) -> Outcome<()> {
        let holder = self.world.holder()?;
        if self.setup.topology == Topology::Sentinel
            && self.primary_expected.is_some_and(|expected| expected != holder)
        {
            self.notes.push(format!("the Sentinels have replaced the primary by {holder}"));
            self.excuses.unreplicated.push((0, u64::MAX));
        }
        Ok(())
    }

    /// When the first result comes that the new primary has of its own; `None` if no engine is at
    /// work, or none comes in a while.
    fn first_result(&self, new: usize) -> Option<u64> {
        if !self.engines.iter().any(|engine| engine.is_at_work() && !engine.is_stopped) {
            return None;
        }
        let mut link = self.world.nodes[new].link();
        let mut length = || link.run::<u64>(&["XLEN", &self.world.streams.output]).ok();
        let before = length()?;
        let limit = self.archive.now_ms() + RESULT_MS;
        while self.archive.now_ms() < limit {
            if length().is_some_and(|length| length > before) {
                return Some(self.archive.now_ms());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// Moves the slot of the streams to the next node, with everything in it.
    fn move_slot(&mut self) -> Outcome<Step> {
        let nodes = &self.world.nodes;
        let from = self.world.holder()?;
        let to = (from + 1) % nodes.len();
        let slot = slot_of(&self.world.streams.input).to_string();
        let id = |node: usize| nodes[node].link().insist::<String>(&["CLUSTER", "MYID"]);
        let (from_id, to_id) = (id(from)?, id(to)?);
        let set = |node: usize, words: &[&str]| {
            let all = [&["CLUSTER", "SETSLOT", &slot], words].concat();
            nodes[node].link().insist::<String>(&all)
        };
        set(to, &["IMPORTING", &from_id])?;
        set(from, &["MIGRATING", &to_id])?;
        let port = nodes[to].port.to_string();
        let mut link = nodes[from].link();
        let mut moved = 0;
        loop {
            let keys: Vec<String> = link.insist(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"])?;
            let Some(key) = keys.first() else { break };
            let _: String = link.insist(&["MIGRATE", "127.0.0.1", &port, key, "0", "20000"])?;
            moved += 1;
        }
        set(to, &["NODE", &to_id])?;
        set(from, &["NODE", &to_id])?;
        for node in (0..nodes.len()).filter(|&node| node != to && node != from) {
            set(node, &["NODE", &to_id])?;
        }
        Step::done(format!("{moved} keys from node {from} to {to}"))
    }
}
