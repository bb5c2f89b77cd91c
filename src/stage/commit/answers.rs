//! Redis' answers to a batch. Receipts are closed only here.

use smallvec::SmallVec;

use super::Committer;
use super::flight::{Flight, Waiting};
use crate::base::{Fault, Stage, error_code};
use crate::frame::{Discard, EntryId, Finished, Verdict};
use crate::metrics::{Counter, Outcome, Timer};
use crate::redis::CommitAnswer;

/// The ids last stored for a shard.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StoredUpTo {
    result: EntryId,
    dead_letter: EntryId,
}

/// Why frames were not committed.
#[derive(Debug, Default)]
pub(super) struct CommitTrouble {
    /// The first lost connection.
    pub(super) lost: Option<Fault>,
    /// The refusals: the first of each shard and error code.
    pub(super) refusals: SmallVec<[(usize, String); 4]>,
    /// The frames must wait until the window is empty, without a fault: their server has changed or
    /// their group is being restored.
    pub(super) has_to_wait: bool,
}

impl CommitTrouble {
    pub(super) fn is_none(&self) -> bool {
        self.lost.is_none() && self.refusals.is_empty() && !self.has_to_wait
    }
}

impl<S: Send> Committer<S> {
    /// Closes the receipts of the frames that are done. The others are sent again, before
    /// everything that was sent after them.
    pub(super) fn take_answers(&mut self, mut flight: Flight) {
        let mut answers = std::mem::take(&mut flight.answers);
        {
            // If there are fewer answers than frames, the remaining frames were not sent.
            let mut answers = answers.drain(..);
            for mut waiting in flight.frames.drain(..) {
                self.forget_line(&waiting);
                match answers.next().unwrap_or(CommitAnswer::Unsent) {
                    CommitAnswer::Done { stored, is_kept } => {
                        self.note_stored(&waiting.finished, stored);
                        self.note_tenure(&waiting);
                        if is_kept {
                            self.warn_of_kept();
                        }
                        self.close(waiting);
                        continue;
                    }
                    CommitAnswer::DoneBefore => {
                        self.metrics.add(Counter::CommitRepeatsFenced, 1);
                        self.close(waiting);
                        continue;
                    }
                    CommitAnswer::Fenced => {
                        self.close_fenced(waiting);
                        continue;
                    }
                    CommitAnswer::Refused(message) => {
                        let epoch = flight.held.epoch(waiting.finished.shard);
                        self.note_refusal(&waiting, epoch, message);
                    }
                    CommitAnswer::Unknown => {
                        let shard = waiting.finished.shard;
                        let after = self.stored_before(&waiting.finished);
                        waiting.unanswered.get_or_insert((after, flight.held.epoch(shard)));
                    }
                    CommitAnswer::Unsent => {}
                }
                self.again.push_back(waiting);
            }
        }
        self.keep_storage(flight.frames, answers);
    }

    /// Removes a frame from the record of frames in flight.
    fn forget_line(&mut self, waiting: &Waiting) {
        if let Some(line) = waiting.line()
            && self.lines.get(&line) == Some(&waiting.id())
        {
            self.lines.remove(&line);
        }
    }

    /// Ends a frame that Redis has confirmed.
    pub(super) fn close(&self, waiting: Waiting) {
        let outcome = waiting.outcome(&self.settings);
        let finished = waiting.finished;
        match &finished.verdict {
            Verdict::Store(results) => {
                let bytes: usize = results.iter().map(|stored| stored.payload.len()).sum();
                self.metrics.add(Counter::BytesOut, bytes as u64);
                self.metrics.add(Counter::Results, results.len() as u64);
                let time = waiting.taken_at.elapsed();
                self.recorder.record(Timer::Stage(Stage::Commit), time);
                let age = self.metrics.redis_clock.age_of(finished.receipt.id().millis);
                self.recorder.record(Timer::EndToEnd, age);
            }
            Verdict::DeadLetter(refused) => self.metrics.count_dead_letter(refused.reject.reason),
            Verdict::Discard(_) => {}
        }
        finished.receipt.close(outcome);
    }

