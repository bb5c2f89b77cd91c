//! `/metrics`: the figures in Prometheus' format.
//!
//! Figures are collected on each scrape. Counters and histograms come from values that never
//! decrease while the engine lives, so neither do scraped values.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Result, TextEncoder};

use crate::base::{Stage, limits, text};
use crate::engine::EngineView;
use crate::metrics::clock::unix_seconds;
use crate::metrics::{
    Counter as Count, Distribution, Gauge as Level, Series, SeriesKind, Timer, WindowStage,
};
use crate::stage::process::CameraStatus;

use super::api;

/// Content type of the text format.
pub(super) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Upper bounds of the latency buckets, in seconds: dense around typical frame latencies, and with
/// one at the limit of 100 ms.
const BUCKETS: [f64; 18] = [
    0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.04, 0.06, 0.08, 0.1, 0.15, 0.25,
    0.5, 1.0, 5.0, 30.0,
];

const CAMERA_OUTCOMES: [&str; 3] = ["processed", "rejected", "dropped"];

/// All figures of an engine.
pub(super) fn page(view: &EngineView) -> Result<String> {
    let mut page = ExpositionPage::default();
    engine(view, &mut page);
    frames(view, &mut page);
    latencies(view, &mut page);
    lanes(view, &mut page);
    queues(view, &mut page);
    connections(view, &mut page);
    leases(view, &mut page);
    cameras(view, &mut page);
    page.encode()
}

/// Metric families, in the order of [`Series::ALL`] regardless of the order of filling.
#[derive(Default)]
struct ExpositionPage {
    metrics: Vec<(Series, Metric)>,
}

type SeriesLabels<'a> = &'a [(&'static str, &'a str)];

impl ExpositionPage {
    fn number(&mut self, series: Series, labels: SeriesLabels<'_>, value: f64) {
        let mut metric = labelled(labels);
        if series.kind() == SeriesKind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.metrics.push((series, metric));
    }

    #[allow(clippy::cast_precision_loss)] // 2^53 is enough for what is counted here
    fn count(&mut self, series: Series, labels: SeriesLabels<'_>, value: u64) {
        self.number(series, labels, value as f64);
    }

    fn histogram(&mut self, series: Series, labels: SeriesLabels<'_>, times: &Distribution) {
        let buckets = BUCKETS.iter().zip(times.cumulative(&BUCKETS)).map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(times.count());
        histogram.set_sample_sum(times.sum_seconds());
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.metrics.push((series, metric));
    }

    fn encode(self) -> Result<String> {
        let mut families: Vec<MetricFamily> = Series::ALL.into_iter().map(family).collect();
        for (series, metric) in self.metrics {
            families[series as usize].mut_metric().push(metric);
        }
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&families)
    }
}

fn family(series: Series) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(series.name().to_owned());
    family.set_help(series.help().to_owned());
    family.set_field_type(match series.kind() {
        SeriesKind::Counter => MetricType::COUNTER,
        SeriesKind::Gauge => MetricType::GAUGE,
        SeriesKind::Histogram => MetricType::HISTOGRAM,
    });
    family
}

