//! The committing stage: ends entries in Redis, and nothing else may.
//!
//! A batch is what has gathered while the last one was on its way: it is sent with its first
//! frame when there is nothing to wait for, so batching costs no latency and needs no timer.
//!
//! After a lost connection the batch is sent again, with word of the attempt that was never
//! answered: the script then tells a result of ours from that of another engine, and does not store
//! it a second time even if the group was restored in between.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use smallvec::SmallVec;

use super::group::{Groups, Held};
use super::retry::Attempts;
use crate::base::threads::{Role, Turn};
use crate::base::{Fault, Stage, Stop, error_code, limits};
use crate::frame::{self, Discard, EntryId, Finished, Verdict};
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Counter, Gauge, Metrics, Outcome, Part, Recorder, Timer};
use crate::redis::{Action, Answer, Earlier, Plan, Sinks, Task, Topology};

/// What a committer needs to know.
#[derive(Clone, Debug)]
pub struct CommitSettings {
    /// Where Redis is.
    pub topology: Topology,
    /// Where things go.
    pub plan: Arc<Plan>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Stop taking frames while an output stream has this many entries; 0 for never.
    pub output_full_at: u64,
    /// Whether refused frames become dead letters; otherwise they are only acknowledged.
    pub dead_letters: bool,
    /// Whether to go on after a lost connection.
    pub retry: bool,
    /// Called at each turn.
    pub turn: Turn,
}

type Tasks<'a> = SmallVec<[Task<'a>; limits::COMMIT_BATCH_FRAMES]>;

/// A frame of the batch.
#[derive(Debug)]
struct Waiting<S> {
    finished: Finished<S>,
    /// For its dead letter: the same at every attempt, so that an earlier one is recognised.
    failed_at: f64,
    /// The first attempt that was sent and never answered: after which result, and in which epoch
    /// of the journal. An answer to a later attempt says nothing about it.
    unanswered: Option<(EntryId, u64)>,
}

/// The last results known of a shard.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    result: EntryId,
    dead_letter: EntryId,
}

/// A committer, ready to run. `S` is the storage a frame's slot carries.
#[derive(Debug)]
pub struct Committer<S> {
    index: usize,
    /// Those whose frames come out of the lane.
    shards: Vec<usize>,
    settings: CommitSettings,
    groups: Arc<Groups>,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    stop: Stop,
    lane: Receiver<Finished<S>>,
    sinks: Sinks,
    batch: Vec<Waiting<S>>,
    answers: Vec<Answer>,
    /// By shard.
    stored: Vec<Stored>,
    /// Shards whose group was met as lost, and the epoch of the journal then.
    lost: SmallVec<[(usize, u64); 4]>,
    connections_made: u64,
    /// Whether the refusal to delete input entries has been mentioned.
    has_warned_of_kept: bool,
}

/// Why frames of a batch were refused: of each shard and kind the first.
type Refusals = SmallVec<[(usize, String); 4]>;

impl<S: Send> Committer<S> {
    /// Committer number `index`, which ends what comes out of `lane`: frames of `shards`.
    pub fn new(
        index: usize,
        shards: Vec<usize>,
        settings: CommitSettings,
        groups: Arc<Groups>,
        metrics: Arc<Metrics>,
        stop: Stop,
        lane: Receiver<Finished<S>>,
    ) -> Self {
        metrics.health.expect(Part::Committer(index));
        let recorder = metrics.recorder();
        let name = format!("framepress-commit-{index}");
        let CommitSettings { topology, plan, timeout, .. } = &settings;
        let sinks = Sinks::new(topology, plan, name, *timeout, &metrics, &stop);
        Committer {
            index,
            shards,
            stored: vec![Stored::default(); settings.plan.streams.len()],
            settings,
            groups,
            metrics,
            recorder,
            stop,
            lane,
            sinks,
            batch: Vec::with_capacity(limits::COMMIT_BATCH_FRAMES),
            answers: Vec::with_capacity(limits::COMMIT_BATCH_FRAMES),
            lost: SmallVec::new(),
            connections_made: 0,
            has_warned_of_kept: false,
        }
    }

