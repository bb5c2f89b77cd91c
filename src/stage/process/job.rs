//! A frame, and all that a worker needs to process it.

use std::sync::Arc;

use super::cameras::Ordered;
use super::work::Work;
use crate::frame::{Entry, Receipt, Slot};

/// One frame to be processed.
pub(super) struct Job {
    pub(super) receipt: Receipt,
    pub(super) entry: Entry,
    /// The index of its input stream.
    pub(super) shard: usize,
    pub(super) ordered: Arc<Ordered>,
    pub(super) ticket: u64,
    pub(super) slot: Slot<Work>,
}
