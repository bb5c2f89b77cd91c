//! Sending batches of new frames, or of frames that were not committed before.

use super::Committer;
use super::flight::{Flight, Tasks, Waiting, shards_of};
use crate::base::{Fault, limits};
use crate::frame::{Handed, Received};
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Counter, Gauge};
use crate::redis::{CommitAnswer, Earlier, Task};
use crate::stage::group::Held;

impl<S: Send> Committer<S> {
    pub(super) fn send_new(&mut self, first: Handed<S>) {
        let (mut batch, answers) = self.spare.pop().unwrap_or_default();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(Handed { finished, slot }) = next {
            // From here the frame counts by its bytes, so the next one may be worked on.
            drop(slot);
            self.metrics.lower(Gauge::CommitLanes);
            self.taken += 1;
            let waiting = Waiting {
                number: self.taken,
                finished,
                taken_at: Tick::now(),
                failed_at: unix_seconds(),
                unanswered: None,
            };
            bytes += waiting.bytes();
            batch.push(waiting);
            let has_room =
                batch.len() < limits::COMMIT_BATCH_FRAMES && bytes < limits::COMMIT_BATCH_BYTES;
            if !has_room {
                break; // before another frame is taken out of the lane
            }
            next = match self.lane.next() {
                Received::Item(handed) => Some(handed),
                Received::Empty | Received::Closed => None,
            };
        }
        self.send(batch, answers);
    }

    pub(super) fn send_again(&mut self) {
        let (mut batch, answers) = self.spare.pop().unwrap_or_default();
        let most = if self.is_refused { 1 } else { limits::COMMIT_BATCH_FRAMES };
        let mut bytes = 0;
        while batch.len() < most && (bytes < limits::COMMIT_BATCH_BYTES) {
            let Some(waiting) = self.again.pop_front() else { break };
            bytes += waiting.bytes();
            batch.push(waiting);
        }
        self.send(batch, answers);
    }

    /// Sends a batch. If that fails, notes the reason and puts the batch back before all others.
    fn send(&mut self, mut batch: Vec<Waiting>, mut answers: Vec<CommitAnswer>) {
        if self.groups.leases().is_some() {
            if self.flights.is_empty() {
                self.connect_for(&batch);
            }
            self.hand_over(&mut batch);
            if batch.is_empty() {
                return self.keep_storage(batch, answers);
            }
        }
        let held = match self.hold(&batch) {
            Ok(Some(held)) => held,
            Ok(None) => {
                self.trouble.has_to_wait = true;
                return self.put_back(batch, answers);
            }
            Err(fault) => {
                self.trouble.lost.get_or_insert(fault);
                return self.put_back(batch, answers);
            }
        };
        self.close_gone(&mut batch);
        if batch.is_empty() {
            return self.keep_storage(batch, answers);
        }
        let is_apart = self.sinks.is_apart();
        let tasks = self.tasks(&batch, &held, is_apart);
        let (sent, end) = if is_apart {
            (Default::default(), self.sinks.commit(&tasks, &mut answers))
        } else {
            self.sinks.send(&tasks, &mut answers)
        };
        drop(tasks);
        self.count_connections();
        self.metrics.add(Counter::CommitBatches, u64::from(end.is_ok()));
        let bytes = batch.iter().map(Waiting::bytes).sum();
        for waiting in &batch {
            if let Some(line) = waiting.line() {
                self.lines.insert(line, waiting.id());
            }
        }
        let sent_at = Tick::now();
        let flight = Flight { frames: batch, answers, sent, sent_at, held, bytes };
        self.flights.push_back(flight);
        if let Err(fault) = end {
            self.trouble.lost.get_or_insert(fault);
        }
        if is_apart {
            self.receive();
        }
    }

    /// The right to commit a batch; `None` if the window must be empty first.
    fn hold(&mut self, batch: &[Waiting]) -> Result<Option<Held>, Fault> {
        let shards = shards_of(batch);
        if !self.flights.is_empty() {
            let may_follow =
                self.lost.is_empty() && !self.sinks.is_apart() && self.sinks.is_ready(&shards);
            return Ok(may_follow.then(|| self.groups.try_hold(&shards)).flatten());
        }
        // A connection closed for being idle looks like a lost one.
        self.sinks.tidy(self.groups.leases().is_none());
        while let Some(&(shard, epoch)) = self.lost.first() {
            self.groups.recover(shard, epoch)?;
            self.lost.retain(|(other, _)| *other != shard);
        }
        self.groups.hold(&shards).map(Some)
    }

    /// The task for each frame of the batch. Between two nodes of a Cluster a frame cannot name the
    /// one before it, so only one frame of each camera is sent at a time.
    fn tasks<'b>(&self, batch: &'b [Waiting], held: &'b Held, is_apart: bool) -> Tasks<'b> {
        let mut tasks = Tasks::new();
        for (index, waiting) in batch.iter().enumerate() {
            let finished = &waiting.finished;
            let before = waiting.line().and_then(|line| {
                let in_batch = batch[..index].iter().rfind(|before| before.line() == Some(line));
                in_batch.map(Waiting::id).or_else(|| self.lines.get(&line).copied())
            });
            if before.is_some() && is_apart {
                break;
            }
            let epoch = held.epoch(finished.shard);
            tasks.push(Task {
                shard: finished.shard,
                id: waiting.id(),
                after: before,
                identity: held.identity(finished.shard),
                tenure: held.tenure(finished.shard),
                earlier: waiting.unanswered.map(|(stored_after, sent_in)| Earlier {
                    stored_after,
                    is_restored: sent_in != epoch,
                }),
                action: waiting.action(&self.settings),
            });
        }
        tasks
    }
}
