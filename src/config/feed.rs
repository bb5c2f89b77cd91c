//! How cameras are read by `ingest`: section `ingest`, and the same keys at a camera.

use super::choice::{Choice, FeedFormat, Hwaccel, RingReuse, Transport};
use super::given::{Fields, Given, Problem};
use super::model::{Camera, Feed, Ingest, IngestStats, InputArg};
use super::reader::Reader;
use super::url::HostPort;
use crate::ring::{SLOTS_MAX, SLOTS_MIN};
use serde_json::{Map, Value, json};

/// Longest times, in milliseconds: a day.
const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// Longest side of a picture.
const SIDE_MAX: u32 = 16_384;
/// Most bytes of a stream: 1 TiB.
const STREAM_BYTES_MAX: u64 = 1 << 40;

/// The keys that a camera and `ingest.defaults` share.
const FEED_KEYS: [&str; 14] = [
    "fps",
    "size",
    "format",
    "transport",
    "threads",
    "hwaccel",
    "keyframes_only",
    "open_timeout_ms",
    "no_frame_ms",
    "same_frame_ms",
    "backoff_ms",
    "ring",
    "ring_reuse",
    "max_stream_bytes",
];

/// The keys of a camera that say where it is.
const SOURCE_KEYS: [&str; 6] =
    ["source", "source_file", "credentials_file", "fallback", "input_args", "enabled"];

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

impl Feed {
    /// The built-in values.
    pub(super) fn builtin() -> Feed {
        Feed {
            fps: None,
            size: None,
            format: FeedFormat::Auto,
            transport: Transport::Tcp,
            threads: 1,
            hwaccel: None,
            keyframes_only: false,
            open_timeout_ms: 10_000,
            no_frame_ms: 10_000,
            same_frame_ms: 0,
            backoff_ms: (500, 30_000),
            ring: 0,
            ring_reuse: RingReuse::Freshest,
            max_stream_bytes: 256 << 20,
        }
    }
}

/// Section `ingest`.
pub(super) fn ingest(
    r: &mut Reader,
    d: Ingest,
    address: impl FnOnce(Given) -> Result<HostPort, String>,
) -> Ingest {
    let f = d.defaults;
    Ingest {
        stats: IngestStats { addr: r.nullable("ingest.stats.addr", d.stats.addr, address) },
        defaults: Feed {
            fps: r.nullable("ingest.defaults.fps", f.fps, fps),
            size: r.nullable("ingest.defaults.size", f.size, size),
            format: r.choice("ingest.defaults.format", f.format),
            transport: r.choice("ingest.defaults.transport", f.transport),
            threads: r.whole("ingest.defaults.threads", f.threads, 1..=64),
            hwaccel: r.nullable("ingest.defaults.hwaccel", f.hwaccel, |given| given.choice()),
            keyframes_only: r.truth("ingest.defaults.keyframes_only", f.keyframes_only),
            open_timeout_ms: r.whole(
                "ingest.defaults.open_timeout_ms",
                f.open_timeout_ms,
                100..=DAY_MS,
            ),
            no_frame_ms: r.whole("ingest.defaults.no_frame_ms", f.no_frame_ms, 100..=DAY_MS),
            same_frame_ms: r.whole("ingest.defaults.same_frame_ms", f.same_frame_ms, 0..=DAY_MS),
            backoff_ms: r.read("ingest.defaults.backoff_ms", f.backoff_ms, backoff),
            ring: r.read("ingest.defaults.ring", f.ring, ring),
            ring_reuse: r.choice("ingest.defaults.ring_reuse", f.ring_reuse),
            max_stream_bytes: r.whole(
                "ingest.defaults.max_stream_bytes",
                f.max_stream_bytes,
                1..=STREAM_BYTES_MAX,
            ),
        },
    }
}

/// Every key that a camera may have.
pub(super) fn camera_keys() -> Vec<&'static str> {
    let own = ["id", "roi_boxes", "quality_threshold"];
    own.into_iter().chain(SOURCE_KEYS).chain(FEED_KEYS).collect()
}

