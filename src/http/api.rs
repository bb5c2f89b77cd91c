//! The figures as JSON; names and units are those of the dashboards that read them.

use serde_json::{Value, json};

use crate::base::Stage;
use crate::engine::View;
use crate::metrics::{Conservation, Counter, Distribution, Metrics, Timer};
use crate::stage::watch::QueueState;

/// `/api/v1/system/metrics`.
pub fn metrics_json(view: &View) -> Value {
    let metrics = &*view.metrics;
    let account = metrics.ledger.read();
    let queues = *view.queues.lock();
    let cameras = view.cameras.statuses();
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
            "input": queue_json(&queues.input, &account, account.out, queues.rates.read),
            "output": queue_json(&queues.output, &Conservation::default(), account.out, queues.rates.out),
            "dead_letter": queue_json(
                &queues.dead_letter,
                &Conservation::default(),
                account.dead_lettered,
                queues.rates.dead_lettered,
            ),
        },
        "conservation": account,
        "dead_letters_by_reason": dead_letters,
        "connections": {
            // The control plane's own connection to watch the queues is not among the counted.
            "open": metrics
                .get(Counter::ConnectionsOpened)
                .saturating_sub(metrics.get(Counter::ConnectionsClosed)) + 1,
            "limit": view.plan.connections_max,
            "reconnects": metrics.get(Counter::Reconnects),
        },
        "pool": {
            "leased_bytes": view.pool.usage().leased_bytes,
            "idle_bytes": view.pool.usage().idle_bytes,
            "limit_bytes": view.plan.inflight_bytes_max,
        },
        "counters": Counter::ALL
            .into_iter()
            .map(|counter| (counter.name().to_owned(), metrics.get(counter).into()))
            .collect::<serde_json::Map<String, Value>>(),
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": metrics.started().elapsed().as_secs_f64(),
    })
}

/// `/api/v1/cameras`.
pub(super) fn cameras_json(view: &View) -> Value {
    json!({ "cameras": view.cameras.statuses() })
}

/// `/api/v1/cameras/{id}`; `id` as it stands in the path, percent-encoded.
pub(super) fn camera_json(view: &View, id: &str) -> Option<Value> {
    let id = percent_encoding::percent_decode_str(id).decode_utf8().ok()?;
    view.cameras.status(&id).and_then(|status| serde_json::to_value(status).ok())
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

fn queue_json(state: &QueueState, account: &Conservation, completed: u64, rate: f64) -> Value {
    json!({
        "depth": state.depth,
        "pending_count": state.pending,
        "processing_count": account.in_flight,
        "completed_count": completed,
        "failed_count": account.rejected + account.dead_lettered,
        "lag": state.lag,
        "consumer_count": state.consumers,
        "throughput_fps": rate,
        "memory_usage_bytes": state.memory_bytes,
    })
}
