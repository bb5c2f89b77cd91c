//! The journal: the entries of one stream that are in this process, each with a receipt.
//!
//! Invariants:
//! 1. A receipt exists for exactly the entries counted as in flight, and for repeated ones, which
//!    are not counted.
//! 2. Only the committer closes a receipt, after Redis has confirmed. A receipt that is dropped
//!    instead counts as abandoned; its entry stays pending in Redis and is delivered again.
//! 3. An entry is in flight at most once per process: the journal refuses it a second time. So
//!    reading the pending list after a reconnect cannot duplicate work in progress.
//! 4. The journal remembers which entries this process has ended recently. A copy from the pending
//!    list that was requested before an entry ended is not processed again. A copy that was
//!    requested afterwards is processed: Redis itself has lost the acknowledgement, for example by
//!    a restart from a snapshot.
//! 5. When the group is lost, the journal alone says what is in work. [`Journal::begin_recovery`]
//!    takes that list and invalidates every open connection in one step. So the old group cannot
//!    give this process an entry that is missing from the list.
//! 6. Every entry after [`Recovery::start`] that was given to this process is in flight, has ended,
//!    or will be delivered again. If it has ended, it is repeated: it is acknowledged and not
//!    processed.

mod receipt;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use receipt::{EntryOrigin, Receipt};

use super::EntryId;
use crate::metrics::clock::Tick;
use crate::metrics::{Metrics, Outcome};

/// Entries remembered after their end. This is more than can end while the oldest one in flight
/// waits, because no engine has so many slots, and more than one reader ends while another
/// reconnects.
const REMEMBERED: usize = 4096;

/// The entries of one stream that are in this process or were recently.
#[derive(Debug)]
pub struct Journal {
    book: Mutex<Book>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Book {
    /// How often the consumer group was lost.
    epoch: u64,
    /// The epoch of the lease of the stream; 0 without one.
    tenure: u64,
    in_flight: HashMap<EntryId, InFlight>,
    /// Ended with Redis' confirmation, in the order in which they ended.
    ended: VecDeque<EntryId>,
    ended_at: HashMap<EntryId, Tick>,
    /// The last entry that the group has delivered.
    reached: EntryId,
    /// By reader, an entry before all new ones that the group may have delivered to it and it has
    /// not opened yet.
    asked_after: Vec<EntryId>,
    /// By reader, the entries in its pending list that it has not opened yet, as far as known.
    left: Vec<HashSet<EntryId>>,
    /// Entries up to this one are delivered again because the group was restored before them.
    repeated_up_to: EntryId,
}

#[derive(Debug)]
struct InFlight {
    /// When it was read or last renewed.
    since: Tick,
    /// The group was lost, and the entry was not in the stream when it was restored.
    is_gone: bool,
}

/// The state of the journal when a connection was opened, and when an answer was requested.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// [`Journal::epoch`] when the connection was opened.
    pub epoch: u64,
    /// The epoch of the lease under which it reads; 0 if streams are shared.
    pub tenure: u64,
    /// When the request was sent, or an earlier time.
    pub asked_at: Tick,
}

/// The journal's answer for an entry that was read.
#[derive(Debug)]
pub enum Opened {
    /// It is in flight.
    Taken(Receipt),
    /// It is in this process already, or this is a late copy of an entry that has ended.
    Known,
    /// The answer is void: the group or the lease was lost after the connection was opened.
    Void,
}

/// What is needed to restore a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The group goes on after this entry and will deliver every later one.
    pub start: EntryId,
    /// The entries in flight, and those still to be read from a pending list, the oldest first.
    pub held: Vec<EntryId>,
    /// The entries after `start` that this process has ended, as far as it remembers them.
    pub ended: Vec<EntryId>,
}

impl Journal {
    /// An empty journal for a stream with this many readers.
    pub fn new(readers: usize, metrics: Arc<Metrics>) -> Arc<Journal> {
        let book = Book {
            epoch: 0,
            tenure: 0,
            in_flight: HashMap::with_capacity(512),
            ended: VecDeque::with_capacity(REMEMBERED),
            ended_at: HashMap::with_capacity(2 * REMEMBERED),
            reached: EntryId::default(),
            asked_after: vec![EntryId::default(); readers],
            left: vec![HashSet::new(); readers],
            repeated_up_to: EntryId::default(),
        };
        Arc::new(Journal { book: Mutex::new(book), metrics })
    }

    /// Whether the entry is in this process already.
    pub fn holds(&self, id: EntryId) -> bool {
        self.book.lock().in_flight.contains_key(&id)
    }

    /// How often the consumer group was lost.
    pub fn epoch(&self) -> u64 {
        self.book.lock().epoch
    }

