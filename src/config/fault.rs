//! What is wrong with a configuration: every fault at once, none with a secret in it.

use super::secret::{HIDDEN, names_a_secret, names_a_url, shown_key};
use crate::base::{redact, text};
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No layer set it.
    Builtin,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Variable(String),
    /// A command-line flag.
    Flag,
    /// The program that embeds the engine.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Builtin => f.write_str("built-in default"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Variable(name) => write!(f, "environment variable {name}"),
            Origin::Flag => f.write_str("command-line flag"),
            Origin::Program => f.write_str("set by the program"),
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultLine {
    /// The key as typed, with indices: `cameras[1].roi_boxes[0].width`. Empty if the fault is the
    /// whole file's.
    pub key: String,
    /// The value as typed, secrets hidden; empty if there is none.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
    /// What is wrong and what would be valid.
    pub message: String,
}

impl fmt::Display for FaultLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultLine { key, value, origin, message } = self;
        // Keys and messages hold what was typed as a key.
        let (key, message) = (shown_key(key), text::line(message));
        match (key.as_str(), value.as_str()) {
            ("", _) => write!(f, "{origin}: {message}"),
            (key, "") => write!(f, "{key} ({origin}): {message}"),
            (key, value) => write!(f, "{key} = {value} ({origin}): {message}"),
        }
    }
}

/// A configuration that cannot be used. `Display` prints one line per fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Every fault found, at least one.
    pub faults: Vec<FaultLine>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Longest value repeated in a fault, in characters.
const SHOWN_MAX: usize = 120;

/// `value` of `key` as it may be printed: secrets hidden, one line, of bounded length.
pub(super) fn shown(key: &str, value: &Value, bare: bool) -> String {
    let text = match hide(key, value) {
        Value::String(typed) if bare && !typed.chars().any(text::is_unsafe) => typed,
        value => text::json(&value.to_string()).into_owned(),
    };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn hide(key: &str, value: &Value) -> Value {
    if names_a_secret(key) {
        return if value.is_null() { Value::Null } else { HIDDEN.into() };
    }
    match value {
        Value::String(text) if names_a_url(key) => redact::url(text).into(),
        Value::String(text) => redact::text(text).into(),
        Value::Array(items) => items.iter().map(|item| hide(key, item)).collect(),
        Value::Object(map) => {
            map.iter().map(|(name, value)| (shown_key(name), hide(name, value))).collect()
        }
        plain => plain.clone(),
    }
}
