//! Compares results of the old processor and of the engine for the same frames.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::Serialize;
use serde_json::Value;

use super::client::{self, ANSWER_LIMIT};
use super::{Setup, has_brokers};
use crate::base::{Fault, Stop};
use crate::frame::EntryId;
use crate::metrics::clock::{Tick, unix_millis};
use crate::redis::{Control, Streams};
use crate::wire::proto::ProcessedFrame;

/// Maximum number of frames kept.
const FRAMES_MAX: usize = 1_000_000;

/// How long to wait for the second result of a frame. A frame first seen within this time before
/// the end does not count as missing on the other side.
const GRACE: Duration = Duration::from_secs(5);

/// How far back both sides are read, so that a frame does not count as missing because its other
/// result came before the beginning.
const HISTORY: Duration = Duration::from_secs(30);

/// How long one side is read before the other.
const INTERVAL: Duration = Duration::from_millis(50);

/// Maximum number of frames named per kind of difference.
const NAMED_MAX: usize = 20;

/// What one system says about a frame.
#[derive(Clone, Debug, Default, PartialEq)]
struct SeenResult {
    camera: String,
    figures: [Option<f64>; 2],
    labels: [Option<String>; 4],
    /// From the frame's timestamp to the storing of its result, in milliseconds.
    latency_ms: f64,
    bytes: usize,
    /// Time of the result relative to the beginning of the comparison, in milliseconds; negative
    /// before it.
    at_ms: f64,
}

/// The figures that both systems report.
const FIGURES: [&str; 2] = ["quality_score", "vehicle_density"];

/// The labels that both systems report.
const LABELS: [&str; 4] =
    ["congestion_level", "weather_conditions", "lighting_conditions", "validation_passed"];

/// One side of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// Number of results.
    pub results: u64,
    /// Results of a frame that already had one.
    pub doubled: u64,
    /// Results that could not be read.
    pub unreadable: u64,
    /// Frames within the comparison for which only the other side has a result.
    pub missing: u64,
    /// Ids of the first of them.
    pub missing_frames: Vec<String>,
    /// Median time from a frame's timestamp to the storing of its result, in milliseconds.
    pub latency_ms_p50: f64,
    /// The 99th percentile of the same.
    pub latency_ms_p99: f64,
    /// Mean size of a result in bytes.
    pub bytes_mean: f64,
}

/// How well both sides agree on a figure or label.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Its name.
    pub name: &'static str,
    /// Number of frames for which both sides report it.
    pub frames: u64,
    /// Share of these frames on which both are equal; for figures within 0.01.
    pub equal: f64,
    /// Mean of new minus old; 0 for labels.
    pub difference_mean: f64,
    /// Largest absolute difference; 0 for labels.
    pub difference_max: f64,
}

/// A frame on which the two sides differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its id.
    pub frame_id: String,
    /// Its camera.
    pub camera_id: String,
    /// The figure or label that differs.
    pub name: &'static str,
    /// The value of the old processor.
    pub old: String,
    /// The value of the engine.
    pub new: String,
}

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// How long both sides were read, in seconds.
    pub seconds: f64,
    /// Frames with a result on both sides.
    pub both: u64,
    /// For each side, results that came more than a second after the other side's.
    pub late: [u64; 2],
    /// The old processor.
    pub old: Side,
    /// The engine.
    pub new: Side,
    /// Agreement per figure and label.
    pub agreement: Vec<Agreement>,
    /// Frames on which the sides differ; the largest differences of figures first.
    pub differences: Vec<Difference>,
    /// Whether there were more frames than could be kept.
    pub is_cut: bool,
}