    /// The last entry that the group has delivered, as far as this process knows.
    pub fn reached(&self) -> EntryId {
        self.book.lock().reached
    }

    /// Sets the position of the group, at the start or after a recovery: it will deliver everything
    /// after `last_delivered`.
    pub fn begin(&self, last_delivered: EntryId) {
        let mut book = self.book.lock();
        // A stream that was created again begins with lower ids, and none of its entries is
        // repeated.
        if last_delivered < book.asked_after.iter().copied().min().unwrap_or_default() {
            book.repeated_up_to = EntryId::default();
            book.left.iter_mut().for_each(HashSet::clear);
        }
        book.reached = last_delivered;
        book.asked_after.fill(last_delivered);
    }

    /// Notes that these entries are in the pending list of `reader` and not opened yet.
    pub fn leave(&self, reader: usize, ids: impl IntoIterator<Item = EntryId>) {
        let mut book = self.book.lock();
        let Book { left, in_flight, .. } = &mut *book;
        if let Some(left) = left.get_mut(reader) {
            left.extend(ids.into_iter().filter(|id| !in_flight.contains_key(id)));
        }
    }

    /// Notes that the group of `epoch` has delivered everything up to `id`, to any engine.
    pub fn reach(&self, epoch: u64, id: EntryId) {
        let mut book = self.book.lock();
        if book.epoch == epoch {
            book.reached = book.reached.max(id);
        }
    }

    /// Notes that `reader`, on a connection of `epoch`, has opened everything in its pending list.
    pub fn found_left(&self, epoch: u64, reader: usize) {
        let mut book = self.book.lock();
        if book.epoch == epoch
            && let Some(left) = book.left.get_mut(reader)
        {
            left.clear();
        }
    }

    /// Notes that `reader` is about to ask for new entries. Without `opened`, it has opened all
    /// that it was given before. With `opened`, it has opened everything up to that entry and has
    /// other requests outstanding. A connection of another epoch is ignored.
    pub fn ask(&self, epoch: u64, reader: usize, opened: Option<EntryId>) {
        let mut book = self.book.lock();
        if book.epoch != epoch {
            return;
        }
        let reached = book.reached;
        if let Some(after) = book.asked_after.get_mut(reader) {
            *after = opened.map_or(reached, |opened| opened.max(*after));
        }
        if book.asked_after.iter().all(|after| *after >= book.repeated_up_to) {
            book.repeated_up_to = EntryId::default();
        }
    }

    /// Takes responsibility for an entry that was read.
    pub fn open(self: &Arc<Self>, id: EntryId, origin: EntryOrigin, session: Session) -> Opened {
        let read_at = Tick::now();
        let mut book = self.book.lock();
        if session.epoch != book.epoch || session.tenure != book.tenure {
            return Opened::Void;
        }
        let ended_at = book.ended_at.get(&id);
        let late = ended_at.is_some_and(|ended_at| *ended_at >= session.asked_at);
        if (origin != EntryOrigin::New && late) || book.in_flight.contains_key(&id) {
            return Opened::Known;
        }
        let is_repeated = ended_at.is_some() && id <= book.repeated_up_to;
        // This includes entries from a pending list: if such an entry ends and the group is lost
        // before anything new is read, the restored group delivers it again.
        book.reached = book.reached.max(id);
        book.left.iter_mut().for_each(|left| {
            left.remove(&id);
        });
        book.in_flight.insert(id, InFlight { since: read_at, is_gone: false });
        drop(book);
        let origin = if is_repeated { EntryOrigin::Repeated } else { origin };
        if !is_repeated {
            self.metrics.ledger.open();
        }
        Opened::Taken(Receipt::new(id, origin, read_at, session.tenure, Arc::clone(self)))
    }

    /// Notes that the group was lost: invalidates every open connection, and returns what the
    /// caller needs to restore the group.
    pub fn begin_recovery(&self) -> Recovery {
        let mut book = self.book.lock();
        book.epoch += 1;
        book.repeated_up_to = book.repeated_up_to.max(book.reached);
        let start = book.asked_after.iter().copied().min().unwrap_or_default();
        let left = book.left.iter().flatten();
        let mut held: Vec<EntryId> = book.in_flight.keys().chain(left).copied().collect();
        held.sort_unstable();
        held.dedup();
        let ended = book.ended_at.keys().copied().filter(|id| *id > start).collect();
        Recovery { start, held, ended }
    }

    /// Begins to read under a lease. `is_known` says that no other engine has held the stream since
    /// this one did. Otherwise everything remembered about ended and delivered entries is dropped.
    /// No entry may be in flight.
    pub fn begin_tenure(&self, tenure: u64, is_known: bool) {
        let mut book = self.book.lock();
        book.tenure = tenure;
        if !is_known {
            book.ended.clear();
            book.ended_at.clear();
            book.left.iter_mut().for_each(HashSet::clear);
            book.repeated_up_to = EntryId::default();
        }
    }