/// What a camera says about its source, into `camera`; what it does not say is as in `defaults`.
pub(super) fn camera(fields: &mut Fields<'_>, defaults: &Feed, camera: &mut Camera) {
    let given = FEED_KEYS.iter().filter_map(|key| Some((*key, fields.get(key)?.clone())));
    camera.feed_given = given.map(|(key, value)| (key.to_owned(), value)).collect();
    let text = |given: Given| match given.is_null() {
        true => Ok(None),
        false => given.text().map(|text| Some(text.to_owned())),
    };
    let secret = |given: Given| Ok(text(given)?.map(super::Secret::new));
    let path = |given: Given| Ok(text(given)?.map(std::path::PathBuf::from));
    camera.source = fields.optional("source", secret).flatten();
    camera.source_file = fields.optional("source_file", path).flatten();
    camera.credentials_file = fields.optional("credentials_file", path).flatten();
    camera.fallback = fields.optional("fallback", secret).flatten();
    camera.enabled = fields.optional("enabled", |given| given.truth()).unwrap_or(true);
    if camera.source.is_some() && camera.source_file.is_some() {
        fields.fault("source_file", "source is set as well; valid: one of the two".into());
    }
    if let Some(value) = fields.get("input_args") {
        let at = fields.at("input_args");
        camera.input_args = input_args(&at, value, fields.problems());
    }
    let feed = &mut camera.feed;
    *feed = defaults.clone();
    take(fields, "fps", &mut feed.fps, |given| nullable(given, fps));
    take(fields, "size", &mut feed.size, |given| nullable(given, size));
    take(fields, "format", &mut feed.format, |given| given.choice());
    take(fields, "transport", &mut feed.transport, |given| given.choice());
    take(fields, "threads", &mut feed.threads, |given| given.whole(&(1..=64)));
    let hwaccel = |given| nullable(given, |given| given.choice());
    take(fields, "hwaccel", &mut feed.hwaccel, hwaccel);
    take(fields, "keyframes_only", &mut feed.keyframes_only, |given| given.truth());
    let millis = |given: Given| given.whole(&(100..=DAY_MS));
    take(fields, "open_timeout_ms", &mut feed.open_timeout_ms, millis);
    take(fields, "no_frame_ms", &mut feed.no_frame_ms, millis);
    take(fields, "same_frame_ms", &mut feed.same_frame_ms, |given| given.whole(&(0..=DAY_MS)));
    take(fields, "backoff_ms", &mut feed.backoff_ms, backoff);
    take(fields, "ring", &mut feed.ring, ring);
    take(fields, "ring_reuse", &mut feed.ring_reuse, |given| given.choice());
    let bytes = |given: Given| given.whole(&(1..=STREAM_BYTES_MAX));
    take(fields, "max_stream_bytes", &mut feed.max_stream_bytes, bytes);
}

/// Replaces `value` by what `key` says, if it is there.
fn take<'a, T>(
    fields: &mut Fields<'a>,
    key: &str,
    value: &mut T,
    read: impl FnOnce(Given<'a>) -> Result<T, String>,
) {
    if let Some(read) = fields.optional(key, read) {
        *value = read;
    }
}

/// The keys of the section as they are written.
pub(super) fn section(ingest: &Ingest) -> Vec<(&'static str, Value)> {
    let Feed {
        fps,
        size,
        format,
        transport,
        threads,
        hwaccel,
        keyframes_only,
        open_timeout_ms,
        no_frame_ms,
        same_frame_ms,
        backoff_ms,
        ring,
        ring_reuse,
        max_stream_bytes,
    } = &ingest.defaults;
    let addr = ingest.stats.addr.as_ref().map(ToString::to_string);
    let defaults = json!({
        "fps": fps,
        "size": size.map(|(width, height)| format!("{width}x{height}")),
        "format": format.name(),
        "transport": transport.name(),
        "threads": threads,
        "hwaccel": hwaccel.map(Hwaccel::name),
        "keyframes_only": keyframes_only,
        "open_timeout_ms": open_timeout_ms,
        "no_frame_ms": no_frame_ms,
        "same_frame_ms": same_frame_ms,
        "backoff_ms": [backoff_ms.0, backoff_ms.1],
        "ring": ring,
        "ring_reuse": ring_reuse.name(),
        "max_stream_bytes": max_stream_bytes,
    });
    vec![("stats", json!({ "addr": addr })), ("defaults", defaults)]
}

