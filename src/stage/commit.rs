//! The committing stage: ends entries in Redis, and nothing else may.
//!
//! A batch is what has gathered while the last one was on its way: it is sent with its first
//! frame when there is nothing to wait for, so batching costs no latency and needs no timer.
//! After a lost connection the batch is sent again; the fence makes the repetition harmless.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::retry::Attempts;
use crate::base::threads::{Role, Turn};
use crate::base::{Fault, Stage, Stop, limits};
use crate::frame::{self, Discard, Finished, Verdict};
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Counter, Metrics, Outcome, Part, Recorder, Timer};
use crate::redis::{Action, Address, Answer, Plan, Sink, Task};

/// What a committer needs to know.
#[derive(Clone, Debug)]
pub struct CommitSettings {
    /// The server.
    pub address: Address,
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

/// A committer, ready to run. `S` is the storage a frame's slot carries.
#[derive(Debug)]
pub struct Committer<S> {
    index: usize,
    settings: CommitSettings,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    stop: Stop,
    lane: Receiver<Finished<S>>,
    sink: Option<Sink>,
    batch: Vec<Finished<S>>,
    answers: Vec<Answer>,
    /// Whether the batch may have been committed already, by a connection that was then lost.
    uncertain: bool,
}

impl<S: Send> Committer<S> {
    /// Committer number `index`, which ends what comes out of `lane`.
    pub fn new(
        index: usize,
        settings: CommitSettings,
        metrics: Arc<Metrics>,
        stop: Stop,
        lane: Receiver<Finished<S>>,
    ) -> Self {
        metrics.health.expect(Part::Committer(index));
        let recorder = metrics.recorder();
        Committer {
            index,
            settings,
            metrics,
            recorder,
            stop,
            lane,
            sink: None,
            batch: Vec::with_capacity(limits::COMMIT_BATCH_FRAMES),
            answers: Vec::with_capacity(limits::COMMIT_BATCH_FRAMES),
            uncertain: false,
        }
    }