    /// Commits until the lane is closed and empty.
    ///
    /// # Errors
    /// With `retry` off, the first lost connection; otherwise none but "leave at once" ends it
    /// early, and what is not committed then stays pending.
    pub fn run(mut self) -> Result<(), Fault> {
        // Connecting before the first frame is there keeps the first frame fast.
        let mut attempts = Attempts::new("committing", self.settings.topology.pause_longest());
        while let Err(fault) = self.sinks.connect(&self.shards) {
            self.lost(&mut attempts, fault)?;
            if self.stop.is_draining() {
                break;
            }
        }
        self.count_connections();
        if self.connections_made > 0 {
            self.metrics.health.works(Part::Committer(self.index));
        }
        while let Some(first) = frame::recv(&self.lane, &self.stop) {
            self.settings.turn.begins(Role::Commit);
            self.fill_batch(first);
            let began = Tick::now();
            while !self.batch.is_empty() {
                if self.stop.is_now() {
                    return Ok(());
                }
                let end = self.attempt(began);
                if self.batch.is_empty() {
                    attempts.succeeded();
                    self.metrics.health.works(Part::Committer(self.index));
                    continue;
                }
                match end {
                    Ok(None) => {}
                    // Backpressure, not a loss: the frames have to wait.
                    Ok(Some(refusal)) => {
                        self.note(&mut attempts, &refusal);
                        attempts.pause(&self.stop, true);
                    }
                    Err(fault) => self.lost(&mut attempts, fault)?,
                }
            }
        }
        Ok(())
    }

    /// A connection is gone: the next attempt makes another one.
    fn lost(&mut self, attempts: &mut Attempts, fault: Fault) -> Result<(), Fault> {
        self.note(attempts, &fault);
        if !self.settings.retry {
            return Err(fault);
        }
        attempts.pause(&self.stop, true);
        Ok(())
    }

    fn note(&self, attempts: &mut Attempts, fault: &Fault) {
        self.metrics.add(Counter::Errors, 1);
        self.metrics.health.fails(Part::Committer(self.index), fault.to_string());
        attempts.failed(fault);
    }

    fn fill_batch(&mut self, first: Finished<S>) {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(finished) = next {
            self.metrics.lower(Gauge::CommitLanes);
            bytes += payload_len(&finished);
            self.batch.push(Waiting { finished, failed_at: unix_seconds(), unanswered: None });
            let has_room = self.batch.len() < limits::COMMIT_BATCH_FRAMES
                && bytes < limits::COMMIT_BATCH_BYTES;
            next = has_room.then(|| self.lane.try_recv().ok()).flatten();
        }
    }

    /// All but the first connections are made again after a loss.
    fn count_connections(&mut self) {
        let made = self.sinks.made();
        if self.connections_made > 0 {
            self.metrics.add(Counter::Reconnects, made - self.connections_made);
        }
        self.connections_made = made;
    }

    /// Sends the batch once and closes the receipts of all that is done. What Redis refused stays
    /// in the batch; the first refusal is returned.
    fn attempt(&mut self, began: Tick) -> Result<Option<Fault>, Fault> {
        while let Some(&(shard, epoch)) = self.lost.first() {
            self.groups.recover(shard, epoch)?;
            self.lost.retain(|(other, _)| *other != shard);
        }
        let shards = self.shards_of_batch();
        if let Some(full) = self.output_full(&shards)? {
            return Ok(Some(full));
        }
        let groups = Arc::clone(&self.groups);
        let held = groups.hold(&shards)?;
        self.close_gone(began);
        let batch = std::mem::take(&mut self.batch);
        let mut answers = std::mem::take(&mut self.answers);
        let tasks = self.tasks(&batch, &held);
        let sent = self.sinks.commit(&tasks, &mut answers);
        drop(tasks);
        self.count_connections();
        self.metrics.add(Counter::CommitBatches, u64::from(sent.is_ok()));
        let refusals = self.take_answers(batch, &mut answers, &held, began);
        self.answers = answers;
        drop(held);
        sent?;
        let mut first = None;
        for (_, message) in refusals {
            let fault = self.refused(message);
            first.get_or_insert(fault);
        }
        Ok(first)
    }

