//! Which partitions this bridge reads, and from where.
//!
//! Kafka's group says which; the places in Redis say from where. The library asks for an assignment
//! within a call, in which nothing may be waited for: so the wish is noted, and granted by the thread of
//! the bridge as soon as Redis has said the places. Until then the library fetches nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;

use super::client::Words;

/// What Kafka's group wants of this bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To read these partitions, and no others.
    Read(Vec<i32>),
    /// To read none.
    Leave,
}

/// The context of the consumer that reads frames.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// What the library said.
    pub words: Words,
    wish: Mutex<Option<Wish>>,
    ends: Mutex<BTreeMap<i32, i64>>,
    /// Places on their way to Kafka.
    asked: AtomicUsize,
    is_untold: AtomicBool,
}

impl Group {
    /// The newest wish that has not been taken.
    pub fn take_wish(&self) -> Option<Wish> {
        self.wish.lock().take()
    }

    /// Places are on their way to Kafka.
    pub fn is_asked(&self) {
        self.asked.fetch_add(1, Relaxed);
    }

    /// Whether places are on their way to Kafka.
    pub fn is_being_told(&self) -> bool {
        self.asked.load(Relaxed) > 0
    }

    /// Whether Kafka has not taken some since this was asked last.
    pub fn take_untold(&self) -> bool {
        self.is_untold.swap(false, Relaxed)
    }

    /// The offset behind the last message of each partition, as last heard.
    pub fn ends(&self) -> BTreeMap<i32, i64> {
        self.ends.lock().clone()
    }
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.words.error(&error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.nodeid >= 0 && broker.state == "UP") {
            self.words.are_answered();
        }
        let mut ends = self.ends.lock();
        for topic in statistics.topics.values() {
            for (number, partition) in &topic.partitions {
                if partition.hi_offset >= 0 {
                    ends.insert(*number, partition.hi_offset);
                }
            }
        }
    }
}

impl ConsumerContext for Group {
    fn commit_callback(&self, result: KafkaResult<()>, _places: &TopicPartitionList) {
        let _ = self.asked.fetch_update(Relaxed, Relaxed, |asked| asked.checked_sub(1));
        if let Err(error) = result {
            self.is_untold.store(true, Relaxed);
            tracing::debug!("Kafka does not take the places: {error}");
        }
    }

    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let wish = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Wish::Read(list.elements().iter().map(|element| element.partition()).collect())
            }
            _ => {
                // The group waits for it.
                if let Err(error) = consumer.unassign() {
                    tracing::debug!("leaving partitions: {error}");
                }
                Wish::Leave
            }
        };
        *self.wish.lock() = Some(wish);
    }
}
