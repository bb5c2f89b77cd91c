//! Kafka to Redis: messages of a topic become entries of the input stream, exactly once and in the
//! order of their partition.

mod begin;
mod deliver;
mod entry;
mod room;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::assignment::{GroupMember, Wish};
use super::client;
use super::status::BridgeStatus;
use super::{BATCH_BYTES, BATCH_MESSAGES, LOOK, PAUSE, Setup, is_final};
use crate::base::{Fault, Stop};
use crate::config::Config;
use crate::metrics::clock::Tick;
use crate::redis::{Control, PlaceKeys, PlacedEntry};
use entry::entry_of;

/// Maximum wait for messages, and the interval of checking for a stop or a rebalance.
const TICK: Duration = Duration::from_millis(100);

/// How long the brokers may take to store the places at the end.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// Reads the topic and fills the streams.
pub(super) struct Inbound {
    config: Config,
    consumer: GroupMember,
    control: Control,
    keys: Vec<PlaceKeys>,
    status: Arc<BridgeStatus>,
    stop: Stop,
    /// Partitions assigned by the group, before their places are known.
    wanted: Option<Vec<i32>>,
    /// Whether this bridge is a member of the group, possibly without a partition.
    is_member: bool,
    held: BTreeMap<i32, HeldPartition>,
    /// Whether the partitions are paused in the library; `None` if unknown.
    is_paused: Option<bool>,
    looked: Option<Tick>,
    /// Unprocessed entries in the streams at the last look, plus those added since.
    backlog: u64,
    committed: Tick,
    /// The ends of all partitions at the start, if the bridge should stop there.
    goal: Option<BTreeMap<i32, i64>>,
}

/// A partition that is being read.
#[derive(Debug, Default)]
struct HeldPartition {
    /// For each stream, the stored place.
    places: Vec<Option<i64>>,
    /// For each stream, messages not stored yet.
    taken: Vec<Vec<PlacedEntry>>,
    /// The offset after the last message taken.
    next: i64,
    /// Bytes of the values not stored yet.
    bytes: u64,
    /// The answer to the last step was lost, so the stored place may be further on.
    is_unsure: bool,
    /// The end of the partition was reached.
    is_at_end: bool,
    /// The place last committed to Kafka.
    told: i64,
}

impl HeldPartition {
    fn has_taken(&self) -> bool {
        self.taken.iter().any(|entries| !entries.is_empty())
    }

    /// The place up to which every stream has all messages.
    fn place(&self) -> i64 {
        self.places.iter().map(|place| place.unwrap_or(0)).min().unwrap_or(0)
    }
}

impl Inbound {
    pub fn new(setup: Setup, status: &Arc<BridgeStatus>, stop: &Stop) -> Result<Inbound, Fault> {
        let Setup { config, topology, streams, until_caught_up } = setup;
        let kafka = &config.kafka;
        let mut client = client::consumer(kafka, &kafka.bridge_group);
        client.set("statistics.interval.ms", "1000");
        let consumer = GroupMember::create(&client)?;
        let keys: Vec<PlaceKeys> = streams
            .iter()
            .map(|names| PlaceKeys::of(&names.input, &names.dead_letters, &kafka.input_topic))
            .collect();
        if topology.is_cluster() && !keys.iter().all(PlaceKeys::are_together) {
            return Err(Fault::Unusable(format!(
                "{} and its dead letters lie in different slots of the Cluster; valid: an input_queue \
                 with a hash tag, as in {{camera}}, or shards from 2",
                keys[0].stream
            )));
        }
        let control = Control::new(topology, Duration::from_secs(config.redis_queue.timeout));
        Ok(Inbound {
            config,
            consumer,
            control,
            keys,
            status: Arc::clone(status),
            stop: stop.clone(),
            wanted: None,
            is_member: false,
            held: BTreeMap::new(),
            is_paused: None,
            looked: None,
            backlog: 0,
            committed: Tick::now(),
            goal: until_caught_up.then(BTreeMap::new),
        })
    }

    fn topic(&self) -> &str {
        &self.config.kafka.input_topic
    }

