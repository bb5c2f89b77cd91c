//! The settings that all commits share.

use crate::redis::topology::Streams;

/// What the commit script does with an entry that is not pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It does nothing: the pending entry is the fence, and repeating a commit is harmless.
    ExactlyOnce,
    /// It stores the result anyway, so an entry that two engines have may get two results.
    AtLeastOnce,
}

/// What happens to an input entry after its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retention {
    /// It stays until another program trims the stream.
    Keep,
    /// It is deleted in the same step.
    Delete,
    /// It stays until the watcher trims the stream up to what every consumer group has acknowledged.
    TrimAcked,
}

/// The settings that all commits share.
#[derive(Clone, Debug)]
pub struct CommitPlan {
    /// The streams of each shard.
    pub streams: Vec<Streams>,
    /// The consumer group.
    pub group: String,
    /// Approximate length limit of an output stream; 0 for none.
    pub output_length_max: u64,
    /// Length of an output stream from which on nothing is stored in it; 0 for none.
    pub output_full_at: u64,
    /// Approximate length limit of a dead-letter stream.
    pub dead_letter_length_max: u64,
    /// See [`Delivery`].
    pub delivery: Delivery,
    /// See [`Retention`].
    pub retention: Retention,
    /// Number of replicas that must have a batch before it counts as committed; 0 does not wait.
    pub wait_replicas: u32,
}
