//! What this engine knows of its leases, shared by the keeper, the readers and the committers.
//!
//! Invariants:
//! 1. A reader takes a lease and gives it back; the keeper renews it; each of them can end it. Ends
//!    and renewals name the epoch they mean, so that a late one has no effect.
//! 2. Time is counted on this process's own clock from before the request is sent. The server
//!    starts counting later. So the lease ends here before it ends there, whatever the server's
//!    clock says.
//! 3. A lease lasts no longer than the connections on which its reader reads and its committers
//!    have committed under it. A server that takes over after a failover may lack recent
//!    acknowledgements. Frames in hand then must not be stored before they are delivered again.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Metrics};
use crate::redis::{Handover, LeaseAsk, LeaseState, LeaseTerms, Tenure};

/// A lease lasts for at least this many round trips, enough to take it, find the group and renew
/// it.
const TRIPS_MIN: u32 = 10;

/// Reading stops after three quarters of a lease, so that what was read can be committed in time.
const READING_QUARTERS: u32 = 3;

/// Longer takeovers are not recorded: no engine was running in between.
const TAKEOVER_MAX: Duration = Duration::from_secs(600);

/// The leases of the streams of this engine.
#[derive(Debug)]
pub struct Leases {
    terms: LeaseTerms,
    /// The key of the lease, by shard.
    keys: Vec<String>,
    cells: Vec<(Mutex<Cell>, Condvar)>,
    /// The engines that were present at the last look.
    present: Mutex<Vec<String>>,
    /// Why the keeper cannot reach Redis; `None` while it can.
    trouble: Mutex<Option<String>>,
    metrics: Arc<Metrics>,
}

/// One lease.
#[derive(Debug, Default)]
struct Cell {
    /// Whether this engine is to hold the stream.
    is_wanted: bool,
    /// When the lease may become free; `None` while that is not known.
    free_from: Option<Tick>,
    /// The highest epoch seen.
    known: u64,
    /// The epoch in which this engine holds it; 0 if it does not.
    held: u64,
    /// The epoch in which this engine held it last.
    held_last: u64,
    /// The last request that took or renewed it: when it was sent, and the length of the lease.
    renewed: Option<(Tick, Duration)>,
    /// The round trip to its server.
    trip: Duration,
    /// When the lease before it ended; `None` after the first result.
    took_over: Option<Tick>,
}

impl Cell {
    /// Whether it is held in `epoch` and less than this many quarters of its length have passed.
    fn is_held(&self, epoch: u64, quarters: u32) -> bool {
        let is_within = |(at, length): (Tick, Duration)| at.elapsed() < length / 4 * quarters;
        self.held == epoch && epoch != 0 && self.renewed.is_some_and(is_within)
    }
}

impl Leases {
    /// The leases of streams, by their keys; none is held.
    pub fn new(terms: LeaseTerms, keys: Vec<String>, metrics: Arc<Metrics>) -> Leases {
        let cells = keys.iter().map(|_| Default::default()).collect();
        let trouble = Mutex::new(Some("starting".into()));
        Leases { terms, keys, cells, present: Mutex::default(), trouble, metrics }
    }

    /// The group, the holder and the length of its leases.
    pub fn terms(&self) -> &LeaseTerms {
        &self.terms
    }

    /// The key of a lease.
    pub fn key(&self, shard: usize) -> &str {
        &self.keys[shard]
    }

    /// For how long a lease is taken or renewed.
    pub fn length(&self, shard: usize) -> Duration {
        self.terms.length.max(self.cells[shard].0.lock().trip * TRIPS_MIN)
    }

    /// The longest known round trip to a server.
    pub fn trip_longest(&self) -> Duration {
        self.cells.iter().map(|(cell, _)| cell.lock().trip).max().unwrap_or_default()
    }

    /// Sets the round trip to the server of a shard.
    pub fn set_trip(&self, shard: usize, trip: Duration) {
        self.cells[shard].0.lock().trip = trip;
    }

