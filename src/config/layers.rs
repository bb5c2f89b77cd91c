//! As typed: every value by its dotted key, the later layer over the earlier, each with its origin.
//!
//! Nothing here knows which keys exist, except the flat names of Kafka-era files.

use super::fault::{FaultLine, Origin, shown};
use super::kafka_keys::{KafkaKey, current_name};
use super::near::is_harmless;
use super::secret::{HIDDEN, shown_key};
use super::table::{Config, Section};
use super::{file, legacy};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Flat names of Kafka-era files and the keys they mean.
pub(super) const FLAT: [(&str, &str); 14] = [
    ("redis_url", "redis_queue.url"),
    ("queue_pool_size", "redis_queue.pool_size"),
    ("batch_size", "redis_queue.batch_size"),
    ("block_time_ms", "redis_queue.block_time_ms"),
    ("input_queue", "redis_queue.input_queue"),
    ("output_queue", "redis_queue.output_queue"),
    ("max_queue_length", "redis_queue.max_queue_length"),
    ("enable_compression", "redis_queue.enable_compression"),
    ("compression_format", "redis_queue.compression_format"),
    ("compression_quality", "redis_queue.compression_quality"),
    ("sentinel_service_name", "redis_queue.sentinel_service_name"),
    ("sentinel_nodes", "redis_queue.sentinel_nodes"),
    ("quality_threshold", "analysis.quality_threshold"),
    ("max_concurrent_streams", "engine.max_concurrent_streams"),
];

/// A flat name that is accepted and does nothing.
pub(super) const WITHOUT_EFFECT: &str = "processing_timeout";

/// Most keys of an unknown section that are named.
const KEYS_SHOWN_MAX: usize = 5;

/// One value as typed.
pub(super) struct Typed {
    /// The key as typed: dotted, or flat.
    pub name: String,
    /// Where it came from.
    pub origin: Origin,
    /// What was typed.
    pub value: Value,
}

impl Typed {
    /// Whether it was typed where everything is text.
    pub fn is_text(&self) -> bool {
        matches!(self.origin, Origin::Variable(_) | Origin::Flag)
    }

    /// The fault of a key that is not known. A key of any name may hold a secret, so its value is
    /// shown only if it is no text and `nearest`, a slip away, is the name of no secret.
    pub fn unknown(&self, nearest: Option<&str>, message: impl Into<String>) -> FaultLine {
        let value = match &self.value {
            Value::Null | Value::Bool(_) => self.value.to_string(),
            value if nearest.is_some_and(|near| is_harmless(&self.name, value, near)) => {
                value.to_string()
            }
            Value::Object(map) => {
                let hidden = |name: &String| (shown_key(name), Value::from(HIDDEN));
                let keys: Map<_, _> = map.keys().take(KEYS_SHOWN_MAX).map(hidden).collect();
                Value::Object(keys).to_string()
            }
            _ => HIDDEN.into(),
        };
        FaultLine { value, ..self.fault(message) }
    }

    /// This value as a fault line.
    pub fn fault(&self, message: impl Into<String>) -> FaultLine {
        FaultLine {
            key: shown_key(&self.name),
            value: shown(&self.name, &self.value, self.is_text()),
            origin: self.origin.clone(),
            message: message.into(),
        }
    }
}

/// Gives the keys of the section `kafka` of an old file the names that they have here.
fn kafka_era(layer: &mut BTreeMap<String, Typed>, without_effect: &mut Vec<String>) {
    let old: Vec<String> = layer.keys().filter(|key| key.starts_with("kafka.")).cloned().collect();
    for key in old {
        match current_name(&key["kafka.".len()..]) {
            KafkaKey::Key(name) => {
                let name = format!("kafka.{name}");
                if name != key
                    && !layer.contains_key(&name)
                    && let Some(typed) = layer.remove(&key)
                {
                    layer.insert(name, typed);
                }
            }
            KafkaKey::WithoutEffect => {
                layer.remove(&key);
                without_effect.push(key);
            }
        }
    }
}

/// All layers so far.
pub(super) struct Layers {
    /// The values that count, by dotted key.
    pub values: BTreeMap<String, Typed>,
    /// What was wrong already while reading.
    pub faults: Vec<FaultLine>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Whether the file could be read at all.
    pub file_is_whole: bool,
}

impl Layers {
    /// No layers: everything as built in.
    pub fn new() -> Self {
        Layers {
            values: BTreeMap::new(),
            faults: Vec::new(),
            notes: Vec::new(),
            file_is_whole: true,
        }
    }

    /// Lays the file at `path` over what is there.
    pub fn file(&mut self, path: &Path) {
        let origin = Origin::File(path.to_path_buf());
        match file::read(path) {
            Ok(map) => self.tree(map, &origin),
            Err(message) => {
                self.file_is_whole = false;
                self.faults.push(FaultLine {
                    key: String::new(),
                    value: String::new(),
                    origin,
                    message,
                });
            }
        }
    }

