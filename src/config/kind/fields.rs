//! The keys of a mapping inside a list.

use super::{Given, KeySource, Parsed, Problem, ValueKind};
use crate::config::near::{self, is_harmless, split};
use crate::config::secret::shown_key;
use serde_json::{Map, Value};

/// The keys of one mapping inside a list, read one by one.
pub(in crate::config) struct MappingFields<'a> {
    at: String,
    map: &'a Map<String, Value>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> MappingFields<'a> {
    /// Opens `value` at `at`, reporting what is no mapping and every key not `known`.
    pub fn open(
        at: String,
        value: &'a Value,
        known: &[&str],
        problems: &'a mut Vec<Problem>,
    ) -> Option<MappingFields<'a>> {
        let Some(map) = value.as_object() else {
            let message = format!("valid: a mapping of {}", known.join(", "));
            problems.push(Problem { at, part: Some(value.clone()), message });
            return None;
        };
        for (key, value) in map.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let nearest = near::nearest(key, known.iter().copied());
            let message = match nearest {
                Some(name) => format!("unknown key; did you mean {name}?"),
                None => "unknown key".into(),
            };
            let part = nearest.filter(|near| is_harmless(key, value, near)).map(|_| value.clone());
            problems.push(Problem { at: format!("{at}.{}", shown_key(key)), part, message });
        }
        Some(MappingFields { at, map, problems })
    }

    /// The keys of a mapping that has been opened before.
    pub fn of(map: &'a Map<String, Value>, problems: &'a mut Vec<Problem>) -> MappingFields<'a> {
        MappingFields { at: String::new(), map, problems }
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// Reads `key` if it is there; a fault is reported and reads as absent.
    pub fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Given<'a>) -> Result<T, String>,
    ) -> Option<T> {
        self.parsed(key, |given| read(given).map_err(|message| vec![message.into()]))
    }

    /// The same for values that have parts.
    fn parsed<T>(&mut self, key: &str, read: impl FnOnce(Given<'a>) -> Parsed<T>) -> Option<T> {
        let value = self.map.get(key)?;
        match read(Given { value, is_text: false }) {
            Ok(value) => Some(value),
            Err(problems) => {
                for mut problem in problems {
                    if problem.at.is_empty() && problem.part.is_none() {
                        problem.part = Some(value.clone());
                    }
                    problem.at = format!("{}.{key}{}", self.at, problem.at);
                    self.problems.push(problem);
                }
                None
            }
        }
    }

    /// Reads `key`; its absence is a fault.
    pub fn required<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Given<'a>) -> Result<T, String>,
    ) -> Option<T> {
        self.require(key);
        self.optional(key, read)
    }

    /// Reports the absence of `key`.
    fn require(&mut self, key: &str) {
        if !self.map.contains_key(key) {
            let message = format!("{key} is missing");
            self.problems.push(Problem { at: self.at.clone(), part: None, message });
        }
    }

    /// Reports something wrong with `key`.
    pub fn fault(&mut self, key: &str, message: String) {
        let at = format!("{}.{key}", self.at);
        self.problems.push(Problem { at, part: self.map.get(key).cloned(), message });
    }
}

/// A mapping has the keys of a section by their short names.
impl KeySource for MappingFields<'_> {
    fn value<T, K: ValueKind<T>>(&mut self, key: &'static str, default: T, kind: &K) -> T {
        let (_, name) = split(key);
        if kind.is_required() {
            self.require(name);
        }
        self.parsed(name, |given| kind.read(given)).unwrap_or(default)
    }
}