    /// Runs until a stop, or until it has caught up.
    pub fn run(&mut self) -> Result<(), Fault> {
        self.consumer
            .subscribe(&[self.topic()])
            .map_err(|error| client::fault(format!("subscribing to {}", self.topic()), &error))?;
        self.set_goal()?;
        while !self.stop.is_draining() {
            self.status.beat();
            match self.step() {
                Ok(()) => {}
                Err(fault) => {
                    self.note(&fault);
                    if is_final(&fault) || !self.config.redis_queue.retry_on_failure {
                        return Err(fault);
                    }
                    self.serve(PAUSE);
                }
            }
            if self.is_done()? {
                break;
            }
        }
        // Messages that were taken and not stored are read again later: their place has not moved.
        let end = self.deliver();
        self.tell_kafka();
        self.leave();
        match end {
            Err(fault) if !self.stop.is_draining() => Err(fault),
            _ => Ok(()),
        }
    }

    /// Adds the reason why no broker can be reached to a fault.
    fn explained(&self, fault: Fault) -> Fault {
        self.consumer.context().words.explain(fault)
    }

    /// The fault of a library call, with the same reason.
    fn fault(&self, what: impl Into<String>, error: &KafkaError) -> Fault {
        self.consumer.context().words.fault(what, error)
    }

    /// Reports a fault that keeps the bridge from working.
    fn note(&self, fault: &Fault) {
        if fault.redis_code() == Some("OOM") {
            self.status.set_paused(true, "Redis has no memory left");
        } else {
            self.status.suffers(fault);
        }
    }

    /// One round: assignment, room in the streams, messages, storing them.
    fn step(&mut self) -> Result<(), Fault> {
        match self.consumer.context().take_wish() {
            // Messages taken from revoked partitions are read again by another bridge.
            Some(Wish::Read(partitions)) => {
                self.held.clear();
                self.wanted = Some(partitions);
            }
            Some(Wish::Leave) => {
                self.held.clear();
                self.wanted = None;
                self.is_member = false;
            }
            None => {}
        }
        if self.wanted.is_some() {
            self.grant()?;
        }
        if !self.held.values().any(HeldPartition::has_taken) {
            if !self.has_room()? {
                self.serve(TICK);
                return Ok(());
            }
            self.fill()?;
        }
        self.deliver()?;
        self.status.set_paused(false, "");
        match self.consumer.context().words.last() {
            Some(last) => self.status.suffers(format!("Kafka: {last}")),
            None if self.is_member && self.wanted.is_none() => self.status.is_well(),
            None => {}
        }
        if self.committed.elapsed() >= LOOK {
            self.committed = Tick::now();
            self.tell_kafka();
            self.see_lag();
        }
        Ok(())
    }

