//! The final client: it reads and decodes each result and records the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use framepress::internals::redis::Address;
use framepress::internals::wire::proto::ProcessedFrame;
use parking_lot::Mutex;
use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use redis::streams::StreamReadReply;
use serde::Deserialize;

use super::kafka::{KafkaNode, MESSAGE_BYTES_MAX};
use super::ports::Role;
use crate::Outcome;
use crate::load::now;

/// How often the reader checks for a stop request, in milliseconds.
const LOOK_MS: u64 = 100;

/// Arrival times of results, by frame number.
#[derive(Default)]
pub struct Arrivals {
    at: Vec<Option<f64>>,
    pub frames: u64,
    /// Further results of a frame that already had one.
    pub doubled: u64,
    trouble: Option<String>,
}

impl Arrivals {
    fn note(&mut self, frame_id: &str) -> Outcome<()> {
        let number = frame_id.strip_prefix("frame-").and_then(|text| text.parse::<usize>().ok());
        let number = number.ok_or_else(|| format!("a result of {frame_id:?}"))?;
        if self.at.len() <= number {
            self.at.resize(number + 1, None);
        }
        if self.at[number].is_some() {
            self.doubled += 1;
        } else {
            self.at[number] = Some(now());
            self.frames += 1;
        }
        Ok(())
    }

    /// Arrival time of a frame's result.
    pub fn of(&self, number: usize) -> Option<f64> {
        self.at.get(number).copied().flatten()
    }

    /// All arrival times in order.
    pub fn moments(&self) -> Vec<f64> {
        let mut moments: Vec<f64> = self.at.iter().flatten().copied().collect();
        moments.sort_by(f64::total_cmp);
        moments
    }
}

/// A thread that reads results from the beginning; dropping the value ends it.
pub struct ResultReader {
    arrivals: Arc<Mutex<Arrivals>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ResultReader {
    pub fn of_kafka(
        kafka: &KafkaNode,
        is_counted: bool,
        topic: &str,
        partitions: u64,
    ) -> Outcome<ResultReader> {
        let consumer: BaseConsumer = kafka
            .client(Role::Reader, is_counted)
            .set("group.id", "migration_reader")
            .set("enable.auto.commit", "false")
            .set("fetch.message.max.bytes", MESSAGE_BYTES_MAX)
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions)? {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        ResultReader::start(move |stop, arrivals| {
            while !stop.load(Ordering::Relaxed) {
                let Some(message) = consumer.poll(Duration::from_millis(LOOK_MS)) else { continue };
                let message = message?;
                let result: OldResult =
                    serde_json::from_slice(message.payload().unwrap_or_default())?;
                arrivals.lock().note(&result.frame_id)?;
            }
            Ok(())
        })
    }

    pub fn of_redis(address: &Address, stream: &str) -> Outcome<ResultReader> {
        let mut connection = redis::Client::open(format!("redis://{address}"))?.get_connection()?;
        let stream = stream.to_owned();
        ResultReader::start(move |stop, arrivals| {
            let mut place = "0".to_owned();
            while !stop.load(Ordering::Relaxed) {
                let reply: StreamReadReply = redis::cmd("XREAD")
                    .arg("COUNT")
                    .arg(32)
                    .arg("BLOCK")
                    .arg(LOOK_MS)
                    .arg("STREAMS")
                    .arg(&stream)
                    .arg(&place)
                    .query(&mut connection)?;
                for entry in reply.keys.into_iter().flat_map(|key| key.ids) {
                    let Some(redis::Value::BulkString(data)) = entry.map.get("data") else {
                        return Err("a result without data".into());
                    };
                    let result = ProcessedFrame::decode(data.as_slice())?;
                    arrivals.lock().note(&result.frame_id)?;
                    place = entry.id;
                }
            }
            Ok(())
        })
    }

    fn start(
        read: impl FnOnce(&AtomicBool, &Mutex<Arrivals>) -> Outcome<()> + Send + 'static,
    ) -> Outcome<ResultReader> {
        let arrivals: Arc<Mutex<Arrivals>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let (there, is_over) = (Arc::clone(&arrivals), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("reader".into()).spawn(move || {
            if let Err(error) = read(&is_over, &there) {
                there.lock().trouble = Some(error.to_string());
            }
        })?;
        Ok(ResultReader { arrivals, stop, thread: Some(thread) })
    }

    /// Frames whose result has been read.
    pub fn frames(&self) -> Outcome<u64> {
        let arrivals = self.arrivals.lock();
        match &arrivals.trouble {
            None => Ok(arrivals.frames),
            Some(trouble) => Err(format!("the reader: {trouble}").into()),
        }
    }

    /// Ends the thread; returns what it has read.
    pub fn end(mut self) -> Arrivals {
        self.join();
        std::mem::take(&mut self.arrivals.lock())
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for ResultReader {
    fn drop(&mut self) {
        self.join();
    }
}

/// Exactly the fields of the old processor's result.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a result that lacks a field or has another is refused")]
struct OldResult {
    frame_id: String,
    camera_id: String,
    timestamp: f64,
    quality_score: f64,
    vehicle_density: f64,
    congestion_level: String,
    weather_conditions: String,
    lighting_conditions: String,
    processing_time_ms: f64,
    validation_passed: bool,
    source_hash: String,
}