    /// Notes that the lease of this epoch is lost: entries that were read and not opened are void.
    pub fn end_tenure(&self, tenure: u64) {
        let mut book = self.book.lock();
        if book.tenure == tenure {
            book.tenure = 0;
        }
    }

    /// Notes that the group was not lost, so what it delivers again has not ended there.
    pub fn nothing_is_repeated(&self) {
        self.book.lock().repeated_up_to = EntryId::default();
    }

    /// An entry up to which all entries have ended.
    pub fn ended_up_to(&self) -> EntryId {
        let book = self.book.lock();
        let opened = book.asked_after.iter().copied().min().unwrap_or_default();
        let open = book.in_flight.keys().chain(book.left.iter().flatten()).min();
        open.map_or(opened, |oldest| oldest.before().min(opened))
    }

    /// Notes that these entries were not in the stream when their group was restored.
    pub fn set_gone(&self, ids: &[EntryId]) {
        let mut book = self.book.lock();
        for id in ids {
            if let Some(entry) = book.in_flight.get_mut(id) {
                entry.is_gone = true;
            }
        }
    }

    /// The entries that have been in this process for longer than `age` since they were read or
    /// renewed.
    pub fn renewable(&self, age: Duration) -> Vec<EntryId> {
        let book = self.book.lock();
        let old = book.in_flight.iter().filter(|(_, entry)| entry.since.elapsed() > age);
        old.map(|(id, _)| *id).collect()
    }

    /// Notes that the server counts these as just delivered: their times start again.
    pub fn renewed(&self, ids: &[EntryId]) {
        let mut book = self.book.lock();
        for id in ids {
            if let Some(entry) = book.in_flight.get_mut(id) {
                entry.since = Tick::now();
            }
        }
    }

    /// The oldest entry in this process.
    pub fn oldest(&self) -> Option<EntryId> {
        self.book.lock().in_flight.keys().min().copied()
    }

    /// Entries in this process.
    pub fn len(&self) -> usize {
        self.book.lock().in_flight.len()
    }

    /// Whether no entry of the stream is in this process.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the entry was lost with its group.
    pub(super) fn is_gone(&self, id: EntryId) -> bool {
        self.book.lock().in_flight.get(&id).is_some_and(|entry| entry.is_gone)
    }

