//! The receipt: the obligation to answer for one entry. Only the committer closes it, after Redis
//! has confirmed. A receipt that is dropped instead counts as abandoned; its entry stays pending in
//! Redis and is delivered again. The [`Journal`] lists the entries of this process.

use std::sync::Arc;

use super::Journal;
use crate::frame::EntryId;
use crate::metrics::Outcome;
use crate::metrics::clock::{Tick, unix_seconds};

/// How an entry came to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryOrigin {
    /// Delivered for the first time.
    New,
    /// From this consumer's pending entries list, or claimed from another consumer.
    Again {
        /// Attempts at it, including the one that begins.
        deliveries: u32,
        /// Whether the server's delivery count includes this attempt.
        is_counted: bool,
    },
    /// This process has ended it, and a restored group has delivered it again.
    Repeated,
}

impl EntryOrigin {
    /// Attempts so far, including this one.
    pub fn deliveries(self) -> u32 {
        match self {
            EntryOrigin::New | EntryOrigin::Repeated => 1,
            EntryOrigin::Again { deliveries, .. } => deliveries,
        }
    }
}

/// The obligation to answer for one entry. It is not `Clone` and must not be dropped; see the head
/// of this file.
#[derive(Debug)]
#[must_use = "a receipt that is dropped leaves its entry pending"]
pub struct Receipt {
    id: EntryId,
    origin: EntryOrigin,
    read_at: Tick,
    read_unix_seconds: f64,
    tenure: u64,
    journal: Arc<Journal>,
    closed: bool,
}

impl Receipt {
    /// The receipt of an entry that the journal has just added.
    pub(super) fn new(
        id: EntryId,
        origin: EntryOrigin,
        read_at: Tick,
        tenure: u64,
        journal: Arc<Journal>,
    ) -> Receipt {
        let read_unix_seconds = unix_seconds();
        Receipt { id, origin, read_at, read_unix_seconds, tenure, journal, closed: false }
    }

    /// The id of the entry.
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// How the entry came to this process.
    pub fn origin(&self) -> EntryOrigin {
        self.origin
    }

    /// When it was read.
    pub fn read_at(&self) -> Tick {
        self.read_at
    }

    /// When it was read, in seconds since the Unix epoch.
    pub fn read_unix_seconds(&self) -> f64 {
        self.read_unix_seconds
    }

    /// The epoch of the lease under which it was read; 0 if streams are shared.
    pub fn tenure(&self) -> u64 {
        self.tenure
    }

    /// Whether the entry was lost with its group.
    pub fn is_gone(&self) -> bool {
        self.journal.is_gone(self.id)
    }

    /// Ends the obligation. Only the committer calls it, once Redis has confirmed.
    pub fn close(mut self, outcome: Outcome) {
        self.closed = true;
        self.journal.end(self.id, self.origin, outcome);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.closed {
            self.journal.end(self.id, self.origin, Outcome::Abandoned);
        }
    }
}
