//! From typed to valid, key by key: the reader remembers which keys were asked for, so that what
//! remains is unknown, and goes on after a fault so that all of them are reported.
//!
//! The keys are written down once, in `valid.rs`, where they are asked for.

use super::choice::{Choice, Count, WebpMethod};
use super::fault::{FaultLine, Origin, shown};
use super::given::{Given, Parsed, Problem};
use super::layers::{FLAT, SECTIONS, Typed, WITHOUT_EFFECT};
use super::model::Config;
use super::near::{nearest_key, split};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Reads typed values and collects faults.
pub(super) struct Reader {
    values: BTreeMap<String, Typed>,
    asked: Vec<&'static str>,
    faulty: Vec<&'static str>,
    /// Every fault so far.
    pub faults: Vec<FaultLine>,
}

impl Reader {
    /// A reader of `values` by dotted key.
    pub fn new(values: BTreeMap<String, Typed>) -> Self {
        Reader { values, asked: Vec::new(), faulty: Vec::new(), faults: Vec::new() }
    }

    /// The value of `key`; `default` if nobody set it or it is faulty.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Given) -> Parsed<T>,
    ) -> T {
        self.asked.push(key);
        let Some(typed) = self.values.get(key) else { return default };
        match read(Given { value: &typed.value, is_text: typed.is_text() }) {
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

    /// The same for values that have no parts.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(Given) -> Result<T, String>,
    ) -> T {
        self.parsed(key, default, |given| read(given).map_err(|message| vec![message.into()]))
    }

    /// The same for values that may be `null`.
    pub fn nullable<T>(
        &mut self,
        key: &'static str,
        default: Option<T>,
        read: impl FnOnce(Given) -> Result<T, String>,
    ) -> Option<T> {
        self.read(key, default, |given| match given.is_null() {
            true => Ok(None),
            false => read(given).map(Some).map_err(|message| format!("{message}; or null")),
        })
    }

    /// The same for what protects something: empty text, which elsewhere is `null`, is a fault. A
    /// variable that a script has left empty must not switch off a token or a certificate.
    pub fn guarded<T>(
        &mut self,
        key: &'static str,
        default: Option<T>,
        read: impl FnOnce(Given) -> Result<T, String>,
    ) -> Option<T> {
        self.nullable(key, default, read).or_else(|| {
            let typed = self.values.get(key)?;
            if (Given { value: &typed.value, is_text: typed.is_text() }).is_empty_text() {
                self.faults.push(typed.fault("is empty; valid: a value, or null for none"));
                self.faulty.push(key);
            }
            None
        })
    }

    /// A whole number in `range`.
    pub fn whole<T: TryFrom<u64>>(
        &mut self,
        key: &'static str,
        default: T,
        range: RangeInclusive<u64>,
    ) -> T {
        self.read(key, default, |given| given.whole(&range))
    }

    /// True or false.
    pub fn truth(&mut self, key: &'static str, default: bool) -> bool {
        self.read(key, default, |given| given.truth())
    }

    /// One word of a few.
    pub fn choice<C: Choice>(&mut self, key: &'static str, default: C) -> C {
        self.read(key, default, |given| given.choice())
    }

    /// A name of something in Redis.
    pub fn name(&mut self, key: &'static str, default: String) -> String {
        self.read(key, default, |given| given.name())
    }

    /// The effort of WebP.
    pub fn webp_method(&mut self, key: &'static str, default: WebpMethod) -> WebpMethod {
        self.read(key, default, |given| given.webp_method())
    }

    /// A number of threads.
    pub fn count(&mut self, key: &'static str, default: Count, most: u64) -> Count {
        self.read(key, default, |given| given.count(most))
    }

    /// Whether somebody has given a value to each of the two.
    pub fn both_are_set(&self, one: &str, other: &str) -> bool {
        [one, other].iter().all(|key| {
            let typed = self.values.get(*key);
            typed.is_some_and(|it| !Given { value: &it.value, is_text: it.is_text() }.is_null())
        })
    }

    /// Reports that `key` says what `other` says already.
    pub fn conflict(&mut self, key: &'static str, other: &'static str) {
        if let Some(typed) = self.values.get(key) {
            let message = format!("{other} is set as well; valid: one of the two");
            self.faults.push(typed.fault(message));
            self.faulty.extend([key, other]);
        }
    }

    /// A rule over several keys of `config`: reported at the first of them that somebody set,
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
        known.splice(0..0, SECTIONS.into_iter().chain(flat).chain([WITHOUT_EFFECT]));
    }
    let Some(nearest) = nearest_key(key, &known) else { return (None, "unknown key".into()) };
    let named = match origin {
        Origin::Variable(_) => nearest.replace('.', "__").to_ascii_uppercase(),
        Origin::File(_) if split(nearest).0 == split(key).0 => split(nearest).1.into(),
        _ => nearest.into(),
    };
    (Some(nearest), format!("unknown key; did you mean {named}?"))
}
