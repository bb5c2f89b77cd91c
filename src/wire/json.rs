//! Legacy JSON frames: `image_base64`, or `image_array` as rows of pixels.
//!
//! They are read as the Python system read them: with `json.loads`, `base64.b64decode` and NumPy.
//! See `text.rs`, `base64.rs` and `rows.rs`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::{Envelope, ImageRef};
use super::rows::{RowShape, Rows};
use super::{base64, text, time};
use crate::base::Reject;

/// JSON that had to be rewritten before it could be parsed.
#[derive(Debug, Default)]
pub(super) struct JsonText {
    pub recoded: Vec<u8>,
    pub quoted: Vec<u8>,
}

/// Opens a frame. The picture is unpacked into `pixels`, and rewritten text is kept in `room`.
pub(super) fn open<'a>(
    data: &'a [u8],
    pixels_max: u64,
    pixels: &'a mut Vec<u8>,
    room: &'a mut JsonText,
) -> Result<Envelope<'a>, Reject> {
    let JsonText { recoded, quoted } = room;
    let json: &[u8] = match text::as_utf8(data) {
        Some(Cow::Borrowed(json)) => json,
        Some(Cow::Owned(json)) => {
            *recoded = json;
            recoded
        }
        None => return Err(Reject::undecodable("broken JSON: not the UTF-16 or UTF-32 it seems")),
    };
    let frame = match parse(json, pixels_max, pixels) {
        Err(Broken::Syntax(error)) => {
            // `NaN` and infinities are rare, so look for them only after a syntax error.
            let Some(json) = text::quote_constants(json) else { return Err(broken(&error)) };
            *quoted = json;
            parse(quoted, pixels_max, pixels)
        }
        parsed => parsed,
    };
    let frame = frame.map_err(|broken_by| match broken_by {
        Broken::Syntax(error) => broken(&error),
        Broken::TooLarge => {
            Reject::too_large(format!("image_array has more than {pixels_max} pixels"))
        }
    })?;
    let image = match (frame.base64.or(frame.image), frame.array) {
        (Some(text), _) => {
            base64::unpack(&text, pixels)?;
            ImageRef { bytes: pixels, ..ImageRef::default() }
        }
        (None, Some(shape)) => ImageRef {
            format: "raw",
            width: side(shape.width)?,
            height: side(shape.height)?,
            channels: side(shape.channels)?,
            bytes: pixels,
            ..ImageRef::default()
        },
        (None, None) => {
            return Err(Reject::undecodable("JSON has neither image_base64 nor image_array"));
        }
    };
    Ok(Envelope {
        frame_id: frame.frame_id.unwrap_or_default(),
        camera_id: frame.camera_id.unwrap_or_default(),
        timestamp: frame.timestamp.ok().flatten(),
        is_time_unclear: frame.timestamp.is_err(),
        version: "",
        image,
    })
}

fn broken(error: &serde_json::Error) -> Reject {
    Reject::undecodable(format!("broken JSON: {error}"))
}

/// Why a frame cannot be read.
enum Broken {
    Syntax(serde_json::Error),
    TooLarge,
}

fn parse<'a>(
    json: &'a [u8],
    pixels_max: u64,
    pixels: &mut Vec<u8>,
) -> Result<JsonFrame<'a>, Broken> {
    let mut too_large = false;
    let seed = FrameSeed {
        pixels,
        pixels_max: usize::try_from(pixels_max).unwrap_or(usize::MAX),
        too_large: &mut too_large,
    };
    // Text that is known to be UTF-8 is not validated again. In other text only the used strings
    // are.
    let parsed = match simdutf8::basic::from_utf8(json) {
        Ok(text) => whole(serde_json::Deserializer::from_str(text), seed),
        Err(_) => whole(serde_json::Deserializer::from_slice(json), seed),
    };
    parsed.map_err(|error| if too_large { Broken::TooLarge } else { Broken::Syntax(error) })
}

/// One object, with nothing after it.
fn whole<'a, R: serde_json::de::Read<'a>>(
    mut parser: serde_json::Deserializer<R>,
    seed: FrameSeed<'_>,
) -> serde_json::Result<JsonFrame<'a>> {
    let frame = seed.deserialize(&mut parser)?;
    parser.end().map(|()| frame)
}

