//! YAML as one tree of values, within bounds.
//!
//! `saphyr-parser` parses text into events; the tree is built here, because that is where memory is
//! taken. An alias stands for a copy of what its anchor holds, so a few hundred bytes of aliases to
//! aliases can stand for more memory than the machine has. Each copy is counted before it is made.
//! No message repeats a value of the file: it could be a secret.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use super::secret::shown_key;

pub(super) const NOT_A_MAPPING: &str =
    "the file is not a mapping of keys; valid: sections such as redis_queue:";

/// Why a text is no tree of values.
#[derive(Debug)]
pub(super) struct SyntaxProblem {
    /// What is wrong, with the line if it is known.
    pub message: String,
}

/// Deepest nesting. The deepest key of a configuration is at level 6.
const DEPTH_MAX: usize = 32;

/// Most values in a file, with every alias counted as what it stands for. A camera with ten regions
/// is about 75 values, so 3,000 of them fit.
const VALUES_MAX: usize = 1 << 18;

/// Most bytes of text that aliases may stand for, all together: as much as a file may hold.
const ALIASED_BYTES_MAX: usize = 1 << 20;

/// Most values that aliases may stand for, all together.
const ALIASED_VALUES_MAX: usize = 1 << 16;

/// Parses the only document of `text`, a mapping or nothing.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, SyntaxProblem> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event
            .map_err(|error| problem(&format!("is not YAML: {}", error.info()), error.marker()))?;
        builder.take(event, &span.start)?;
    }
    match builder.root {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(SyntaxProblem { message: NOT_A_MAPPING.into() }),
    }
}

fn problem(what: &str, at: &Marker) -> SyntaxProblem {
    SyntaxProblem { message: format!("{what}, line {} column {}", at.line(), at.col() + 1) }
}

/// A list or mapping that is not complete yet.
struct OpenNode {
    anchor: usize,
    cost: Cost,
    kind: CollectionKind,
}

enum CollectionKind {
    List(Vec<Value>),
    /// With the key whose value is next.
    Mapping(Map<String, Value>, Option<String>),
}

/// What a copy of a value takes.
#[derive(Clone, Copy, Default)]
struct Cost {
    values: usize,
    bytes: usize,
    /// Levels, itself included.
    depth: usize,
}

impl Cost {
    fn add(&mut self, inner: Cost) {
        self.values += inner.values;
        self.bytes += inner.bytes;
        self.depth = self.depth.max(inner.depth + 1);
    }
}

