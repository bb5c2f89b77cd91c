//! The receipt: the obligation to answer for one entry.
//!
//! Invariants:
//! 1. A receipt exists for exactly the entries counted as in flight.
//! 2. Only the committer closes a receipt, after Redis has confirmed. A receipt that is dropped
//!    instead counts as abandoned; its entry stays pending in Redis and is delivered again.
//! 3. An entry is in flight at most once per process: the journal refuses it a second time, so
//!    reading the pending list after a reconnect cannot double work that is still going on.
//! 4. What this process has ended lately is remembered: a copy from the pending list that was made
//!    before our acknowledgement arrived there is not processed again. One that was asked for only
//!    afterwards is: then Redis itself has gone back in time, as after a restart from a snapshot.
//! 5. While the commit of an entry is on its way, nobody here may make the entry pending again: it
//!    may be stored already.

use std::collections::{HashMap, VecDeque};
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

/// Entries remembered after their end. More than can end while the oldest one in flight waits:
/// that many slots no engine has.
const REMEMBERED: usize = 4096;

/// The entries of one stream that are in this process, or were a moment ago.
#[derive(Debug)]
pub struct Journal {
    book: Mutex<Book>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Book {
    in_flight: HashMap<EntryId, InFlight>,
    /// Ended with Redis' confirmation, in the order of their ends.
    ended: VecDeque<EntryId>,
    ended_at: HashMap<EntryId, Tick>,
    last_ended: EntryId,
}

#[derive(Debug)]
struct InFlight {
    /// Read, or renewed.
    since: Tick,
    /// Its commit is on its way.
    sent: bool,
}

impl Journal {
    /// An empty journal.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Journal> {
        let book = Book {
            in_flight: HashMap::with_capacity(512),
            ended: VecDeque::with_capacity(REMEMBERED),
            ended_at: HashMap::with_capacity(2 * REMEMBERED),
            last_ended: EntryId::default(),
        };
        Arc::new(Journal { book: Mutex::new(book), metrics })
    }

    /// Whether the entry is in this process already.
    pub fn holds(&self, id: EntryId) -> bool {
        self.book.lock().in_flight.contains_key(&id)
    }

