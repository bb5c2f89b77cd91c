//! Housekeeping beside the stages: measuring the queues, and trimming what all groups have
//! acknowledged. No frame waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use super::recent::{History, Point, Rates, Recent};

use super::feeds::Feeds;
use super::group::Groups;
use super::recent::Looks;
use super::retry::Attempts;
use crate::base::threads::{LoopHook, Role};
use crate::base::{Fault, Stop};
use crate::frame::EntryId;
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Counter, Metrics, Recorder, Timer};
use crate::redis::{Control, DeadLetterNote, Streams, Topology};

/// How often queues are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// Shortest time between reads of the latest dead letters: Redis has to touch their frames.
const DEAD_LETTER_PERIOD: Duration = Duration::from_secs(3);

/// Dead letters kept for the dashboard.
const DEAD_LETTERS_SHOWN: usize = 20;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What the watcher needs to know.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// Where Redis is.
    pub topology: Topology,
    /// Input, output and dead-letter stream of each shard.
    pub streams: Vec<Streams>,
    /// The consumer group of this engine.
    pub group: String,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Whether to trim input entries that every group has acknowledged.
    pub trim_acked: bool,
    /// The consumer of each shard.
    pub consumers: Vec<String>,
    /// Idle time after which other engines claim entries.
    pub claim_idle: Duration,
    /// Whether no other engine claims entries in work here, however long they take.
    pub is_exclusive: bool,
    /// The states of the cameras.
    pub feeds: Arc<Feeds>,
    /// The loop hook, called at each loop iteration.
    pub loop_hook: LoopHook,
}

/// How one kind of queue stands, over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueState {
    /// Entries in the streams.
    pub depth: u64,
    /// Entries delivered to this engine's group and not acknowledged.
    pub pending: u64,
    /// Entries not delivered to this engine's group yet; `None` if Redis cannot tell.
    pub lag: Option<u64>,
    /// Consumers in this engine's group.
    pub consumers: u64,
    /// Memory taken, in bytes, by Redis' estimate.
    pub memory_bytes: u64,
    /// Time since the oldest pending entry was added; zero if none is pending.
    pub oldest_pending: Duration,
}

impl QueueState {
    /// The sum of both.
    fn and(self, other: QueueState) -> QueueState {
        QueueState {
            depth: self.depth + other.depth,
            pending: self.pending + other.pending,
            // Known only if it is known of both.
            lag: self.lag.zip(other.lag).map(|(one, two)| one + two),
            consumers: self.consumers + other.consumers,
            memory_bytes: self.memory_bytes + other.memory_bytes,
            oldest_pending: self.oldest_pending.max(other.oldest_pending),
        }
    }
}

/// Memory of the server, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerMemory {
    /// In use.
    pub used: u64,
    /// `maxmemory`; 0 for no limit.
    pub limit: u64,
}

/// The latest dead letters, as of the last read.
#[derive(Clone, Debug, Default)]
pub struct DeadLetters {
    /// When they were read, in seconds since the Unix epoch; `None` before the first read.
    pub as_of: Option<f64>,
    /// The newest first, of all shards together.
    pub latest: Vec<DeadLetterNote>,
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
    /// Rates of the last ten seconds.
    pub rates: Rates,
    /// Latencies of the last ten seconds.
    pub recent: Recent,
    /// Memory of the server.
    pub server_memory: ServerMemory,
}

/// Length and last entry of each shard's dead-letter stream, and when they were read.
type SeenLetters = (Vec<(u64, EntryId)>, Tick);

/// The watcher, ready to run.
#[derive(Debug)]
pub struct Watcher {
    settings: WatchSettings,
    queues: Arc<Mutex<Queues>>,
    dead_letters: Arc<Mutex<DeadLetters>>,
    history: Arc<Mutex<History>>,
    /// Input, output and dead letters of each shard, as of its last successful look.
    shards: Vec<Streams<QueueState>>,
    server_memory: ServerMemory,
    /// Length and last entry of each shard's dead-letter stream.
    dead_letter_ends: Vec<(u64, EntryId)>,
    /// State of the dead-letter streams when the latest dead letters were read.
    dead_letters_seen: Option<SeenLetters>,
    metrics: Arc<Metrics>,
    groups: Arc<Groups>,
    recorder: Recorder,
    stop: Stop,
    looks: Looks,
}