    /// Removes an entry from this process.
    pub(super) fn end(&self, id: EntryId, origin: EntryOrigin, outcome: Outcome) {
        let mut book = self.book.lock();
        book.in_flight.remove(&id);
        match outcome {
            // Its connection was lost while it was read, so one of the readers will read it again.
            Outcome::Abandoned | Outcome::HandedOver => book.left.iter_mut().for_each(|left| {
                left.insert(id);
            }),
            Outcome::LostWithGroup => {}
            Outcome::Out
            | Outcome::Superseded
            | Outcome::Rejected
            | Outcome::DeadLettered
            | Outcome::Shed
            | Outcome::LostToTrim
            | Outcome::Overwritten => {
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
        if origin != EntryOrigin::Repeated {
            self.metrics.ledger.close(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EntryId = EntryId { millis: 5, sequence: 0 };
    const LATER: EntryId = EntryId { millis: 9, sequence: 1 };
    const AGAIN: EntryOrigin = EntryOrigin::Again { deliveries: 2, is_counted: true };

    fn journal() -> Arc<Journal> {
        Journal::new(1, Metrics::new())
    }

    fn session(journal: &Journal) -> Session {
        Session { epoch: journal.epoch(), tenure: 0, asked_at: Tick::now() }
    }

    fn take(journal: &Arc<Journal>, id: EntryId, origin: EntryOrigin) -> Receipt {
        match journal.open(id, origin, session(journal)) {
            Opened::Taken(receipt) => receipt,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_dropped_receipt_is_counted_and_the_entry_can_be_taken_again() {
        let metrics = Metrics::new();
        let journal = Journal::new(1, Arc::clone(&metrics));
        let receipt = take(&journal, ID, EntryOrigin::New);
        let second = journal.open(ID, AGAIN, session(&journal));
        assert!(matches!(second, Opened::Known), "held already");
        drop(receipt);
        let sum = metrics.ledger.read();
        assert_eq!((sum.abandoned, sum.in_flight, sum.balanced), (1, 0, true));
        take(&journal, ID, AGAIN).close(Outcome::Out);
        assert_eq!(metrics.ledger.read().out, 1);
        assert!(journal.is_empty());
    }

    #[test]
    fn a_late_copy_of_what_has_ended_is_not_taken() {
        let journal = journal();
        let asked = session(&journal);
        take(&journal, ID, EntryOrigin::New).close(Outcome::Out);
        assert!(matches!(journal.open(ID, AGAIN, asked), Opened::Known));
        let again = journal.open(ID, EntryOrigin::New, asked);
        assert!(matches!(again, Opened::Taken(_)), "an operator moved the group back");
    }

    #[test]
    fn what_is_pending_after_we_have_ended_it_is_taken_once_more() {
        let journal = journal();
        take(&journal, ID, EntryOrigin::New).close(Outcome::Out);
        let asked_at = Tick::now().after(Duration::from_nanos(1));
        let again = journal.open(ID, AGAIN, Session { epoch: 0, tenure: 0, asked_at });
        assert!(matches!(again, Opened::Taken(_)), "Redis has lost our commit");
    }

    #[test]
    fn a_recovery_lists_what_is_held_and_makes_open_connections_void() {
        let journal = journal();
        journal.begin(ID);
        journal.ask(journal.epoch(), 0, None);
        let before = session(&journal);
        let receipts = [LATER, ID].map(|id| take(&journal, id, EntryOrigin::New));
        let recovery = journal.begin_recovery();
        assert_eq!(recovery, Recovery { start: ID, held: vec![ID, LATER], ended: Vec::new() });
        let unread = EntryId { millis: 10, sequence: 0 };
        assert!(matches!(journal.open(unread, EntryOrigin::New, before), Opened::Void));
        drop(receipts);
    }

    #[test]
    fn a_group_is_restored_before_everything_that_a_reader_may_have_in_hand() {
        let journal = Journal::new(2, Metrics::new());
        journal.begin(ID);
        journal.ask(journal.epoch(), 0, None); // its answer is not read yet
        take(&journal, LATER, EntryOrigin::New).close(Outcome::Out);
        journal.ask(journal.epoch(), 1, None);
        assert_eq!(journal.begin_recovery().start, ID);
        // It asks for more before it has read the last entry of its answer.
        journal.ask(journal.epoch(), 0, Some(EntryId::default()));
        assert_eq!(journal.begin_recovery().start, ID);
    }

    #[test]
    fn of_a_stream_made_anew_nothing_has_been_read() {
        let journal = journal();
        take(&journal, LATER, EntryOrigin::New).close(Outcome::Out);
        journal.ask(journal.epoch(), 0, None);
        let recovery = journal.begin_recovery();
        assert_eq!(recovery.start, LATER);
        journal.begin(EntryId::default());
        let again = take(&journal, LATER, EntryOrigin::New);
        assert_eq!(again.origin(), EntryOrigin::New, "an entry with the same id is another one");
        again.close(Outcome::Out);
        journal.ask(journal.epoch(), 0, Some(ID));
        assert_eq!(journal.begin_recovery().start, ID);
    }

    #[test]
    fn what_a_former_process_left_is_made_pending_until_it_has_been_read() {
        let journal = Journal::new(2, Metrics::new());
        journal.begin(LATER);
        journal.leave(0, [ID]);
        let recovery = Recovery { start: LATER, held: vec![ID], ended: Vec::new() };
        assert_eq!(journal.begin_recovery(), recovery);
        take(&journal, ID, AGAIN).close(Outcome::Out);
        assert_eq!(journal.begin_recovery().held, [], "it has ended");
        journal.leave(1, [ID]);
        journal.found_left(journal.epoch(), 1);
        assert_eq!(journal.begin_recovery().held, []);
    }

    #[test]
    fn what_was_given_up_is_made_pending_until_it_has_been_read_again() {
        let journal = journal();
        drop(take(&journal, ID, EntryOrigin::New));
        assert_eq!(journal.begin_recovery().held, [ID]);
        take(&journal, ID, AGAIN).close(Outcome::Out);
        assert_eq!(journal.begin_recovery().held, []);
    }

    #[test]
    fn what_a_restored_group_repeats_is_counted_nowhere() {
        let metrics = Metrics::new();
        let journal = Journal::new(1, Arc::clone(&metrics));
        take(&journal, ID, EntryOrigin::New).close(Outcome::Out);
        journal.begin_recovery();
        let repeated = take(&journal, ID, EntryOrigin::New);
        assert_eq!(repeated.origin(), EntryOrigin::Repeated);
        repeated.close(Outcome::Superseded);
        let sum = metrics.ledger.read();
        assert_eq!((sum.read, sum.out, sum.superseded, sum.balanced), (1, 1, 0, true));
        take(&journal, LATER, EntryOrigin::New).close(Outcome::Out);
        journal.ask(journal.epoch(), 0, None);
        let again = take(&journal, ID, EntryOrigin::New);
        assert_eq!(again.origin(), EntryOrigin::New, "an operator moved the group back");
        again.close(Outcome::Out);
    }
}