/// What was said about a camera's source, into the mapping of the camera.
pub(super) fn render(camera: &Camera, exposed: bool, into: &mut Map<String, Value>) {
    let secret = |secret: &super::Secret| match exposed {
        true => json!(secret.expose()),
        false => json!(crate::base::redact::text(secret.expose())),
    };
    let mut put = |key: &str, value: Option<Value>| {
        into.extend(value.map(|value| (key.to_owned(), value)));
    };
    put("source", camera.source.as_ref().map(secret));
    put("source_file", camera.source_file.as_ref().map(|path| json!(path)));
    put("credentials_file", camera.credentials_file.as_ref().map(|path| json!(path)));
    put("fallback", camera.fallback.as_ref().map(secret));
    let args =
        camera.input_args.iter().flat_map(|arg| [format!("-{}", arg.key), arg.value.clone()]);
    put("input_args", (!camera.input_args.is_empty()).then(|| args.collect()));
    put("enabled", (!camera.enabled).then_some(Value::Bool(false)));
    into.extend(camera.feed_given.clone());
}

fn nullable<T>(
    given: Given,
    read: impl FnOnce(Given) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match given.is_null() {
        true => Ok(None),
        false => read(given).map(Some).map_err(|message| format!("{message}; or null")),
    }
}

fn fps(given: Given) -> Result<f64, String> {
    let number = match given.value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if given.is_text => text.trim().parse().ok(),
        _ => None,
    };
    number
        .filter(|fps| (0.001..=1000.0).contains(fps))
        .ok_or_else(|| "valid: frames a second, from 0.001 to 1000".into())
}

fn size(given: Given) -> Result<(u32, u32), String> {
    let sides = given.value.as_str().and_then(|text| text.trim().split_once(['x', 'X']));
    let side = |text: &str| text.parse().ok().filter(|side| (1..=SIDE_MAX).contains(side));
    sides
        .and_then(|(width, height)| Some((side(width)?, side(height)?)))
        .ok_or_else(|| format!("valid: WIDTHxHEIGHT as in 1280x720, sides from 1 to {SIDE_MAX}"))
}

fn backoff(given: Given) -> Result<(u64, u64), String> {
    const VALID: &str =
        "valid: the first and the longest pause in milliseconds, as in [500, 30000]";
    let list = given.structure().map_err(|_| VALID)?;
    let items = list.as_array().filter(|items| items.len() == 2).ok_or(VALID)?;
    let pause = |value| Given { value, is_text: false }.whole::<u64>(&(1..=DAY_MS));
    match (pause(&items[0]), pause(&items[1])) {
        (Ok(first), Ok(longest)) if first <= longest => Ok((first, longest)),
        _ => Err(VALID.into()),
    }
}

fn ring(given: Given) -> Result<u32, String> {
    let slots = given.whole::<u32>(&(0..=SLOTS_MAX.into())).ok();
    slots.filter(|slots| *slots == 0 || *slots >= SLOTS_MIN).ok_or_else(|| {
        format!("valid: 0, for frames through Redis, or {SLOTS_MIN} to {SLOTS_MAX} slots")
    })
}

fn input_args(at: &str, value: &Value, problems: &mut Vec<Problem>) -> Vec<InputArg> {
    let mut fault = |part: &Value, message: String| {
        problems.push(Problem { at: at.into(), part: Some(part.clone()), message });
    };
    let words: Option<Vec<String>> = value.as_array().and_then(|items| {
        let text = |item: &Value| match item {
            Value::String(text) if !text.chars().any(char::is_control) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        items.iter().map(text).collect()
    });
    let Some(words) = words.filter(|words| words.len() % 2 == 0) else {
        fault(value, "valid: options and values in turns, as in [-probesize, 500000]".into());
        return Vec::new();
    };
    let mut args = Vec::new();
    for pair in words.chunks_exact(2) {
        let key = pair[0].trim_start_matches('-');
        if pair[0].starts_with('-') && INPUT_OPTIONS.contains(&key) {
            args.push(InputArg { key: key.into(), value: pair[1].clone() });
        } else {
            let names = INPUT_OPTIONS.join(", -");
            let name = json!(super::secret::shown_key(&pair[0]));
            fault(&name, format!("valid: -{names}, each with its value"));
        }
    }
    args
}