/// The camera that [`open`] finds: the value of the last `camera_id` of the outermost object.
pub(super) fn camera_of(data: &[u8]) -> Option<Cow<'_, str>> {
    let json = text::as_utf8(data)?;
    let found = match &json {
        Cow::Borrowed(json) => first_camera(json),
        Cow::Owned(_) => None,
    };
    match found {
        Some((camera, true)) => Some(camera),
        _ => thorough(&json),
    }
}

/// The first `camera_id`, and whether it is certainly the only one. Everything before it is skipped
/// without being stored, and everything after it is only searched for another such key. This is
/// cheap because producers write the ids before the picture.
fn first_camera(json: &[u8]) -> Option<(Cow<'_, str>, bool)> {
    struct Finder;
    impl<'de> Visitor<'de> for Finder {
        type Value = Option<&'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while let Some(JsonString(key)) = map.next_key()? {
                if key == "camera_id" {
                    // Stop here and leave the object half read; that saves the time.
                    return map.next_value().map(Some);
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(None)
        }
    }
    // The value is returned through `found`, because serde_json reports a half-read object as an
    // error.
    struct Keep<'s, 'de>(&'s mut Option<&'de RawValue>);
    impl<'de> Visitor<'de> for Keep<'_, 'de> {
        type Value = ();
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
            *self.0 = Finder.visit_map(map)?;
            Ok(())
        }
    }
    let mut found = None;
    let mut parser = serde_json::Deserializer::from_slice(json);
    let _ = parser.deserialize_map(Keep(&mut found));
    let value = found?.get();
    let behind = (value.as_ptr() as usize).checked_sub(json.as_ptr() as usize)? + value.len();
    let is_only = !may_name_a_camera(json.get(behind..)?);
    id(value, "camera_id").ok()?.map(|camera| (camera, is_only))
}

/// Whether there may be another key `camera_id`, with or without escapes. Only the text after a
/// quote is searched for escapes: a search for one byte passes over the text of a picture faster
/// than one for two.
fn may_name_a_camera(json: &[u8]) -> bool {
    /// Each letter of the key may be an escape of six.
    const ESCAPED_MAX: usize = 6 * b"camera_id".len();
    memchr::memchr_iter(b'"', json).map(|at| &json[at + 1..]).any(|behind| {
        let mut key = behind.iter().take(ESCAPED_MAX).take_while(|&&byte| byte != b'"');
        behind.starts_with(b"camera_id") || key.any(|&byte| byte == b'\\')
    })
}

/// The last `camera_id`, found by parsing the whole object.
fn thorough(json: &[u8]) -> Option<Cow<'static, str>> {
    fn last(json: &[u8]) -> Option<Option<Cow<'static, str>>> {
        struct LastFinder;
        impl<'de> Visitor<'de> for LastFinder {
            type Value = Option<Cow<'static, str>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut camera = None;
                while let Some(JsonString(key)) = map.next_key()? {
                    if key == "camera_id" {
                        let value: &RawValue = map.next_value()?;
                        let value = id(value.get(), "camera_id").map_err(de::Error::custom)?;
                        camera = value.map(|camera| Cow::Owned(camera.into_owned()));
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(camera)
            }
        }
        serde_json::Deserializer::from_slice(json).deserialize_map(LastFinder).ok()
    }
    last(json).or_else(|| last(&text::quote_constants(json)?)).flatten()
}

fn side(value: usize) -> Result<i32, Reject> {
    i32::try_from(value).map_err(|_| Reject::too_large("image_array is too long"))
}

struct JsonFrame<'de> {
    frame_id: Option<Cow<'de, str>>,
    camera_id: Option<Cow<'de, str>>,
    timestamp: Timestamp,
    base64: Option<Cow<'de, str>>,
    image: Option<Cow<'de, str>>,
    array: Option<RowShape>,
}

/// The capture time, if one was given; an error if it cannot be parsed.
type Timestamp = Result<Option<f64>, Unclear>;

#[derive(Clone, Copy, Debug)]
struct Unclear;

