//! The configuration file: from bytes to one tree of values.
//!
//! YAML is parsed in `yaml.rs`, JSON here, because `serde_json` alone does not mind a key that appears
//! twice. No error repeats a value of the file: it could be a secret.

use super::secret::shown_key;
use super::yaml::{self, NOT_A_MAPPING, SyntaxProblem};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Largest configuration file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the file at `path` as JSON or YAML, by its extension; YAML if that says nothing.
pub(super) fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let text = read_text(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    if is_json {
        match parse_json(text).map_err(|problem| problem.message)? {
            Value::Object(map) => Ok(map),
            _ => Err(NOT_A_MAPPING.into()),
        }
    } else {
        yaml::parse(text).map_err(|problem| problem.message)
    }
}

/// The text of the file at `path`, within bounds.
pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let fault = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(fault)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fault)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("is larger than 1 MiB; it cannot be a configuration file".into());
    }
    String::from_utf8(bytes).map_err(|error| {
        format!("is not UTF-8 (byte {}); save it as UTF-8", error.utf8_error().valid_up_to())
    })
}

/// Parses JSON in which no key appears twice.
pub(super) fn parse_json(text: &str) -> Result<Value, SyntaxProblem> {
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(value)) => Ok(value),
        Err(error) => Err(SyntaxProblem { message: format!("is not valid JSON: {error}") }),
    }
}

/// A JSON value whose mappings have distinct keys.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("key {} appears twice", shown_key(&key))));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
