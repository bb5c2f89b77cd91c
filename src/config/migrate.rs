//! From a configuration of the Kafka version to one of this: what has a counterpart is carried
//! over, what has none is named with the reason.

use super::fault::{ConfigError, FaultLine, Origin, shown};
use super::file;
use super::kafka_keys::{OldKafkaKey, Successor, old_kafka_key};
use super::layers::{FLAT, Layers, WITHOUT_EFFECT};
use super::loader;
use super::render::flow;
use super::secret::{HIDDEN, names_a_secret, shown_key};
use super::table::{Config, KafkaConfig, KafkaStatsConfig, Section};
use super::url::RedisUrl;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write;
use std::path::Path;

/// A converted configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// A commented file that a [`Loader`](super::Loader) reads.
    pub yaml: String,
    /// What was not carried over, each with its reason.
    pub left_out: Vec<String>,
}

/// Why keys that are not known at all are left out.
const NOTHING_SIMILAR: &str = "no setting here does the same";
const NO_SETTING: &str = "not a setting of this program";

/// Whether section `kafka` has the key `name`, as in `stats.kafka_to_redis`.
fn is_bridge_key(name: &str) -> bool {
    match name.strip_prefix("stats.") {
        Some(name) => KafkaStatsConfig::NAMES.contains(&name),
        None => name != "stats" && KafkaConfig::NAMES.contains(&name),
    }
}

/// A value and the old key it came from.
struct Moved {
    from: String,
    value: Value,
}

/// Converts the file at `path`: YAML, JSON, or an environment file (`.env`).
///
/// # Errors
/// Those of a file that cannot be read or parsed.
pub fn migrate(path: &Path) -> Result<Migrated, ConfigError> {
    let origin = Origin::File(path.to_path_buf());
    let is_env = path.extension().is_some_and(|extension| extension == "env")
        || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".env"));
    let read = if is_env { read_env(path) } else { file::read(path) };
    let map = read.map_err(|message| ConfigError {
        faults: vec![FaultLine { key: String::new(), value: String::new(), origin, message }],
    })?;
    let mut values = Vec::new();
    flatten("", Value::Object(map), &mut values);
    Ok(convert(values))
}

/// Lines `NAME=value`; with or without `export`, quotes and comments.
fn read_env(path: &Path) -> Result<Map<String, Value>, String> {
    let mut map = Map::new();
    for line in file::read_text(path)?.lines() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let name = name.trim().to_ascii_lowercase().replace("__", ".");
        let name = match name.strip_prefix("kafka_") {
            Some(rest) => format!("kafka.{rest}"),
            None => name,
        };
        let value = value.trim();
        let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
        map.insert(name, scalar(value));
    }
    Ok(map)
}

/// Text of an environment as the value a file would have.
fn scalar(text: &str) -> Value {
    match text.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) => match text.to_ascii_lowercase().as_str() {
            "true" => true.into(),
            "false" => false.into(),
            _ => text.into(),
        },
    }
}

fn flatten(key: &str, value: Value, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !matches!(key, "cameras" | "kafka.properties") => {
            for (name, value) in map {
                let key = if key.is_empty() { name } else { format!("{key}.{name}") };
                flatten(&key, value, into);
            }
        }
        value => into.push((key.to_owned(), value)),
    }
}

fn convert(values: Vec<(String, Value)>) -> Migrated {
    let mut kept: BTreeMap<String, Moved> = BTreeMap::new();
    let mut left_out = Vec::new();
    for (from, mut value) in values {
        let of_kafka = from.strip_prefix("kafka.").or_else(|| from.strip_prefix("kafka_"));
        let mut targets = Vec::new();
        let mut why = NO_SETTING;
        // Where everything is text, a mapping is JSON; whatever else stands there may be a secret.
        if of_kafka == Some("properties") && !value.is_object() {
            let parsed = value.as_str().and_then(|text| serde_json::from_str(text).ok());
            value = match parsed {
                Some(Value::Object(map)) => Value::Object(map),
                _ => {
                    left_out.push(format!("{}: valid: a mapping", shown_key(&from)));
                    continue;
                }
            };
        }
        match of_kafka {
            Some(name) => match old_kafka_key(name) {
                Some(OldKafkaKey { bridge, successor, .. }) => {
                    targets.extend(bridge.map(|key| format!("kafka.{key}")));
                    match successor {
                        Successor::Becomes(target) => targets.push((*target).to_owned()),
                        Successor::LeftOut(reason) => why = reason,
                    }
                }
                None if is_bridge_key(name) => targets.push(format!("kafka.{name}")),
                None => why = NOTHING_SIMILAR,
            },
            None if from == WITHOUT_EFFECT => why = "every wait has a limit of its own",
            None => match FLAT.iter().find(|(name, _)| *name == from) {
                Some((_, target)) => targets.push((*target).to_owned()),
                None if Config::NAMES.contains(&from.split('.').next().unwrap_or_default()) => {
                    targets.push(from.clone());
                }
                None => {}
            },
        }
        if targets.is_empty() {
            left_out.push(line(&from, &value, why));
        }
        for target in targets {
            match kept.entry(target) {
                Entry::Vacant(place) => {
                    place.insert(Moved { from: from.clone(), value: value.clone() });
                }
                Entry::Occupied(taken) => {
                    let why = format!("{} is set already", taken.key());
                    left_out.push(line(&from, &value, &why));
                }
            }
        }
    }
    hide_passwords(&mut kept, &mut left_out);
    drop_invalid(&mut kept, &mut left_out);
    let yaml = render(&kept, &left_out);
    Migrated { yaml, left_out }
}

