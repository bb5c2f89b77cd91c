//! From typed to valid, key by key: the reader remembers which keys were asked for, so that what
//! remains is unknown, and goes on after a fault so that all of them are reported.
//!
//! The sections of `table` ask for their keys.

use super::fault::{FaultLine, Origin, shown};
use super::given::{Given, Problem};
use super::kind::{KeySource, ValueKind, read_secret_file};
use super::layers::{FLAT, Typed, WITHOUT_EFFECT};
use super::near::{nearest_key, split};
use super::table::{Config, Section};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Reads typed values and collects faults.
pub(super) struct KeyReader {
    values: BTreeMap<String, Typed>,
    asked: Vec<&'static str>,
    faulty: Vec<&'static str>,
    /// Every fault so far.
    pub faults: Vec<FaultLine>,
}

impl KeyReader {
    /// A reader of `values` by dotted key.
    pub fn new(values: BTreeMap<String, Typed>) -> Self {
        KeyReader { values, asked: Vec::new(), faulty: Vec::new(), faults: Vec::new() }
    }

    /// Whether both keys have a value.
    fn both_are_set(&self, one: &str, other: &str) -> bool {
        [one, other].iter().all(|key| {
            let typed = self.values.get(*key);
            typed.is_some_and(|it| !Given { value: &it.value, is_text: it.is_text() }.is_null())
        })
    }

    /// The text of the file that `file_key` names: the value of `key`, which then must not be there.
    /// A file that holds no such text is a fault.
    pub fn value_in_file<T>(
        &mut self,
        key: &'static str,
        file_key: &'static str,
        path: Option<&Path>,
        read: impl FnOnce(String) -> Result<T, String>,
    ) -> Option<T> {
        if self.both_are_set(key, file_key) {
            self.fault(file_key, format!("{key} is set as well; valid: one of the two"));
            self.faulty.push(key);
            return None;
        }
        read_secret_file(path?).and_then(read).map_err(|message| self.fault(file_key, message)).ok()
    }

    /// Reports something wrong with the value of `key`.
    fn fault(&mut self, key: &'static str, message: String) {
        if let Some(typed) = self.values.get(key) {
            self.faults.push(typed.fault(message));
            self.faulty.push(key);
        }
    }

    /// A rule over several keys of `config`: reported at the first of them that was set,
    /// unless one of them is faulty by itself.
    pub fn rule(
        &mut self,
        config: &Config,
        keys: &[&'static str],
        holds: bool,
        message: impl Into<String>,
    ) {
        if holds || keys.iter().any(|key| self.faulty.contains(key)) {
            return;
        }
        let fault = match keys.iter().find_map(|key| self.values.get(*key)) {
            Some(typed) => typed.fault(message),
            None => {
                let key = keys.first().copied().unwrap_or_default();
                let pointer = format!("/{}", key.replace('.', "/"));
                let value = config.to_json().pointer(&pointer).cloned().unwrap_or(Value::Null);
                FaultLine {
                    key: key.into(),
                    value: shown(key, &value, false),
                    origin: Origin::Builtin,
                    message: message.into(),
                }
            }
        };
        self.faults.push(fault);
    }

    /// Reports every typed key that was never asked for.
    pub fn unknown(&mut self) {
        for (key, typed) in &self.values {
            if self.asked.contains(&key.as_str()) {
                continue;
            }
            let is_section = self.asked.iter().any(|asked| is_below(asked, key));
            let over = self.asked.iter().find(|asked| is_below(key, asked));
            let fault = match (is_section, over, &typed.value) {
                (true, _, Value::Object(_)) => continue,
                (true, ..) => typed.unknown(Some(key), "valid: a section of keys, or leave it out"),
                (_, Some(over), _) => {
                    typed.unknown(None, format!("unknown key; {over} has no keys below it"))
                }
                _ => {
                    let (nearest, message) = nearest_of(key, &typed.origin, &self.asked);
                    typed.unknown(nearest, message)
                }
            };
            self.faults.push(fault);
        }
    }
}

/// The layers have the keys by their dotted names.
impl KeySource for KeyReader {
    fn value<T, K: ValueKind<T>>(&mut self, key: &'static str, default: T, kind: &K) -> T {
        self.asked.push(key);
        let Some(typed) = self.values.get(key) else { return default };
        match kind.read(Given { value: &typed.value, is_text: typed.is_text() }) {
            Ok(value) => value,
            Err(problems) => {
                self.faulty.push(key);
                for Problem { at, part, message } in problems {
                    let mut fault = typed.fault(message);
                    if let Some(part) = part {
                        let name = at.rsplit_once('.').map_or(key, |(_, name)| name);
                        fault.value = shown(name, &part, false);
                    } else if !at.is_empty() {
                        fault.value.clear();
                    }
                    fault.key.push_str(&at);
                    self.faults.push(fault);
                }
                default
            }
        }
    }
}

/// Whether `key` lies within the section `section`.
fn is_below(key: &str, section: &str) -> bool {
    key.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// The known key that `key` resembles, and what is said about it.
fn nearest_of(
    key: &str,
    origin: &Origin,
    asked: &[&'static str],
) -> (Option<&'static str>, String) {
    let is_top_level = !key.contains('.');
    let mut known = asked.to_vec();
    if is_top_level {
        let flat = FLAT.iter().map(|(name, _)| *name);
        let sections = Config::NAMES.iter().copied();
        known.splice(0..0, sections.chain(flat).chain([WITHOUT_EFFECT]));
    }
    let Some(nearest) = nearest_key(key, &known) else { return (None, "unknown key".into()) };
    let named = match origin {
        Origin::Variable(_) => nearest.replace('.', "__").to_ascii_uppercase(),
        Origin::File(_) if split(nearest).0 == split(key).0 => split(nearest).1.into(),
        _ => nearest.into(),
    };
    (Some(nearest), format!("unknown key; did you mean {named}?"))
}
