//! The topic in which `redis-to-kafka` keeps its places: for each stream, the last entry that is in
//! Kafka. A place is written in the same transaction as the messages before it.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, ANSWER_LIMIT, QueryContext};
use super::status::BridgeStatus;
use crate::base::{Fault, Stop};
use crate::config::KafkaConfig;
use crate::frame::EntryId;
use crate::metrics::clock::Tick;

/// Name of the topic.
pub(super) const TOPIC: &str = "framepress_bridge_positions";

/// Creates the topic. It is compacted in small segments, so that a start has little to read.
pub(super) fn create(kafka: &KafkaConfig) -> Result<(), Fault> {
    let admin: AdminClient<QueryContext> = client::configuration(kafka)
        .create_with_context(QueryContext::default())
        .map_err(client::unusable)?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(-1))
        .set("cleanup.policy", "compact")
        .set("segment.bytes", "1048576")
        .set("min.cleanable.dirty.ratio", "0.1");
    let options = AdminOptions::new().request_timeout(Some(ANSWER_LIMIT));
    let failed = |detail: String| Fault::Kafka {
        what: format!("creating the topic {TOPIC}"),
        detail: format!("{detail}; it can be created by hand, with cleanup.policy=compact"),
    };
    let made = client::within_limit(admin.create_topics([&topic], &options))
        .ok_or_else(|| failed("no answer of the brokers".into()))?
        .map_err(|error| failed(error.to_string()))?;
    for result in made {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(failed(code.to_string())),
        }
    }
    Ok(())
}

/// Maximum time that a transaction of another bridge may stay open; it hides the records after it.
const OPEN_LIMIT: Duration = Duration::from_secs(70);

/// The committed place of each stream by name; `None` for a record that is not a place. `None`
/// instead of a map if there is no such topic.
pub(super) fn read(
    kafka: &KafkaConfig,
    status: &BridgeStatus,
    stop: &Stop,
) -> Result<Option<HashMap<String, Option<EntryId>>>, Fault> {
    let what = || format!("reading {TOPIC}");
    let failed = |error: KafkaError| client::fault(what(), &error);
    let consumer = client::asking(kafka, &kafka.bridge_group)?;
    let mut waited = client::partitions(&consumer, TOPIC)?;
    if waited.is_empty() {
        return Ok(None);
    }
    // Wait until the transactions of all present records are decided; only then can the records be
    // read.
    let mut undecided = client::consumer(kafka, &kafka.bridge_group);
    let undecided: BaseConsumer<QueryContext> = undecided
        .set("isolation.level", "read_uncommitted")
        .create_with_context(QueryContext::default())
        .map_err(client::unusable)?;
    let began = Tick::now();
    for partition in &waited {
        let end = |consumer: &BaseConsumer<QueryContext>| {
            let range = consumer.fetch_watermarks(TOPIC, *partition, ANSWER_LIMIT);
            range.map(|(_, end)| end).map_err(failed)
        };
        let all = end(&undecided)?;
        while end(&consumer)? < all {
            status.beat();
            if began.elapsed() > OPEN_LIMIT || stop.sleep(Duration::from_millis(200)) {
                let detail = "a transaction of another bridge stays open".into();
                return Err(Fault::Kafka { what: what(), detail });
            }
        }
    }
    let mut list = TopicPartitionList::new();
    for partition in &waited {
        list.add_partition_offset(TOPIC, *partition, Offset::Beginning).map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    let mut places = HashMap::new();
    let mut progress = Tick::now();
    while !waited.is_empty() {
        match consumer.poll(ANSWER_LIMIT / 10) {
            Some(Ok(message)) => {
                progress = Tick::now();
                let stream =
                    String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
                match message.payload() {
                    Some(text) => drop(places.insert(stream, EntryId::parse(text))),
                    None => drop(places.remove(&stream)),
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                waited.retain(|it| *it != partition);
            }
            Some(Err(error)) => return Err(failed(error)),
            None => {}
        }
        if progress.elapsed() > ANSWER_LIMIT || stop.is_draining() {
            let detail = "no answer of the brokers".into();
            return Err(Fault::Kafka { what: what(), detail });
        }
    }
    Ok(Some(places))
}
