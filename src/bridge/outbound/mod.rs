//! Redis to Kafka: entries of the output streams become messages, exactly once and in order.
//!
//! One transaction contains the messages and the place after them. At a start, the bridge fences an
//! earlier one, reads the places, and continues after them. The consumer group in Redis only
//! follows, so that results that are not in Kafka yet are not trimmed.

mod transaction;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};
use redis::cmd;

use super::client::{self, ANSWER_LIMIT};
use super::result::message;
use super::status::BridgeStatus;
use super::{BATCH_BYTES, BATCH_MESSAGES, LOOK, PAUSE, Setup, dead_letter, is_final, positions};
use crate::base::{Fault, Reason, Stop};
use crate::config::{Begin, Config};
use crate::frame::EntryId;
use crate::metrics::clock::{Tick, unix_millis};
use crate::redis::{Control, Record, StreamCounts, Streams, dead_letters_of};
use transaction::{Deliveries, Failed};

/// How far a place may be ahead of the clock, which may have been set back, in milliseconds. New
/// results need ids after the place, and after a place further ahead there may be none left.
const AHEAD_MS_MAX: u64 = 366 * 24 * 3_600_000;

/// Maximum wait for entries.
const BLOCK: Duration = Duration::from_millis(500);

/// Reads the output streams and fills the topic.
pub(super) struct OutboundBridge {
    config: Config,
    control: Control,
    sources: Vec<OutputStream>,
    producer: Option<BaseProducer<Deliveries>>,
    status: Arc<BridgeStatus>,
    stop: Stop,
    until_caught_up: bool,
    looked: Option<Tick>,
    /// Number of entries to send one by one, because the broker refuses one of them.
    alone: usize,
}

/// An output stream.
#[derive(Debug)]
struct OutputStream {
    stream: String,
    /// The last entry that is in Kafka.
    place: EntryId,
    /// Number of entries up to that one, if known.
    read: Option<u64>,
    /// Mean size in bytes of recent entries.
    mean_bytes: usize,
    /// The last entry at the start.
    goal: Option<EntryId>,
    /// The last look found nothing after the place.
    is_dry: bool,
    /// The last entry moved to the dead letters.
    refused: EntryId,
}

impl OutboundBridge {
    pub fn new(
        setup: Setup,
        status: &Arc<BridgeStatus>,
        stop: &Stop,
    ) -> Result<OutboundBridge, Fault> {
        let Setup { config, topology, streams, until_caught_up } = setup;
        let control = Control::new(topology, Duration::from_secs(config.redis_queue.timeout));
        let source = |streams: Streams| OutputStream {
            stream: streams.output,
            place: EntryId::default(),
            read: None,
            mean_bytes: BATCH_BYTES / 4,
            goal: None,
            is_dry: false,
            refused: EntryId::default(),
        };
        Ok(OutboundBridge {
            config,
            control,
            sources: streams.into_iter().map(source).collect(),
            producer: None,
            status: Arc::clone(status),
            stop: stop.clone(),
            until_caught_up,
            looked: None,
            alone: 0,
        })
    }

