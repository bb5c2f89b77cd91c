//! The consumer group of each input stream, and its recovery after it was lost: by a flush, a
//! restart without saved data, a failover, or an XGROUP DESTROY.
//!
//! Readers and committers can both find a group lost, and neither may be able to go on without the
//! other. The first one restores the group. Invariants:
//! 1. A committer holds the lock of a shard for reading from sending a batch until it has closed
//!    the receipts of the batch's last answer, once for each batch of its window. Recovery holds it
//!    for writing. So while a group is restored, no answer is outstanding, and the journal alone
//!    says what is in work. A committer that holds the lock takes it again only if that needs no
//!    wait, because recovery may be waiting for it.
//! 2. In a restored group, every entry of the journal that is still in the stream is pending. The
//!    group goes on after an entry up to which this process has read everything. So nothing is
//!    lost, and frames of a camera keep their order.
//! 3. Recovery invalidates every reader's connection before it looks at the journal. So no reader
//!    can take an entry from the old group afterwards.
//! 4. A commit that was sent and never answered may have been carried out before the loss. The
//!    committer remembers it and has the script look for its result; recovery does not handle it.
//! 5. Locks of several shards are taken in the order of the shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::lock_api::ArcRwLockReadGuard;
use parking_lot::{Mutex, RawRwLock, RwLock, RwLockWriteGuard};
use smallvec::SmallVec;

use super::lease::Leases;
use crate::base::{Fault, Stop, limits};
use crate::frame::{EntryId, Journal, Recovery};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Metrics};
use crate::redis::{
    Control, Handover, LeaseState, Presence, Retention, StreamSource, Streams, Tenure, Topology,
};

/// Longest wait for one answer; the caller has frames in hand.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The groups of all input streams of this engine.
#[derive(Debug)]
pub struct Groups {
    group: String,
    /// Whether entries are deleted when they have ended.
    is_deleted: bool,
    shards: Vec<Shard>,
    /// Connection for the rare commands; kept open.
    control: Mutex<Control>,
    metrics: Arc<Metrics>,
    stop: Stop,
    /// Set if streams are exclusive.
    leases: Option<Leased>,
}

/// The leases of the streams, and the names of the list of engines and of the stream that announces
/// its changes.
#[derive(Debug)]
struct Leased {
    leases: Arc<Leases>,
    engines: [String; 2],
}

/// The shard of one input stream.
#[derive(Debug)]
pub struct Shard {
    /// Its streams.
    streams: Streams,
    /// This engine's consumers in the group, one for each reader.
    consumers: Vec<String>,
    /// The entries of the stream that are in this process.
    journal: Arc<Journal>,
    /// See the head of this file.
    state: Arc<RwLock<ShardGroup>>,
    /// Whether other consumers have left entries pending.
    is_stale: AtomicBool,
}

impl Shard {
    /// A stream that is read under these consumer names, one for each reader, and at least one.
    pub fn new(streams: Streams, consumers: Vec<String>, metrics: &Arc<Metrics>) -> Shard {
        Shard {
            streams,
            journal: Journal::new(consumers.len(), Arc::clone(metrics)),
            consumers,
            state: Arc::default(),
            is_stale: AtomicBool::new(false),
        }
    }
}

/// What this process knows of a group.
#[derive(Debug, Default)]
struct ShardGroup {
    /// Whether the group exists and everything in work is pending, as far as is known.
    is_whole: bool,
    /// Name of the consumer that marks the group; empty if the account may not create it.
    identity: String,
    /// When the group was restored.
    restored: Option<Tick>,
    /// The lease under which this engine has adopted the group, if streams are exclusive.
    tenure: Option<Tenure>,
}

/// The lock of a shard, held for reading.
type Guard = ArcRwLockReadGuard<RawRwLock, ShardGroup>;

/// The right to commit to some shards; see invariant 1.
#[derive(Debug, Default)]
pub struct Held {
    shards: SmallVec<[(usize, u64, Guard); 2]>,
}

