//! The committing stage: ends entries in Redis, and nothing else may.
//!
//! A batch is what has gathered while the last one was on its way: it is sent with its first
//! frame when there is nothing to wait for, so batching costs no latency and needs no timer.
//! After a lost connection the batch is sent again; the fence makes the repetition harmless.
//!
//! The fence is the pending entry, so it goes with its group. One case is left in which a frame may
//! be stored twice: its commit gets through, the connection is lost before the answer, and the
//! group is destroyed before the batch is sent again. The frame is then made pending once more, for
//! nobody can tell it from one that was not stored, and a frame doubled is better than one lost.
//! With several engines there is a case of loss: another one makes the group anew, behind a frame in
//! work here, and the frame's commit arrives before this process has heard of it. To the server it
//! looks as if the entry had been ended; it is counted as superseded.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use smallvec::SmallVec;

use super::regroup::Regroup;
use super::retry::Attempts;
use crate::base::threads::{Role, Turn};
use crate::base::{Fault, Stage, Stop, error_code, limits};
use crate::frame::{self, Discard, EntryId, Finished, Verdict};
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Counter, Gauge, Metrics, Outcome, Part, Recorder, Timer};
use crate::redis::{Action, Answer, Delivery, Plan, Sinks, Task, Topology};

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

/// A committer, ready to run. `S` is the storage a frame's slot carries.
#[derive(Debug)]
pub struct Committer<S> {
    index: usize,
    /// Those whose frames come out of the lane.
    shards: Vec<usize>,
    settings: CommitSettings,
    regroup: Arc<Regroup>,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    stop: Stop,
    lane: Receiver<Finished<S>>,
    sinks: Sinks,
    batch: Vec<Finished<S>>,
    answers: Vec<Answer>,
    /// Whether the batch may have been committed already, by a connection that was then lost.
    uncertain: bool,
    /// [`Regroup::generation`] of each shard before the batch was sent.
    generations: Vec<u64>,
    /// Frames of the batch that may be in no pending list any more, by shard.
    owed: Vec<(usize, EntryId)>,
    connections_made: u64,
}

impl<S: Send> Committer<S> {
    /// Committer number `index`, which ends what comes out of `lane`: frames of `shards`.
    pub fn new(
        index: usize,
        shards: Vec<usize>,
        settings: CommitSettings,
        regroup: Arc<Regroup>,
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
            settings,
            regroup,
            metrics,
            recorder,
            stop,
            lane,
            sinks,
            batch: Vec::with_capacity(limits::COMMIT_BATCH_FRAMES),
            answers: Vec::with_capacity(limits::COMMIT_BATCH_FRAMES),
            uncertain: false,
            generations: Vec::new(),
            owed: Vec::new(),
            connections_made: 0,
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
                match self.attempt(began) {
                    Ok(None) => {
                        attempts.succeeded();
                        self.metrics.health.works(Part::Committer(self.index));
                    }
                    // Back-pressure, not a loss: whoever sends has to wait.
                    Ok(Some(refusal)) => {
                        self.note(&mut attempts, &refusal);
                        attempts.pause(&self.stop, true);
                    }
                    Err(fault) => self.lost(&mut attempts, fault)?,
                }
            }
            self.uncertain = false;
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
        self.metrics.lower(Gauge::CommitLanes);
        let mut bytes = payload_len(&first);
        self.batch.push(first);
        while self.batch.len() < limits::COMMIT_BATCH_FRAMES && bytes < limits::COMMIT_BATCH_BYTES {
            let Ok(next) = self.lane.try_recv() else { break };
            self.metrics.lower(Gauge::CommitLanes);
            bytes += payload_len(&next);
            self.batch.push(next);
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
        self.make_pending()?;
        if let Some(full) = self.output_full()? {
            return Ok(Some(full));
        }
        let batch = std::mem::take(&mut self.batch);
        let mut answers = std::mem::take(&mut self.answers);
        let tasks = self.tasks(&batch);
        let shards = 0..self.settings.plan.streams.len();
        self.generations.clear();
        self.generations.extend(shards.map(|shard| self.regroup.generation(shard)));
        batch.iter().take(tasks.len()).for_each(|finished| finished.receipt.set_sent(true));
        let sent = self.sinks.commit(&tasks, &mut answers);
        drop(tasks);
        self.count_connections();
        self.metrics.add(Counter::CommitBatches, u64::from(sent.is_ok()));
        // One of each kind and shard: each asks for something else.
        let mut refusals: SmallVec<[(usize, String); 4]> = SmallVec::new();
        let mut kept = Vec::new();
        let mut emptied = batch;
        // With fewer answers than frames, the rest was not sent.
        let mut answers_left = answers.drain(..);
        for finished in emptied.drain(..) {
            let refusal = match answers_left.next() {
                Some(Answer::Done) => {
                    self.close(finished, false, began);
                    continue;
                }
                // Not ended by somebody else, but left out when the group was made anew meanwhile.
                Some(Answer::Fenced) if self.is_of_lost_group(finished.shard) => {
                    Some("NOGROUP it was made anew".to_owned())
                }
                Some(Answer::Fenced) => {
                    self.close(finished, true, began);
                    continue;
                }
                Some(Answer::Refused(message)) => Some(message),
                Some(Answer::Unknown) | None => None,
            };
            // In this order: whoever makes the group anew either sees that it is not on its way, or
            // has said before that the group was lost.
            finished.receipt.set_sent(false);
            let is_group_gone = |message: &String| error_code(message) == "NOGROUP";
            if self.is_of_lost_group(finished.shard) || refusal.as_ref().is_some_and(is_group_gone)
            {
                self.owed.push((finished.shard, finished.receipt.id()));
            }
            if let Some(message) = refusal {
                let is_same = |(shard, known): &(usize, String)| {
                    *shard == finished.shard && error_code(known) == error_code(&message)
                };
                if !refusals.iter().any(is_same) {
                    refusals.push((finished.shard, message));
                }
            }
            kept.push(finished);
        }
        drop(answers_left);
        emptied.append(&mut kept);
        (self.batch, self.answers) = (emptied, answers);
        // From here on the fence may be our own.
        self.uncertain |= sent.is_err();
        sent?;
        let mut first = None;
        for (_, message) in refusals {
            let fault = self.refused(message);
            first.get_or_insert(fault);
        }
        Ok(first)
    }

