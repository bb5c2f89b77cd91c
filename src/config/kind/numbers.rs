//! Numbers, and pairs of numbers.

use super::{DAY_MS, Given, Parsed, Secrets, ValueKind};
use crate::config::choice::{Count, WebpMethod};
use crate::ring::{SLOTS_MAX, SLOTS_MIN};
use serde::Serialize;
use serde_json::{Value, json};
use std::ops::RangeInclusive;

/// Longest side of a picture, in pixels.
const SIDE_MAX: u32 = 16_384;
/// Highest effort of WebP.
const EFFORT_MAX: u64 = 6;

/// A whole number in a range.
pub(in crate::config) struct Whole(pub RangeInclusive<u64>);

impl<T: TryFrom<u64> + Serialize> ValueKind<T> for Whole {
    fn read(&self, given: Given<'_>) -> Parsed<T> {
        given.whole(&self.0).map_err(|_| ValueKind::<T>::fault(self))
    }

    fn write(&self, value: &T, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "whole number".into()
    }

    fn valid(&self) -> String {
        format!("a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!(self.0.start()), json!(self.0.end())]
    }
}

/// A number in a range.
pub(in crate::config) struct Real {
    range: RangeInclusive<f64>,
    valid: &'static str,
    examples: [f64; 2],
}

/// A number from 0 to 1.
pub(in crate::config) const SHARE: Real =
    Real { range: 0.0..=1.0, valid: "a number from 0.0 to 1.0", examples: [0.5, 1.0] };

/// A rate of frames.
pub(in crate::config) const RATE: Real = Real {
    range: 0.001..=1000.0,
    valid: "frames a second, from 0.001 to 1000",
    examples: [2.5, 0.1],
};

impl ValueKind<f64> for Real {
    fn read(&self, given: Given<'_>) -> Parsed<f64> {
        given.number().filter(|number| self.range.contains(number)).ok_or_else(|| self.fault())
    }

    fn write(&self, value: &f64, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "number".into()
    }

    fn valid(&self) -> String {
        self.valid.into()
    }

    fn examples(&self) -> Vec<Value> {
        self.examples.into_iter().map(Value::from).collect()
    }
}

/// `auto` or a number of threads up to a limit.
pub(in crate::config) struct Threads(pub u64);

impl ValueKind<Count> for Threads {
    fn read(&self, given: Given<'_>) -> Parsed<Count> {
        match given.is_auto() {
            true => Ok(Count::Auto),
            false => given.whole(&(1..=self.0)).map(Count::Fixed).map_err(|_| self.fault()),
        }
    }

    fn write(&self, value: &Count, _: Secrets) -> Value {
        match value {
            Count::Auto => "auto".into(),
            Count::Fixed(count) => json!(count),
        }
    }

    fn value_type(&self) -> String {
        "whole number or auto".into()
    }

    fn valid(&self) -> String {
        format!("auto, or a whole number from 1 to {}", self.0)
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!(1), json!("auto")]
    }
}

/// `auto` or an effort of WebP.
pub(in crate::config) struct EffortLevel;

impl ValueKind<WebpMethod> for EffortLevel {
    fn read(&self, given: Given<'_>) -> Parsed<WebpMethod> {
        match given.is_auto() {
            true => Ok(WebpMethod::Auto),
            false => {
                given.whole(&(0..=EFFORT_MAX)).map(WebpMethod::Fixed).map_err(|_| self.fault())
            }
        }
    }

    fn write(&self, value: &WebpMethod, _: Secrets) -> Value {
        match value {
            WebpMethod::Auto => "auto".into(),
            WebpMethod::Fixed(method) => json!(method),
        }
    }

    fn value_type(&self) -> String {
        "whole number or auto".into()
    }

    fn valid(&self) -> String {
        format!("auto, or a whole number from 0 to {EFFORT_MAX}")
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("auto"), json!(EFFORT_MAX)]
    }
}

/// Slots of a frame ring, or 0 for none.
pub(in crate::config) struct SlotCount;

impl ValueKind<u32> for SlotCount {
    fn read(&self, given: Given<'_>) -> Parsed<u32> {
        let slots = given.whole::<u32>(&(0..=SLOTS_MAX.into())).ok();
        slots.filter(|slots| *slots == 0 || *slots >= SLOTS_MIN).ok_or_else(|| self.fault())
    }

    fn write(&self, value: &u32, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "whole number".into()
    }

    fn valid(&self) -> String {
        format!("0, for frames through Redis, or {SLOTS_MIN} to {SLOTS_MAX} slots")
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!(SLOTS_MIN), json!(SLOTS_MAX)]
    }
}

/// Width and height.
pub(in crate::config) struct SizeText;

impl ValueKind<(u32, u32)> for SizeText {
    fn read(&self, given: Given<'_>) -> Parsed<(u32, u32)> {
        let sides = given.value.as_str().and_then(|text| text.trim().split_once(['x', 'X']));
        let side = |text: &str| text.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side));
        sides
            .and_then(|(width, height)| Some((side(width)?, side(height)?)))
            .ok_or_else(|| self.fault())
    }

    fn write(&self, (width, height): &(u32, u32), _: Secrets) -> Value {
        format!("{width}x{height}").into()
    }

    fn value_type(&self) -> String {
        "WIDTHxHEIGHT".into()
    }

    fn valid(&self) -> String {
        format!("WIDTHxHEIGHT as in 1280x720, sides from 1 to {SIDE_MAX}")
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("1280x720"), json!("640x360")]
    }
}

/// The first and the longest pause between attempts.
pub(in crate::config) struct Backoff;

impl ValueKind<(u64, u64)> for Backoff {
    fn read(&self, given: Given<'_>) -> Parsed<(u64, u64)> {
        let list = given.structure().map_err(|_| self.fault())?;
        let pause = |value| Given { value, is_text: false }.whole::<u64>(&(1..=DAY_MS)).ok();
        match list.as_array().map(Vec::as_slice) {
            Some([first, longest]) => match (pause(first), pause(longest)) {
                (Some(first), Some(longest)) if first <= longest => Ok((first, longest)),
                _ => Err(self.fault()),
            },
            _ => Err(self.fault()),
        }
    }

    fn write(&self, (first, longest): &(u64, u64), _: Secrets) -> Value {
        json!([first, longest])
    }

    fn value_type(&self) -> String {
        "list of two whole numbers".into()
    }

    fn valid(&self) -> String {
        "the first and the longest pause in milliseconds, as in [500, 30000]".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!([100, 1000]), json!([1, DAY_MS])]
    }
}