impl Held {
    /// Name of the consumer that marks the group of a shard.
    pub fn identity(&self, shard: usize) -> &str {
        self.of(shard).map_or("", |(_, _, state)| &state.identity)
    }

    /// The lease under which a shard was last taken.
    pub fn tenure(&self, shard: usize) -> Option<&Tenure> {
        self.of(shard).and_then(|(_, _, state)| state.tenure.as_ref())
    }

    /// [`Journal::epoch`] of a shard.
    pub fn epoch(&self, shard: usize) -> u64 {
        self.of(shard).map_or(0, |(_, epoch, _)| *epoch)
    }

    fn of(&self, shard: usize) -> Option<&(usize, u64, Guard)> {
        self.shards.iter().find(|(known, ..)| *known == shard)
    }
}

impl Groups {
    /// The group of that name on all these streams.
    ///
    /// # Errors
    /// As [`Control::new`].
    pub fn new(
        topology: &Topology,
        group: &str,
        retention: Retention,
        shards: Vec<Shard>,
        metrics: Arc<Metrics>,
        stop: Stop,
    ) -> Result<Groups, Fault> {
        let control = Mutex::new(Control::new(topology, TIMEOUT));
        let (group, is_deleted) = (group.to_owned(), retention == Retention::Delete);
        Ok(Groups { group, is_deleted, shards, control, metrics, stop, leases: None })
    }

    /// The same groups, with streams that are read under leases.
    #[must_use]
    pub fn under(self, leases: Arc<Leases>, engines: [String; 2]) -> Groups {
        Groups { leases: Some(Leased { leases, engines }), ..self }
    }

    /// The leases of the streams, if they are exclusive.
    pub fn leases(&self) -> Option<&Arc<Leases>> {
        self.leases.as_ref().map(|leased| &leased.leases)
    }

    /// Ends a tenure, if it has not ended before. Entries read in it are not committed after that.
    pub fn end_tenure(&self, shard: usize, epoch: u64, as_what: Counter) -> bool {
        let is_ended = self.leases().is_some_and(|leases| leases.end(shard, epoch, as_what));
        if is_ended {
            self.journal(shard).end_tenure(epoch);
        }
        is_ended
    }

    /// Writes the presence of this engine to the list of engines.
    ///
    /// # Errors
    /// As [`Control::tell`].
    pub fn tell(&self, presence: Presence) -> Result<(), Fault> {
        match &self.leases {
            None => Ok(()),
            Some(Leased { leases, engines }) => {
                self.control.lock().tell(leases.terms(), engines, presence)
            }
        }
    }

    /// At the start, finds the groups of all shards, or creates them at the stream beginnings.
    ///
    /// # Errors
    /// As [`Control::find_groups`].
    pub fn prepare(&self, control: &mut Control) -> Result<(), Fault> {
        // With leases, the holder of a stream finds out whether its group was lost; see `adopt`.
        if self.leases.is_some() {
            return Ok(());
        }
        let consumers_of: Vec<(&str, &[String])> = self
            .shards
            .iter()
            .map(|shard| (shard.streams.input.as_str(), &shard.consumers[..]))
            .collect();
        let found = control.find_groups(&self.group, &consumers_of)?;
        for (shard, found) in self.shards.iter().zip(found) {
            shard.journal.begin(found.last_delivered);
            for (reader, ids) in found.pending.into_iter().enumerate() {
                shard.journal.leave(reader, ids);
            }
            if found.identity.is_empty() {
                tracing::warn!(
                    "the Redis account lacks the right to mark the consumer group of {}: if \
                     another engine creates the group again, this engine loses its frames in work; \
                     see `framepress check`",
                    shard.streams.input
                );
            }
            let identity = found.identity;
            *shard.state.write() = ShardGroup { is_whole: true, identity, ..ShardGroup::default() };
        }
        Ok(())
    }