/// Reads both sides for a time and compares them. Results that the bridge itself brought to Kafka
/// are left out.
///
/// # Errors
/// The [`Fault`] of the side that cannot be read.
pub fn compare(setup: &Setup, time: Duration, stop: &Stop) -> Result<Comparison, Fault> {
    has_brokers(&setup.config)?;
    let kafka = &setup.config.kafka;
    let topic = &kafka.output_topic;
    let failed = |error: KafkaError| client::fault(format!("reading {topic}"), &error);
    let consumer = client::asking(kafka, &kafka.bridge_group)?;
    let begins_ms = unix_millis();
    let history_ms = begins_ms.saturating_sub(HISTORY.as_millis() as u64);
    let mut list = TopicPartitionList::new();
    for partition in client::topic(&consumer, topic)? {
        let from = Offset::Offset(i64::try_from(history_ms).unwrap_or(0));
        list.add_partition_offset(topic, partition, from).map_err(failed)?;
    }
    let timeout = Duration::from_secs(setup.config.redis_queue.timeout);
    let mut control = Control::new(setup.topology.clone(), timeout);
    let mut places: Vec<(&str, EntryId)> = Vec::new();
    for Streams { output, .. } in &setup.streams {
        places.push((output, EntryId { millis: history_ms, sequence: 0 }));
    }
    let from = consumer.offsets_for_times(list, ANSWER_LIMIT).map_err(failed)?;
    consumer.assign(&from).map_err(failed)?;

    let began = Tick::now();
    let at_ms = |stored_ms: f64| {
        let before_ms = stored_ms - begins_ms as f64;
        if before_ms < 0.0 { before_ms } else { began.elapsed().as_secs_f64() * 1e3 }
    };
    let mut tables = [FigureTable::default(), FigureTable::default()];
    while began.elapsed() < time + GRACE && !stop.is_draining() {
        let [old, new] = &mut tables;
        let started = Tick::now();
        while let Some(left) = INTERVAL.checked_sub(started.elapsed()) {
            match consumer.poll(left) {
                Some(Ok(message)) => {
                    let headers = client::headers(&message, 16);
                    if headers.iter().any(|header| header.key == "source_id") {
                        continue;
                    }
                    let stored_ms = message.timestamp().to_millis().unwrap_or_default() as f64;
                    old.add(
                        of_old(message.payload().unwrap_or_default()),
                        stored_ms,
                        at_ms(stored_ms),
                    );
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => return Err(failed(error)),
            }
        }
        for (stream, place) in &mut places {
            let started = Tick::now();
            loop {
                let records = control.after(stream, *place, 64, Duration::from_millis(1))?;
                let is_all = records.len() < 64;
                for (id, fields) in records {
                    *place = id;
                    let data = fields.get("data").map_or(&[][..], Vec::as_slice);
                    let stored_ms = id.millis as f64;
                    new.add(of_new(data), stored_ms, at_ms(stored_ms));
                }
                if is_all || started.elapsed() > INTERVAL {
                    break;
                }
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(judged(tables, seconds, (seconds - GRACE.as_secs_f64()).max(0.0) * 1e3))
}

/// Results of one side.
#[derive(Debug, Default)]
struct FigureTable {
    frames: HashMap<String, SeenResult>,
    side: Side,
    is_cut: bool,
}

impl FigureTable {
    fn add(&mut self, result: Option<(String, f64, SeenResult)>, stored_ms: f64, at_ms: f64) {
        let Some((frame_id, timestamp, mut seen)) = result else {
            self.side.unreadable += 1;
            return;
        };
        self.side.results += u64::from(at_ms >= 0.0);
        seen.latency_ms = stored_ms - timestamp * 1e3;
        seen.at_ms = at_ms;
        if self.frames.contains_key(&frame_id) {
            self.side.doubled += 1;
        } else if self.frames.len() < FRAMES_MAX {
            self.frames.insert(frame_id, seen);
        } else {
            self.is_cut = true;
        }
    }
}

/// Reads a result of the old processor.
fn of_old(payload: &[u8]) -> Option<(String, f64, SeenResult)> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    let text = |name: &str| match &value[name] {
        Value::String(text) => Some(text.clone()),
        Value::Null => None,
        other => Some(other.to_string()),
    };
    let seen = SeenResult {
        camera: text("camera_id").unwrap_or_default(),
        figures: FIGURES.map(|name| value[name].as_f64()),
        labels: LABELS.map(text),
        bytes: payload.len(),
        ..SeenResult::default()
    };
    Some((text("frame_id")?, value["timestamp"].as_f64().unwrap_or(f64::NAN), seen))
}

/// Reads a result of the engine.
fn of_new(data: &[u8]) -> Option<(String, f64, SeenResult)> {
    let frame = ProcessedFrame::decode(data).ok()?;
    let quality = frame.quality_metrics.map(|it| f64::from(it.quality_score));
    let traffic = frame.traffic_features;
    let label = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let seen = SeenResult {
        camera: frame.camera_id,
        figures: [quality, traffic.as_ref().map(|it| f64::from(it.vehicle_density))],
        labels: [
            traffic.as_ref().and_then(|it| label(&it.congestion_level)),
            traffic.as_ref().and_then(|it| label(&it.weather_conditions)),
            traffic.as_ref().and_then(|it| label(&it.lighting_conditions)),
            Some(frame.validation_passed.to_string()),
        ],
        bytes: data.len(),
        ..SeenResult::default()
    };
    Some((frame.frame_id, frame.timestamp, seen))
}

/// Figures that differ by at most this are equal, because the old processor rounds.
const CLOSE: f64 = 0.01;

/// A result that comes this much later than the other side's counts as late, in milliseconds.
const LATE_MS: f64 = 1e3;

fn judged([old, new]: [FigureTable; 2], seconds: f64, counted_ms: f64) -> Comparison {
    let mut comparison =
        Comparison { seconds, is_cut: old.is_cut || new.is_cut, ..Comparison::default() };
    let mut found: Vec<(f64, Difference)> = Vec::new();
    let names = FIGURES.iter().chain(&LABELS);
    comparison.agreement = names.map(|name| Agreement { name, ..Agreement::default() }).collect();
    for (frame_id, was) in &old.frames {
        let Some(is) = new.frames.get(frame_id) else { continue };
        comparison.both += 1;
        comparison.late[0] += u64::from(was.at_ms - is.at_ms > LATE_MS);
        comparison.late[1] += u64::from(is.at_ms - was.at_ms > LATE_MS);
        let difference = |name, old: String, new: String| Difference {
            frame_id: frame_id.clone(),
            camera_id: is.camera.clone(),
            name,
            old,
            new,
        };
        for (index, name) in FIGURES.into_iter().enumerate() {
            let (Some(was), Some(is)) = (was.figures[index], is.figures[index]) else { continue };
            let (apart, sums) = (is - was, &mut comparison.agreement[index]);
            sums.frames += 1;
            sums.difference_mean += apart;
            sums.difference_max = sums.difference_max.max(apart.abs());
            if apart.abs() <= CLOSE {
                sums.equal += 1.0;
            } else {
                found
                    .push((apart.abs(), difference(name, format!("{was:.3}"), format!("{is:.3}"))));
            }
        }
        for (index, name) in LABELS.into_iter().enumerate() {
            let (Some(was), Some(is)) = (&was.labels[index], &is.labels[index]) else { continue };
            let sums = &mut comparison.agreement[FIGURES.len() + index];
            sums.frames += 1;
            if was.eq_ignore_ascii_case(is) {
                sums.equal += 1.0;
            } else {
                found.push((0.0, difference(name, was.clone(), is.clone())));
            }
        }
    }
    for sums in &mut comparison.agreement {
        let frames = sums.frames.max(1) as f64;
        sums.equal /= frames;
        sums.difference_mean /= frames;
    }
    found.sort_by(|(one, a), (other, b)| other.total_cmp(one).then(a.frame_id.cmp(&b.frame_id)));
    found.truncate(NAMED_MAX);
    comparison.differences = found.into_iter().map(|(_, difference)| difference).collect();
    comparison.old = side(&old, &new, counted_ms);
    comparison.new = side(&new, &old, counted_ms);
    comparison
}

/// Summarises one side; frames that only `other` has count as missing.
fn side(this: &FigureTable, other: &FigureTable, counted_ms: f64) -> Side {
    let mut latencies: Vec<f64> =
        this.frames.values().map(|it| it.latency_ms).filter(|ms| ms.is_finite()).collect();
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let index = (latencies.len().saturating_sub(1) as f64 * share).round() as usize;
        latencies.get(index).copied().unwrap_or(0.0)
    };
    let counts = |seen: &SeenResult| (0.0..=counted_ms).contains(&seen.at_ms);
    let mut missing: Vec<&String> = other
        .frames
        .iter()
        .filter(|(id, seen)| counts(seen) && !this.frames.contains_key(*id))
        .map(|(id, _)| id)
        .collect();
    missing.sort();
    let bytes: usize = this.frames.values().map(|seen| seen.bytes).sum();
    Side {
        missing: missing.len() as u64,
        missing_frames: missing.into_iter().take(NAMED_MAX).cloned().collect(),
        latency_ms_p50: at(0.5),
        latency_ms_p99: at(0.99),
        bytes_mean: bytes as f64 / this.frames.len().max(1) as f64,
        ..this.side.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::{QualityMetrics, TrafficFeatures};

    fn new(id: &str, quality: f32, congestion: &str) -> Vec<u8> {
        ProcessedFrame {
            frame_id: id.into(),
            camera_id: "cam".into(),
            timestamp: 10.0,
            quality_metrics: Some(QualityMetrics { quality_score: quality, ..Default::default() }),
            traffic_features: Some(TrafficFeatures {
                congestion_level: congestion.into(),
                ..Default::default()
            }),
            validation_passed: true,
            ..ProcessedFrame::default()
        }
        .encode_to_vec()
    }

    fn old(id: &str, quality: f64, congestion: &str) -> Vec<u8> {
        serde_json::json!({
            "frame_id": id, "camera_id": "cam", "timestamp": 10.0, "quality_score": quality,
            "congestion_level": congestion, "validation_passed": true,
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn what_differs_is_named_and_what_is_in_transit_is_not_missing() {
        let mut tables = [FigureTable::default(), FigureTable::default()];
        let [olds, news] = &mut tables;
        olds.add(of_old(&old("a", 0.5, "low")), 10_100.0, 0.0);
        olds.add(of_old(&old("a", 0.5, "low")), 10_100.0, 1.0);
        olds.add(of_old(&old("b", 0.5, "low")), 10_300.0, 5_000.0);
        olds.add(of_old(&old("only old", 0.5, "low")), 10_300.0, 2.0);
        olds.add(of_old(&old("late", 0.5, "low")), 10_300.0, 9_999.0);
        olds.add(of_old(b"{"), 0.0, 0.0);
        news.add(of_new(&new("a", 0.505, "LOW")), 10_010.0, 10.0);
        news.add(of_new(&new("b", 0.75, "high")), 10_020.0, 20.0);
        news.add(of_new(&new("only new", 0.5, "low")), 10_020.0, 20.0);
        let found = judged(tables, 10.0, 6_000.0);
        assert_eq!((found.both, found.late), (2, [1, 0]));
        assert_eq!((found.old.results, found.old.doubled, found.old.unreadable), (5, 1, 1));
        assert_eq!((found.old.missing, found.new.missing), (1, 1));
        assert_eq!(found.new.missing_frames, ["only old"]);
        assert_eq!(found.new.latency_ms_p99, 20.0);
        let quality = &found.agreement[0];
        assert_eq!((quality.frames, quality.equal), (2, 0.5));
        assert!((quality.difference_max - 0.25).abs() < 1e-6);
        let named: Vec<_> = found.differences.iter().map(|it| (it.name, it.old.as_str())).collect();
        assert_eq!(named, [("quality_score", "0.500"), ("congestion_level", "low")]);
        assert_eq!(found.agreement.last().map(|it| it.equal), Some(1.0), "validation_passed");
    }
}
