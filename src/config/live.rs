//! What a running engine takes on from a new configuration, and what it does not.

use super::model::Config;
use super::render;
use serde_json::{Map, Value};

/// What differs between the configuration in force and a new one: names of keys, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Taken on.
    pub taken: Vec<String>,
    /// Only after a restart.
    pub needs_restart: Vec<String>,
}

impl Config {
    /// Takes over from `new` whatever may change while the engine runs, and leaves the rest as it
    /// is.
    pub fn take_live(&mut self, new: &Config) -> Changes {
        let before = self.clone();
        let (queue, from) = (&mut self.redis_queue, &new.redis_queue);
        queue.compression_quality = from.compression_quality;
        queue.jpeg_huffman = from.jpeg_huffman;
        queue.webp_method = from.webp_method;
        queue.png_level = from.png_level;
        queue.retry_attempts = from.retry_attempts;
        queue.max_frame_age_ms = from.max_frame_age_ms;
        self.engine.reencode = new.engine.reencode;
        self.engine.orientation = new.engine.orientation;
        self.engine.latency_target_ms = new.engine.latency_target_ms;
        self.limits.damaged_images = new.limits.damaged_images;
        // Whether there is analysis at all decides about a frame's way, so it stays.
        let enabled = self.analysis.enabled;
        self.analysis = new.analysis.clone();
        self.analysis.enabled = enabled;
        self.cameras.clone_from(&new.cameras);
        self.log.level = new.log.level;
        self.log.summary_seconds = new.log.summary_seconds;
        Changes { taken: differing(&before, self), needs_restart: differing(self, new) }
    }
}

/// The keys whose values differ, secrets compared as they are.
fn differing(one: &Config, other: &Config) -> Vec<String> {
    let (one, other) = (render::tree(one, true), render::tree(other, true));
    let mut keys = Vec::new();
    collect("", &one, &other, &mut keys);
    keys.sort_unstable();
    keys
}

fn collect(
    section: &str,
    one: &Map<String, Value>,
    other: &Map<String, Value>,
    keys: &mut Vec<String>,
) {
    for (name, value) in one {
        match (value, other.get(name)) {
            (Value::Object(one), Some(Value::Object(other))) => {
                collect(&format!("{section}{name}."), one, other, keys);
            }
            (value, other) if Some(value) != other => keys.push(format!("{section}{name}")),
            _ => {}
        }
    }
}
