//! What leases require of a committer; see the head of the folder.

use super::Committer;
use super::flight::{Waiting, shards_of};
use crate::frame::Verdict;
use crate::metrics::{Counter, Outcome, Timer};

/// Error codes of a server that is not the primary or not ready, or that knows another holder or no
/// group.
const ENDS: [&str; 6] = ["LEASE", "NOGROUP", "MOVED", "READONLY", "MASTERDOWN", "CLUSTERDOWN"];

impl<S: Send> Committer<S> {
    /// Connects for a batch before it is sent. If that opens a connection in the middle of a
    /// tenure, the server may be another one that lacks what was acknowledged, so the tenure ends.
    pub(super) fn connect_for(&mut self, batch: &[Waiting]) {
        let made = self.sinks.made();
        // A fault occurs again when the batch is sent.
        let _ = self.sinks.connect(&shards_of(batch));
        if self.sinks.made() != made {
            let committed = self.committed.clone();
            self.end_tenures(|(shard, epoch)| committed[shard] == epoch);
        }
    }

    /// Ends the tenures of this committer's shards for which `is_meant` holds.
    pub(super) fn end_tenures(&self, is_meant: impl Fn((usize, u64)) -> bool) {
        let Some(leases) = self.groups.leases() else { return };
        for &shard in &self.shards {
            let epoch = leases.held(shard);
            if epoch != 0 && is_meant((shard, epoch)) {
                self.groups.end_tenure(shard, epoch, Counter::LeasesLost);
            }
        }
    }

    /// Whether a refusal ends the tenure in which a frame was read.
    pub(super) fn ends_tenure(&self, waiting: &Waiting, code: &str) -> bool {
        if self.groups.leases().is_none() || !ENDS.contains(&code) {
            return false;
        }
        let (shard, tenure) = (waiting.finished.shard, waiting.finished.receipt.tenure());
        self.groups.end_tenure(shard, tenure, Counter::LeasesLost);
        true
    }

    /// Closes the frames whose tenure has ended. Each one is still pending, or it was stored and
    /// the answer was lost; the next holder finds out which.
    pub(super) fn hand_over(&self, batch: &mut Vec<Waiting>) {
        let Some(leases) = self.groups.leases() else { return };
        let is_over = |waiting: &mut Waiting| {
            !leases.may_commit(waiting.finished.shard, waiting.finished.receipt.tenure())
        };
        for waiting in batch.extract_if(.., is_over) {
            waiting.finished.receipt.close(Outcome::HandedOver);
        }
    }

    /// Notes that a tenure has committed a frame, and records the takeover time at its first
    /// result.
    pub(super) fn note_tenure(&mut self, waiting: &Waiting) {
        let Some(leases) = self.groups.leases() else { return };
        let (shard, tenure) = (waiting.finished.shard, waiting.finished.receipt.tenure());
        if self.committed[shard] == tenure {
            return;
        }
        self.committed[shard] = tenure;
        if matches!(waiting.finished.verdict, Verdict::Store(_))
            && let Some(time) = leases.first_result(shard)
        {
            self.recorder.record(Timer::Takeover, time);
        }
    }
}
