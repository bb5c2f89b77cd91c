//! Housekeeping beside the stages: how the queues stand, and trimming what everybody has done
//! with. Nothing here is on a frame's way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::retry::Attempts;
use crate::base::threads::{Role, Turn};
use crate::base::{Fault, Stop};
use crate::frame::{EntryId, Journal};
use crate::metrics::clock::Tick;
use crate::metrics::{Conservation, Counter, Metrics};
use crate::redis::{Control, GroupState, Topology};

/// How often queues are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Looks over which rates are taken.
const RATE_LOOKS: usize = 10;

/// What the watcher needs to know.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// Where Redis is.
    pub topology: Topology,
    /// Input, output and dead-letter stream of each shard.
    pub streams: Vec<[String; 3]>,
    /// Our consumer group.
    pub group: String,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Whether to trim input entries that every group has acknowledged.
    pub trim_acked: bool,
    /// The consumer of each shard.
    pub consumers: Vec<String>,
    /// Idle time after which others take entries over.
    pub claim_idle: Duration,
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
    /// The journal of each shard.
    journals: Vec<Arc<Journal>>,
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
        journals: Vec<Arc<Journal>>,
        stop: Stop,
    ) -> Watcher {
        let past = VecDeque::with_capacity(RATE_LOOKS + 1);
        Watcher { settings, queues, metrics, journals, stop, past }
    }

    /// Watches until draining begins.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if the address cannot be used; a server that is away is waited for.
    pub fn run(mut self) -> Result<(), Fault> {
        // Short, for nothing hangs on one look, but a stop waits for it.
        let mut control =
            Control::new(&self.settings.topology, self.settings.timeout.min(TIMEOUT))?;
        let mut attempts =
            Attempts::new("watching the queues", self.settings.topology.pause_longest());
        loop {
            self.settings.turn.begins(Role::Watch);
            let rates = self.rates();
            match self.renew(&mut control).and_then(|()| self.look(&mut control)) {
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

    /// Keeps our own entries ours: those in flight for a third of the claim time count as new
    /// again. Not the reader's task, for a reader that is held up is just when it matters.
    fn renew(&self, control: &mut Control) -> Result<(), Fault> {
        let settings = &self.settings;
        for (shard, journal) in self.journals.iter().enumerate() {
            let ids = journal.renewable(settings.claim_idle / 3);
            if !ids.is_empty() {
                let stream = &settings.streams[shard][0];
                control.renew(stream, &settings.group, &settings.consumers[shard], &ids)?;
                self.metrics.add(Counter::Renewed, ids.len() as u64);
            }
        }
        Ok(())
    }

    fn look(&self, control: &mut Control) -> Result<Queues, Fault> {
        let mut queues = Queues::default();
        let mut lags = Vec::new();
        for [input, output, dead_letter] in &self.settings.streams {
            let groups = control.groups(input)?;
            add(&mut queues.input, control, input)?;
            add(&mut queues.output, control, output)?;
            add(&mut queues.dead_letter, control, dead_letter)?;
            if let Some(ours) = groups.iter().find(|group| group.name == self.settings.group) {
                queues.input.pending += ours.pending;
                queues.input.consumers += ours.consumers;
                lags.push(ours.lag);
            }
            if self.settings.trim_acked {
                trim_acked(control, input, &groups)?;
            }
        }
        // Known only if it is known of every shard.
        queues.input.lag = lags.into_iter().sum();
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