    /// Ends a frame whose entry was not pending at commit.
    fn close_fenced(&self, waiting: Waiting) {
        if let Verdict::Discard(Discard::LostToTrim) = waiting.finished.verdict {
            return self.close(waiting);
        }
        let receipt = waiting.finished.receipt;
        let is_gone = receipt.is_gone();
        receipt.close(if is_gone { Outcome::LostWithGroup } else { Outcome::Superseded });
    }

    /// Ends the frames of the batch whose entries were lost with their group.
    pub(super) fn close_gone(&self, batch: &mut Vec<Waiting>) {
        // An unanswered attempt may have stored it before.
        let is_gone =
            |waiting: &Waiting| waiting.unanswered.is_none() && waiting.finished.receipt.is_gone();
        while let Some(at) = batch.iter().position(is_gone) {
            let waiting = batch.remove(at);
            match waiting.finished.verdict {
                Verdict::Discard(_) => self.close(waiting),
                _ => waiting.finished.receipt.close(Outcome::LostWithGroup),
            }
        }
    }

    fn note_refusal(&mut self, waiting: &Waiting, epoch: u64, message: String) {
        let code = error_code(&message);
        let shard = waiting.finished.shard;
        if self.ends_tenure(waiting, code) {
            self.trouble.has_to_wait = true;
            return;
        }
        // The frame before it was refused, and its own refusal gives the reason.
        if code == "ORDER" {
            self.trouble.has_to_wait = true;
            return;
        }
        if code == "NOGROUP" && !self.lost.iter().any(|(known, _)| *known == shard) {
            self.lost.push((shard, epoch));
        }
        let refusals = &mut self.trouble.refusals;
        if !refusals.iter().any(|(of, known)| *of == shard && error_code(known) == code) {
            refusals.push((shard, message));
        }
    }

    /// Does what a refusal needs before the next attempt.
    pub(super) fn refused(&mut self, shard: usize, message: String) -> Fault {
        match error_code(&message) {
            // Redis has lost the script, after a restart or SCRIPT FLUSH.
            "NOSCRIPT" => self.sinks.reload(),
            "OOM" => self.metrics.add(Counter::OutOfMemoryWaits, 1),
            "FULL" => {
                self.metrics.add(Counter::OutputFullWaits, 1);
                let output = &self.settings.plan.streams[shard].output;
                let length = message.trim_start_matches("FULL ");
                let limit = self.settings.plan.output_full_at;
                return Fault::Unusable(format!(
                    "the output stream {output} is full: {length} of {limit} entries"
                ));
            }
            // A lost group is restored before anything is sent again. A server that is not ready or
            // has been demoted is left.
            _ => {}
        }
        let endpoint = self.settings.topology.to_string();
        Fault::Refused { endpoint, command: "the commit", message }
    }

    /// The id last stored in the stream that this frame ends in.
    fn stored_before(&self, finished: &Finished) -> EntryId {
        let stored = &self.stored[finished.shard];
        match finished.verdict {
            Verdict::DeadLetter(_) => stored.dead_letter,
            Verdict::Store(_) | Verdict::Discard(_) => stored.result,
        }
    }

    fn note_stored(&mut self, finished: &Finished, id: Option<EntryId>) {
        let stored = &mut self.stored[finished.shard];
        let place = match finished.verdict {
            Verdict::DeadLetter(_) => &mut stored.dead_letter,
            Verdict::Store(_) | Verdict::Discard(_) => &mut stored.result,
        };
        // A stream that was created again may begin with lower ids.
        *place = id.unwrap_or(*place);
    }

    /// Warns the operator once that acknowledged entries cannot be deleted.
    fn warn_of_kept(&mut self) {
        self.metrics.add(Counter::DeletesRefused, 1);
        if !std::mem::replace(&mut self.has_warned_of_kept, true) {
            tracing::warn!(
                "the server refuses to delete acknowledged entries, as retention: delete demands: \
                 the input grows; give the account the right (+xdel), see `framepress check`"
            );
        }
    }
}