    /// Lays those variables over what is there that name one of our sections.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            let capitals = name.to_ascii_uppercase();
            let is_ours = Config::NAMES.iter().any(|section| {
                let rest = capitals.strip_prefix(section.to_ascii_uppercase().as_str());
                rest.is_some_and(|rest| rest.starts_with("__"))
            });
            if !is_ours {
                continue;
            }
            let mut key = name.to_ascii_lowercase().replace("__", ".");
            if let Some(old) = key.strip_prefix("kafka.") {
                match current_name(old) {
                    KafkaKey::Key(name) => key = format!("kafka.{name}"),
                    KafkaKey::WithoutEffect => continue,
                }
            }
            let origin = Origin::Variable(name.clone());
            let typed = Typed { name: key.clone(), origin, value: value.into() };
            if name == capitals {
                self.values.insert(key, typed);
            } else {
                let message = format!("valid: the name in capitals, {capitals}");
                self.faults.push(typed.unknown(None, message));
            }
        }
    }

    /// Lays one flag over what is there.
    pub fn flag(&mut self, key: String, value: String) {
        let typed = Typed { name: key.clone(), origin: Origin::Flag, value: value.into() };
        self.values.insert(key, typed);
    }

    /// Lays a tree of sections over what is there.
    pub fn tree(&mut self, mut map: Map<String, Value>, origin: &Origin) {
        let mut layer = BTreeMap::new();
        map.retain(|key, _| !legacy::is_comment(key));
        let mut old = legacy::take(&mut map);
        let has_redis = map.contains_key("redis_queue")
            || map.contains_key("redis_url")
            || old.settings.iter().any(|(_, target, _)| *target == "redis_queue.url");
        let (sections, flat): (Vec<_>, Vec<_>) =
            map.into_iter().partition(|(key, _)| Config::NAMES.contains(&key.as_str()));
        for (key, value) in sections {
            self.flatten(&mut layer, key, value, origin);
        }
        let mut has_kafka = layer.keys().any(|key| key.starts_with("kafka.")) && !has_redis;
        kafka_era(&mut layer, &mut old.without_effect);
        for (key, value) in flat {
            let typed = Typed { name: key.clone(), origin: origin.clone(), value };
            if key.starts_with("kafka_") {
                has_kafka = true;
            } else if key == WITHOUT_EFFECT {
                old.without_effect.insert(0, key);
            } else if let Some((_, target)) = FLAT.iter().find(|(name, _)| *name == key) {
                if layer.contains_key(*target) {
                    let message = format!("{target} sets the same; valid: one of the two");
                    self.faults.push(typed.fault(message));
                } else {
                    layer.insert(target.to_string(), typed);
                }
            } else {
                layer.insert(key, typed);
            }
        }
        self.legacy(old, &mut layer, origin);
        if has_kafka {
            self.refuse_kafka(origin);
        }
        self.values.extend(layer);
    }

    fn flatten(
        &mut self,
        layer: &mut BTreeMap<String, Typed>,
        key: String,
        value: Value,
        origin: &Origin,
    ) {
        match value {
            Value::Object(map)
                if !map.is_empty() && !matches!(&*key, "cameras" | "kafka.properties") =>
            {
                for (name, value) in map {
                    let dotted = format!("{key}.{name}");
                    if name.contains('.') {
                        let typed = Typed { name: dotted, origin: origin.clone(), value };
                        let message = "unknown key; keys within keys are written on lines of \
                                       their own, indented, not with a dot";
                        self.faults.push(typed.unknown(None, message));
                    } else {
                        self.flatten(layer, dotted, value, origin);
                    }
                }
            }
            value => {
                let typed = Typed { name: key.clone(), origin: origin.clone(), value };
                layer.insert(key, typed);
            }
        }
    }

    /// The settings of an old file's sections, where nothing else sets the same.
    fn legacy(
        &mut self,
        mut old: legacy::Legacy,
        layer: &mut BTreeMap<String, Typed>,
        origin: &Origin,
    ) {
        for (name, target, value) in old.settings {
            match layer.get(target) {
                None => {
                    let typed = Typed { name, origin: origin.clone(), value };
                    layer.insert(target.to_owned(), typed);
                }
                Some(typed) if typed.value == value => {}
                Some(_) => old.without_effect.push(name),
            }
        }
        match &old.without_effect[..] {
            [] => {}
            [key] => {
                self.notes.push(format!("{key} is accepted for old files and has no effect"));
            }
            keys => self
                .notes
                .push(format!("{} are accepted for old files and have no effect", keys.join(", "))),
        }
    }

    fn refuse_kafka(&mut self, origin: &Origin) {
        let file = match origin {
            Origin::File(path) => path.display().to_string(),
            _ => "FILE".into(),
        };
        self.faults.push(FaultLine {
            key: "kafka".into(),
            value: String::new(),
            origin: origin.clone(),
            message: format!(
                "this is a configuration of the Kafka version; convert it with: \
                 framepress migrate-config {file}"
            ),
        });
    }
}