    /// Commits until the lane is closed and empty.
    ///
    /// # Errors
    /// With `retry` off, the first fault of Redis; otherwise none but "leave at once" ends it
    /// early, and what is not committed then stays pending.
    pub fn run(mut self) -> Result<(), Fault> {
        // Connecting before the first frame is there keeps the first frame fast.
        let mut attempts = Attempts::new("committing");
        if let Err(fault) = self.connect() {
            self.failed(&mut attempts, fault)?;
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
                    Ok(None) => attempts.succeeded(),
                    Ok(Some(refusal)) => {
                        self.failed(&mut attempts, refusal)?;
                        attempts.pause(&self.stop, true);
                    }
                    Err(fault) => {
                        self.sink = None;
                        self.uncertain = true;
                        self.failed(&mut attempts, fault)?;
                        attempts.pause(&self.stop, true);
                        self.metrics.add(Counter::Reconnects, 1);
                    }
                }
            }
            self.uncertain = false;
        }
        Ok(())
    }

    fn fill_batch(&mut self, first: Finished<S>) {
        let mut bytes = payload_len(&first);
        self.batch.push(first);
        while self.batch.len() < limits::COMMIT_BATCH_FRAMES && bytes < limits::COMMIT_BATCH_BYTES {
            let Ok(next) = self.lane.try_recv() else { break };
            bytes += payload_len(&next);
            self.batch.push(next);
        }
    }

    fn failed(&self, attempts: &mut Attempts, fault: Fault) -> Result<(), Fault> {
        self.metrics.add(Counter::Errors, 1);
        self.metrics.health.fails(Part::Committer(self.index), fault.to_string());
        if !self.settings.retry {
            return Err(fault);
        }
        attempts.failed(&fault);
        Ok(())
    }

    fn connect(&mut self) -> Result<&mut Sink, Fault> {
        let sink = match self.sink.take() {
            Some(sink) => sink,
            None => Sink::open(
                &self.settings.address,
                &self.settings.plan,
                &format!("framepress-commit-{}", self.index),
                self.settings.timeout,
                &self.metrics,
                &self.stop,
            )?,
        };
        self.metrics.health.works(Part::Committer(self.index));
        Ok(self.sink.insert(sink))
    }

    /// Sends the batch once and closes the receipts of all that is done. What Redis refused stays
    /// in the batch; the first refusal is returned.
    fn attempt(&mut self, began: Tick) -> Result<Option<Fault>, Fault> {
        if let Some(full) = self.output_full()? {
            return Ok(Some(full));
        }
        let batch = std::mem::take(&mut self.batch);
        let mut answers = std::mem::take(&mut self.answers);
        let dead_letters = self.settings.dead_letters;
        let failed_at = unix_seconds();
        let tasks: smallvec::SmallVec<[Task<'_>; limits::COMMIT_BATCH_FRAMES]> =
            batch.iter().map(|finished| task(finished, dead_letters, failed_at)).collect();
        let sent = self.connect().and_then(|sink| sink.commit(&tasks, &mut answers));
        drop(tasks);
        if let Err(fault) = sent {
            (self.batch, self.answers) = (batch, answers);
            return Err(fault);
        }
        self.metrics.add(Counter::CommitBatches, 1);
        let mut refusal = None;
        let mut kept = Vec::new();
        let mut emptied = batch;
        for (finished, answer) in emptied.drain(..).zip(answers.drain(..)) {
            match answer {
                Answer::Done => self.close(finished, false, began),
                Answer::Fenced => self.close(finished, true, began),
                // Nobody makes the group again any more; the frame's receipt goes with it.
                Answer::Refused(message)
                    if message.starts_with("NOGROUP") && self.stop.is_draining() => {}
                Answer::Refused(message) => {
                    refusal.get_or_insert(message);
                    kept.push(finished);
                }
            }
        }
        emptied.append(&mut kept);
        (self.batch, self.answers) = (emptied, answers);
        refusal.map(|message| self.refused(message)).transpose()
    }

    /// What a refusal asks for before the next attempt.
    fn refused(&mut self, message: String) -> Result<Fault, Fault> {
        let code = message.split_ascii_whitespace().next().unwrap_or_default().to_owned();
        let fault = Fault::Refused {
            endpoint: self.settings.address.to_string(),
            command: "the commit",
            message,
        };
        match code.as_str() {
            // Redis has forgotten the script: a restart, or SCRIPT FLUSH.
            "NOSCRIPT" => self.connect()?.reload()?,
            "OOM" => self.metrics.add(Counter::OutOfMemoryWaits, 1),
            // Not the primary any more, or not ready yet: look it up again.
            "READONLY" | "MASTERDOWN" | "LOADING" => self.sink = None,
            _ => {}
        }
        Ok(fault)
    }

    /// With `output_full: block`, whether an output stream of this batch is full. Several
    /// committers and engines may each exceed the limit by one batch.
    fn output_full(&mut self) -> Result<Option<Fault>, Fault> {
        let limit = self.settings.output_full_at;
        if limit == 0 {
            return Ok(None);
        }
        let mut shards: smallvec::SmallVec<[usize; 8]> =
            self.batch.iter().map(|finished| finished.shard).collect();
        shards.dedup();
        for shard in shards {
            let length = self.connect()?.output_length(shard)?;
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
            Verdict::Discard(Discard::Shed) => Outcome::Shed,
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
            Verdict::DeadLetter(reject) => {
                self.metrics.count_dead_letter(reject.reason);
                tracing::warn!(
                    entry = %finished.receipt.id(),
                    stage = reject.stage.name(),
                    "frame refused: {reject}"
                );
            }
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

fn task<S>(finished: &Finished<S>, dead_letters: bool, failed_at: f64) -> Task<'_> {
    let action = match &finished.verdict {
        Verdict::Store(stored) => {
            Action::Store { payload: &stored.payload, labels: &stored.labels }
        }
        Verdict::DeadLetter(reject) if dead_letters => Action::DeadLetter {
            reject,
            deliveries: finished.receipt.origin().deliveries(),
            failed_at,
        },
        Verdict::DeadLetter(_) | Verdict::Discard(_) => Action::Drop,
    };
    Task { shard: finished.shard, id: finished.receipt.id(), action }
}
