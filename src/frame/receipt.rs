//! The receipt: the obligation to answer for one entry.
//!
//! Invariants:
//! 1. A receipt exists for exactly the entries counted as in flight.
//! 2. Only the committer closes a receipt, after Redis has confirmed. A receipt that is dropped
//!    instead counts as abandoned; its entry stays pending in Redis and is delivered again.
//! 3. An entry is in flight at most once per process: the journal refuses it a second time, so
//!    reading the pending list after a reconnect cannot double work that is still going on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::EntryId;
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Metrics, Outcome};

/// How an entry came to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Delivered for the first time.
    New,
    /// From this consumer's own pending list, or taken over from another consumer.
    Again {
        /// Deliveries so far, by the server's count.
        deliveries: u32,
    },
}

impl Origin {
    /// Deliveries so far, this one included.
    pub fn deliveries(self) -> u32 {
        match self {
            Origin::New => 1,
            Origin::Again { deliveries } => deliveries,
        }
    }
}

/// The entries of one stream that are in this process.
#[derive(Debug)]
pub struct Journal {
    in_flight: Mutex<HashMap<EntryId, Tick>>,
    /// The latest entry that this process has seen acknowledged.
    last_ended: Mutex<EntryId>,
    metrics: Arc<Metrics>,
}

impl Journal {
    /// An empty journal.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Journal> {
        Arc::new(Journal {
            in_flight: Mutex::new(HashMap::with_capacity(256)),
            last_ended: Mutex::new(EntryId::default()),
            metrics,
        })
    }

    /// Whether the entry is in this process already.
    pub fn holds(&self, id: EntryId) -> bool {
        self.in_flight.lock().contains_key(&id)
    }

    /// Takes responsibility for an entry; `None` if this process has it already.
    pub fn open(self: &Arc<Self>, id: EntryId, origin: Origin) -> Option<Receipt> {
        let read_at = Tick::now();
        let mut in_flight = self.in_flight.lock();
        if in_flight.contains_key(&id) {
            return None;
        }
        in_flight.insert(id, read_at);
        drop(in_flight);
        self.metrics.ledger.open();
        Some(Receipt {
            id,
            origin,
            read_at,
            read_unix_seconds: unix_seconds(),
            journal: Arc::clone(self),
            closed: false,
        })
    }

    /// The entries that have been here for longer than `age`; their clocks start again.
    pub fn renewable(&self, age: Duration) -> Vec<EntryId> {
        let mut in_flight = self.in_flight.lock();
        let mut old = Vec::new();
        for (id, since) in in_flight.iter_mut() {
            if since.elapsed() > age {
                *since = Tick::now();
                old.push(*id);
            }
        }
        old
    }

    /// The latest entry that this process has seen acknowledged: where a group that has
    /// disappeared is to begin again.
    pub fn last_ended(&self) -> EntryId {
        *self.last_ended.lock()
    }

    /// The entries in this process up to `last`.
    pub fn held_up_to(&self, last: EntryId) -> Vec<EntryId> {
        self.in_flight.lock().keys().copied().filter(|id| *id <= last).collect()
    }

    /// Entries in this process.
    pub fn len(&self) -> usize {
        self.in_flight.lock().len()
    }

    /// Whether this process holds nothing of the stream.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn end(&self, id: EntryId, outcome: Outcome) {
        self.in_flight.lock().remove(&id);
        if outcome != Outcome::Abandoned {
            let mut last_ended = self.last_ended.lock();
            *last_ended = (*last_ended).max(id);
        }
        self.metrics.ledger.close(outcome);
    }
}

/// The obligation to answer for one entry. Neither `Clone` nor to be dropped: see the head of
/// this file.
#[derive(Debug)]
#[must_use = "a receipt that is dropped leaves its entry pending"]
pub struct Receipt {
    id: EntryId,
    origin: Origin,
    read_at: Tick,
    read_unix_seconds: f64,
    journal: Arc<Journal>,
    closed: bool,
}

impl Receipt {
    /// The entry concerned.
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// How it came here.
    pub fn origin(&self) -> Origin {
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

    /// Ends the obligation. To be called by the committer alone, once Redis has confirmed.
    pub fn close(mut self, outcome: Outcome) {
        self.closed = true;
        self.journal.end(self.id, outcome);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.closed {
            self.journal.end(self.id, Outcome::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_receipt_is_counted_and_the_entry_can_be_taken_again() {
        let metrics = Metrics::new();
        let journal = Journal::new(Arc::clone(&metrics));
        let id = EntryId { millis: 5, sequence: 0 };
        let receipt = journal.open(id, Origin::New).unwrap();
        assert!(journal.open(id, Origin::Again { deliveries: 2 }).is_none(), "held already");
        drop(receipt);
        let sum = metrics.ledger.read();
        assert_eq!((sum.abandoned, sum.in_flight, sum.balanced), (1, 0, true));
        journal.open(id, Origin::Again { deliveries: 2 }).unwrap().close(Outcome::Out);
        assert_eq!(metrics.ledger.read().out, 1);
        assert!(journal.is_empty());
    }
}
