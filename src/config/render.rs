//! The effective configuration, written with the keys of the file and without its secrets.

use super::choice::{Choice, Count, Pin, WebpMethod};
use super::model::{Camera, Config, Tls};
use super::url::HostPort;
use super::{feed, kafka};
use serde_json::{Map, Value, json};
use std::fmt::Display;
use std::path::PathBuf;

/// Sections in the order of the documentation, each with its keys.
type Sections = Vec<(&'static str, Vec<(&'static str, Value)>)>;

impl Config {
    /// The configuration as YAML that a [`Loader`](super::Loader) reads again. Passwords and the
    /// token are written as `***`.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        for (section, keys) in sections(self, false) {
            text.push_str(&format!("{section}:\n"));
            for (key, value) in keys {
                text.push_str(&format!("  {key}: {}\n", flow(&value)));
            }
        }
        if self.cameras.is_empty() {
            text.push_str("cameras: []\n");
        } else {
            text.push_str("cameras:\n");
            for camera in &self.cameras {
                text.push_str(&format!("  - {}\n", flow(&camera_value(camera, false))));
            }
        }
        text
    }

    /// The configuration as JSON, with the same keys. Passwords and the token are `***`.
    pub fn to_json(&self) -> Value {
        Value::Object(tree(self, false))
    }
}

/// The configuration as a tree; with `exposed` secrets it is as it was typed.
pub(super) fn tree(config: &Config, exposed: bool) -> Map<String, Value> {
    let sections = sections(config, exposed).into_iter().map(|(section, keys)| {
        let keys = keys.into_iter().map(|(key, value)| (key.to_string(), value));
        (section.to_string(), Value::Object(keys.collect()))
    });
    let mut tree: Map<String, Value> = sections.collect();
    tree.insert(
        "cameras".into(),
        config.cameras.iter().map(|camera| camera_value(camera, exposed)).collect(),
    );
    tree
}

fn sections(config: &Config, exposed: bool) -> Sections {
    let Config {
        redis_queue: _,
        engine,
        limits,
        analysis,
        ingest,
        cameras: _,
        ring,
        kafka,
        stats,
        log,
    } = config;
    let token = stats.token.as_ref().map(|token| match exposed {
        true => token.expose().to_string(),
        false => token.to_string(),
    });
    vec![
        ("redis_queue", redis_queue(config, exposed)),
        (
            "engine",
            vec![
                ("readers", count(engine.readers)),
                ("workers", count(engine.workers)),
                ("committers", count(engine.committers)),
                ("pin", pin(&engine.pin)),
                ("max_inflight_bytes", json!(engine.max_inflight_bytes)),
                ("ordering", word(engine.ordering)),
                ("reencode", word(engine.reencode)),
                ("orientation", word(engine.orientation)),
                ("drain_timeout_ms", json!(engine.drain_timeout_ms)),
                ("latency_target_ms", json!(engine.latency_target_ms)),
                ("max_concurrent_streams", json!(engine.max_concurrent_streams)),
            ],
        ),
        (
            "limits",
            vec![
                ("max_payload_bytes", json!(limits.max_payload_bytes)),
                ("max_pixels", json!(limits.max_pixels)),
                ("damaged_images", word(limits.damaged_images)),
            ],
        ),
        (
            "analysis",
            vec![
                ("enabled", json!(analysis.enabled)),
                ("quality_threshold", json!(analysis.quality_threshold)),
                ("below_threshold", word(analysis.below_threshold)),
                ("ml_image", json!(analysis.ml_image)),
                ("thumbnail", json!(analysis.thumbnail)),
            ],
        ),
        ("ring", vec![("dir", path(&ring.dir))]),
        (
            "stats",
            vec![
                ("addr", text(stats.addr.as_ref())),
                ("token", text(token)),
                ("hosts", json!(stats.hosts)),
            ],
        ),
        (
            "log",
            vec![
                ("level", word(log.level)),
                ("format", word(log.format)),
                ("summary_seconds", json!(log.summary_seconds)),
            ],
        ),
        ("ingest", feed::section(ingest)),
        ("kafka", kafka::section(kafka, exposed)),
    ]
}