    /// Waits, for at most `limit`, until a stream is to be taken. Returns what to ask for.
    pub fn stand_by(&self, shard: usize, limit: Duration) -> Option<LeaseAsk> {
        let (cell, changed) = &self.cells[shard];
        let mut cell = cell.lock();
        let is_due = |cell: &Cell| {
            let is_free = cell.free_from.is_some_and(|free_from| free_from <= Tick::now());
            cell.is_wanted && is_free
        };
        if !is_due(&cell) {
            let until = cell.free_from.filter(|_| cell.is_wanted).map(Tick::remaining);
            changed.wait_for(&mut cell, until.unwrap_or(limit).min(limit));
        }
        is_due(&cell).then_some(LeaseAsk::Take(cell.known))
    }

    /// Notes that another engine has the lease.
    pub fn refused(&self, shard: usize, state: &LeaseState) {
        let mut cell = self.cells[shard].0.lock();
        cell.known = cell.known.max(state.epoch);
        cell.free_from = Some(Tick::now().after(state.left));
    }

    /// Sets the engines that are present.
    pub fn set_present(&self, names: &[String]) {
        *self.present.lock() = names.to_vec();
    }

    /// Whether the last holder of a lease that was just taken has given it back or is still
    /// present.
    pub fn is_alive(&self, state: &LeaseState) -> bool {
        state.holder.is_empty() || self.present.lock().contains(&state.holder)
    }

    /// Notes that a request sent at `sent` took the lease. Returns its tenure, and whether no other
    /// engine has held the stream since this one did. The lease is not held before
    /// [`Leases::begin`].
    pub fn taken(&self, shard: usize, state: &LeaseState, sent: Tick) -> (Tenure, bool) {
        let mut cell = self.cells[shard].0.lock();
        let is_known = cell.held_last != 0 && state.epoch == cell.held_last + 1;
        cell.known = cell.known.max(state.epoch);
        cell.free_from = Some(Tick::now());
        cell.took_over = (state.epoch > 1 && state.over_since < TAKEOVER_MAX)
            .then(|| sent.before(state.over_since));
        (self.terms.tenure(&self.keys[shard], state.epoch), is_known)
    }

    /// Begins to hold the lease.
    pub fn begin(&self, shard: usize, epoch: u64, sent: (Tick, Duration)) {
        let mut cell = self.cells[shard].0.lock();
        cell.held = epoch;
        cell.held_last = epoch;
        cell.renewed = Some(sent);
        self.metrics.add(Counter::LeasesTaken, 1);
    }

    /// Whether the holder in `epoch` may ask for entries.
    pub fn may_read(&self, shard: usize, epoch: u64) -> bool {
        self.cells[shard].0.lock().is_held(epoch, READING_QUARTERS)
    }

    /// Whether the holder in `epoch` may commit.
    pub fn may_commit(&self, shard: usize, epoch: u64) -> bool {
        self.cells[shard].0.lock().is_held(epoch, 4)
    }

    /// Whether another engine is to hold the stream.
    pub fn is_unwanted(&self, shard: usize) -> bool {
        !self.cells[shard].0.lock().is_wanted
    }

    /// The epoch in which this engine holds a stream; 0 if it does not.
    pub fn held(&self, shard: usize) -> u64 {
        self.cells[shard].0.lock().held
    }

    /// Shards held.
    pub fn count(&self) -> usize {
        self.cells.iter().filter(|(cell, _)| cell.lock().held != 0).count()
    }

    /// Ends a tenure. Returns whether it was still held.
    pub fn end(&self, shard: usize, epoch: u64, as_what: Counter) -> bool {
        let (cell, changed) = &self.cells[shard];
        let mut cell = cell.lock();
        if epoch == 0 || cell.held != epoch {
            return false;
        }
        cell.held = 0;
        cell.took_over = None;
        cell.free_from = Some(Tick::now());
        self.metrics.add(as_what, 1);
        changed.notify_all();
        true
    }

    /// Time from the end of the lease before to now; `None` if this tenure already had a result.
    pub fn first_result(&self, shard: usize) -> Option<Duration> {
        self.cells[shard].0.lock().took_over.take().map(|over| over.elapsed())
    }

    /// What the keeper asks for: renewal of a lease that is held, otherwise its state.
    pub fn ask(&self, shard: usize, handover: impl FnOnce() -> Handover) -> LeaseAsk {
        match self.held(shard) {
            0 => LeaseAsk::Look,
            epoch => LeaseAsk::Renew(epoch, handover()),
        }
    }