impl Watcher {
    /// A watcher that keeps `queues`, `dead_letters` and `history` up to date.
    pub fn new(
        settings: WatchSettings,
        queues: Arc<Mutex<Queues>>,
        dead_letters: Arc<Mutex<DeadLetters>>,
        history: Arc<Mutex<History>>,
        metrics: Arc<Metrics>,
        groups: Arc<Groups>,
        stop: Stop,
    ) -> Watcher {
        let shards = vec![Default::default(); settings.streams.len()];
        let dead_letter_ends = vec![Default::default(); settings.streams.len()];
        Watcher {
            settings,
            queues,
            shards,
            server_memory: ServerMemory::default(),
            dead_letters,
            history,
            dead_letter_ends,
            dead_letters_seen: None,
            recorder: metrics.recorder(),
            metrics,
            groups,
            stop,
            looks: Looks::default(),
        }
    }

    /// Watches until draining begins.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if the address cannot be used. An unreachable server is tried again.
    pub fn run(mut self) -> Result<(), Fault> {
        // A short time-out: nothing depends on a single look, but a stop waits for it.
        let mut control = Control::new(&self.settings.topology, self.settings.timeout.min(TIMEOUT));
        let mut attempts =
            Attempts::new("watching the queues", self.settings.topology.pause_longest());
        loop {
            self.settings.loop_hook.call(Role::Watch);
            let began = Tick::now();
            let (rates, recent) = self.looks.look(&self.metrics);
            // A fault at one server must not keep the rest from being done.
            let renewed = self.renew(&mut control);
            let looked = self.look(&mut control);
            *self.queues.lock() = Queues { rates, recent, ..self.seen() };
            match renewed.and(looked) {
                Ok(()) => {
                    attempts.succeeded();
                    if let Err(fault) = self.look_at_dead_letters(&mut control) {
                        // Without script rights the dashboard shows no dead letters; nothing else
                        // changes.
                        tracing::debug!("cannot read the latest dead letters: {fault}");
                    }
                    if let Err(fault) = self.settings.feeds.look(&mut control) {
                        tracing::debug!("cannot look at the states of the cameras: {fault}");
                    }
                }
                Err(fault) => attempts.failed(&fault),
            }
            let input = self.queues.lock().input;
            self.history.lock().add(&rates, &recent, input.lag.unwrap_or(input.depth));
            if self.stop.sleep(PERIOD.saturating_sub(began.elapsed()).max(PERIOD / 10)) {
                return Ok(());
            }
        }
    }

    /// Keeps other engines from claiming entries in work here: resets the idle time of those in
    /// flight for a third of the claim time. The reader does not do this, because it matters most
    /// while the reader is held up.
    fn renew(&self, control: &mut Control) -> Result<(), Fault> {
        let settings = &self.settings;
        let mut end = Ok(());
        if settings.is_exclusive {
            return end;
        }
        for (shard, Streams { input, .. }) in settings.streams.iter().enumerate() {
            let journal = self.groups.journal(shard);
            let ids = journal.renewable(settings.claim_idle / 3);
            if ids.is_empty() {
                continue;
            }
            let consumer = &settings.consumers[shard];
            // A fault at one node must not keep the entries of the others from being renewed.
            match control.renew(input, &settings.group, consumer, &ids) {
                Ok(()) => {
                    journal.renewed(&ids);
                    self.metrics.add(Counter::Renewed, ids.len() as u64);
                }
                Err(fault) => end = end.and(Err(fault)),
            }
        }
        end
    }

    /// Looks at every shard, and returns the first fault afterwards.
    fn look(&mut self, control: &mut Control) -> Result<(), Fault> {
        let mut end = Ok(());
        for shard in 0..self.shards.len() {
            // A stop does not wait for one silent server after another.
            if end.is_err() && self.stop.is_draining() {
                return end;
            }
            end = end.and(self.look_at_shard(shard, control));
        }
        let memory = match control.info("memory") {
            // The account may not be allowed to ask.
            Err(Fault::Refused { .. }) => HashMap::default(),
            Err(fault) => return end.and(Err(fault)),
            Ok(memory) => memory,
        };
        let bytes = |key: &str| memory.get(key).and_then(|text| text.trim().parse().ok());
        self.server_memory = ServerMemory {
            used: bytes("used_memory").unwrap_or(0),
            limit: bytes("maxmemory").unwrap_or(0),
        };
        end
    }