    /// Closes the receipts of what is done and puts the rest back into the batch.
    fn take_answers(
        &mut self,
        mut batch: Vec<Waiting<S>>,
        answers: &mut Vec<Answer>,
        held: &Held<'_>,
        began: Tick,
    ) -> Refusals {
        let mut refusals = Refusals::new();
        let mut kept = Vec::new();
        // With fewer answers than frames, the rest was not sent.
        let mut answers = answers.drain(..);
        for mut waiting in batch.drain(..) {
            let shard = waiting.finished.shard;
            match answers.next().unwrap_or(Answer::Unsent) {
                Answer::Done { stored, is_kept } => {
                    self.note_stored(&waiting.finished, stored);
                    if is_kept {
                        self.warn_of_kept();
                    }
                    self.close(waiting.finished, began);
                    continue;
                }
                Answer::DoneBefore => {
                    self.metrics.add(Counter::CommitRepeatsFenced, 1);
                    self.close(waiting.finished, began);
                    continue;
                }
                Answer::Fenced => {
                    match waiting.finished.verdict {
                        Verdict::Discard(Discard::LostToTrim) => {
                            self.close(waiting.finished, began)
                        }
                        _ => {
                            let receipt = waiting.finished.receipt;
                            let is_gone = receipt.is_gone();
                            receipt.close(if is_gone {
                                Outcome::LostWithGroup
                            } else {
                                Outcome::Superseded
                            });
                        }
                    }
                    continue;
                }
                Answer::Refused(message) => {
                    if error_code(&message) == "NOGROUP" {
                        self.lost.push((shard, held.epoch(shard)));
                    }
                    let is_same = |(of, known): &(usize, String)| {
                        *of == shard && error_code(known) == error_code(&message)
                    };
                    if !refusals.iter().any(is_same) {
                        refusals.push((shard, message));
                    }
                }
                Answer::Unknown => {
                    let after = self.stored_before(&waiting.finished);
                    waiting.unanswered.get_or_insert((after, held.epoch(shard)));
                }
                Answer::Unsent => {}
            }
            kept.push(waiting);
        }
        batch.append(&mut kept);
        self.batch = batch;
        refusals
    }