    /// Takes the messages that have arrived, up to a batch.
    fn fill(&mut self) -> Result<(), Fault> {
        self.pause(false);
        let (mut messages, mut bytes, mut wait) = (0, 0, TICK);
        let room = self.config.kafka.max_stream_length.saturating_sub(self.backlog);
        let most = BATCH_MESSAGES.min(usize::try_from(room).unwrap_or(BATCH_MESSAGES)).max(1);
        while messages < most && bytes < BATCH_BYTES {
            match self.poll(wait)? {
                Some(size) => (messages, bytes) = (messages + 1, bytes + size),
                None => break,
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// Waits for a message and takes it. Returns its size.
    fn poll(&mut self, wait: Duration) -> Result<Option<usize>, Fault> {
        let polled = self.consumer.poll(wait);
        let error = match polled {
            None => return Ok(None),
            Some(Ok(message)) => {
                let Some(held) = self.held.get_mut(&message.partition()) else {
                    return Ok(Some(0));
                };
                if message.offset() < held.next {
                    return Ok(Some(0));
                }
                let (shard, entry) = entry_of(&message, &self.config, self.keys.len());
                held.next = message.offset() + 1;
                held.is_at_end = false;
                held.bytes += message.payload_len() as u64;
                let size = entry.fields.iter().map(Vec::len).sum();
                if entry.is_dead_letter {
                    self.status.count_refused(1);
                }
                let is_kept = !entry.is_dead_letter || self.config.redis_queue.dead_letter_queue;
                // If this shard's place is past the message, the shard already has it.
                let is_new = held.places[shard].is_none_or(|place| place < entry.after);
                if is_kept && is_new {
                    held.taken[shard].push(entry);
                }
                return Ok(Some(size));
            }
            Some(Err(error)) => error,
        };
        match error {
            KafkaError::PartitionEOF(number) => {
                if let Some(held) = self.held.get_mut(&number) {
                    held.is_at_end = true;
                }
                Ok(None)
            }
            // The offset does not exist in Kafka. A new place is chosen as at the start.
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => {
                self.read_anew();
                Ok(None)
            }
            KafkaError::MessageConsumptionFatal(code) => {
                Err(Fault::Unusable(format!("Kafka: reading {}: {code}", self.topic())))
            }
            error => Err(self.fault(format!("reading {}", self.topic()), &error)),
        }
    }

    /// Chooses the places of all partitions again.
    fn read_anew(&mut self) {
        self.wanted = Some(self.held.keys().copied().collect());
        self.held.clear();
    }

    /// Stays a member of the group without reading.
    fn serve(&mut self, limit: Duration) {
        self.pause(true);
        let began = Tick::now();
        loop {
            self.status.beat();
            let left = limit.saturating_sub(began.elapsed());
            let in_hand: usize = self.held.values().flat_map(|it| &it.taken).map(Vec::len).sum();
            if in_hand > BATCH_MESSAGES {
                self.stop.sleep(left);
                return;
            }
            // A message that arrives despite the pause is taken like any other.
            if let Err(fault) = self.poll(left.min(TICK)) {
                self.note(&fault);
                self.stop.sleep(left);
            }
            if left.is_zero() || self.stop.is_draining() {
                return;
            }
        }
    }

    fn pause(&mut self, paused: bool) {
        if self.is_paused == Some(paused) {
            return;
        }
        let Ok(list) = self.consumer.assignment() else { return };
        let done = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        if let Err(error) = done {
            tracing::debug!("pausing or resuming partitions: {error}");
            return;
        }
        self.is_paused = Some(paused);
    }

    /// Commits the places to Kafka, whose tools compute the group's lag from them.
    fn tell_kafka(&mut self) {
        let topic = self.topic().to_owned();
        let mut list = TopicPartitionList::new();
        let is_anew = self.consumer.context().take_untold();
        for (number, held) in &mut self.held {
            let place = held.place();
            if is_anew {
                held.told = -1;
            }
            if place > 0
                && place != held.told
                && list.add_partition_offset(&topic, *number, Offset::Offset(place)).is_ok()
            {
                held.told = place;
            }
        }
        if list.count() == 0 {
            return;
        }
        match self.consumer.commit(&list, CommitMode::Async) {
            Ok(()) => self.consumer.context().is_asked(),
            // Not fatal: nothing depends on it.
            Err(error) => tracing::debug!("cannot store the offsets in Kafka: {error}"),
        }
    }

    /// Waits until Kafka has stored the places, so that the old processor, if it is started again
    /// at these offsets, continues after the last message. Waits at most [`LEAVE_LIMIT`], because a
    /// broker may be down.
    fn leave(&self) {
        let began = Tick::now();
        while self.consumer.context().is_being_told() && began.elapsed() < LEAVE_LIMIT {
            let _ = self.consumer.poll(TICK);
        }
    }

    fn see_lag(&self) {
        let ends = self.consumer.context().ends();
        let lag = self.held.iter().map(|(number, held)| {
            let end = ends.get(number)?;
            u64::try_from((end - held.place()).max(0)).ok()
        });
        self.status.set_lag(lag.sum::<Option<u64>>());
    }

    /// Whether everything up to the goal is in Redis; false without a goal.
    fn is_done(&mut self) -> Result<bool, Fault> {
        let Some(goal) = self.goal.clone() else { return Ok(false) };
        if self.held.values().any(HeldPartition::has_taken) || self.wanted.is_some() {
            return Ok(false);
        }
        let reached = |number: &i32, end: i64| {
            self.held.get(number).is_some_and(|held| held.is_at_end || held.place() >= end)
        };
        let others: Vec<i32> =
            goal.iter().filter(|(number, end)| !reached(number, **end)).map(|(n, _)| *n).collect();
        if others.iter().any(|number| self.held.contains_key(number)) {
            return Ok(false);
        }
        // The other partitions belong to other bridges of the group.
        for keys in &self.keys {
            let Ok(places) = self.control.places(keys, &others) else { return Ok(false) };
            let is_short = |(place, number): (Option<i64>, &i32)| place.unwrap_or(0) < goal[number];
            if places.into_iter().zip(&others).any(is_short) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
