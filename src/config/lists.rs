//! The settings that are lists of mappings: cameras with their regions, and Sentinels.

use super::feed;
use super::given::{Fields, Given, Parsed, Problem};
use super::model::{Camera, Feed, RoiBox};
use super::url::{HostPort, is_host};
use serde_json::Value;
use std::collections::HashSet;

/// Highest number of a shard; `shards` itself is looked at in `check.rs`.
const SHARD_MAX: u64 = 16_383;

/// Largest coordinate of a region's edges: results carry them as `i32`.
const EDGE_MAX: u64 = i32::MAX as u64;

/// The list `cameras`, ids distinct.
pub(super) fn cameras(given: Given, defaults: &Feed) -> Parsed<Vec<Camera>> {
    let mut seen = HashSet::new();
    each(given, "a list of cameras such as {id: cam1, roi_boxes: []}", |at, value, problems| {
        let mut fields = Fields::open(at, value, &feed::camera_keys(), problems)?;
        let id = fields.required("id", |given| given.text().map(String::from));
        if id.as_ref().is_some_and(|id| !seen.insert(id.clone())) {
            fields.fault("id", "another camera has this id; valid: an id of its own".into());
        }
        let threshold = fields.optional("quality_threshold", |given| match given.is_null() {
            true => Ok(None),
            false => given.share().map(Some),
        });
        let boxes = match fields.get("roi_boxes") {
            Some(value) => {
                let at = fields.at("roi_boxes");
                roi_boxes(&at, value, fields.problems())
            }
            None => Vec::new(),
        };
        let mut camera = Camera {
            roi_boxes: boxes,
            quality_threshold: threshold.flatten(),
            ..Camera::named(id.unwrap_or_default())
        };
        feed::camera(&mut fields, defaults, &mut camera);
        (!camera.id.is_empty()).then_some(camera)
    })
}

fn roi_boxes(at: &str, value: &Value, problems: &mut Vec<Problem>) -> Vec<RoiBox> {
    let Some(items) = value.as_array() else {
        let message = "valid: a list of boxes such as {x: 0, y: 0, width: 10, height: 10}".into();
        problems.push(Problem { at: at.into(), part: Some(value.clone()), message });
        return Vec::new();
    };
    let mut boxes = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        boxes.extend(roi_box(format!("{at}[{index}]"), item, problems));
    }
    boxes
}

fn roi_box(at: String, value: &Value, problems: &mut Vec<Problem>) -> Option<RoiBox> {
    let known = ["x", "y", "width", "height", "label"];
    let mut fields = Fields::open(at, value, &known, problems)?;
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

/// The list `shard_subset`: numbers of shards, ascending when done; or nothing.
pub(super) fn shards(given: Given) -> Parsed<Option<Vec<usize>>> {
    if given.is_null() {
        return Ok(None);
    }
    let mut seen = HashSet::new();
    let valid = "a list of shards such as [0, 2], or null";
    let mut numbers = each(given, valid, |at, value, problems| {
        let number = Given { value, is_text: false }.whole::<usize>(&(0..=SHARD_MAX));
        let number = number.and_then(|number| match seen.insert(number) {
            true => Ok(number),
            false => Err("valid: each shard once".into()),
        });
        number
            .map_err(|message| problems.push(Problem { at, part: Some(value.clone()), message }))
            .ok()
    })?;
    if numbers.is_empty() {
        return Err(vec![format!("valid: {valid}").into()]);
    }
    numbers.sort_unstable();
    Ok(Some(numbers))
}

/// The list `stats.hosts`: names of hosts, without ports. Where everything is text, commas between
/// them will do.
pub(super) fn hosts(given: Given) -> Parsed<Vec<String>> {
    const VALID: &str = "a list of host names such as [cabinet-7.example]";
    if given.value.is_string() && !given.is_text {
        return Err(vec![format!("valid: {VALID}").into()]);
    }
    words(given, VALID, |name| match is_host(name).is_ok() && !name.contains(':') {
        true => Ok(name.to_owned()),
        false => Err("valid: a host name, without a port".into()),
    })
}

/// A list of words; in one text with commas between, too.
pub(super) fn words<T>(
    given: Given,
    valid: &'static str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Parsed<Vec<T>> {
    let listed = match given.value.as_str() {
        Some(text) if text.trim().is_empty() => Some(Value::Array(Vec::new())),
        Some(text) if !text.trim_start().starts_with('[') => {
            Some(text.split(',').map(str::trim).map(Value::from).collect::<Value>())
        }
        _ => None,
    };
    let given = match &listed {
        Some(value) => Given { value, is_text: false },
        None => given,
    };
    each(given, valid, |at, value, problems| {
        let word = value.as_str().ok_or_else(|| format!("valid: {valid}")).and_then(&read);
        word.map_err(|message| {
            problems.push(Problem { at, part: Some(value.clone()), message });
        })
        .ok()
    })
}

/// The list `sentinel_nodes`: mappings of host and port, `host:port`, or pairs of both as the
/// Kafka-era files had them.
pub(super) fn sentinel_nodes(given: Given) -> Parsed<Vec<HostPort>> {
    let port_of = |given: Given| given.whole::<u16>(&(1..=65535));
    each(
        given,
        "a list of Sentinels such as {host: sentinel1, port: 26379}",
        |at, value, problems| {
            let report = |at, message, problems: &mut Vec<Problem>| {
                problems.push(Problem { at, part: Some(value.clone()), message });
                None
            };
            match value {
                Value::String(text) => match HostPort::parse(text, None) {
                    Ok(node) if node.port > 0 => Some(node),
                    _ => report(at, "valid: host:port, as in sentinel1:26379".into(), problems),
                },
                Value::Array(pair) => {
                    let host =
                        pair.first().and_then(Value::as_str).filter(|host| is_host(host).is_ok());
                    let port =
                        pair.get(1).and_then(|value| port_of(Given { value, is_text: false }).ok());
                    match (host, port, pair.len()) {
                        (Some(host), Some(port), 2) => Some(HostPort { host: host.into(), port }),
                        _ => report(at, "valid: {host: sentinel1, port: 26379}".into(), problems),
                    }
                }
                _ => {
                    let mut fields = Fields::open(at, value, &["host", "port"], problems)?;
                    let host = fields.required("host", |given| {
                        let host = given.text()?;
                        is_host(host).map_err(|_| "valid: a host name or address")?;
                        Ok(host.to_string())
                    });
                    let port = fields.required("port", port_of);
                    Some(HostPort { host: host?, port: port? })
                }
            }
        },
    )
}

/// Reads every item of a list, going on after a fault so that all of them are reported.
fn each<T>(
    given: Given,
    valid: &str,
    mut read: impl FnMut(String, &Value, &mut Vec<Problem>) -> Option<T>,
) -> Parsed<Vec<T>> {
    let list = given.structure().map_err(|message| vec![message.into()])?;
    let Some(items) = list.as_array() else {
        return Err(vec![format!("valid: {valid}").into()]);
    };
    let mut problems = Vec::new();
    let mut read_items = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        read_items.extend(read(format!("[{index}]"), item, &mut problems));
    }
    if problems.is_empty() { Ok(read_items) } else { Err(problems) }
}
