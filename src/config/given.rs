//! One value as typed, read as the type its key wants.
//!
//! Values of the environment and of flags are text and are parsed; values of a file already have a
//! type, and text is not taken for a number. Every error says what would be valid.

use super::choice::{Choice, Count, Pin, WebpMethod};
use super::layers::is_harmless;
use super::secret::shown_key;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::RangeInclusive;

/// Something wrong with a value or with a part of it.
#[derive(Debug)]
pub(super) struct Problem {
    /// Where in the value: empty, or as in `[1].roi_boxes[0].width`.
    pub at: String,
    /// The offending part, unless it is the whole value.
    pub part: Option<Value>,
    /// What would be valid.
    pub message: String,
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Problem { at: String::new(), part: None, message }
    }
}

/// A value, or everything wrong with it.
pub(super) type Parsed<T> = Result<T, Vec<Problem>>;

/// A value as typed.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// What was typed.
    pub value: &'a Value,
    /// Whether it was typed where everything is text.
    pub is_text: bool,
}

impl<'a> Given<'a> {
    /// `null`, or its spelling where everything is text.
    pub fn is_null(self) -> bool {
        match self.value {
            Value::Null => true,
            Value::String(text) => self.is_text && matches!(text.trim(), "" | "null"),
            _ => false,
        }
    }

    /// Text of which nothing is left, as of a variable that a script has left empty.
    pub fn is_empty_text(self) -> bool {
        self.is_text && self.value.as_str().is_some_and(|text| text.trim().is_empty())
    }

    /// A whole number in `range`.
    pub fn whole<T: TryFrom<u64>>(self, range: &RangeInclusive<u64>) -> Result<T, String> {
        let number = match self.value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if self.is_text => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                format!("valid: a whole number from {} to {}", range.start(), range.end())
            })
    }

    /// A number from 0 to 1.
    pub fn share(self) -> Result<f64, String> {
        let number = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if self.is_text => text.trim().parse().ok(),
            _ => None,
        };
        number
            .filter(|number| (0.0..=1.0).contains(number))
            .ok_or_else(|| "valid: a number from 0.0 to 1.0".into())
    }

    /// True or false; where everything is text also 1, 0, yes, no, on, off.
    pub fn truth(self) -> Result<bool, String> {
        let fault = || "valid: true or false".to_string();
        match self.value {
            Value::Bool(truth) => Ok(*truth),
            Value::String(text) if self.is_text => {
                match text.trim().to_ascii_lowercase().as_str() {
                    "true" | "1" | "yes" | "on" => Ok(true),
                    "false" | "0" | "no" | "off" => Ok(false),
                    _ => Err(fault()),
                }
            }
            _ => Err(fault()),
        }
    }

    /// Text without control characters, not empty.
    pub fn text(self) -> Result<&'a str, String> {
        match self.value {
            Value::String(text) if text.contains(char::REPLACEMENT_CHARACTER) => {
                Err("valid: text in UTF-8".into())
            }
            Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => {
                Ok(text)
            }
            Value::String(_) => Err("valid: text, not empty, without control characters".into()),
            _ => Err("valid: text; put quotes around it".into()),
        }
    }

    /// The name of a stream, a group or a consumer.
    pub fn name(self) -> Result<String, String> {
        const VALID: &str = "valid: a name, not empty, without spaces or control characters";
        let text = self.text().map_err(|_| VALID)?;
        if text.chars().any(char::is_whitespace) { Err(VALID.into()) } else { Ok(text.into()) }
    }

    /// One word of a [`Choice`].
    pub fn choice<C: Choice>(self) -> Result<C, String> {
        let word = self.value.as_str().map(str::trim);
        word.and_then(C::from_name).ok_or_else(|| {
            let names: Vec<_> = C::ALL.iter().map(|choice| choice.name()).collect();
            format!("valid: {}", names.join(", "))
        })
    }

    /// `auto` or a number of threads.
    pub fn count(self, most: u64) -> Result<Count, String> {
        match self.value.as_str().map(str::trim) {
            Some(word) if word.eq_ignore_ascii_case("auto") => Ok(Count::Auto),
            _ => self
                .whole(&(1..=most))
                .map(Count::Fixed)
                .map_err(|_| format!("valid: auto, or a whole number from 1 to {most}")),
        }
    }

    /// `auto` or a method of WebP.
    pub fn webp_method(self) -> Result<WebpMethod, String> {
        match self.value.as_str().map(str::trim) {
            Some(word) if word.eq_ignore_ascii_case("auto") => Ok(WebpMethod::Auto),
            _ => self
                .whole(&(0..=6))
                .map(WebpMethod::Fixed)
                .map_err(|_| "valid: auto, or a whole number from 0 to 6".to_owned()),
        }
    }

    /// `auto`, `off` or a list of cores.
    pub fn pin(self, core_max: u64) -> Parsed<Pin> {
        match self.value.as_str().map(|word| word.trim().to_ascii_lowercase()).as_deref() {
            Some("auto") => return Ok(Pin::Auto),
            Some("off") => return Ok(Pin::Off),
            _ => {}
        }
        let fault =
            || Problem::from("valid: auto, off, or a list of cores such as [0, 2]".to_string());
        let list = self.structure().map_err(|_| vec![fault()])?;
        let items =
            list.as_array().filter(|items| !items.is_empty()).ok_or_else(|| vec![fault()])?;
        let mut problems = Vec::new();
        let mut cores = Vec::with_capacity(items.len());
        let mut seen = HashSet::new();
        for (index, value) in items.iter().enumerate() {
            let core = Given { value, is_text: false }.whole::<usize>(&(0..=core_max));
            match core.and_then(|core| match seen.insert(core) {
                true => Ok(core),
                false => Err("valid: each core once".into()),
            }) {
                Ok(core) => cores.push(core),
                Err(message) => {
                    let part = Some(value.clone());
                    problems.push(Problem { at: format!("[{index}]"), part, message });
                }
            }
        }
        if problems.is_empty() { Ok(Pin::Cores(cores)) } else { Err(problems) }
    }

    /// The value with its inner structure: where everything is text, the JSON in it.
    pub fn structure(self) -> Result<Cow<'a, Value>, String> {
        match self.value {
            Value::String(text) if self.is_text => super::file::parse_json(text)
                .map(Cow::Owned)
                .map_err(|problem| format!("valid: a list in JSON ({})", problem.message)),
            value => Ok(Cow::Borrowed(value)),
        }
    }
}