    /// Notes the state of a lease that this engine does not hold.
    pub fn seen(&self, shard: usize, state: &LeaseState) {
        let mut cell = self.cells[shard].0.lock();
        cell.known = cell.known.max(state.epoch);
        if cell.held == 0 {
            let is_free = state.holder.is_empty() || state.holder == self.terms.holder;
            let left = if is_free { Duration::ZERO } else { state.left };
            cell.free_from = Some(Tick::now().after(left));
        }
    }

    /// Notes that a lease was renewed. `sent` is when the request was sent, and the length of the
    /// lease.
    pub fn renewed(&self, shard: usize, epoch: u64, sent: (Tick, Duration)) {
        let mut cell = self.cells[shard].0.lock();
        if cell.held == epoch {
            cell.renewed = Some(sent);
            self.metrics.add(Counter::LeasesRenewed, 1);
        }
    }

    /// Sets whether the stream is to be held, and wakes its reader.
    pub fn want(&self, shard: usize, is_wanted: bool) {
        let (cell, changed) = &self.cells[shard];
        cell.lock().is_wanted = is_wanted;
        changed.notify_all();
    }

    /// Sets why the keeper cannot reach Redis; `None` if it can.
    pub fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock() = trouble;
    }

    /// See [`Leases::set_trouble`].
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(40);

    fn leases() -> Leases {
        let terms = LeaseTerms { group: "group".into(), holder: "one".into(), length: LENGTH };
        Leases::new(terms, vec!["in:lease".into()], Metrics::new())
    }

    /// A lease that was last renewed this long ago.
    fn held_for(time: Duration) -> Leases {
        let leases = leases();
        leases.begin(0, 5, (Tick::now().before(time), LENGTH));
        leases
    }

    #[test]
    fn a_lease_that_is_not_renewed_ends_by_the_clock_of_its_holder() {
        let rights = |time| {
            let leases = held_for(time);
            (leases.may_read(0, 5), leases.may_commit(0, 5))
        };
        assert_eq!(rights(LENGTH / 2), (true, true));
        assert_eq!(rights(LENGTH / 8 * 7), (false, true), "what was read can be committed");
        assert_eq!(rights(LENGTH), (false, false));
    }

    #[test]
    fn a_late_answer_concerns_its_own_tenure_only() {
        let leases = held_for(Duration::ZERO);
        assert!(!leases.may_commit(0, 4));
        assert!(!leases.end(0, 4, Counter::LeasesLost), "that one is over");
        assert!(leases.end(0, 5, Counter::LeasesLost));
        leases.renewed(0, 5, (Tick::now(), LENGTH));
        assert!(!leases.may_commit(0, 5), "what has ended is not renewed");
        assert_eq!((leases.held(0), leases.count()), (0, 0));
    }

    #[test]
    fn a_stream_is_taken_when_it_is_wanted_and_free_in_an_epoch_above_all_known() {
        let leases = leases();
        let state =
            LeaseState { holder: "two".into(), epoch: 7, left: LENGTH, ..Default::default() };
        leases.want(0, true);
        assert_eq!(leases.stand_by(0, Duration::ZERO), None, "not looked at");
        leases.seen(0, &state);
        assert_eq!(leases.stand_by(0, Duration::ZERO), None, "another engine has it");
        leases.seen(0, &LeaseState { left: Duration::ZERO, ..state });
        assert_eq!(leases.stand_by(0, Duration::ZERO), Some(LeaseAsk::Take(7)));
        leases.want(0, false);
        assert_eq!(leases.stand_by(0, Duration::ZERO), None);
    }

    #[test]
    fn a_lease_of_a_server_far_away_lasts_for_some_round_trips() {
        let leases = leases();
        assert_eq!(leases.length(0), LENGTH);
        leases.set_trip(0, LENGTH);
        assert_eq!(leases.length(0), TRIPS_MIN * LENGTH);
    }

    #[test]
    fn no_other_engine_has_held_a_stream_whose_epoch_went_up_by_one() {
        let leases = held_for(Duration::ZERO);
        leases.end(0, 5, Counter::LeasesLost);
        let taken = |epoch| LeaseState { done: true, epoch, ..Default::default() };
        assert!(leases.taken(0, &taken(6), Tick::now()).1);
        assert!(!leases.taken(0, &taken(8), Tick::now()).1);
    }
}
