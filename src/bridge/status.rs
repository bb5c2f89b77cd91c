//! The state of a direction of the bridge.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::text;
use crate::metrics::clock::Tick;

/// No wait of a direction may take longer than this without a sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The direction in which messages are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Frames, from Kafka to Redis.
    KafkaToRedis,
    /// Results, from Redis to Kafka.
    RedisToKafka,
}

impl Direction {
    /// Its name in metrics and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Direction::KafkaToRedis => "kafka-to-redis",
            Direction::RedisToKafka => "redis-to-kafka",
        }
    }
}

/// A time series of the metrics.
#[derive(Clone, Copy, Debug)]
pub struct BridgeSeries {
    /// Its name.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Its value, if it is known.
    pub value: fn(&BridgeStatus) -> Option<u64>,
}

/// Every series, each with the label `direction`.
#[rustfmt::skip]
pub const SERIES: [BridgeSeries; 7] = [
    BridgeSeries { name: "framepress_bridge_messages_total", kind: "counter", help: "Messages moved to the other side.", value: |it| Some(it.messages()) },
    BridgeSeries { name: "framepress_bridge_bytes_total", kind: "counter", help: "Bytes of the values of the messages moved.", value: |it| Some(it.bytes()) },
    BridgeSeries { name: "framepress_bridge_refused_total", kind: "counter", help: "Messages that the other side cannot accept; they are in the dead letters.", value: |it| Some(it.refused()) },
    BridgeSeries { name: "framepress_bridge_fenced_total", kind: "counter", help: "Times that another bridge stored a new position or took over.", value: |it| Some(it.fenced()) },
    BridgeSeries { name: "framepress_bridge_lost_total", kind: "counter", help: "Messages deleted at the source before the bridge could read them.", value: |it| Some(it.lost()) },
    BridgeSeries { name: "framepress_bridge_lag", kind: "gauge", help: "Messages that wait at the source.", value: BridgeStatus::lag },
    BridgeSeries { name: "framepress_bridge_paused", kind: "gauge", help: "1 while the bridge waits for room at the other side; else 0.", value: |it| Some(it.is_paused().into()) },
];

/// The counters and the state of a direction.
#[derive(Debug)]
pub struct BridgeStatus {
    /// The direction.
    pub direction: Direction,
    messages: AtomicU64,
    bytes: AtomicU64,
    refused: AtomicU64,
    fenced: AtomicU64,
    lost: AtomicU64,
    lag: AtomicI64,
    paused: AtomicBool,
    problem: Mutex<Option<String>>,
    begun: AtomicBool,
    life: Mutex<Tick>,
}

impl BridgeStatus {
    pub(super) fn new(direction: Direction) -> BridgeStatus {
        BridgeStatus {
            direction,
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            fenced: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            lag: AtomicI64::new(-1),
            paused: AtomicBool::new(false),
            problem: Mutex::new(None),
            begun: AtomicBool::new(false),
            life: Mutex::new(Tick::now()),
        }
    }

    /// Messages handed over.
    pub fn messages(&self) -> u64 {
        self.messages.load(Relaxed)
    }

    /// Total bytes of the messages' values.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Messages that the other side refused; they are in the dead letters.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// How often another bridge had moved the place or taken over.
    pub fn fenced(&self) -> u64 {
        self.fenced.load(Relaxed)
    }

    /// Messages that were deleted before they could be read.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Messages that wait at the source; `None` if unknown.
    pub fn lag(&self) -> Option<u64> {
        u64::try_from(self.lag.load(Relaxed)).ok()
    }

    /// Whether it waits for room on the other side.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Relaxed)
    }

    /// What keeps it from working, if anything.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// The reason why it is not ready; `None` if it is.
    pub fn unready(&self) -> Option<String> {
        match self.problem() {
            None if !self.begun.load(Relaxed) => Some("starting".into()),
            problem => problem,
        }
    }

    /// A description of the hang, if it hangs.
    pub fn hangs(&self) -> Option<String> {
        let silence = self.life.lock().elapsed();
        (silence > SILENCE_MAX).then(|| format!("no sign of life for {} s", silence.as_secs()))
    }

    /// One line for the log and the service manager.
    pub fn summary(&self) -> String {
        let lag = self.lag().map_or_else(|| "unknown".into(), |lag| lag.to_string());
        let paused = if self.is_paused() { ", paused" } else { "" };
        format!(
            "{}: {} messages, {} refused, {} fenced, {} lost; lag {lag}{paused}",
            self.direction.name(),
            self.messages(),
            self.refused(),
            self.fenced(),
            self.lost(),
        )
    }

    pub(super) fn beat(&self) {
        *self.life.lock() = Tick::now();
    }

    pub(super) fn moved(&self, messages: u64, bytes: u64) {
        self.messages.fetch_add(messages, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn count_refused(&self, messages: u64) {
        self.refused.fetch_add(messages, Relaxed);
    }

    pub(super) fn count_fenced(&self) {
        self.fenced.fetch_add(1, Relaxed);
    }

    pub(super) fn count_lost(&self, messages: u64) {
        self.lost.fetch_add(messages, Relaxed);
    }

    pub(super) fn set_lag(&self, lag: Option<u64>) {
        self.lag.store(lag.and_then(|lag| i64::try_from(lag).ok()).unwrap_or(-1), Relaxed);
    }

    pub(super) fn set_paused(&self, paused: bool, why: &str) {
        if self.paused.swap(paused, Relaxed) != paused {
            let direction = self.direction.name();
            if paused {
                tracing::warn!("{direction}: paused: {}", text::line(why));
            } else {
                tracing::info!("{direction}: continues");
            }
        }
    }

    /// Records what keeps it from working. Logged once per problem.
    pub(super) fn suffers(&self, why: impl std::fmt::Display) {
        let why = text::line(&why.to_string());
        let mut problem = self.problem.lock();
        if problem.as_ref() != Some(&why) {
            tracing::warn!("{}: {why}; the bridge tries again", self.direction.name());
            *problem = Some(why);
        }
    }

    /// Records that it works.
    pub(super) fn is_well(&self) {
        self.begun.store(true, Relaxed);
        if self.problem.lock().take().is_some() {
            tracing::info!("{}: works again", self.direction.name());
        }
    }
}
