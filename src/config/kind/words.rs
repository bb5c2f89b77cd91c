//! Switches, and one word of a few.

use super::{Given, Parsed, Secrets, ValueKind, problem};
use crate::config::choice::Choice;
use serde_json::{Value, json};

/// True or false.
pub(in crate::config) struct Truth;

impl ValueKind<bool> for Truth {
    fn read(&self, given: Given<'_>) -> Parsed<bool> {
        given.truth().map_err(problem)
    }

    fn write(&self, value: &bool, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "switch".into()
    }

    fn valid(&self) -> String {
        "true or false".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!(true), json!(false)]
    }
}

/// One word of a [`Choice`].
pub(in crate::config) struct Word;

impl<C: Choice> ValueKind<C> for Word {
    fn read(&self, given: Given<'_>) -> Parsed<C> {
        let word = given.value.as_str().map(str::trim);
        word.and_then(C::from_name).ok_or_else(|| ValueKind::<C>::fault(self))
    }

    fn write(&self, value: &C, _: Secrets) -> Value {
        value.name().into()
    }

    fn value_type(&self) -> String {
        "word".into()
    }

    fn valid(&self) -> String {
        C::ALL.iter().map(|choice| choice.name()).collect::<Vec<_>>().join(", ")
    }

    fn examples(&self) -> Vec<Value> {
        C::ALL.iter().map(|choice| choice.name().into()).collect()
    }
}
