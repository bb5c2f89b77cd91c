//! Housekeeping beside the stages: how the queues stand, and trimming what everybody has done
//! with. Nothing here is on a frame's way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::retry::Attempts;
use crate::base::threads::{Role, Turn};
use crate::base::{Fault, Stop};
use crate::frame::EntryId;
use crate::metrics::clock::Tick;
use crate::metrics::{Conservation, Metrics};
use crate::redis::{Address, Control, GroupState};

/// How often queues are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks over which rates are taken.
const RATE_LOOKS: usize = 10;

/// What the watcher needs to know.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// The server.
    pub address: Address,
    /// Input, output and dead-letter stream of each shard.
    pub streams: Vec<[String; 3]>,
    /// Our consumer group.
    pub group: String,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Whether to trim input entries that every group has acknowledged.
    pub trim_acked: bool,
    /// Called at each turn.
    pub turn: Turn,
}

/// How one kind of queue stands, over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Entries in the streams.
    pub depth: u64,
    /// Entries delivered to our group and not acknowledged.
    pub pending: u64,
    /// Entries not delivered to our group yet; `None` when Redis cannot tell.
    pub lag: Option<u64>,
    /// Consumers in our group.
    pub consumers: u64,
    /// Memory taken, in bytes, by Redis' estimate.
    pub memory_bytes: u64,
}

/// How the queues stand, as of the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queues {
    /// Frames to be read.
    pub input: QueueState,
    /// Results.
    pub output: QueueState,
    /// Refused frames.
    pub dead_letter: QueueState,
    /// Of the last ten seconds.
    pub rates: Rates,
}

/// Frames per second over the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Entries read.
    pub read: f64,
    /// Results stored.
    pub out: f64,
    /// Dead letters stored.
    pub dead_lettered: f64,
}

/// The watcher, ready to run.
#[derive(Debug)]
pub struct Watcher {
    settings: WatchSettings,
    queues: Arc<Mutex<Queues>>,
    metrics: Arc<Metrics>,
    stop: Stop,
    /// The account at the last looks, the oldest first.
    past: VecDeque<(Tick, Conservation)>,
}

impl Watcher {
    /// A watcher that keeps `queues` up to date.
    pub fn new(
        settings: WatchSettings,
        queues: Arc<Mutex<Queues>>,
        metrics: Arc<Metrics>,
        stop: Stop,
    ) -> Watcher {
        let past = VecDeque::with_capacity(RATE_LOOKS + 1);
        Watcher { settings, queues, metrics, stop, past }
    }

    /// Watches until draining begins.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if the address cannot be used; a server that is away is waited for.
    pub fn run(mut self) -> Result<(), Fault> {
        let mut control = Control::new(&self.settings.address, self.settings.timeout)?;
        let mut attempts = Attempts::new("watching the queues");
        loop {
            self.settings.turn.begins(Role::Watch);
            let rates = self.rates();
            match self.look(&mut control) {
                Ok(queues) => {
                    attempts.succeeded();
                    *self.queues.lock() = Queues { rates, ..queues };
                }
                Err(fault) => {
                    attempts.failed(&fault);
                    self.queues.lock().rates = rates;
                }
            }
            if self.stop.sleep(PERIOD) {
                return Ok(());
            }
        }
    }

    fn rates(&mut self) -> Rates {
        self.past.push_back((Tick::now(), self.metrics.ledger.read()));
        if self.past.len() > RATE_LOOKS + 1 {
            self.past.pop_front();
        }
        let (Some((first, before)), Some((last, now))) = (self.past.front(), self.past.back())
        else {
            return Rates::default();
        };
        let seconds = last.since(*first).as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // frames of ten seconds
        let rate = |now: u64, before: u64| {
            if seconds > 0.0 { (now - before) as f64 / seconds } else { 0.0 }
        };
        Rates {
            read: rate(now.read, before.read),
            out: rate(now.out, before.out),
            dead_lettered: rate(now.dead_lettered, before.dead_lettered),
        }
    }

    fn look(&self, control: &mut Control) -> Result<Queues, Fault> {
        let mut queues = Queues::default();
        for [input, output, dead_letter] in &self.settings.streams {
            let groups = control.groups(input)?;
            add(&mut queues.input, control, input)?;
            add(&mut queues.output, control, output)?;
            add(&mut queues.dead_letter, control, dead_letter)?;
            if let Some(ours) = groups.iter().find(|group| group.name == self.settings.group) {
                queues.input.pending += ours.pending;
                queues.input.consumers += ours.consumers;
                queues.input.lag = match (queues.input.lag, ours.lag) {
                    (Some(sum), Some(lag)) => Some(sum + lag),
                    (None, lag) => lag,
                    (_, None) => None,
                };
            }
            if self.settings.trim_acked {
                trim_acked(control, input, &groups)?;
            }
        }
        Ok(queues)
    }
}

fn add(state: &mut QueueState, control: &mut Control, stream: &str) -> Result<(), Fault> {
    state.depth += control.length(stream)?;
    state.memory_bytes += control.memory(stream)?;
    Ok(())
}

/// Removes what no group needs any more: everything before the first entry that is pending in, or
/// not yet delivered to, any of them.
fn trim_acked(control: &mut Control, stream: &str, groups: &[GroupState]) -> Result<(), Fault> {
    let mut first_needed: Option<EntryId> = None;
    for group in groups {
        // The last delivered entry itself is kept; that costs one entry and saves a case.
        let mut needed = group.last_delivered;
        if group.pending > 0 {
            match control.first_pending(stream, &group.name)? {
                Some(first) => needed = needed.min(first),
                None => return Ok(()), // changed meanwhile; next time
            }
        }
        first_needed = Some(first_needed.map_or(needed, |first| first.min(needed)));
    }
    if let Some(first_needed) = first_needed.filter(|first| *first != EntryId::default()) {
        control.trim_before(stream, first_needed)?;
    }
    Ok(())
}