    /// Takes responsibility for an entry that Redis was asked for at `asked_at`; `None` if this
    /// process has it already, or if this is a late copy of one that has ended.
    pub fn open(self: &Arc<Self>, id: EntryId, origin: Origin, asked_at: Tick) -> Option<Receipt> {
        let read_at = Tick::now();
        let mut book = self.book.lock();
        let late = origin != Origin::New
            && book.ended_at.get(&id).is_some_and(|ended_at| *ended_at >= asked_at);
        if late || book.in_flight.contains_key(&id) {
            return None;
        }
        book.in_flight.insert(id, InFlight { since: read_at, sent: false });
        drop(book);
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

    /// The entries that have been here for longer than `age`.
    pub fn renewable(&self, age: Duration) -> Vec<EntryId> {
        let book = self.book.lock();
        let old = book.in_flight.iter().filter(|(_, entry)| entry.since.elapsed() > age);
        old.map(|(id, _)| *id).collect()
    }

    /// The server counts these as delivered just now: their clocks start again.
    pub fn renewed(&self, ids: &[EntryId]) {
        let mut book = self.book.lock();
        for id in ids {
            if let Some(entry) = book.in_flight.get_mut(id) {
                entry.since = Tick::now();
            }
        }
    }

    /// The latest entry that this process has ended, or is about to: where a group that has
    /// disappeared is to begin again.
    pub fn place(&self) -> EntryId {
        let book = self.book.lock();
        let sent = book.in_flight.iter().filter(|(_, entry)| entry.sent).map(|(id, _)| *id);
        sent.fold(book.last_ended, EntryId::max)
    }

    /// The entries in this process up to `last` that are certainly not stored.
    pub fn held_up_to(&self, last: EntryId) -> Vec<EntryId> {
        let book = self.book.lock();
        let held = book.in_flight.iter().filter(|(id, entry)| **id <= last && !entry.sent);
        held.map(|(id, _)| *id).collect()
    }

    /// Notes whether the commit of an entry is on its way.
    fn set_sent(&self, id: EntryId, sent: bool) {
        if let Some(entry) = self.book.lock().in_flight.get_mut(&id) {
            entry.sent = sent;
        }
    }

    /// Entries in this process.
    pub fn len(&self) -> usize {
        self.book.lock().in_flight.len()
    }

    /// Whether this process holds nothing of the stream.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn end(&self, id: EntryId, outcome: Outcome) {
        let mut book = self.book.lock();
        book.in_flight.remove(&id);
        match outcome {
            // Not ended by us: it may come again and be ours.
            Outcome::Abandoned | Outcome::Superseded => {}
            Outcome::Out
            | Outcome::Rejected
            | Outcome::DeadLettered
            | Outcome::Shed
            | Outcome::LostToTrim => {
                book.last_ended = book.last_ended.max(id);
                if book.ended.len() == REMEMBERED
                    && let Some(oldest) = book.ended.pop_front()
                {
                    book.ended_at.remove(&oldest);
                }
                if book.ended_at.insert(id, Tick::now()).is_none() {
                    book.ended.push_back(id);
                }
            }
        }
        drop(book);
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

    /// The entry's commit is on its way, or was refused and is not any more.
    pub fn set_sent(&self, sent: bool) {
        self.journal.set_sent(self.id, sent);
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

    const ID: EntryId = EntryId { millis: 5, sequence: 0 };
    const AGAIN: Origin = Origin::Again { deliveries: 2 };

    #[test]
    fn a_dropped_receipt_is_counted_and_the_entry_can_be_taken_again() {
        let metrics = Metrics::new();
        let journal = Journal::new(Arc::clone(&metrics));
        let receipt = journal.open(ID, Origin::New, Tick::now()).unwrap();
        assert!(journal.open(ID, AGAIN, Tick::now()).is_none(), "held already");
        drop(receipt);
        let sum = metrics.ledger.read();
        assert_eq!((sum.abandoned, sum.in_flight, sum.balanced), (1, 0, true));
        journal.open(ID, AGAIN, Tick::now()).unwrap().close(Outcome::Out);
        assert_eq!(metrics.ledger.read().out, 1);
        assert!(journal.is_empty());
    }

    #[test]
    fn a_late_copy_of_what_has_ended_is_not_taken() {
        let journal = Journal::new(Metrics::new());
        let asked_at = Tick::now();
        journal.open(ID, Origin::New, asked_at).unwrap().close(Outcome::Out);
        assert!(journal.open(ID, AGAIN, asked_at).is_none());
        assert!(journal.open(ID, Origin::New, asked_at).is_some(), "somebody moved the group back");
    }

    #[test]
    fn what_is_pending_after_we_have_ended_it_is_taken_once_more() {
        let journal = Journal::new(Metrics::new());
        journal.open(ID, Origin::New, Tick::now()).unwrap().close(Outcome::Out);
        let asked_at = Tick::now().after(Duration::from_nanos(1));
        assert!(journal.open(ID, AGAIN, asked_at).is_some(), "Redis has lost our commit");
    }

    #[test]
    fn what_somebody_else_has_ended_does_not_count_as_our_place() {
        let journal = Journal::new(Metrics::new());
        let later = EntryId { millis: 9, sequence: 1 };
        let receipt = journal.open(ID, Origin::New, Tick::now()).unwrap();
        journal.open(later, Origin::New, Tick::now()).unwrap().close(Outcome::Out);
        assert_eq!((journal.place(), journal.held_up_to(later)), (later, vec![ID]));
        receipt.close(Outcome::Superseded);
        assert_eq!(journal.held_up_to(later), []);
    }

    #[test]
    fn what_is_on_its_way_is_our_place_and_not_to_be_made_pending() {
        let journal = Journal::new(Metrics::new());
        let receipt = journal.open(ID, Origin::New, Tick::now()).unwrap();
        receipt.set_sent(true);
        assert_eq!((journal.place(), journal.held_up_to(ID)), (ID, vec![]));
        receipt.set_sent(false);
        assert_eq!((journal.place(), journal.held_up_to(ID)), (EntryId::default(), vec![ID]));
        drop(receipt);
    }
}