/// An id: text, or a number as it was written. `value` is valid JSON.
fn id<'a>(value: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, String> {
    match value.as_bytes() {
        b"null" => Ok(None),
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            Ok(Some(Cow::Borrowed(&value[1..=inner.len()])))
        }
        [b'"', ..] => serde_json::from_str::<JsonString<'a>>(value)
            .map(|JsonString(text)| Some(text))
            .map_err(|error| format!("{name}: {error}")),
        [b'-' | b'0'..=b'9', ..] => Ok(Some(Cow::Borrowed(value))),
        _ => Err(format!("{name} is neither text nor a number")),
    }
}

/// A number, or a string with a number or a date.
fn timestamp(value: &str) -> Timestamp {
    match value.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => match serde_json::from_str::<JsonString<'_>>(value) {
            Ok(JsonString(text)) => time::seconds(&text).map(Some).ok_or(Unclear),
            Err(_) => Err(Unclear),
        },
        _ => time::seconds(value).map(Some).ok_or(Unclear),
    }
}

/// A string, borrowed unless it has escapes.
struct JsonString<'de>(Cow<'de, str>);

impl<'de> de::Deserialize<'de> for JsonString<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = JsonString<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(
                self,
                text: &'de str,
            ) -> Result<JsonString<'de>, E> {
                Ok(JsonString(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<JsonString<'de>, E> {
                Ok(JsonString(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A string; any other value is ignored.
struct MaybeText<'de>(Option<Cow<'de, str>>);

impl<'de> de::Deserialize<'de> for MaybeText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MaybeVisitor;
        impl<'de> Visitor<'de> for MaybeVisitor {
            type Value = MaybeText<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<MaybeText<'de>, E> {
                Ok(MaybeText(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<MaybeText<'de>, E> {
                Ok(MaybeText(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_unit<E>(self) -> Result<MaybeText<'de>, E> {
                Ok(MaybeText(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<MaybeText<'de>, E> {
                Ok(MaybeText(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<MaybeText<'de>, E> {
                Ok(MaybeText(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<MaybeText<'de>, E> {
                Ok(MaybeText(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<MaybeText<'de>, E> {
                Ok(MaybeText(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<MaybeText<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(MaybeText(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MaybeText<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(MaybeText(None))
            }
        }
        deserializer.deserialize_any(MaybeVisitor)
    }
}

struct FrameSeed<'s> {
    pixels: &'s mut Vec<u8>,
    pixels_max: usize,
    too_large: &'s mut bool,
}

impl<'de> DeserializeSeed<'de> for FrameSeed<'_> {
    type Value = JsonFrame<'de>;
    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<JsonFrame<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FrameSeed<'_> {
    type Value = JsonFrame<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// If a key occurs twice, the last value counts, as with `json.loads`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonFrame<'de>, A::Error> {
        let FrameSeed { pixels, pixels_max, too_large } = self;
        let mut frame = JsonFrame {
            frame_id: None,
            camera_id: None,
            timestamp: Ok(None),
            base64: None,
            image: None,
            array: None,
        };
        while let Some(JsonString(key)) = map.next_key()? {
            match &*key {
                name @ ("frame_id" | "camera_id") => {
                    let value: &'de RawValue = map.next_value()?;
                    let value = id(value.get(), name).map_err(de::Error::custom)?;
                    match name {
                        "frame_id" => frame.frame_id = value,
                        _ => frame.camera_id = value,
                    }
                }
                "timestamp" => {
                    frame.timestamp = timestamp(map.next_value::<&'de RawValue>()?.get());
                }
                "image_base64" => {
                    frame.base64 =
                        map.next_value::<Option<JsonString<'de>>>()?.map(|JsonString(text)| text);
                }
                "image" => {
                    let MaybeText(text) = map.next_value()?;
                    frame.image = text;
                }
                "image_array" => {
                    pixels.clear();
                    let shape = RowShape::default();
                    let rows = Rows {
                        pixels: &mut *pixels,
                        pixels_max,
                        too_large: &mut *too_large,
                        shape,
                    };
                    frame.array = map.next_value_seed(rows)?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests;
