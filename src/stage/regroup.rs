//! Creating a consumer group again that has disappeared: after a flush, a restart without saved
//! data, a failover, or by somebody's XGROUP DESTROY.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Fault;
use crate::frame::Journal;
use crate::metrics::{Counter, Metrics};
use crate::redis::{Address, Control};

/// Longest wait for an answer; whoever waits has a frame in hand.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What it takes to create the group of each input stream again. Readers and committers both meet
/// the loss, and either may be unable to go on without the other.
#[derive(Debug)]
pub struct Regroup {
    address: Address,
    group: String,
    /// Stream and journal of each shard.
    shards: Vec<(String, Arc<Journal>)>,
    metrics: Arc<Metrics>,
}

impl Regroup {
    /// For the group of that name on all these streams.
    pub fn new(
        address: Address,
        group: String,
        shards: Vec<(String, Arc<Journal>)>,
        metrics: Arc<Metrics>,
    ) -> Regroup {
        Regroup { address, group, shards, metrics }
    }

    /// Creates the group unless somebody else was faster. It begins where this process was: the
    /// entries in flight are delivered once more, those that have ended are known to the journal.
    ///
    /// # Errors
    /// As [`Control::ensure_group`].
    pub fn recreate(&self, shard: usize) -> Result<(), Fault> {
        let (stream, journal) = &self.shards[shard];
        let mut control = Control::new(&self.address, TIMEOUT)?;
        // A stream whose last id lies before our place has been made anew or restored: beginning
        // behind its end would pass over entries that a clock behind ours still adds.
        let start = journal.resume_after().min(control.last_generated(stream)?);
        if control.ensure_group(stream, &self.group, start)? {
            self.metrics.add(Counter::GroupRecreated, 1);
            tracing::warn!(
                "the group {} of {stream} was gone; created again after {start}",
                self.group
            );
        }
        Ok(())
    }
}
