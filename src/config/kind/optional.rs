//! Values that may be null.

use super::{Given, Parsed, Secrets, ValueKind, problem};
use serde_json::Value;

/// Null, or a value.
pub(in crate::config) struct OrNull<K> {
    kind: K,
    is_guarded: bool,
}

/// Null, or a value of `kind`. Where everything is text, empty text is null.
pub(in crate::config) fn or_null<K>(kind: K) -> OrNull<K> {
    OrNull { kind, is_guarded: false }
}

/// The same for a key that protects something: empty text is a fault. A variable that a script has
/// left empty must not switch off a token or a certificate.
pub(in crate::config) fn guarded<K>(kind: K) -> OrNull<K> {
    OrNull { kind, is_guarded: true }
}

impl<T, K: ValueKind<T>> ValueKind<Option<T>> for OrNull<K> {
    fn read(&self, given: Given<'_>) -> Parsed<Option<T>> {
        if self.is_guarded && given.is_empty_text() {
            return Err(problem("is empty; valid: a value, or null for none"));
        }
        if given.is_null() {
            return Ok(None);
        }
        self.kind.read(given).map(Some).map_err(|mut problems| {
            for problem in problems.iter_mut().filter(|problem| problem.at.is_empty()) {
                problem.message.push_str("; or null");
            }
            problems
        })
    }

    fn write(&self, value: &Option<T>, secrets: Secrets) -> Value {
        value.as_ref().map_or(Value::Null, |value| self.kind.write(value, secrets))
    }

    fn value_type(&self) -> String {
        format!("{} or null", self.kind.value_type())
    }

    fn valid(&self) -> String {
        format!("{}; or null", self.kind.valid())
    }

    fn examples(&self) -> Vec<Value> {
        let mut examples = self.kind.examples();
        examples.push(Value::Null);
        examples
    }
}
