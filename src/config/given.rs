//! One value as typed, read as the type its key wants.
//!
//! Values of the environment and of flags are text and are parsed; values of a file already have a
//! type, and text is not taken for a number. Every error says what would be valid.

use serde_json::Value;
use std::borrow::Cow;
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

    /// A number.
    pub fn number(self) -> Option<f64> {
        match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if self.is_text => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// The word `auto`.
    pub fn is_auto(self) -> bool {
        self.value.as_str().is_some_and(|word| word.trim().eq_ignore_ascii_case("auto"))
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
