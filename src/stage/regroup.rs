//! Creating a consumer group again that has disappeared: after a flush, a restart without saved
//! data, a failover, or by somebody's XGROUP DESTROY.

use std::sync::Arc;
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
    /// Where the group that this process created last begins. Nobody is ever given an entry from
    /// before that unless it is made pending.
    pub created_at: Mutex<EntryId>,
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

    /// Creates the group, unless somebody else was faster, to begin where this process was.
    /// Entries from before that which are still in work become pending again in the same step, as
    /// far as they exist; not those whose commit is on its way, for they may be stored already.
    ///
    /// # Errors
    /// As [`Control::restore_group`].
    pub fn recreate(&self, shard: usize) -> Result<(), Fault> {
        let Shard { stream, consumer, journal, created_at } = &self.shards[shard];
        let mut control = Control::new(&self.topology, TIMEOUT)?;
        let mut created_at = created_at.lock();
        // A stream whose last id lies before our place has been made anew or restored: beginning
        // behind its end would pass over entries that a clock behind ours still adds.
        let start = journal.place().min(control.last_generated(stream)?);
        let held = journal.held_up_to(start);
        if control.restore_group(stream, &self.group, start, consumer, &held)? {
            *created_at = start;
            self.metrics.add(Counter::GroupRecreated, 1);
            tracing::warn!(
                "the group {} of {stream} was gone; created again after {start}",
                self.group
            );
            return Ok(());
        }
        // Another engine was faster, and may have begun behind entries that are in work here: the
        // new group would never deliver them, and their fence would be gone.
        let groups = control.groups(stream)?;
        let reached = groups.iter().find(|group| group.name == self.group);
        let reached = reached.map_or(start, |group| group.last_delivered);
        *created_at = reached.max(*created_at);
        let held = journal.held_up_to(reached);
        if !held.is_empty() {
            control.make_pending(stream, &self.group, consumer, &held)?;
        }
        Ok(())
    }

    /// The same for a committer to which Redis has refused `ids`, for want of the group: they are
    /// not stored, and become pending again even if the group is there by now. Those behind the
    /// group's beginning are delivered again instead.
    ///
    /// # Errors
    /// As [`Control::restore_group`].
    pub fn recreate_with(&self, shard: usize, ids: &[EntryId]) -> Result<(), Fault> {
        self.recreate(shard)?;
        let Shard { stream, consumer, created_at, .. } = &self.shards[shard];
        let created_at = *created_at.lock();
        let before: Vec<EntryId> = ids.iter().copied().filter(|id| *id <= created_at).collect();
        if before.is_empty() {
            return Ok(());
        }
        let mut control = Control::new(&self.topology, TIMEOUT)?;
        control.make_pending(stream, &self.group, consumer, &before)
    }
}