#[derive(Default)]
struct Builder {
    root: Option<Value>,
    open: Vec<OpenNode>,
    /// Complete values that have an anchor.
    anchors: HashMap<usize, (Value, Cost)>,
    documents: usize,
    values: usize,
    aliased: Cost,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: &Marker) -> Result<(), SyntaxProblem> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                match self.documents {
                    1 => Ok(()),
                    _ => Err(problem("holds several documents; valid: one", at)),
                }
            }
            Event::SequenceStart(anchor, _) => {
                self.open(anchor, CollectionKind::List(Vec::new()), at)
            }
            Event::MappingStart(anchor, _) => {
                self.open(anchor, CollectionKind::Mapping(Map::new(), None), at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => {
                self.count(at)?;
                let word = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
                if style == ScalarStyle::Plain && matches!(&*word, ".inf" | ".nan") {
                    return Err(problem("holds a number that is not finite", at));
                }
                if self.wants_key() {
                    let value = scalar(&text, style, tag.as_deref());
                    let key = if value.is_null() { None } else { Some(text.into_owned()) };
                    if anchor > 0 {
                        self.anchors
                            .insert(anchor, (value, Cost { values: 1, bytes: 0, depth: 1 }));
                    }
                    return self.key(key, at);
                }
                let cost = Cost { values: 1, bytes: text.len(), depth: 1 };
                self.place(scalar(&text, style, tag.as_deref()), cost, anchor, at)
            }
        }
    }

    fn count(&mut self, at: &Marker) -> Result<(), SyntaxProblem> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(problem("holds too many values for a configuration", at));
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        self.open.last().is_some_and(|open| matches!(open.kind, CollectionKind::Mapping(_, None)))
    }

    fn open(
        &mut self,
        anchor: usize,
        kind: CollectionKind,
        at: &Marker,
    ) -> Result<(), SyntaxProblem> {
        self.count(at)?;
        if self.wants_key() {
            return self.key(None, at);
        }
        if self.open.len() >= DEPTH_MAX {
            return Err(problem("is nested too deeply for a configuration", at));
        }
        self.open.push(OpenNode { anchor, kind, cost: Cost { values: 1, bytes: 0, depth: 1 } });
        Ok(())
    }

    fn close(&mut self, at: &Marker) -> Result<(), SyntaxProblem> {
        let Some(OpenNode { anchor, cost, kind }) = self.open.pop() else { return Ok(()) };
        let value = match kind {
            CollectionKind::List(items) => Value::Array(items),
            CollectionKind::Mapping(map, _) => Value::Object(map),
        };
        self.place(value, cost, anchor, at)
    }

    /// The next key of the innermost mapping; `None` if it is no plain text.
    fn key(&mut self, key: Option<String>, at: &Marker) -> Result<(), SyntaxProblem> {
        let key = key.ok_or_else(|| problem("a key is not plain text; valid: name: value", at))?;
        if let Some(OpenNode { kind: CollectionKind::Mapping(map, next), cost, .. }) =
            self.open.last_mut()
        {
            if map.contains_key(&key) {
                let what = format!("key {} appears twice, the second time in", shown_key(&key));
                return Err(SyntaxProblem { message: format!("{what} line {}", at.line()) });
            }
            cost.bytes += key.len();
            *next = Some(key);
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: &Marker) -> Result<(), SyntaxProblem> {
        let Some((value, cost)) = self.anchors.get(&anchor) else {
            return Err(problem("an alias refers to itself", at));
        };
        let cost = *cost;
        self.aliased.values += cost.values;
        self.aliased.bytes += cost.bytes;
        if self.aliased.values > ALIASED_VALUES_MAX || self.aliased.bytes > ALIASED_BYTES_MAX {
            return Err(problem("its aliases expand to too much data; write the values out", at));
        }
        if self.open.len() + cost.depth > DEPTH_MAX {
            return Err(problem("is nested too deeply for a configuration", at));
        }
        if self.wants_key() {
            let key = match value {
                Value::String(text) => Some(text.clone()),
                _ => None,
            };
            return self.key(key, at);
        }
        let value = value.clone();
        self.place(value, cost, 0, at)
    }

    /// A complete value, in the innermost list or mapping.
    fn place(
        &mut self,
        value: Value,
        cost: Cost,
        anchor: usize,
        at: &Marker,
    ) -> Result<(), SyntaxProblem> {
        if anchor > 0 {
            self.aliased.values += cost.values;
            self.aliased.bytes += cost.bytes;
            if self.aliased.values > ALIASED_VALUES_MAX || self.aliased.bytes > ALIASED_BYTES_MAX {
                return Err(problem("its anchors hold too much data for a configuration", at));
            }
            self.anchors.insert(anchor, (value.clone(), cost));
        }
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(open) => {
                open.cost.add(cost);
                match &mut open.kind {
                    CollectionKind::List(items) => items.push(value),
                    CollectionKind::Mapping(map, key) => {
                        if let Some(key) = key.take() {
                            map.insert(key, value);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// A scalar by the core schema of YAML 1.2, section 10.3.2. Numbers that JSON cannot hold stay text,
/// which no key that wants a number accepts.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    if style != ScalarStyle::Plain || is_text {
        return text.into();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return true.into(),
        "false" | "False" | "FALSE" => return false.into(),
        _ => {}
    }
    let based = [("0x", 16), ("0o", 8)].into_iter().find_map(|(prefix, base)| {
        let digits = text.strip_prefix(prefix).filter(|digits| !digits.starts_with(['+', '-']))?;
        u64::from_str_radix(digits, base).ok()
    });
    if let Some(number) = based {
        return number.into();
    }
    if let Ok(number) = text.parse::<i64>() {
        return number.into();
    }
    if let Ok(number) = text.parse::<u64>() {
        return number.into();
    }
    let is_float = text.contains(|c: char| c.is_ascii_digit())
        && text.contains(['.', 'e', 'E'])
        && text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    match text.parse::<f64>() {
        Ok(number) if is_float && number.is_finite() => number.into(),
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, json: serde_json::Value) {
        assert_eq!(Value::Object(parse(text).unwrap()), json, "{text}");
    }

    #[track_caller]
    fn refuses(text: &str, why: &str) {
        let message = parse(text).unwrap_err().message;
        assert!(message.contains(why), "{why}: {message}");
    }

    #[test]
    fn scalars_are_those_of_the_core_schema() {
        reads(
            "{a: 1, b: -2, c: 0x1f, d: 0o17, e: 1.5, f: 1e3, g: '1', h: ~, i: null, j: , k: True, \
             l: yes, m: 1_000, n: 0777, p: !!str 5, q: 18446744073709551615, \
             r: 99999999999999999999, s: 1e999, t: \"\\u00e9\"}",
            serde_json::json!({
                "a": 1, "b": -2, "c": 31, "d": 15, "e": 1.5, "f": 1000.0, "g": "1", "h": null,
                "i": null, "j": null, "k": true, "l": "yes", "m": "1_000", "n": 777, "p": "5", "q": 18_446_744_073_709_551_615_u64, "r": "99999999999999999999",
                "s": "1e999", "t": "é",
            }),
        );
    }

    #[test]
    fn aliases_stand_for_what_they_name_within_bounds() {
        reads(
            "a: &a {x: 1, y: [2]}\nb: *a\nc: [*a, &d 3, *d]\n",
            serde_json::json!({
                "a": {"x": 1, "y": [2]}, "b": {"x": 1, "y": [2]},
                "c": [{"x": 1, "y": [2]}, 3, 3],
            }),
        );
        refuses("a: &a [*a]\n", "an alias refers to itself, line 1 column 8");
        refuses("a: *b\n", "is not YAML");
        let mut bomb = "a: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..20 {
            let inner = format!("*a{},", level - 1).repeat(9);
            bomb += &format!("a{level}: &a{level} [{}]\n", inner.trim_end_matches(','));
        }
        refuses(&bomb, "expand to too much data");
        // Depth grows with aliases as well.
        let mut stairs = "a0: &a0 []\n".to_owned();
        for level in 1..100 {
            stairs += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        refuses(&stairs, "nested too deeply");
        // Long text is counted by its bytes.
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(50));
        refuses(&long, "expand to too much data");
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_more_than_a_fault(
            text in "([-?:,\\[\\]{}#&*!|>'\"%@`~<=a1.e+ \t\n\r\u{feff}\u{85}\0é]|\n {0,4}|: |- |&a |\\*a |!!str |<<: ){0,60}"
        ) {
            if let Ok(map) = parse(&text) {
                proptest::prop_assert!(serde_json::to_string(&map).is_ok());
            }
        }
    }

    #[test]
    fn faults_name_their_place_and_no_value() {
        refuses("a: 1\nb: 2\na: 3\n", "key a appears twice, the second time in line 3");
        refuses("? [hunter2]\n: 1\n", "a key is not plain text; valid: name: value, line 1");
        refuses("~: 1\n", "a key is not plain text");
        refuses("a: 1\n---\nb: 2\n", "holds several documents; valid: one, line 2");
        refuses(
            "redis://:hunter2@h: 1\nredis://:hunter2@h: 2\n",
            "key redis://***@h appears twice",
        );
        refuses("a: -.Inf", "a number that is not finite, line 1 column 4");
        refuses("a: [1\nb: }", "is not YAML: ");
    }
}
