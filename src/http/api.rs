//! The figures as JSON, with the names and units that existing dashboards expect.

use serde_json::{Value, json};

use crate::base::Stage;
use crate::engine::{EngineView, Plan};
use crate::metrics::{Conservation, Counter, Distribution, Gauge, Metrics, Timer};
use crate::stage::watch::{QueueState, Recent};

/// `/api/v1/system/metrics`.
pub fn metrics_json(view: &EngineView) -> Value {
    let metrics = &*view.metrics;
    let account = metrics.ledger.read();
    let queues = *view.queues.lock();
    let mut output = queue_json(
        &queues.output,
        Some(over_shards(&view.plan, view.plan.queue_length_max)),
        &Conservation::default(),
        account.out,
        queues.rates.out,
    );
    output["blocks_when_full"] = (view.plan.commit.plan.output_full_at > 0).into();
    let cameras = view.cameras.statuses();
    let unready = unready(view);
    let active = cameras.iter().filter(|camera| camera.status == "active").count();
    let processing = metrics.distribution(Timer::Processing);
    let serialization = metrics.distribution(Timer::Serialization);
    let stages: serde_json::Map<String, Value> = Stage::ALL
        .into_iter()
        .map(|stage| {
            (stage.name().to_owned(), latency_json(&metrics.distribution(Timer::Stage(stage))))
        })
        .collect();
    let dead_letters: serde_json::Map<String, Value> = metrics
        .dead_letters()
        .map(|(reason, count)| (reason.code().to_owned(), count.into()))
        .collect();

    json!({
        "active_streams": active,
        "performance_metrics": {
            "frames_processed": account.out,
            "frames_rejected": account.rejected + account.dead_lettered,
            "avg_processing_time": processing.mean_ms(),
            "throughput_fps": queues.rates.out,
            "recent": recent_json(&queues.recent),
            "error_count": metrics.get(Counter::Errors),
            "latency_ms": latency_json(&metrics.distribution(Timer::EndToEnd)),
            "stages": stages,
        },
        "serialization_metrics": {
            "avg_serialization_time_ms": serialization.mean_ms(),
            "min_serialization_time_ms": serialization.min_ms(),
            "max_serialization_time_ms": serialization.max_ms(),
            "total_serializations": serialization.count(),
            "avg_compression_ratio": compression_ratio(metrics),
            "compression_enabled": view.plan.compression,
        },
        "queue_metrics": {
            "input": queue_json(&queues.input, None, &account, account.out, queues.rates.read),
            "output": output,
            "dead_letter": queue_json(
                &queues.dead_letter,
                Some(over_shards(&view.plan, view.plan.commit.plan.dead_letter_length_max)),
                &Conservation::default(),
                account.dead_lettered,
                queues.rates.dead_lettered,
            ),
        },
        "conservation": account,
        "shards": shards_json(view),
        "health": { "ready": unready.is_none(), "reason": unready },
        "rings": metrics.rings.all(),
        "lanes": {
            "read": metrics.level(Gauge::ReadLane),
            "commit": metrics.level(Gauge::CommitLanes),
        },
        "effort": {
            "webp_method": metrics.level(Gauge::WebpMethod),
            "png_level": metrics.level(Gauge::PngLevel),
        },
        "redis": {
            "memory_bytes": queues.server_memory.used,
            "memory_limit_bytes": queues.server_memory.limit,
        },
        "dead_letters_by_reason": dead_letters,
        "connections": {
            "open": connections_open(metrics),
            "limit": view.plan.connections_max,
            "reconnects": metrics.get(Counter::Reconnects),
        },
        "pool": {
            "leased_bytes": view.pool.usage().leased_bytes,
            "idle_bytes": view.pool.usage().idle_bytes,
            "limit_bytes": view.plan.inflight_bytes_max,
            "blocked_seconds": view.pool.usage().blocked.as_secs_f64(),
        },
        "counters": Counter::ALL
            .into_iter()
            .map(|counter| (counter.name().to_owned(), metrics.get(counter).into()))
            .collect::<serde_json::Map<String, Value>>(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": metrics.started().elapsed().as_secs_f64(),
    })
}

/// Shards whose leases this engine holds.
pub(super) fn shards_held(view: &EngineView) -> u64 {
    let own = view.plan.lease.as_ref().map(|(_, terms)| terms.holder.as_str());
    let holders = view.holders.lock();
    holders.iter().filter(|holder| Some(holder.as_str()) == own).count() as u64
}

/// How shards are assigned, and the engine that holds each.
fn shards_json(view: &EngineView) -> Value {
    let Some((_, terms)) = &view.plan.lease else {
        return json!({ "assignment": "shared" });
    };
    let holders = view.holders.lock().clone();
    json!({
        "assignment": "exclusive",
        "engine": terms.holder,
        "lease_ms": u64::try_from(terms.length.as_millis()).unwrap_or(u64::MAX),
        "held": shards_held(view),
        "holders": holders
            .into_iter()
            .map(|holder| if holder.is_empty() { Value::Null } else { holder.into() })
            .collect::<Vec<Value>>(),
    })
}

/// Open connections to Redis. The watcher's connection is not counted by the counters and is added
/// here.
pub(super) fn connections_open(metrics: &Metrics) -> u64 {
    let closed = metrics.get(Counter::ConnectionsClosed);
    metrics.get(Counter::ConnectionsOpened).saturating_sub(closed) + 1
}

/// Why the engine is not ready; `None` if it is.
pub(super) fn unready(view: &EngineView) -> Option<String> {
    let is_balanced = view.metrics.ledger.read().balanced;
    let why = view.metrics.health.unready();
    why.or_else(|| (!is_balanced).then(|| "frames are unaccounted for".to_owned()))
}

/// Remarks for the operator about an engine that is ready.
pub(super) fn remarks(view: &EngineView) -> Vec<String> {
    let metrics = &view.metrics;
    let mut remarks = Vec::new();
    let kept = metrics.get(Counter::DeletesRefused);
    if kept > 0 {
        remarks.push(format!(
            "the input grows: the server refused to delete {kept} acknowledged entries"
        ));
    }
    let ahead = metrics.get(Counter::IdsAheadOfClock);
    if ahead > 0 {
        remarks.push(format!(
            "the age of {ahead} entries was unknown: the server's clock was set back"
        ));
    }
    remarks
}

/// `/api/v1/dead-letters`.
pub(super) fn dead_letters_json(view: &EngineView) -> Value {
    let known = view.dead_letters.lock().clone();
    json!({
        "as_of": known.as_of,
        "depth": view.queues.lock().dead_letter.depth,
        "latest": known.latest,
    })
}

/// `/api/v1/history`.
pub(super) fn history_json(view: &EngineView) -> Value {
    let points: Vec<_> = view.history.lock().points().collect();
    json!({ "points": points })
}

/// `/api/v1/cameras`.
pub(super) fn cameras_json(view: &EngineView) -> Value {
    let mut cameras: Vec<Value> = view
        .cameras
        .statuses()
        .into_iter()
        .filter_map(|status| serde_json::to_value(status).ok())
        .collect();
    let feeds = &view.plan.watch.feeds;
    for id in feeds.configured() {
        let seen = cameras.iter_mut().find(|camera| camera["camera_id"] == *id);
        let told = feeds.of(&id).unwrap_or_else(|| json!({ "state": "unknown" }));
        match seen {
            Some(camera) => camera["ingest"] = told,
            None => cameras.push(unseen(&id, told)),
        }
    }
    cameras.sort_by(|a, b| a["camera_id"].as_str().cmp(&b["camera_id"].as_str()));
    json!({ "cameras": cameras })
}

/// A configured camera without frames so far.
fn unseen(id: &str, told: Value) -> Value {
    json!({
        "camera_id": id,
        "status": "unseen",
        "frames_processed": 0,
        "frames_damaged": 0,
        "frames_rejected": 0,
        "frames_dropped": 0,
        "frames_shed_at_read": 0,
        "frames_shed_at_encode": 0,
        "frames_below_threshold": 0,
        "last_frame_time": 0.0,
        "quality_score": 0.0,
        "vehicle_density": 0.0,
        "congestion_level": "",
        "processing_time_ms": 0.0,
        "ingest": told,
    })
}

/// `/api/v1/cameras/{id}`.
pub(super) fn camera_json(view: &EngineView, id: &str) -> Option<Value> {
    view.cameras.status(id).and_then(|status| serde_json::to_value(status).ok())
}

/// Compressed bytes / raw pixel bytes; 0 before the first frame.
#[allow(clippy::cast_precision_loss)]
pub fn compression_ratio(metrics: &Metrics) -> f64 {
    match metrics.get(Counter::RawPixelBytes) {
        0 => 0.0,
        raw => metrics.get(Counter::ImageBytesOut) as f64 / raw as f64,
    }
}

/// p50 to p999 and the maximum, in milliseconds.
pub fn latency_json(distribution: &Distribution) -> Value {
    json!({
        "p50": distribution.quantile_ms(0.5),
        "p90": distribution.quantile_ms(0.9),
        "p99": distribution.quantile_ms(0.99),
        "p999": distribution.quantile_ms(0.999),
        "max": distribution.max_ms(),
    })
}

/// The last ten seconds: latency, and the mean time per frame in each stage, in milliseconds.
fn recent_json(recent: &Recent) -> Value {
    let stages = Stage::ALL.into_iter().zip(recent.stages);
    let stages: serde_json::Map<String, Value> =
        stages.map(|(stage, mean)| (stage.name().to_owned(), mean.into())).collect();
    json!({
        "latency_ms": {
            "p50": recent.p50, "p90": recent.p90, "p99": recent.p99, "max": recent.max,
        },
        "stages_mean_ms": stages,
    })
}

/// Maximum entries of the streams of all shards together, if each may have `per_stream`.
pub(super) fn over_shards(plan: &Plan, per_stream: u64) -> u64 {
    per_stream.saturating_mul(plan.streams.len() as u64)
}

/// Depth and `limit` are those of all shards together.
fn queue_json(
    state: &QueueState,
    limit: Option<u64>,
    account: &Conservation,
    completed: u64,
    rate: f64,
) -> Value {
    json!({
        "depth": state.depth,
        "limit": limit,
        "pending_count": state.pending,
        "processing_count": account.in_flight,
        "completed_count": completed,
        "failed_count": account.rejected + account.dead_lettered,
        "lag": state.lag,
        "consumer_count": state.consumers,
        "throughput_fps": rate,
        "memory_usage_bytes": state.memory_bytes,
        "oldest_pending_seconds": state.oldest_pending.as_secs_f64(),
    })
}
