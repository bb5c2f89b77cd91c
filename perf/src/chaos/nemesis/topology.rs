//! Faults of the topology: failovers and moving slots.

use std::time::Duration;

use framepress::internals::redis::slot_of;
use rustix::process::Signal;

use super::{Nemesis, Outage, Step};
use crate::Outcome;
use crate::chaos::draw::{Planned, Topology};
use crate::chaos::kind::Kind;
use crate::chaos::node::until;
use crate::chaos::world::SERVICE;

/// Before a failover: the replication lag is less than this, in milliseconds.
const REPLICATION_MS: u64 = 1_000;
/// After a failover: the producer has reached the new primary by then, in milliseconds.
const FOLLOWED_MS: u64 = 1_000;
/// Time limit of the first result of the new primary, in milliseconds.
const RESULT_MS: u64 = 5_000;
/// The old primary is demoted within this time, in milliseconds.
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
                // The Sentinel refuses a replica that has only just started.
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
        // Meanwhile the old primary, if it runs, accepts writes.
        std::thread::sleep(Duration::from_millis(fault.pick % OLD_PRIMARY_MS));
        match fault.kind {
            Kind::FailoverKill => self.world.nodes[old].spawn(&[])?,
            Kind::FailoverSilent => self.world.nodes[old].signal(Signal::CONT)?,
            _ => {}
        }
        // The Sentinels would do the same ten seconds later.
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

    /// Excuses a failover that this plan did not order, for example on an overloaded machine, like
    /// any other.
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

    /// When the first result of the new primary comes; `None` if no engine is at work, or none
    /// comes within the limit.
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

    /// Moves the slot of the streams to the next node, with all its keys.
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