    /// The shards of the batch, in order.
    fn shards_of_batch(&self) -> SmallVec<[usize; 8]> {
        let mut shards: SmallVec<[usize; 8]> =
            self.batch.iter().map(|waiting| waiting.finished.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        shards
    }

    /// Ends the frames whose entries went with their group.
    fn close_gone(&mut self, began: Tick) {
        // An attempt without an answer may have stored it before.
        let is_gone = |waiting: &Waiting<S>| {
            waiting.unanswered.is_none() && waiting.finished.receipt.is_gone()
        };
        if !self.batch.iter().any(is_gone) {
            return;
        }
        for waiting in std::mem::take(&mut self.batch) {
            match waiting.finished.verdict {
                _ if !is_gone(&waiting) => self.batch.push(waiting),
                Verdict::Discard(_) => self.close(waiting.finished, began),
                _ => waiting.finished.receipt.close(Outcome::LostWithGroup),
            }
        }
    }

    /// The last thing stored where this frame's end is to be stored.
    fn stored_before(&self, finished: &Finished<S>) -> EntryId {
        let stored = &self.stored[finished.shard];
        match finished.verdict {
            Verdict::DeadLetter(_) => stored.dead_letter,
            Verdict::Store(_) | Verdict::Discard(_) => stored.result,
        }
    }

    fn note_stored(&mut self, finished: &Finished<S>, id: Option<EntryId>) {
        let stored = &mut self.stored[finished.shard];
        let place = match finished.verdict {
            Verdict::DeadLetter(_) => &mut stored.dead_letter,
            Verdict::Store(_) | Verdict::Discard(_) => &mut stored.result,
        };
        // A stream that was made anew may begin with lower ids.
        *place = id.unwrap_or(*place);
    }

    /// The input grows without bound: an operator has to know.
    fn warn_of_kept(&mut self) {
        self.metrics.add(Counter::DeletesRefused, 1);
        if !std::mem::replace(&mut self.has_warned_of_kept, true) {
            tracing::warn!(
                "the server refuses to delete acknowledged entries, as retention: delete demands: \
                 the input grows; give the account the right (+xdel), see `framepress check`"
            );
        }
    }

    /// What is to be done about each frame of the batch. A frame names the one of its camera
    /// before it, so that it cannot overtake it. Between two nodes of a Cluster there is no such
    /// condition, so of each camera only one goes at a time.
    fn tasks<'b>(&self, batch: &'b [Waiting<S>], held: &'b Held<'_>) -> Tasks<'b> {
        let is_apart = self.sinks.is_apart();
        let mut tasks = Tasks::new();
        for (index, waiting) in batch.iter().enumerate() {
            let finished = &waiting.finished;
            let same = |earlier: &&Waiting<S>| {
                let earlier = &earlier.finished;
                finished.camera.is_some()
                    && (earlier.camera, earlier.shard) == (finished.camera, finished.shard)
            };
            let before = batch[..index].iter().rfind(same);
            if before.is_some() && is_apart {
                break;
            }
            let epoch = held.epoch(finished.shard);
            tasks.push(Task {
                shard: finished.shard,
                id: finished.receipt.id(),
                after: before.map(|before| before.finished.receipt.id()),
                identity: held.identity(finished.shard),
                earlier: waiting.unanswered.map(|(stored_after, sent_in)| Earlier {
                    stored_after,
                    is_restored: sent_in != epoch,
                }),
                action: self.action(waiting),
            });
        }
        tasks
    }

    /// What a refusal asks for before the next attempt.
    fn refused(&mut self, message: String) -> Fault {
        match error_code(&message) {
            // Redis has forgotten the script: a restart, or SCRIPT FLUSH.
            "NOSCRIPT" => self.sinks.reload(),
            "OOM" => self.metrics.add(Counter::OutOfMemoryWaits, 1),
            // A lost group is restored before the batch is sent again. A server that is not the
            // primary any more, or not ready, has been left already.
            _ => {}
        }
        let endpoint = self.settings.topology.to_string();
        Fault::Refused { endpoint, command: "the commit", message }
    }

    /// With `output_full: block`, whether an output stream of this batch is full. Several
    /// committers and engines may each exceed the limit by one batch.
    fn output_full(&mut self, shards: &[usize]) -> Result<Option<Fault>, Fault> {
        let limit = self.settings.output_full_at;
        if limit == 0 {
            return Ok(None);
        }
        for &shard in shards {
            let length = self.sinks.output_length(shard)?;
            if length >= limit {
                self.metrics.add(Counter::OutputFullWaits, 1);
                let [_, output, _] = &self.settings.plan.streams[shard];
                return Ok(Some(Fault::Unusable(format!(
                    "the output stream {output} is full: {length} of {limit} entries"
                ))));
            }
        }
        Ok(None)
    }

    /// Ends the obligation for one entry, now that Redis has confirmed.
    fn close(&self, finished: Finished<S>, began: Tick) {
        let outcome = match &finished.verdict {
            Verdict::Store(_) => Outcome::Out,
            Verdict::DeadLetter(_) if self.settings.dead_letters => Outcome::DeadLettered,
            Verdict::DeadLetter(_) | Verdict::Discard(Discard::BelowThreshold) => Outcome::Rejected,
            Verdict::Discard(Discard::Shed(_)) => Outcome::Shed,
            Verdict::Discard(Discard::LostToTrim) => Outcome::LostToTrim,
            Verdict::Discard(Discard::Repeated) => Outcome::Superseded,
        };
        match &finished.verdict {
            Verdict::Store(stored) => {
                self.metrics.add(Counter::BytesOut, stored.payload.len() as u64);
                self.recorder.record(Timer::Stage(Stage::Commit), began.elapsed());
                let age = self.metrics.redis_clock.age_of(finished.receipt.id().millis);
                self.recorder.record(Timer::EndToEnd, age);
            }
            Verdict::DeadLetter(reject) => self.metrics.count_dead_letter(reject.reason),
            Verdict::Discard(_) => {}
        }
        finished.receipt.close(outcome);
    }

    fn action<'b>(&self, waiting: &'b Waiting<S>) -> Action<'b> {
        match &waiting.finished.verdict {
            Verdict::Store(stored) => {
                Action::Store { payload: &stored.payload, labels: &stored.labels }
            }
            Verdict::DeadLetter(reject) if self.settings.dead_letters => Action::DeadLetter {
                reject,
                deliveries: waiting.finished.receipt.origin().deliveries(),
                failed_at: waiting.failed_at,
            },
            Verdict::DeadLetter(_) | Verdict::Discard(_) => Action::Drop,
        }
    }
}

fn payload_len<S>(finished: &Finished<S>) -> usize {
    match &finished.verdict {
        Verdict::Store(stored) => stored.payload.len(),
        Verdict::DeadLetter(_) | Verdict::Discard(_) => 0,
    }
}
