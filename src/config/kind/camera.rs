//! The lists in an entry of `cameras`.

use super::lists::each;
use super::{Given, MappingFields, Parsed, Problem, Secrets, ValueKind};
use crate::config::secret::shown_key;
use serde_json::{Value, json};

/// Largest coordinate of a region's edges: results carry them as `i32`.
const EDGE_MAX: u64 = i32::MAX as u64;

/// Options of `ffmpeg` that may stand before an input. Each changes how it is read; none opens a
/// file or allows a protocol.
const INPUT_OPTIONS: [&str; 24] = [
    "allowed_media_types",
    "analyzeduration",
    "buffer_size",
    "ec",
    "err_detect",
    "fflags",
    "fifo_size",
    "flags",
    "flags2",
    "http_persistent",
    "live_start_index",
    "max_delay",
    "max_reload",
    "multiple_requests",
    "probesize",
    "reconnect",
    "reconnect_at_eof",
    "reconnect_streamed",
    "reorder_queue_size",
    "rtsp_flags",
    "rtsp_transport",
    "skip_loop_filter",
    "thread_type",
    "user_agent",
];

/// An option of `ffmpeg` with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputArg {
    /// The name without `-`.
    pub key: String,
    /// The value.
    pub value: String,
}

/// One region of interest, in pixels of the frame as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoiBox {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width, at least 1; the right edge fits an `i32`.
    pub width: u32,
    /// Height, at least 1; the lower edge fits an `i32`.
    pub height: u32,
    /// The name of the region in results; empty if the file gives no label.
    pub label: String,
}

/// A value that must be there.
pub(in crate::config) struct Required<K>(pub K);

impl<T, K: ValueKind<T>> ValueKind<T> for Required<K> {
    fn read(&self, given: Given<'_>) -> Parsed<T> {
        self.0.read(given)
    }

    fn write(&self, value: &T, secrets: Secrets) -> Value {
        self.0.write(value, secrets)
    }

    fn value_type(&self) -> String {
        self.0.value_type()
    }

    fn valid(&self) -> String {
        self.0.valid()
    }

    fn examples(&self) -> Vec<Value> {
        self.0.examples()
    }

    fn is_required(&self) -> bool {
        true
    }
}

/// A list of regions.
pub(in crate::config) struct RoiBoxes;

impl ValueKind<Vec<RoiBox>> for RoiBoxes {
    fn read(&self, given: Given<'_>) -> Parsed<Vec<RoiBox>> {
        each(given, &self.valid(), roi_box)
    }

    fn write(&self, value: &Vec<RoiBox>, _: Secrets) -> Value {
        let region = |roi: &RoiBox| {
            let RoiBox { x, y, width, height, label } = roi;
            json!({ "x": x, "y": y, "width": width, "height": height, "label": label })
        };
        value.iter().map(region).collect()
    }

    fn value_type(&self) -> String {
        "list of mappings".into()
    }

    fn valid(&self) -> String {
        "a list of boxes such as {x: 0, y: 0, width: 10, height: 10}".into()
    }

    fn examples(&self) -> Vec<Value> {
        let region = json!({ "x": 0, "y": 200, "width": 320, "height": 240, "label": "lane1" });
        vec![json!([region]), json!([])]
    }
}

fn roi_box(at: String, value: &Value, problems: &mut Vec<Problem>) -> Option<RoiBox> {
    let known = ["x", "y", "width", "height", "label"];
    let mut fields = MappingFields::open(at, value, &known, problems)?;
    let x = fields.required("x", |given| given.whole(&(0..=EDGE_MAX)));
    let y = fields.required("y", |given| given.whole(&(0..=EDGE_MAX)));
    let width = fields.required("width", |given| given.whole(&(1..=EDGE_MAX)));
    let height = fields.required("height", |given| given.whole(&(1..=EDGE_MAX)));
    let label = fields.optional("label", |given| match given.value {
        Value::String(text) if text.is_empty() => Ok(String::new()),
        _ => given.text().map(String::from),
    });
    let (x, y, width, height): (u32, u32, u32, u32) = (x?, y?, width?, height?);
    for (key, start, length) in [("width", x, width), ("height", y, height)] {
        if u64::from(start) + u64::from(length) > EDGE_MAX {
            fields.fault(key, format!("valid: an edge at {EDGE_MAX} at most"));
            return None;
        }
    }
    Some(RoiBox { x, y, width, height, label: label.unwrap_or_default() })
}

/// Options and values for `ffmpeg`, alternately.
pub(in crate::config) struct InputArgs;

impl ValueKind<Vec<InputArg>> for InputArgs {
    fn read(&self, given: Given<'_>) -> Parsed<Vec<InputArg>> {
        let words: Option<Vec<String>> = given.value.as_array().and_then(|items| {
            let text = |item: &Value| match item {
                Value::String(text) if !text.chars().any(char::is_control) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            };
            items.iter().map(text).collect()
        });
        let words = words.filter(|words| words.len() % 2 == 0).ok_or_else(|| self.fault())?;
        let mut problems = Vec::new();
        let mut args = Vec::new();
        for pair in words.chunks_exact(2) {
            let key = pair[0].trim_start_matches('-');
            if pair[0].starts_with('-') && INPUT_OPTIONS.contains(&key) {
                args.push(InputArg { key: key.into(), value: pair[1].clone() });
            } else {
                let message = format!("valid: -{}, each with its value", INPUT_OPTIONS.join(", -"));
                let part = Some(json!(shown_key(&pair[0])));
                problems.push(Problem { at: String::new(), part, message });
            }
        }
        if problems.is_empty() { Ok(args) } else { Err(problems) }
    }

    fn write(&self, value: &Vec<InputArg>, _: Secrets) -> Value {
        value.iter().flat_map(|arg| [format!("-{}", arg.key), arg.value.clone()]).collect()
    }

    fn value_type(&self) -> String {
        "list of text".into()
    }

    fn valid(&self) -> String {
        "options and values alternately, as in [-probesize, 500000]".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!(["-probesize", "500000"]), json!([])]
    }
}
