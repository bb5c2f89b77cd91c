//! Decides which partitions this bridge reads, and from which offset.
//!
//! Kafka's consumer group assigns the partitions; the places in Redis give the offsets. The library
//! announces an assignment in a callback that must not wait. So the callback only notes the wish,
//! and the bridge's thread grants it once Redis has returned the places. Until then the library
//! fetches nothing.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;

use super::client::{self, Words};
use crate::base::Fault;

/// What Kafka's consumer group wants this bridge to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Read these partitions and no others.
    Read(Vec<i32>),
    /// Read none.
    Leave,
}

/// The context of the consumer that reads frames.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Messages of the library.
    pub words: Words,
    wish: Mutex<Option<Wish>>,
    ends: Mutex<BTreeMap<i32, i64>>,
    /// Number of commits of places to Kafka that are not answered yet.
    asked: AtomicUsize,
    is_untold: AtomicBool,
}

impl Group {
    /// Takes the newest wish, if it has not been taken.
    pub fn take_wish(&self) -> Option<Wish> {
        self.wish.lock().take()
    }

    /// Counts a commit of places sent to Kafka.
    pub fn is_asked(&self) {
        self.asked.fetch_add(1, Relaxed);
    }

    /// Whether a commit of places to Kafka is not answered yet.
    pub fn is_being_told(&self) -> bool {
        self.asked.load(Relaxed) > 0
    }

    /// Whether Kafka refused places since the last call.
    pub fn take_untold(&self) -> bool {
        self.is_untold.swap(false, Relaxed)
    }

    /// For each partition, the last reported offset after its last message.
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
            tracing::debug!("Kafka did not store the offsets: {error}");
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
                // The group waits until the partitions are released.
                if let Err(error) = consumer.unassign() {
                    tracing::debug!("cannot release the partitions: {error}");
                }
                Wish::Leave
            }
        };
        *self.wish.lock() = Some(wish);
    }
}

/// How long a broker may take to answer before a member leaves its group.
const BROKER_LIMIT: Duration = Duration::from_secs(5);

/// The consumer that reads frames. When it is dropped it leaves its group, if a broker answers
/// within [`BROKER_LIMIT`]. The library itself waits for brokers that are gone, for minutes.
pub(super) struct GroupMember(Arc<BaseConsumer<Group>>);

impl GroupMember {
    /// Creates the consumer, which belongs to no group before it subscribes.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for settings that the library refuses.
    pub fn create(client: &ClientConfig) -> Result<GroupMember, Fault> {
        let consumer = client.create_with_context(Group::default()).map_err(client::unusable)?;
        Ok(GroupMember(Arc::new(consumer)))
    }
}

impl Deref for GroupMember {
    type Target = BaseConsumer<Group>;

    fn deref(&self) -> &BaseConsumer<Group> {
        &self.0
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        if let Err(error) = self.0.fetch_metadata(None, BROKER_LIMIT) {
            tracing::debug!("the bridge does not leave its group: {error}");
            // The brokers end the membership after the session time-out.
            std::mem::forget(Arc::clone(&self.0));
        }
    }
}
