//! What a running engine takes on from a new configuration, and what it does not.

use super::kind::Secrets;
use super::render;
use super::table::{Config, Section};
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
        Section::take_live(self, new);
        Changes { taken: differing(&before, self), needs_restart: differing(self, new) }
    }
}

/// The keys whose values differ, secrets compared as they are.
fn differing(one: &Config, other: &Config) -> Vec<String> {
    let (one, other) = (render::tree(one, Secrets::Exposed), render::tree(other, Secrets::Exposed));
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
