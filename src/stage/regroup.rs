//! Creating a consumer group again that has disappeared: after a flush, a restart without saved
//! data, a failover, or by somebody's XGROUP DESTROY.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::Fault;
use crate::frame::{EntryId, Journal};
use crate::metrics::{Counter, Metrics};
use crate::redis::{Control, Topology};

/// Longest wait for an answer; whoever waits has a frame in hand.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What it takes to create the group of each input stream again. Readers and committers both meet
/// the loss, and either may be unable to go on without the other.
#[derive(Debug)]
pub struct Regroup {
    topology: Topology,
    group: String,
    shards: Vec<Shard>,
    metrics: Arc<Metrics>,
}

/// One input stream.
#[derive(Debug)]
pub struct Shard {
    /// Its name.
    pub stream: String,
    /// Our name in its group.
    pub consumer: String,
    /// What of it is in this process.
    pub journal: Arc<Journal>,
    /// What this process knows of the group.
    pub made: Made,
}

/// What is known of a group that has been lost before.
#[derive(Debug, Default)]
pub struct Made {
    /// Even while the group is whole; odd from the moment its loss was met until everything in work
    /// here is known to be pending again. Never the same twice.
    generation: AtomicU64,
    /// Nobody is ever given an entry up to this one unless it is made pending.
    begins_at: Mutex<EntryId>,
}

impl Regroup {
    /// For the group of that name on all these streams.
    pub fn new(
        topology: Topology,
        group: String,
        shards: Vec<Shard>,
        metrics: Arc<Metrics>,
    ) -> Regroup {
        Regroup { topology, group, shards, metrics }
    }

    /// Changes with every loss of the group of a shard, and again when it is mended. Whoever meets
    /// the loss says what this was before the question that met it: a loss that is mended already is
    /// not mended again.
    pub fn generation(&self, shard: usize) -> u64 {
        self.shards[shard].made.generation.load(Ordering::Acquire)
    }

    /// Whether in `generation` everything in work was pending, as far as is known.
    pub fn is_whole(generation: u64) -> bool {
        generation.is_multiple_of(2)
    }

    /// Creates the group, unless that has been done since `seen`, to begin where this process was.
    /// Entries from before that which are still in work become pending again in the same step, as
    /// far as they exist; not those whose commit is on its way, for they may be stored already.
    ///
    /// Another engine may be faster, and begin behind entries that are in work here. They become
    /// pending again as well; one that it has ended in the meantime comes twice.
    ///
    /// # Errors
    /// As [`Control::restore_group`]. The loss then stays open, whether or not the group is there.
    pub fn recreate(&self, shard: usize, seen: u64) -> Result<(), Fault> {
        let Shard { stream, consumer, journal, made } = &self.shards[shard];
        let mut begins_at = made.begins_at.lock();
        let now = made.generation.load(Ordering::Acquire);
        if now != seen && Regroup::is_whole(now) {
            return Ok(());
        }
        // Before it is seen what is on its way: whoever meets the fence of the new group must know.
        let open = now | 1;
        made.generation.store(open, Ordering::SeqCst);
        let mut control = Control::new(&self.topology, TIMEOUT)?;
        // A stream whose last id lies before our place has been made anew or restored: beginning
        // behind its end would pass over entries that a clock behind ours still adds.
        let start = journal.place().min(control.last_generated(stream)?);
        let held = journal.held_up_to(start);
        if control.restore_group(stream, &self.group, start, consumer, &held)? {
            *begins_at = start;
            self.metrics.add(Counter::GroupRecreated, 1);
            tracing::warn!(
                "the group {} of {stream} was gone; created again after {start}",
                self.group
            );
        } else {
            let groups = control.groups(stream)?;
            let theirs = groups.iter().find(|group| group.name == self.group);
            let reached = theirs.map_or(start, |group| group.last_delivered);
            let held = journal.held_up_to(reached);
            if !held.is_empty() {
                control.make_pending(stream, &self.group, consumer, &held)?;
            }
            *begins_at = reached;
        }
        made.generation.store(open + 1, Ordering::SeqCst);
        Ok(())
    }

    /// The same for a committer to which Redis has refused `ids`, for want of the group: they are
    /// not stored, and become pending again even if the group is there by now. Those behind the
    /// group's beginning are delivered again instead.
    ///
    /// # Errors
    /// As [`Control::restore_group`].
    pub fn recreate_with(&self, shard: usize, seen: u64, ids: &[EntryId]) -> Result<(), Fault> {
        self.recreate(shard, seen)?;
        let Shard { stream, consumer, made, .. } = &self.shards[shard];
        let begins_at = *made.begins_at.lock();
        let before: Vec<EntryId> = ids.iter().copied().filter(|id| *id <= begins_at).collect();
        if before.is_empty() {
            return Ok(());
        }
        let mut control = Control::new(&self.topology, TIMEOUT)?;
        control.make_pending(stream, &self.group, consumer, &before)
    }
}