fn labelled(labels: SeriesLabels<'_>) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(text::label(value).into_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

fn engine(view: &EngineView, page: &mut ExpositionPage) {
    let metrics = &view.metrics;
    let pixels = if view.plan.compression { "compressed" } else { "raw" };
    let about = [("version", env!("CARGO_PKG_VERSION")), ("pixels", pixels)];
    page.number(Series::BuildInfo, &about, 1.0);
    let uptime = metrics.started().elapsed().as_secs_f64();
    // Rounded to the millisecond, so that two scrapes agree.
    let started = ((unix_seconds() - uptime) * 1000.0).round() / 1000.0;
    page.number(Series::StartTime, &[], started);
    page.number(Series::Ready, &[], f64::from(u8::from(api::unready(view).is_none())));
    page.number(Series::Silence, &[], metrics.health.silence().as_secs_f64());
    page.count(Series::Errors, &[], metrics.get(Count::Errors));
}

fn frames(view: &EngineView, page: &mut ExpositionPage) {
    let metrics = &view.metrics;
    let account = metrics.ledger.read();
    page.count(Series::FramesRead, &[], account.read);
    let outcomes = [
        ("out", account.out),
        ("rejected", account.rejected),
        ("dead_lettered", account.dead_lettered),
        ("shed", account.shed),
        ("lost_to_trim", account.lost_to_trim),
        ("overwritten", account.overwritten),
        ("superseded", account.superseded),
        ("lost_with_group", account.lost_with_group),
        ("abandoned", account.abandoned),
        ("handed_over", account.handed_over),
    ];
    let ended: u64 = outcomes.iter().map(|(_, count)| count).sum();
    for (outcome, count) in outcomes {
        page.count(Series::Frames, &[("outcome", outcome)], count);
    }
    page.count(Series::FramesInFlight, &[], account.in_flight);
    page.count(Series::FramesUnaccounted, &[], account.read.abs_diff(ended + account.in_flight));
    for (reason, count) in metrics.dead_letters() {
        page.count(Series::DeadLetters, &[("reason", reason.code())], count);
    }
    for (at, counter) in [("read", Count::ShedAtRead), ("encode", Count::ShedAtEncode)] {
        page.count(Series::Shed, &[("at", at)], metrics.get(counter));
    }
    let plain = [
        (Series::Results, Count::Results),
        (Series::InputBytes, Count::BytesIn),
        (Series::OutputBytes, Count::BytesOut),
        (Series::ImageBytes, Count::ImageBytesOut),
        (Series::RawPixelBytes, Count::RawPixelBytes),
        (Series::JsonBase64Bytes, Count::JsonBase64Bytes),
        (Series::PassedThrough, Count::PassedThrough),
        (Series::DamagedAccepted, Count::DamagedAccepted),
        (Series::TimesNotUnderstood, Count::TimesNotUnderstood),
        (Series::RingFrames, Count::RingFrames),
        (Series::RingBytes, Count::RingBytes),
    ];
    for (series, counter) in plain {
        page.count(series, &[], metrics.get(counter));
    }
    page.count(Series::WebpMethod, &[], metrics.level(Level::WebpMethod));
    page.count(Series::PngLevel, &[], metrics.level(Level::PngLevel));
    page.number(Series::CompressionRatio, &[], api::compression_ratio(metrics));
}

fn latencies(view: &EngineView, page: &mut ExpositionPage) {
    let metrics = &view.metrics;
    let plain = [
        (Series::EndToEnd, Timer::EndToEnd),
        (Series::Processing, Timer::Processing),
        (Series::Serialization, Timer::Serialization),
        (Series::RoundTrip, Timer::RoundTrip),
        (Series::Takeover, Timer::Takeover),
    ];
    for (series, timer) in plain {
        page.histogram(series, &[], &metrics.distribution(timer));
    }
    for stage in Stage::ALL {
        let times = metrics.distribution(Timer::Stage(stage));
        page.histogram(Series::StageSeconds, &[("stage", stage.name())], &times);
    }
}

#[allow(clippy::cast_precision_loss)] // microseconds far below 2^53
fn lanes(view: &EngineView, page: &mut ExpositionPage) {
    let metrics = &view.metrics;
    let plan = &view.plan;
    let commit_room = (0..plan.committers).map(|lane| plan.commit_room(lane)).sum();
    let lanes = [
        ("read", Level::ReadLane, limits::READ_LANE_FRAMES * plan.routes.pipelines),
        ("commit", Level::CommitLanes, commit_room),
    ];
    for (lane, level, room) in lanes {
        page.count(Series::LaneFrames, &[("lane", lane)], metrics.level(level));
        page.count(Series::LaneCapacity, &[("lane", lane)], room as u64);
    }
    for stage in WindowStage::ALL {
        let (items, limit) = metrics.windows.read(stage);
        page.count(Series::Window, &[("stage", stage.name())], items);
        page.count(Series::WindowLimit, &[("stage", stage.name())], limit);
    }
    let pool = view.pool.usage();
    let seconds = |counter| metrics.get(counter) as f64 / 1e6;
    let blocked = [
        ("read_lane", seconds(Count::ReadLaneBlockedMicros)),
        ("slot", seconds(Count::SlotsBlockedMicros)),
        ("buffer", pool.blocked.as_secs_f64()),
    ];
    for (on, time) in blocked {
        page.number(Series::Blocked, &[("on", on)], time);
    }
    page.count(Series::PoolBytes, &[("state", "leased")], pool.leased_bytes as u64);
    page.count(Series::PoolBytes, &[("state", "idle")], pool.idle_bytes as u64);
    page.count(Series::PoolLimit, &[], view.plan.inflight_bytes_max as u64);
}

fn queues(view: &EngineView, page: &mut ExpositionPage) {
    let queues = *view.queues.lock();
    let limits = &view.plan;
    let all = [
        ("input", queues.input, 0),
        ("output", queues.output, limits.queue_length_max),
        ("dead_letter", queues.dead_letter, limits.commit.plan.dead_letter_length_max),
    ];
    for (queue, state, limit) in all {
        let labels = [("queue", queue)];
        page.count(Series::QueueEntries, &labels, state.depth);
        page.count(Series::QueueLimit, &labels, api::over_shards(limits, limit));
        page.count(Series::QueueBytes, &labels, state.memory_bytes);
    }
    let blocks = limits.commit.plan.output_full_at > 0;
    page.count(Series::OutputBlocks, &[], blocks.into());
    if let Some(lag) = queues.input.lag {
        page.count(Series::Lag, &[], lag);
    }
    page.count(Series::Pending, &[], queues.input.pending);
    page.number(Series::OldestPending, &[], queues.input.oldest_pending.as_secs_f64());
    page.count(Series::Consumers, &[], queues.input.consumers);
    page.count(Series::RedisMemory, &[], queues.server_memory.used);
    page.count(Series::RedisMemoryLimit, &[], queues.server_memory.limit);
}

fn connections(view: &EngineView, page: &mut ExpositionPage) {
    let metrics = &view.metrics;
    page.count(Series::Connections, &[], api::connections_open(metrics));
    page.count(Series::ConnectionLimit, &[], view.plan.connections_max as u64);
    let plain = [
        (Series::Reconnects, Count::Reconnects),
        (Series::Claimed, Count::Claimed),
        (Series::Renewed, Count::Renewed),
        (Series::Recovered, Count::Recovered),
        (Series::GroupsRecreated, Count::GroupRecreated),
        (Series::IdsAheadOfClock, Count::IdsAheadOfClock),
        (Series::DeletesRefused, Count::DeletesRefused),
        (Series::CommitBatches, Count::CommitBatches),
    ];
    for (series, counter) in plain {
        page.count(series, &[], metrics.get(counter));
    }
    let repeated = metrics.get(Count::CommitRepeatsFenced);
    page.count(Series::ScriptFences, &[("by", "earlier_attempt")], repeated);
    let superseded = metrics.ledger.read().superseded;
    page.count(Series::ScriptFences, &[("by", "other_engine")], superseded);
    let waits =
        [("out_of_memory", Count::OutOfMemoryWaits), ("output_full", Count::OutputFullWaits)];
    for (reason, counter) in waits {
        page.count(Series::BackPressure, &[("reason", reason)], metrics.get(counter));
    }
}

fn leases(view: &EngineView, page: &mut ExpositionPage) {
    let metrics = &view.metrics;
    page.count(Series::ShardsHeld, &[], api::shards_held(view));
    let free = view.holders.lock().iter().filter(|holder| holder.is_empty()).count();
    page.count(Series::ShardsFree, &[], free as u64);
    let changes = [
        ("taken", Count::LeasesTaken),
        ("renewed", Count::LeasesRenewed),
        ("given_back", Count::LeasesGivenBack),
        ("lost", Count::LeasesLost),
    ];
    for (what, counter) in changes {
        page.count(Series::LeaseChanges, &[("what", what)], metrics.get(counter));
    }
}

fn cameras(view: &EngineView, page: &mut ExpositionPage) {
    let all = view.cameras.statuses();
    let active = all.iter().filter(|camera| camera.status == "active").count();
    page.count(Series::Cameras, &[("state", "active")], active as u64);
    page.count(Series::Cameras, &[("state", "inactive")], (all.len() - active) as u64);
    let learnt = view.metrics.get(Count::HuffmanTablesLearnt);
    page.count(Series::HuffmanTablesLearnt, &[], learnt);
    page.count(Series::CamerasEvicted, &[], view.metrics.get(Count::CamerasEvicted));
    for camera in all.iter().filter(|camera| camera.has_series) {
        let CameraStatus { frames_processed, frames_rejected, frames_dropped, .. } = *camera;
        let id = camera.camera_id.as_str();
        let counts = [frames_processed, frames_rejected, frames_dropped];
        for (outcome, count) in CAMERA_OUTCOMES.into_iter().zip(counts) {
            page.count(Series::CameraFrames, &[("camera", id), ("outcome", outcome)], count);
        }
        page.number(Series::CameraLastFrame, &[("camera", id)], camera.last_frame_time);
        page.number(Series::CameraQuality, &[("camera", id)], camera.quality_score.into());
        page.number(Series::CameraDensity, &[("camera", id)], camera.vehicle_density.into());
    }
    // A separate family, because a camera may have any name, even "other".
    let others = view.cameras.others();
    let counts = [others.processed, others.rejected, others.dropped];
    for (outcome, count) in CAMERA_OUTCOMES.into_iter().zip(counts) {
        page.count(Series::OtherCameraFrames, &[("outcome", outcome)], count);
    }
}