    /// The right to commit to `shards`, which are sorted and without repetition. A group that is
    /// known to be lost is restored first.
    ///
    /// # Errors
    /// As [`Groups::recover`].
    pub fn hold(&self, shards: &[usize]) -> Result<Held, Fault> {
        let mut held = Held::default();
        for &shard in shards {
            let Shard { journal, state, .. } = &self.shards[shard];
            loop {
                let state = state.read_arc();
                let epoch = journal.epoch();
                if state.is_whole {
                    held.shards.push((shard, epoch, state));
                    break;
                }
                drop(state);
                // Recovery of this shard waits only for committers that hold this shard.
                self.recover(shard, epoch)?;
            }
        }
        Ok(held)
    }

    /// The same without waiting, for a caller that already holds locks. `None` if a group is known
    /// to be lost or is being restored.
    pub fn try_hold(&self, shards: &[usize]) -> Option<Held> {
        let mut held = Held::default();
        for &shard in shards {
            let Shard { journal, state, .. } = &self.shards[shard];
            let state = state.try_read_arc().filter(|state| state.is_whole)?;
            held.shards.push((shard, journal.epoch(), state));
        }
        Some(held)
    }

    /// Restores a group that a caller found lost while the journal was in `epoch`. Does nothing if
    /// another thread has restored it since.
    ///
    /// # Errors
    /// As [`Control::find_group`]; [`Fault::NeighbourGone`] if the engine stops at once. The group
    /// then counts as lost until the next call.
    pub fn recover(&self, shard: usize, epoch: u64) -> Result<(), Fault> {
        let Shard { streams, consumers, journal, .. } = &self.shards[shard];
        let stream = &streams.input;
        let mut state = self.write(shard)?;
        if state.is_whole && journal.epoch() != epoch {
            return Ok(());
        }
        state.is_whole = false;
        let mut recovery = journal.begin_recovery();
        if self.is_deleted {
            // With deletion, everything still in the stream is unfinished.
            recovery.start = EntryId::default();
        }
        let mut control = self.control.lock();
        let reached = journal.reached();
        let found =
            control.find_group(streams, &self.group, &consumers[0], Some(&recovery), reached)?;
        drop(control);
        journal.begin(found.last_delivered);
        journal.leave(0, recovery.held.iter().chain(&found.claimed).copied());
        journal.set_gone(&found.gone);
        if found.created {
            self.metrics.add(Counter::GroupRecreated, 1);
        }
        tracing::warn!(
            "the group {} of {stream} was lost; {} after {}, with {} of {} frames in work",
            self.group,
            if found.created {
                "created again to go on"
            } else {
                "found again, the engine continues"
            },
            found.last_delivered,
            recovery.held.len() - found.gone.len(),
            recovery.held.len(),
        );
        let restored = Some(Tick::now());
        *state = ShardGroup { is_whole: true, identity: found.identity, restored, tenure: None };
        Ok(())
    }

    /// Finds or restores the group of a shard for the holder of a lease just taken. If no other
    /// engine has held the stream in between, it restores the group from what this process knows,
    /// otherwise from what the last holder left. No entry of the shard is in flight. Returns
    /// whether the group has anything pending.
    ///
    /// # Errors
    /// As [`StreamSource::adopt_group`]; [`Fault::NeighbourGone`] if the engine stops at once.
    pub fn adopt(
        &self,
        shard: usize,
        source: &mut StreamSource,
        tenure: &Tenure,
        taken: &LeaseState,
        is_known: bool,
    ) -> Result<bool, Fault> {
        let Shard { streams, journal, .. } = &self.shards[shard];
        let mut state = self.write(shard)?;
        let is_known = is_known && state.is_whole;
        let (mut recovery, before, reached) = if is_known {
            (journal.begin_recovery(), state.identity.clone(), journal.reached())
        } else {
            let Handover { ended, group } = &taken.handover;
            let recovery = Recovery { start: *ended, held: Vec::new(), ended: Vec::new() };
            (recovery, group.clone(), *ended)
        };
        if self.is_deleted {
            recovery.start = EntryId::default();
        }
        let found = source.adopt_group(streams, tenure, &recovery, reached, &before)?;
        let is_lost = !before.is_empty() && found.identity != before;
        journal.begin_tenure(tenure.epoch, is_known);
        if !is_lost {
            journal.nothing_is_repeated();
        }
        journal.begin(found.last_delivered);
        journal.leave(0, found.pending.iter().flatten().chain(&found.claimed).copied());
        if found.created && is_lost {
            self.metrics.add(Counter::GroupRecreated, 1);
        }
        if is_lost {
            tracing::warn!(
                "the consumer group {} of {} was lost; the engine restored it and continues after \
                 {}",
                self.group,
                streams.input,
                found.last_delivered
            );
        }
        let restored = is_lost.then(Tick::now).or(state.restored);
        let (identity, tenure) = (found.identity, Some(tenure.clone()));
        *state = ShardGroup { is_whole: true, identity, restored, tenure };
        Ok(found.pending.iter().any(|ids| !ids.is_empty()))
    }