fn line(from: &str, value: &Value, why: &str) -> String {
    let value = match [NOTHING_SIMILAR, NO_SETTING].contains(&why) && may_be_secret(value) {
        true => HIDDEN.to_owned(),
        false => shown(from, value, true),
    };
    format!("{} = {value}: {why}", shown_key(from))
}

/// Whether the value of a key that is not known may be a secret: anything but a short number.
fn may_be_secret(value: &Value) -> bool {
    let number = match value {
        Value::Null | Value::Bool(_) => return false,
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.is_none_or(|number: f64| !(-1000.0..1000.0).contains(&number))
}

/// What is printed may be seen by others: passwords stay behind, and that is said.
fn hide_passwords(kept: &mut BTreeMap<String, Moved>, left_out: &mut Vec<String>) {
    for (key, moved) in kept.iter_mut() {
        let Some(text) = moved.value.as_str() else { continue };
        if key == "redis_queue.url" {
            let Ok(url) = RedisUrl::parse(text) else { continue };
            if url.password().is_some() {
                let variable = key.replace('.', "__").to_ascii_uppercase();
                left_out.push(format!(
                    "the password of {}: not copied; write it into the file in place of ***, or \
                     set {variable}",
                    moved.from
                ));
                moved.value = url.to_string().into();
            }
        }
    }
    if let Some(Moved { value: Value::Object(properties), .. }) = kept.get_mut("kafka.properties") {
        properties.retain(|name, _| {
            let secret = super::kind::is_secret_property(name);
            if secret {
                left_out.push(format!("kafka.properties.{name}: not copied, for it is a secret"));
            }
            !secret
        });
    }
    kept.retain(|key, moved| {
        let secret = names_a_secret(key) && !moved.value.is_null();
        if secret {
            left_out.push(format!("{}: not copied, for it is a secret; set {key}", moved.from));
        }
        !secret
    });
}

/// Takes out what would not be valid here, until the rest is.
fn drop_invalid(kept: &mut BTreeMap<String, Moved>, left_out: &mut Vec<String>) {
    loop {
        let mut layers = Layers::new();
        layers.tree(tree(kept), &Origin::Program);
        let Err(error) = loader::finish(layers) else { return };
        let before = kept.len();
        let mut dropped = false;
        for fault in error.faults {
            let key = fault.key.split('[').next().unwrap_or_default();
            if let Some(name) = key.strip_prefix("kafka.properties.")
                && let Some(Moved { value: Value::Object(map), .. }) =
                    kept.get_mut("kafka.properties")
                && map.remove(name).is_some()
            {
                left_out.push(format!("{key}: {}", fault.message));
                dropped = true;
                continue;
            }
            if let Some(moved) = kept.remove(key) {
                left_out.push(line(&moved.from, &moved.value, &fault.message));
            }
        }
        if kept.len() == before && !dropped {
            return; // a fault of something that was never set; the loader will say it
        }
    }
}

fn tree(kept: &BTreeMap<String, Moved>) -> Map<String, Value> {
    let mut tree = Map::new();
    for (key, moved) in kept {
        let mut place = &mut tree;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                place.insert(part.to_owned(), moved.value.clone());
                break;
            }
            let inner = place.entry(part).or_insert_with(|| Value::Object(Map::new()));
            match inner {
                Value::Object(map) => place = map,
                _ => break,
            }
        }
    }
    tree
}

fn render(kept: &BTreeMap<String, Moved>, left_out: &[String]) -> String {
    let mut text = String::from(
        "# Converted by framepress migrate-config. What is not here has its built-in value;\n\
         # framepress check --show-config prints all of them.\n",
    );
    for section in Config::NAMES.iter().copied() {
        if section == "cameras" {
            if let Some(moved) = kept.get(section) {
                let _ = writeln!(text, "\ncameras: {}", flow(&moved.value));
            }
            continue;
        }
        let below = format!("{section}.");
        let keys: Vec<_> = kept.iter().filter(|(key, _)| key.starts_with(&below)).collect();
        let needs_url = section == "redis_queue" && !kept.contains_key("redis_queue.url");
        if keys.is_empty() && !needs_url {
            continue;
        }
        let _ = writeln!(text, "\n{section}:");
        if needs_url {
            let _ = writeln!(text, "  # To be set: where Redis is.");
            let _ = writeln!(text, "  url: redis://localhost:6379/0");
        }
        for (key, moved) in keys {
            // Keys of a section within the section keep its name in front, in flow style.
            let name = &key[below.len()..];
            let value = flow(&moved.value);
            let entry = match name.split_once('.') {
                Some((inner, name)) => format!("{inner}: {{{name}: {value}}}"),
                None => format!("{name}: {value}"),
            };
            let from =
                if moved.from == *key { String::new() } else { format!("  # {}", moved.from) };
            let _ = writeln!(text, "  {entry}{from}");
        }
    }
    if !left_out.is_empty() {
        text.push_str("\n# Not carried over:\n");
        for reason in left_out {
            let _ = writeln!(text, "# - {reason}");
        }
    }
    text
}
