//! The nested files of the replaced system: the same settings as in flat ones, in sections.
//!
//! Such a file is accepted as it is. Its settings take effect unless a key of this system's own, or a
//! flat one, sets the same. What has no meaning here is named once.

use serde_json::{Map, Value};

/// The sections of such files.
const SECTIONS: [&str; 6] = [
    "serialization",
    "performance",
    "queue_settings",
    "monitoring",
    "camera_defaults",
    "production_optimizations",
];

/// Keys with a meaning, in the order of their weight: where two set the same, the first counts.
const MEANINGS: [(&str, &str); 16] = [
    ("serialization.enable_compression", "redis_queue.enable_compression"),
    ("serialization.compression_format", "redis_queue.compression_format"),
    ("serialization.compression_quality", "redis_queue.compression_quality"),
    ("performance.target_latency_ms", "engine.latency_target_ms"),
    ("queue_settings.input_queue_config.consumer_group", "redis_queue.consumer_group"),
    ("queue_settings.input_queue_config.consumer_name", "redis_queue.consumer_name"),
    ("queue_settings.input_queue_config.batch_size", "redis_queue.batch_size"),
    ("queue_settings.input_queue_config.block_time_ms", "redis_queue.block_time_ms"),
    ("queue_settings.input_queue_config.retry_attempts", "redis_queue.retry_attempts"),
    ("queue_settings.input_queue_config.dead_letter_queue", "redis_queue.dead_letter_queue"),
    ("queue_settings.output_queue_config.max_length", "redis_queue.max_queue_length"),
    ("queue_settings.output_queue_config.enable_compression", "redis_queue.enable_compression"),
    ("camera_defaults.quality_threshold", "analysis.quality_threshold"),
    ("production_optimizations.pool_size", "redis_queue.pool_size"),
    ("production_optimizations.connection_timeout", "redis_queue.timeout"),
    ("production_optimizations.retry_on_failure", "redis_queue.retry_on_failure"),
];

/// What such a file says.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    /// Key as typed, key of this system, value.
    pub settings: Vec<(String, &'static str, Value)>,
    /// Keys without a meaning, as typed.
    pub without_effect: Vec<String>,
}

/// Whether a key of the outermost mapping is a comment.
pub(super) fn is_comment(key: &str) -> bool {
    key.starts_with('_')
}

/// Takes the sections of an old file out of `map`; whatever else has one of their names stays.
pub(super) fn take(map: &mut Map<String, Value>) -> Legacy {
    let mut typed = Vec::new();
    for section in SECTIONS {
        if map.get(section).is_some_and(Value::is_object)
            && let Some(value) = map.remove(section)
        {
            flatten(section.to_owned(), value, &mut typed);
        }
    }
    let mut legacy = Legacy::default();
    for (known, target) in MEANINGS {
        let Some(index) = typed.iter().position(|(key, _)| key == known) else { continue };
        let (key, value) = typed.remove(index);
        match legacy.settings.iter().find(|(_, taken, _)| *taken == target) {
            None => legacy.settings.push((key, target, value)),
            Some((_, _, same)) if *same == value => {}
            Some(_) => legacy.without_effect.push(key),
        }
    }
    legacy.without_effect.extend(typed.into_iter().map(|(key, _)| key));
    legacy
}

fn flatten(key: String, value: Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                if !is_comment(&name) {
                    flatten(format!("{key}.{name}"), value, into);
                }
            }
        }
        value => into.push((key, value)),
    }
}