/// The keys of one mapping inside a list, read one by one.
pub(super) struct Fields<'a> {
    at: String,
    map: &'a Map<String, Value>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// Opens `value` at `at`, reporting what is no mapping and every key not `known`.
    pub fn open(
        at: String,
        value: &'a Value,
        known: &[&str],
        problems: &'a mut Vec<Problem>,
    ) -> Option<Fields<'a>> {
        let Some(map) = value.as_object() else {
            let message = format!("valid: a mapping of {}", known.join(", "));
            problems.push(Problem { at, part: Some(value.clone()), message });
            return None;
        };
        for (key, value) in map.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            let nearest = super::near::nearest(key, known.iter().copied());
            let message = match nearest {
                Some(name) => format!("unknown key; did you mean {name}?"),
                None => "unknown key".into(),
            };
            let part = nearest.filter(|near| is_harmless(key, value, near)).map(|_| value.clone());
            problems.push(Problem { at: format!("{at}.{}", shown_key(key)), part, message });
        }
        Some(Fields { at, map, problems })
    }

    /// Where the mapping is, for what stands below it.
    pub fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.at)
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
        let value = self.map.get(key)?;
        match read(Given { value, is_text: false }) {
            Ok(value) => Some(value),
            Err(message) => {
                let part = Some(value.clone());
                self.problems.push(Problem { at: self.at(key), part, message });
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
        if !self.map.contains_key(key) {
            let message = format!("{key} is missing");
            self.problems.push(Problem { at: self.at.clone(), part: None, message });
        }
        self.optional(key, read)
    }

    /// Reports something wrong with `key`.
    pub fn fault(&mut self, key: &str, message: String) {
        let problem = Problem { at: self.at(key), part: self.map.get(key).cloned(), message };
        self.problems.push(problem);
    }

    /// The list problems go to, for what stands below this mapping.
    pub fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
    }
}