    /// What the next holder of a shard needs to know.
    pub fn handover(&self, shard: usize) -> Handover {
        let Shard { journal, state, .. } = &self.shards[shard];
        // A committer that waits for an answer holds the lock for reading, so this still succeeds.
        let group = state.try_read().map(|state| state.identity.clone()).unwrap_or_default();
        Handover { ended: journal.ended_up_to(), group }
    }

    /// Notes that entries of a shard are to be claimed from other consumers.
    pub fn set_stale(&self, shard: usize) {
        self.shards[shard].is_stale.store(true, Ordering::Relaxed);
    }

    /// Whether the caller is to claim entries of a shard from other consumers; resets the note.
    pub fn take_stale(&self, shard: usize) -> bool {
        let is_stale = &self.shards[shard].is_stale;
        is_stale.load(Ordering::Relaxed) && is_stale.swap(false, Ordering::Relaxed)
    }

    /// Sets the server's delivery count of an entry in work, if it is still pending.
    ///
    /// # Errors
    /// As [`Control::set_deliveries`].
    pub fn set_deliveries(&self, shard: usize, id: EntryId, deliveries: u32) -> Result<(), Fault> {
        let stream = &self.shards[shard].streams.input;
        let tenure = self.shards[shard].state.read().tenure.clone();
        let mut control = self.control.lock();
        control.set_deliveries(stream, &self.group, id, deliveries, tenure.as_ref())
    }

    /// The lock of a shard for writing. The wait ends if the engine stops at once.
    fn write(&self, shard: usize) -> Result<RwLockWriteGuard<'_, ShardGroup>, Fault> {
        loop {
            if let Some(state) = self.shards[shard].state.try_write_for(limits::LANE_TICK) {
                return Ok(state);
            }
            if self.stop.is_now() {
                return Err(Fault::NeighbourGone("engine"));
            }
        }
    }

    /// The entries of a shard that are in this process.
    pub fn journal(&self, shard: usize) -> &Arc<Journal> {
        &self.shards[shard].journal
    }

    /// The identity of a group, if the entries it has finished may be trimmed. `None` until `grace`
    /// after a group recovery, so that other engines can make the entries in their hands pending
    /// again.
    pub fn settled(&self, shard: usize, grace: Duration) -> Option<(String, Option<Tenure>)> {
        if self.leases().is_some_and(|leases| leases.held(shard) == 0) {
            return None; // its holder trims
        }
        let state = self.shards[shard].state.read();
        let is_settled = state.restored.is_none_or(|restored| restored.elapsed() >= grace);
        (state.is_whole && is_settled).then(|| (state.identity.clone(), state.tenure.clone()))
    }

    /// Number of consumers of the group of a shard that only mark it.
    pub fn identities(&self, shard: usize) -> u64 {
        u64::from(!self.shards[shard].state.read().identity.is_empty())
    }
}