    /// Runs until a stop, or until it has caught up.
    pub fn run(&mut self) -> Result<(), Fault> {
        while !self.stop.is_draining() {
            self.status.beat();
            let fault = match self.round() {
                Ok(()) if self.is_done() => break,
                Ok(()) => continue,
                Err(Failed::Fenced(fault)) => {
                    self.status.count_fenced();
                    return Err(fault);
                }
                // Each entry is sent alone until the oversized one is found.
                Err(Failed::TooLarge) => continue,
                Err(Failed::Aborted(fault)) => fault,
                Err(Failed::Broken(fault)) => {
                    self.producer = None;
                    fault
                }
            };
            if self.stop.is_draining() {
                break;
            }
            self.status.suffers(&fault);
            if is_final(&fault) || !self.config.redis_queue.retry_on_failure {
                return Err(fault);
            }
            self.stop.sleep(PAUSE);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        // The entry that was the last at the start may have been deleted.
        let is_there = |source: &OutputStream| {
            source.goal.is_some_and(|goal| source.place >= goal || source.is_dry)
        };
        self.until_caught_up && self.sources.iter().all(is_there)
    }

    fn round(&mut self) -> Result<(), Failed> {
        if self.producer.is_none() {
            self.begin()?;
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            self.look().map_err(Failed::Aborted)?;
            self.looked = Some(Tick::now());
        }
        for index in 0..self.sources.len() {
            let records = self.read(index).map_err(Failed::Aborted)?;
            if records.is_empty() {
                continue;
            }
            self.hand_over(index, &records)?;
            self.follow(index).map_err(Failed::Aborted)?;
        }
        self.status.is_well();
        Ok(())
    }

    /// Fences an earlier bridge and reads its places.
    fn begin(&mut self) -> Result<(), Failed> {
        let kafka = &self.config.kafka;
        let id = format!("framepress-bridge-{}", self.config.redis_queue.output_queue);
        let mut configuration = client::configuration(kafka);
        configuration
            .set("transactional.id", id)
            .set("transaction.timeout.ms", "60000")
            .set("linger.ms", "5");
        let defaults = [
            // The brokers decide whether a message is too large.
            ("message.max.bytes", "1000000000"),
            // Chooses the partition of a key like the clients of Java and Python.
            ("partitioner", "murmur2_random"),
            ("queue.buffering.max.kbytes", "2097151"),
        ];
        for (name, value) in defaults {
            if !kafka.properties.contains_key(name) {
                configuration.set(name, value);
            }
        }
        let producer: BaseProducer<Deliveries> = configuration
            .create_with_context(Deliveries::default())
            .map_err(|error| Failed::Broken(client::unusable(error)))?;
        let explained = |fault: Fault| producer.context().words.explain(fault);
        self.take_over(&producer).map_err(|fault| Failed::Broken(explained(fault)))?;
        let asking = client::asking(kafka, &kafka.bridge_group).map_err(Failed::Broken)?;
        client::topic(&asking, &kafka.output_topic)
            .map_err(|fault| Failed::Broken(explained(fault)))?;
        let read = || positions::read(kafka, &self.status, &self.stop).map_err(Failed::Broken);
        let places = match read()? {
            Some(places) => places,
            None => {
                positions::create(kafka).map_err(Failed::Broken)?;
                // It may have existed already, but unknown to this broker.
                read()?.ok_or_else(|| {
                    let what = format!("creating the topic {}", positions::TOPIC);
                    Failed::Broken(Fault::Kafka {
                        what,
                        detail: "the topic does not exist yet".into(),
                    })
                })?
            }
        };
        for source in &mut self.sources {
            let counts = self.control.counts(&source.stream).map_err(Failed::Broken)?;
            source.goal.get_or_insert(counts.last);
            source.place = match places.get(&source.stream) {
                Some(Some(place)) => *place,
                // If it counted as no place, every result would be sent again.
                Some(None) => {
                    let what = format!("reading {}", positions::TOPIC);
                    let detail =
                        format!("the stored position of {} is not an entry id", source.stream);
                    return Err(Failed::Broken(Fault::Kafka { what, detail }));
                }
                None if kafka.begin == Begin::Latest => counts.last,
                None => EntryId::default(),
            };
            let groups = match counts.length {
                0 => Vec::new(),
                _ => self.control.groups(&source.stream).map_err(Failed::Broken)?,
            };
            let ours = groups.iter().find(|it| it.name == kafka.bridge_group);
            source.read = match ours {
                Some(ours) if ours.last_delivered == source.place => ours.read,
                // Results trimmed before the first start do not count as lost.
                None if source.place == EntryId::default() => counts.gone(),
                _ => None,
            };
            tracing::info!("redis-to-kafka: {} behind {}", source.stream, source.place);
        }
        self.producer = Some(producer);
        for index in 0..self.sources.len() {
            self.follow(index).map_err(Failed::Broken)?;
        }
        Ok(())
    }

    /// Fences an earlier bridge; its open transaction is aborted.
    fn take_over(&self, producer: &BaseProducer<Deliveries>) -> Result<(), Fault> {
        let began = Tick::now();
        loop {
            let error = match producer.init_transactions(BLOCK) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Polling makes the library report the reason.
            producer.poll(Duration::ZERO);
            let may_go_on =
                matches!(&error, KafkaError::Transaction(error) if error.is_retriable());
            if !may_go_on || began.elapsed() > ANSWER_LIMIT || self.stop.is_draining() {
                return Err(client::fault("taking over from the previous bridge", &error));
            }
            self.status.beat();
        }
    }

    /// Reads up to a batch of entries after the place.
    fn read(&mut self, index: usize) -> Result<Vec<Record>, Fault> {
        let block = BLOCK / u32::try_from(self.sources.len()).unwrap_or(1);
        let source = &mut self.sources[index];
        let count = match self.alone {
            0 => (BATCH_BYTES / source.mean_bytes.max(1)).clamp(1, BATCH_MESSAGES),
            _ => 1,
        };
        let records = self.control.after(&source.stream, source.place, count, block)?;
        source.is_dry = records.is_empty();
        if !records.is_empty() {
            let bytes: usize = records.iter().flat_map(|(_, it)| it.values()).map(Vec::len).sum();
            // The estimate at most halves per batch, so that one small entry does not admit many
            // large ones.
            source.mean_bytes = (bytes / records.len()).max(source.mean_bytes / 2).max(1);
        }
        Ok(records)
    }

    /// Writes the entries and the place after them in one transaction.
    fn hand_over(&mut self, index: usize, records: &[Record]) -> Result<(), Failed> {
        let mut outgoing = Vec::with_capacity(records.len());
        let mut bytes = 0;
        for record in records {
            match message(record, &self.config.kafka) {
                Ok(message) => {
                    bytes += message.len() as u64;
                    outgoing.push(message);
                }
                Err(why) => {
                    self.refuse(index, record, Reason::Undecodable, &why)
                        .map_err(Failed::Aborted)?;
                }
            }
        }
        let Some((last, _)) = records.last() else { return Ok(()) };
        match self.transact(index, &outgoing, *last) {
            Err(Failed::TooLarge) if records.len() == 1 => {
                let text = format!("the brokers refuse a message of {bytes} bytes");
                self.refuse(index, &records[0], Reason::TooLarge, &text)
                    .map_err(Failed::Aborted)?;
                outgoing.clear();
                bytes = 0;
                self.transact(index, &[], *last)?;
            }
            Err(Failed::TooLarge) => {
                self.alone = records.len();
                return Err(Failed::TooLarge);
            }
            done => done?,
        }
        let source = &mut self.sources[index];
        source.place = *last;
        source.read = source.read.map(|read| read + records.len() as u64);
        self.alone = self.alone.saturating_sub(records.len());
        self.status.moved(outgoing.len() as u64, bytes);
        Ok(())
    }

    /// Moves an entry that Kafka does not take to the dead letters.
    fn refuse(
        &mut self,
        index: usize,
        (id, fields): &Record,
        reason: Reason,
        why: &str,
    ) -> Result<(), Fault> {
        // Refused already: the transaction after it had to be repeated.
        if *id <= self.sources[index].refused {
            return Ok(());
        }
        let stream = self.sources[index].stream.clone();
        tracing::warn!("redis-to-kafka: {stream} {id} is refused: {why}");
        let queue = &self.config.redis_queue;
        if queue.dead_letter_queue {
            let dead_letters = dead_letters_of(&stream);
            let mut command = cmd("XADD");
            command.arg(&dead_letters).arg("MAXLEN").arg("~").arg(queue.dead_letter_max_length);
            command.arg("*");
            for (name, value) in fields {
                command.arg(name).arg(value);
            }
            for (name, value) in dead_letter(&id.to_string(), &stream, reason, why) {
                command.arg(name).arg(value);
            }
            self.control.run_on::<redis::Value>(&dead_letters, "XADD", &command)?;
        }
        self.sources[index].refused = *id;
        self.status.count_refused(1);
        Ok(())
    }

    /// Moves the consumer group to the place.
    fn follow(&mut self, index: usize) -> Result<(), Fault> {
        let OutputStream { stream, place, read, .. } = &self.sources[index];
        self.control.move_group(stream, &self.config.kafka.bridge_group, *place, *read)
    }

    /// Updates the lag, and counts results that were trimmed before they could be read.
    fn look(&mut self) -> Result<(), Fault> {
        let mut lag = Some(0);
        for source in &mut self.sources {
            let counts: StreamCounts = self.control.counts(&source.stream)?;
            if counts.last < source.place {
                if source.place.millis > unix_millis().saturating_add(AHEAD_MS_MAX) {
                    let what = format!("reading {}", positions::TOPIC);
                    let detail = format!(
                        "the stored position {} of {} is more than a year ahead of the clock; no \
                         result can have that id",
                        source.place, source.stream
                    );
                    return Err(Fault::Kafka { what, detail });
                }
                tracing::warn!(
                    "redis-to-kafka: {} ends at {}, before the stored position {}: the stream was created \
                     again, or Redis has lost its latest writes; new results get ids above the \
                     stored position",
                    source.stream,
                    counts.last,
                    source.place
                );
                let group = &self.config.kafka.bridge_group;
                self.control.move_group(&source.stream, group, source.place, None)?;
                self.control.raise_ids(&source.stream, source.place)?;
                source.read = None;
                continue;
            }
            if counts.last == source.place {
                source.read = counts.added;
            }
            if let (Some(read), Some(gone)) = (source.read, counts.gone())
                && gone > read
            {
                self.status.count_lost(gone - read);
                tracing::warn!(
                    "redis-to-kafka: {}: {} results were trimmed before the bridge could read \
                     them; raise redis_queue.max_queue_length, or set output_full: block",
                    source.stream,
                    gone - read
                );
                source.read = Some(gone);
            }
            let waiting =
                source.read.zip(counts.added).map(|(read, added)| added.saturating_sub(read));
            lag = lag.zip(waiting).map(|(lag, waiting)| lag + waiting);
        }
        self.status.set_lag(lag);
        Ok(())
    }
}
