//! The effective configuration, written with the keys of the file and without its secrets.

use super::kind::Secrets;
use super::table::{Config, ConfigNode, Section, mapping};
use serde_json::{Map, Value};

impl Config {
    /// The configuration as YAML that a [`Loader`](super::Loader) reads again. Passwords and the
    /// token are written as `***`.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        let (sections, keys): (Vec<_>, Vec<_>) =
            self.write(Secrets::Hidden).into_iter().partition(|(_, node)| node.is_section());
        for (name, node) in sections.into_iter().chain(keys) {
            match node {
                ConfigNode::Section(keys) => {
                    text.push_str(&format!("{name}:\n"));
                    for (key, node) in keys {
                        text.push_str(&format!("  {key}: {}\n", flow(&node.into())));
                    }
                }
                ConfigNode::Key(Value::Array(items)) if !items.is_empty() => {
                    text.push_str(&format!("{name}:\n"));
                    for item in &items {
                        text.push_str(&format!("  - {}\n", flow(item)));
                    }
                }
                ConfigNode::Key(value) => text.push_str(&format!("{name}: {}\n", flow(&value))),
            }
        }
        text
    }

    /// The configuration as JSON, with the same keys. Passwords and the token are `***`.
    pub fn to_json(&self) -> Value {
        Value::Object(tree(self, Secrets::Hidden))
    }
}

/// The configuration as a tree.
pub(super) fn tree(config: &Config, secrets: Secrets) -> Map<String, Value> {
    mapping(config.write(secrets))
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