    /// Makes those pending again whose group was lost, as far as they exist. Nothing is sent before
    /// that: it would meet the fence, as if somebody else had ended it.
    fn make_pending(&mut self) -> Result<(), Fault> {
        while let Some(&(shard, _)) = self.owed.first() {
            let of_shard = self.owed.iter().filter(|(of, _)| *of == shard);
            let ids: Vec<EntryId> = of_shard.map(|(_, id)| *id).collect();
            self.regroup.recreate_with(shard, self.generations[shard], &ids)?;
            self.owed.retain(|(of, _)| *of != shard);
        }
        Ok(())
    }

    /// Whether the group was lost since the batch was sent, or is not wholly made anew yet.
    fn is_of_lost_group(&self, shard: usize) -> bool {
        let sent_in = self.generations[shard];
        sent_in != self.regroup.generation(shard) || !Regroup::is_whole(sent_in)
    }

    /// What is to be done about each frame of the batch. A frame names the one of its camera
    /// before it, so that it cannot overtake it; transactions have no such condition, so of each
    /// camera only one goes at a time.
    fn tasks<'b>(&self, batch: &'b [Finished<S>]) -> Tasks<'b> {
        let conditional = self.settings.plan.delivery == Delivery::ExactlyOnce;
        let dead_letters = self.settings.dead_letters;
        let failed_at = unix_seconds();
        let mut tasks = Tasks::new();
        for (index, finished) in batch.iter().enumerate() {
            let same = |earlier: &&Finished<S>| {
                finished.camera.is_some()
                    && (earlier.camera, earlier.shard) == (finished.camera, finished.shard)
            };
            let before = batch[..index].iter().rfind(same).map(|before| before.receipt.id());
            if before.is_some() && !conditional {
                break;
            }
            let action = action(finished, dead_letters, failed_at);
            tasks.push(Task {
                shard: finished.shard,
                id: finished.receipt.id(),
                after: before,
                action,
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
            // A lost group is seen to before the batch is sent again. Whoever is not the primary any
            // more, or not ready, has been left already.
            _ => {}
        }
        let endpoint = self.settings.topology.to_string();
        Fault::Refused { endpoint, command: "the commit", message }
    }

    /// With `output_full: block`, whether an output stream of this batch is full. Several
    /// committers and engines may each exceed the limit by one batch.
    fn output_full(&mut self) -> Result<Option<Fault>, Fault> {
        let limit = self.settings.output_full_at;
        if limit == 0 {
            return Ok(None);
        }
        let mut shards: SmallVec<[usize; 8]> =
            self.batch.iter().map(|finished| finished.shard).collect();
        shards.dedup();
        for shard in shards {
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
    fn close(&self, finished: Finished<S>, fenced: bool, began: Tick) {
        let outcome = match &finished.verdict {
            Verdict::Store(_) => Outcome::Out,
            Verdict::DeadLetter(_) if self.settings.dead_letters => Outcome::DeadLettered,
            Verdict::DeadLetter(_) | Verdict::Discard(Discard::BelowThreshold) => Outcome::Rejected,
            Verdict::Discard(Discard::Shed(_)) => Outcome::Shed,
            Verdict::Discard(Discard::LostToTrim) => Outcome::LostToTrim,
        };
        if fenced && outcome != Outcome::LostToTrim {
            if !self.uncertain {
                finished.receipt.close(Outcome::Superseded);
                return;
            }
            // Our own commit got through before its connection was lost.
            self.metrics.add(Counter::CommitRepeatsFenced, 1);
        }
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
}

fn payload_len<S>(finished: &Finished<S>) -> usize {
    match &finished.verdict {
        Verdict::Store(stored) => stored.payload.len(),
        Verdict::DeadLetter(_) | Verdict::Discard(_) => 0,
    }
}

fn action<S>(finished: &Finished<S>, dead_letters: bool, failed_at: f64) -> Action<'_> {
    match &finished.verdict {
        Verdict::Store(stored) => {
            Action::Store { payload: &stored.payload, labels: &stored.labels }
        }
        Verdict::DeadLetter(reject) if dead_letters => Action::DeadLetter {
            reject,
            deliveries: finished.receipt.origin().deliveries(),
            failed_at,
        },
        Verdict::DeadLetter(_) | Verdict::Discard(_) => Action::Drop,
    }
}