    fn look_at_shard(&mut self, shard: usize, control: &mut Control) -> Result<(), Fault> {
        let settings = &self.settings;
        let streams = &settings.streams[shard];
        self.measure(&streams.input, control)?;
        let journal = self.groups.journal(shard);
        let epoch = journal.epoch();
        let seen = control.look(streams, &settings.group, settings.claim_idle)?;
        let mut queues = seen.streams.map(|stream| QueueState {
            depth: stream.length,
            memory_bytes: stream.memory_bytes,
            ..QueueState::default()
        });
        // Without the group the lag is unknown, not 0.
        if let Some(ours) = seen.group {
            let queue = &mut queues.input;
            (queue.lag, queue.pending) = (ours.lag, ours.pending);
            journal.reach(epoch, ours.last_delivered);
            queue.consumers = ours.consumers.saturating_sub(self.groups.identities(shard));
            let oldest = seen.first_pending.filter(|_| ours.pending > 0);
            queue.oldest_pending = oldest
                .map_or(Duration::ZERO, |oldest| self.metrics.redis_clock.age_of(oldest.millis));
        }
        if seen.stale.iter().any(|id| !journal.holds(*id)) {
            self.groups.set_stale(shard);
        }
        self.dead_letter_ends[shard] = (queues.dead_letters.depth, seen.last_dead_letter);
        self.shards[shard] = queues;
        if settings.trim_acked
            && let Some((identity, tenure)) = self.groups.settled(shard, settings.claim_idle)
        {
            let held = journal.oldest();
            let tenure = tenure.as_ref();
            control.trim_acked_under(tenure, &streams.input, &settings.group, &identity, held)?;
        }
        Ok(())
    }

    /// Measures the round trip to the server of a stream, and reads the server's clock again:
    /// clocks drift and are set, and the age of frames decides about shedding.
    fn measure(&self, stream: &str, control: &mut Control) -> Result<(), Fault> {
        match control.server_time(stream) {
            Ok(answer) => {
                let trip = answer.asked.elapsed();
                self.metrics.redis_clock.sample(answer.time, answer.asked);
                self.metrics.round_trips.of(&answer.server).sample(trip);
                self.recorder.record(Timer::RoundTrip, trip);
                Ok(())
            }
            // The account may not be allowed to ask.
            Err(Fault::Refused { .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    /// The sum over all shards, as last seen.
    fn seen(&self) -> Queues {
        let sum = |of: fn(&Streams<QueueState>) -> QueueState| {
            self.shards.iter().map(of).reduce(QueueState::and).unwrap_or_default()
        };
        Queues {
            input: sum(|queues| queues.input),
            output: sum(|queues| queues.output),
            dead_letter: sum(|queues| queues.dead_letters),
            server_memory: self.server_memory,
            ..Queues::default()
        }
    }

    /// Reads the latest dead letters, if they have changed since the last read.
    fn look_at_dead_letters(&mut self, control: &mut Control) -> Result<(), Fault> {
        let is_recent = |seen: &SeenLetters| seen.1.elapsed() < DEAD_LETTER_PERIOD;
        if self.dead_letters_seen.as_ref().is_some_and(is_recent) {
            return Ok(());
        }
        let streams = self.settings.streams.iter().map(|streams| &streams.dead_letters);
        let ends = self.dead_letter_ends.clone();
        if self.dead_letters_seen.as_ref().is_none_or(|(seen, _)| *seen != ends) {
            let mut latest = Vec::new();
            for stream in streams {
                latest.extend(control.dead_letters(stream, None)?);
            }
            latest.sort_by(|a, b| b.failed_at.total_cmp(&a.failed_at));
            latest.truncate(DEAD_LETTERS_SHOWN);
            self.dead_letters.lock().latest = latest;
        }
        self.dead_letters.lock().as_of = Some(unix_seconds());
        self.dead_letters_seen = Some((ends, Tick::now()));
        Ok(())
    }
}
