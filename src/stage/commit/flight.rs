//! What is in flight to Redis: batches of frames, and the task for each frame.

use smallvec::SmallVec;

use super::CommitSettings;
use crate::base::limits;
use crate::frame::{Discard, EntryId, Finished, Verdict};
use crate::metrics::Outcome;
use crate::metrics::clock::Tick;
use crate::redis::{Action, CommitAnswer, Sent, Task};
use crate::stage::group::Held;

pub(super) type Tasks<'a> = SmallVec<[Task<'a>; limits::COMMIT_BATCH_FRAMES]>;

/// The shards of a batch, in order.
pub(super) type Shards = SmallVec<[usize; 8]>;

/// A frame that the committer has taken on.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Its position in the order in which frames were taken on.
    pub(super) number: u64,
    pub(super) finished: Finished,
    /// When the committer took it on.
    pub(super) taken_at: Tick,
    /// Written to its dead letter. It is the same at every attempt, so that an earlier one is
    /// recognised.
    pub(super) failed_at: f64,
    /// The first attempt that was sent and never answered: the last stored id before it, and the
    /// epoch of the journal. The answer to a later attempt says nothing about this one.
    pub(super) unanswered: Option<(EntryId, u64)>,
}

impl Waiting {
    /// Bytes of its results.
    pub(super) fn bytes(&self) -> usize {
        match &self.finished.verdict {
            Verdict::Store(results) => results.iter().map(|stored| stored.payload.len()).sum(),
            Verdict::DeadLetter(refused) => refused.whole.as_ref().map_or(0, |whole| whole.len()),
            Verdict::Discard(_) => 0,
        }
    }

    /// The camera and shard within which order is kept.
    pub(super) fn line(&self) -> Option<(u64, usize)> {
        self.finished.camera.map(|camera| (camera, self.finished.shard))
    }

    pub(super) fn id(&self) -> EntryId {
        self.finished.receipt.id()
    }

    /// What Redis is to do with it.
    pub(super) fn action(&self, settings: &CommitSettings) -> Action<'_> {
        match &self.finished.verdict {
            Verdict::Store(results) => Action::Store { results },
            Verdict::DeadLetter(refused) if settings.dead_letters => Action::DeadLetter {
                refused,
                deliveries: self.finished.receipt.origin().deliveries(),
                failed_at: self.failed_at,
            },
            Verdict::DeadLetter(_) | Verdict::Discard(_) => Action::Drop,
        }
    }

    /// Its outcome once its task is done.
    pub(super) fn outcome(&self, settings: &CommitSettings) -> Outcome {
        match &self.finished.verdict {
            Verdict::Store(_) => Outcome::Out,
            Verdict::DeadLetter(_) if settings.dead_letters => Outcome::DeadLettered,
            Verdict::DeadLetter(_) | Verdict::Discard(Discard::BelowThreshold) => Outcome::Rejected,
            Verdict::Discard(Discard::Shed(_)) => Outcome::Shed,
            Verdict::Discard(Discard::LostToTrim) => Outcome::LostToTrim,
            Verdict::Discard(Discard::Overwritten) => Outcome::Overwritten,
            Verdict::Discard(Discard::Repeated) => Outcome::Superseded,
        }
    }
}

/// A batch that was sent and is not answered yet.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) frames: Vec<Waiting>,
    /// One for each frame, or fewer if the last frames were not sent.
    pub(super) answers: Vec<CommitAnswer>,
    pub(super) sent: Sent,
    pub(super) sent_at: Tick,
    /// The right to commit to its shards.
    pub(super) held: Held,
    /// Bytes of its results.
    pub(super) bytes: usize,
}

/// The shards of a batch, each once.
pub(super) fn shards_of(batch: &[Waiting]) -> Shards {
    let mut shards: Shards = batch.iter().map(|waiting| waiting.finished.shard).collect();
    shards.sort_unstable();
    shards.dedup();
    shards
}
