//! Floor 5: moves messages between Kafka and Redis, for systems that migrate from one to the other.
//!
//! Each direction is one thread. It hands each message over exactly once, because the place in the
//! source is stored together with the messages: in Redis by one script that first compares the
//! place, in Kafka by one transaction. So a second bridge, a restart or a lost answer neither loses
//! nor duplicates messages.
//!
//! Reading order: `status` (the state of a direction), `client` (librdkafka), `inbound` with
//! `assignment` (Kafka to Redis), `outbound` with `result` and `positions` (Redis to Kafka),
//! `compare`.

mod assignment;
mod client;
mod compare;
mod inbound;
mod outbound;
mod positions;
mod result;
mod status;
mod trial;

use std::sync::Arc;
use std::time::Duration;

use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Reason, Stop};
use crate::config::Config;
use crate::metrics::clock::unix_seconds;
use crate::redis::{DEAD_LETTER_FIELDS, Streams, Topology};

use inbound::Inbound;
use outbound::OutboundBridge;

pub use compare::{Agreement, Comparison, Difference, Side, compare};
pub use status::{BridgeSeries, BridgeStatus, Direction, SERIES};
pub use trial::{KafkaFound, TopicFacts, try_out};

/// Maximum messages and bytes of one script call or transaction. During the script Redis answers no
/// other client. The last message may exceed the bytes.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 8 << 20;

/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(300);

/// How often the depth of the streams is checked while they are far from full.
const LOOK: Duration = Duration::from_millis(500);

/// The inputs of a direction.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The configuration.
    pub config: Config,
    /// The Redis servers.
    pub topology: Topology,
    /// Input, output and dead-letter stream of every shard.
    pub streams: Vec<Streams>,
    /// Whether to end once everything that existed at the start has been moved.
    pub until_caught_up: bool,
}

/// A running direction.
#[derive(Debug)]
pub struct Bridge {
    status: Arc<BridgeStatus>,
    thread: Running,
}

impl Bridge {
    /// Starts a direction.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for an unusable configuration; [`Fault::Io`] if no thread can be
    /// started.
    pub fn start(direction: Direction, setup: Setup, stop: &Stop) -> Result<Bridge, Fault> {
        has_brokers(&setup.config)?;
        let status = Arc::new(BridgeStatus::new(direction));
        let identity = Identity { role: Role::Bridge, index: 0, core: None };
        let thread = match direction {
            Direction::KafkaToRedis => {
                let mut inbound = Inbound::new(setup, &status, stop)?;
                threads::spawn(identity, stop, move || inbound.run())?
            }
            Direction::RedisToKafka => {
                let mut outbound = OutboundBridge::new(setup, &status, stop)?;
                threads::spawn(identity, stop, move || outbound.run())?
            }
        };
        Ok(Bridge { status, thread })
    }

    /// The live state of the direction.
    pub fn status(&self) -> &Arc<BridgeStatus> {
        &self.status
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// The fault that ended it.
    pub fn wait(self) -> Result<(), Fault> {
        self.thread.join()
    }
}

/// Whether retrying cannot help.
fn is_final(fault: &Fault) -> bool {
    matches!(fault, Fault::Unusable(_) | Fault::Io { .. })
}

/// The fields added to a message that the other side does not take.
fn dead_letter(
    id: &str,
    queue: &str,
    reason: Reason,
    detail: &str,
) -> impl Iterator<Item = (&'static str, String)> {
    let failed_at = format!("{:.3}", unix_seconds());
    let values = [id, queue, reason.code(), detail, "bridge", "0", &failed_at].map(str::to_owned);
    DEAD_LETTER_FIELDS.into_iter().zip(values)
}

/// Fails if no Kafka is configured.
fn has_brokers(config: &Config) -> Result<(), Fault> {
    match config.kafka.bootstrap_servers.is_empty() {
        true => Err(Fault::Unusable(
            "kafka.bootstrap_servers names no broker; valid: as in [localhost:9092]".into(),
        )),
        false => Ok(()),
    }
}
