//! Messages in and out, by librdkafka clients that have all rights.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use framepress::internals::metrics::clock::Tick;
use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{
    BorrowedMessage, DeliveryResult, Header, Headers, Message as _, OwnedHeaders,
};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::LONG;
use super::broker::{Broker, MESSAGE_BYTES_MAX};

/// A message to send, or as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `None` lets the producer choose by the key; a stored message always has a partition.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order; a name may occur more than once.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Message {
    pub fn new(value: impl Into<Vec<u8>>) -> Message {
        Message { value: Some(value.into()), ..Message::default() }
    }

    pub fn partition(mut self, partition: i32) -> Message {
        self.partition = Some(partition);
        self
    }

    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Message {
        self.key = Some(key.into());
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Message {
        self.headers.push((name.to_owned(), Some(value.into())));
        self
    }

    /// The value of the first header of that name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.and_then(|(_, value)| value.as_deref())
    }
}

/// A message of a topic.
#[derive(Clone, Debug)]
pub struct Stored {
    pub offset: i64,
    /// In milliseconds since 1970.
    pub timestamp: Option<i64>,
    pub message: Message,
}

impl Deref for Stored {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// Which messages a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// All but those of open and aborted transactions.
    Committed,
    All,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Commit,
    Abort,
}

/// Sends messages, and waits until the broker has them all.
#[track_caller]
pub fn send(broker: &Broker, topic: &str, messages: &[Message]) {
    try_send(broker.client(), topic, messages).unwrap();
}

/// The same with other client settings; returns the first error that the producer reports.
pub fn try_send(client: ClientConfig, topic: &str, messages: &[Message]) -> KafkaResult<()> {
    deliver(&producer(client)?, topic, messages)
}

/// Sends messages in a separate transaction.
#[track_caller]
pub fn send_in_transaction(broker: &Broker, topic: &str, messages: &[Message], outcome: Outcome) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut client = broker.client();
    let id = format!("fixture-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let producer = producer(client.set("transactional.id", id).clone()).unwrap();
    producer.init_transactions(LONG).unwrap();
    producer.begin_transaction().unwrap();
    deliver(&producer, topic, messages).unwrap();
    match outcome {
        Outcome::Commit => producer.commit_transaction(LONG).unwrap(),
        Outcome::Abort => producer.abort_transaction(LONG).unwrap(),
    }
}

/// The errors that a producer reports.
#[derive(Default)]
struct Failures(Mutex<Vec<KafkaError>>);

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().push(error.clone());
        }
    }
}

fn producer(mut client: ClientConfig) -> KafkaResult<BaseProducer<Failures>> {
    client.set("message.max.bytes", MESSAGE_BYTES_MAX);
    client.set("linger.ms", "0");
    if client.get("message.timeout.ms").is_none() {
        client.set("message.timeout.ms", "30000");
    }
    client.create_with_context(Failures::default())
}

fn deliver(
    producer: &BaseProducer<Failures>,
    topic: &str,
    messages: &[Message],
) -> KafkaResult<()> {
    for message in messages {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        record.partition = message.partition;
        record.key = message.key.as_deref();
        record.payload = message.value.as_deref();
        if !message.headers.is_empty() {
            let headers = message.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
                headers.insert(Header { key: &header.0, value: header.1.as_ref() })
            });
            record = record.headers(headers);
        }
        while let Err((error, back)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error);
            }
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }
    producer.flush(LONG)?;
    producer.context().0.lock().drain(..).next().map_or(Ok(()), Err)
}

/// All messages of a topic, by partition and offset. Fails after `limit`.
#[track_caller]
pub fn read(broker: &Broker, topic: &str, isolation: Isolation, limit: Duration) -> Vec<Stored> {
    collect(broker, topic, isolation, limit, |_, open| open == 0)
}

/// Waits until a topic has `count` messages; returns them by partition and offset. Fails after
/// `limit`.
#[track_caller]
pub fn read_until(
    broker: &Broker,
    topic: &str,
    isolation: Isolation,
    count: usize,
    limit: Duration,
) -> Vec<Stored> {
    collect(broker, topic, isolation, limit, |found, _| found >= count)
}

/// Reads from the beginning until `done` returns true. Its arguments are the number of messages
/// found and the number of partitions whose end has not been seen.
#[track_caller]
fn collect(
    broker: &Broker,
    topic: &str,
    isolation: Isolation,
    limit: Duration,
    done: impl Fn(usize, usize) -> bool,
) -> Vec<Stored> {
    let began = Tick::now();
    let consumer = reader(broker, isolation);
    let metadata = consumer.fetch_metadata(Some(topic), LONG).unwrap();
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    let mut open: BTreeSet<i32> = partitions.map(|partition| partition.id()).collect();
    assert!(!open.is_empty(), "there is no topic {topic}");
    let mut assignment = TopicPartitionList::new();
    for partition in &open {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut found = Vec::new();
    while !done(found.len(), open.len()) {
        let count = found.len();
        assert!(began.elapsed() < limit, "{topic}: {count} messages within {limit:?}");
        match consumer.poll(Duration::from_millis(50)) {
            None => {}
            Some(Ok(message)) => found.push(stored(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) => match error.rdkafka_error_code() {
                // The client reconnects by itself.
                Some(
                    RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
                ) => {}
                _ => panic!("{topic}: {error}"),
            },
        }
    }
    found.sort_by_key(|stored| (stored.partition, stored.offset));
    found
}

fn reader(broker: &Broker, isolation: Isolation) -> BaseConsumer {
    let level = match isolation {
        Isolation::Committed => "read_committed",
        Isolation::All => "read_uncommitted",
    };
    broker
        .client()
        .set("group.id", "fixture")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", level)
        .set("fetch.message.max.bytes", MESSAGE_BYTES_MAX)
        // The broker reports the end of a partition after this time.
        .set("fetch.wait.max.ms", "20")
        .create()
        .unwrap()
}

fn stored(message: &BorrowedMessage<'_>) -> Stored {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers = headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
    Stored {
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        message: Message {
            partition: Some(message.partition()),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.collect(),
        },
    }
}