fn redis_queue(config: &Config, exposed: bool) -> Vec<(&'static str, Value)> {
    let queue = &config.redis_queue;
    let Tls { ca, cert, key, server_name } = &queue.tls;
    // What was read from a file is named by its file, and read again.
    let url = match (&queue.url_file, exposed) {
        (Some(file), _) => ("url_file", json!(file)),
        (None, true) => ("url", json!(queue.url.expose())),
        (None, false) => ("url", json!(queue.url.to_string())),
    };
    let sentinel_password = match (&queue.sentinel_password_file, &queue.sentinel_password) {
        (Some(file), _) => ("sentinel_password_file", json!(file)),
        (None, Some(password)) if exposed => ("sentinel_password", json!(password.expose())),
        (None, password) => ("sentinel_password", text(password.as_ref())),
    };
    vec![
        url,
        ("pool_size", json!(queue.pool_size)),
        ("timeout", json!(queue.timeout)),
        ("retry_on_failure", json!(queue.retry_on_failure)),
        ("input_queue", json!(queue.input_queue)),
        ("output_queue", json!(queue.output_queue)),
        ("consumer_group", json!(queue.consumer_group)),
        ("consumer_name", json!(queue.consumer_name)),
        ("max_queue_length", json!(queue.max_queue_length)),
        ("output_full", word(queue.output_full)),
        ("batch_size", json!(queue.batch_size)),
        ("block_time_ms", json!(queue.block_time_ms)),
        ("retry_attempts", json!(queue.retry_attempts)),
        ("dead_letter_queue", json!(queue.dead_letter_queue)),
        ("dead_letter_max_length", json!(queue.dead_letter_max_length)),
        ("claim_idle_ms", json!(queue.claim_idle_ms)),
        ("delivery", word(queue.delivery)),
        ("retention", word(queue.retention)),
        ("max_frame_age_ms", json!(queue.max_frame_age_ms)),
        ("shards", json!(queue.shards)),
        ("shard_subset", json!(queue.shard_subset)),
        ("assignment", word(queue.assignment)),
        ("lease_ms", json!(queue.lease_ms)),
        ("wait_replicas", json!(queue.wait_replicas)),
        ("enable_compression", json!(queue.enable_compression)),
        ("compression_format", word(queue.compression_format)),
        ("compression_quality", json!(queue.compression_quality)),
        ("jpeg_huffman", word(queue.jpeg_huffman)),
        ("webp_method", webp_method(queue.webp_method)),
        ("png_level", word(queue.png_level)),
        ("sentinel_service_name", json!(queue.sentinel_service_name)),
        ("sentinel_nodes", queue.sentinel_nodes.iter().map(node).collect()),
        ("sentinel_username", json!(queue.sentinel_username)),
        sentinel_password,
        (
            "tls",
            json!({
                "ca": path(ca), "cert": path(cert), "key": path(key), "server_name": server_name,
            }),
        ),
    ]
}

fn word(choice: impl Choice) -> Value {
    choice.name().into()
}

fn text(value: Option<impl Display>) -> Value {
    value.map_or(Value::Null, |value| value.to_string().into())
}

fn path(path: &Option<PathBuf>) -> Value {
    text(path.as_ref().map(|path| path.display()))
}

fn count(count: Count) -> Value {
    match count {
        Count::Auto => "auto".into(),
        Count::Fixed(number) => number.into(),
    }
}

fn webp_method(method: WebpMethod) -> Value {
    match method {
        WebpMethod::Auto => "auto".into(),
        WebpMethod::Fixed(method) => method.into(),
    }
}

fn pin(pin: &Pin) -> Value {
    match pin {
        Pin::Auto => "auto".into(),
        Pin::Off => "off".into(),
        Pin::Cores(cores) => cores.clone().into(),
    }
}

fn node(node: &HostPort) -> Value {
    json!({ "host": node.host, "port": node.port })
}

fn camera_value(camera: &Camera, exposed: bool) -> Value {
    let boxes = camera.roi_boxes.iter().map(|roi| {
        json!({
            "x": roi.x,
            "y": roi.y,
            "width": roi.width,
            "height": roi.height,
            "label": roi.label,
        })
    });
    let mut value = json!({ "id": camera.id, "roi_boxes": boxes.collect::<Value>() });
    if let Some(threshold) = camera.quality_threshold {
        value["quality_threshold"] = threshold.into();
    }
    if let Some(map) = value.as_object_mut() {
        feed::render(camera, exposed, map);
    }
    value
}

/// `value` in YAML's flow style, on one line.
pub(super) fn flow(value: &Value) -> String {
    match value {
        Value::String(text) if is_bare(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| format!("{key}: {}", flow(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        // JSON's numbers, words and quoted strings mean the same in YAML.
        other => crate::base::text::json(&other.to_string()).into_owned(),
    }
}

/// Whether YAML takes `text` without quotes for this very text.
fn is_bare(text: &str) -> bool {
    let words = ["true", "false", "null", "yes", "no", "on", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ':'))
        && !text.ends_with(':')
        && !words.contains(&text.to_ascii_lowercase().as_str())
}
