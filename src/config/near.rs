//! The known key that an unknown one probably stands for, and whether its value may be shown.

use super::secret::names_a_secret;
use serde_json::Value;
use strsim::damerau_levenshtein;

/// The candidate with the fewest slips of the keyboard to `typed`.
pub(super) fn nearest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase();
    candidates.into_iter().min_by_key(|candidate| damerau_levenshtein(&typed, candidate))
}

/// Among dotted `known` keys the nearest to the dotted `typed`: a key of the same name in another
/// section, else the most alike key of the same section, by its short name, else the most alike of
/// all.
pub(super) fn nearest_key<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let (section, name) = split(typed);
    if let Some(same) = known.iter().copied().find(|key| split(key).1 == name) {
        return Some(same);
    }
    let siblings: Vec<_> = known.iter().copied().filter(|key| split(key).0 == section).collect();
    if siblings.is_empty() {
        return nearest(typed, known.iter().copied());
    }
    let names = siblings.iter().map(|key| split(key).1);
    let best = nearest(name, names)?;
    siblings.into_iter().find(|key| split(key).1 == best)
}

/// Whether `typed` is a slip or two away from `known`, both without their sections.
pub(super) fn is_slip(typed: &str, known: &str) -> bool {
    damerau_levenshtein(&split(typed).1.to_ascii_lowercase(), split(known).1) <= 2
}

/// `a.b.c` as (`a.b`, `c`).
pub(super) fn split(key: &str) -> (&str, &str) {
    key.rsplit_once('.').unwrap_or(("", key))
}

/// Whether the value of `key`, which is unknown, may be shown, given the known key it resembles.
pub(super) fn is_harmless(key: &str, value: &Value, nearest: &str) -> bool {
    let is_number = match value {
        Value::Number(_) => true,
        Value::String(text) => text.trim().parse::<f64>().is_ok(),
        _ => false,
    };
    is_number && is_slip(key, nearest) && ![key, nearest].into_iter().any(names_a_secret)
}
