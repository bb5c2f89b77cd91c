//! Creating a consumer group again that has disappeared: after a flush, a restart without saved
//! data, a failover, or by somebody's XGROUP DESTROY.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Fault;
use crate::frame::Journal;
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
    /// far as they exist.
    ///
    /// # Errors
    /// As [`Control::restore_group`].
    pub fn recreate(&self, shard: usize) -> Result<(), Fault> {
        let Shard { stream, consumer, journal } = &self.shards[shard];
        let mut control = Control::new(&self.topology, TIMEOUT)?;
        // A stream whose last id lies before our place has been made anew or restored: beginning
        // behind its end would pass over entries that a clock behind ours still adds.
        let start = journal.last_ended().min(control.last_generated(stream)?);
        let held = journal.held_up_to(start);
        if control.restore_group(stream, &self.group, start, consumer, &held)? {
            self.metrics.add(Counter::GroupRecreated, 1);
            tracing::warn!(
                "the group {} of {stream} was gone; created again after {start}",
                self.group
            );
        }
        Ok(())
    }
}
