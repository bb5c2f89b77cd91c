//! Legacy JSON frames: `image_base64`, or `image_array` as rows of pixels.
//!
//! They are read as the Python system read them: with `json.loads`, `base64.b64decode` and NumPy. See
//! `text.rs`, `base64.rs` and `rows.rs`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::envelope::{Envelope, ImageRef, JsonText};
use super::rows::{Rows, Shape};
use super::{base64, text, time};
use crate::base::Reject;

/// Opens a frame; the picture lands in `pixels`, rewritten text in `room`.
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
            // The words that are no numbers are rare, so they are looked for only now.
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

fn parse<'a>(json: &'a [u8], pixels_max: u64, pixels: &mut Vec<u8>) -> Result<Frame<'a>, Broken> {
    let mut too_large = false;
    let seed = FrameSeed {
        pixels,
        pixels_max: usize::try_from(pixels_max).unwrap_or(usize::MAX),
        too_large: &mut too_large,
    };
    let mut parser = serde_json::Deserializer::from_slice(json);
    let parsed = seed.deserialize(&mut parser).and_then(|frame| parser.end().map(|()| frame));
    parsed.map_err(|error| if too_large { Broken::TooLarge } else { Broken::Syntax(error) })
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

/// The first `camera_id`, and whether there is certainly no other. Everything in front of it is skipped
/// without being stored, and everything behind it is searched for a key of that name only: producers
/// write the ids before the picture.
fn first_camera(json: &[u8]) -> Option<(Cow<'_, str>, bool)> {
    struct Finder;
    impl<'de> Visitor<'de> for Finder {
        type Value = Option<&'de RawValue>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while let Some(Text(key)) = map.next_key()? {
                if key == "camera_id" {
                    // Stopping here leaves the object half read, which is what makes it cheap.
                    return map.next_value().map(Some);
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(None)
        }
    }
    // The value is handed out through `found`, because serde_json calls a half-read object broken.
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

/// Whether there may be another key `camera_id`, written with escapes or not.
fn may_name_a_camera(json: &[u8]) -> bool {
    memchr::memchr2_iter(b'"', b'\\', json)
        .any(|at| json[at + 1..].starts_with(b"camera_id") || json[at..].starts_with(b"\\u"))
}

/// The last `camera_id`, whatever it takes to find it.
fn thorough(json: &[u8]) -> Option<Cow<'static, str>> {
    fn last(json: &[u8]) -> Option<Option<Cow<'static, str>>> {
        struct Finder;
        impl<'de> Visitor<'de> for Finder {
            type Value = Option<Cow<'static, str>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut camera = None;
                while let Some(Text(key)) = map.next_key()? {
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
        serde_json::Deserializer::from_slice(json).deserialize_map(Finder).ok()
    }
    last(json).or_else(|| last(&text::quote_constants(json)?)).flatten()
}

fn side(value: usize) -> Result<i32, Reject> {
    i32::try_from(value).map_err(|_| Reject::too_large("image_array is too long"))
}

struct Frame<'de> {
    frame_id: Option<Cow<'de, str>>,
    camera_id: Option<Cow<'de, str>>,
    timestamp: Timestamp,
    base64: Option<Cow<'de, str>>,
    image: Option<Cow<'de, str>>,
    array: Option<Shape>,
}

/// The capture time, if one was given; an error if it cannot be understood.
type Timestamp = Result<Option<f64>, Unclear>;

#[derive(Clone, Copy, Debug)]
struct Unclear;

/// An id: text, or a number as it was written.
fn id<'a>(value: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, String> {
    match value.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => serde_json::from_str::<Text<'a>>(value)
            .map(|Text(text)| Some(text))
            .map_err(|error| format!("{name}: {error}")),
        [b'-' | b'0'..=b'9', ..] => Ok(Some(Cow::Borrowed(value))),
        _ => Err(format!("{name} is neither text nor a number")),
    }
}

/// A number, or a number or a date in a string.
fn timestamp(value: &str) -> Timestamp {
    match value.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => match serde_json::from_str::<Text<'_>>(value) {
            Ok(Text(text)) => time::seconds(&text).map(Some).ok_or(Unclear),
            Err(_) => Err(Unclear),
        },
        _ => time::seconds(value).map(Some).ok_or(Unclear),
    }
}

/// A string, borrowed unless it has escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> de::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
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
    type Value = Frame<'de>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Frame<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FrameSeed<'_> {
    type Value = Frame<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// Of two equal keys the last one counts, as for `json.loads`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame<'de>, A::Error> {
        let FrameSeed { pixels, pixels_max, too_large } = self;
        let mut frame = Frame {
            frame_id: None,
            camera_id: None,
            timestamp: Ok(None),
            base64: None,
            image: None,
            array: None,
        };
        while let Some(Text(key)) = map.next_key()? {
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
                    frame.base64 = map.next_value::<Option<Text<'de>>>()?.map(|Text(text)| text);
                }
                "image" => {
                    let MaybeText(text) = map.next_value()?;
                    frame.image = text;
                }
                "image_array" => {
                    pixels.clear();
                    let shape = Shape::default();
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
mod tests {
    use super::super::envelope::{Scratch, open};
    use super::*;
    use crate::base::Reason;
    use proptest::prelude::*;

    fn check(json: &str, expected: Result<(i32, i32, i32, &[u8]), Reason>) {
        let mut scratch = Scratch::default();
        let got = open(json.as_bytes(), 8, &mut scratch);
        match (got, expected) {
            (Ok(frame), Ok((width, height, channels, bytes))) => {
                let image = frame.image;
                assert_eq!((image.width, image.height, image.channels), (width, height, channels));
                assert_eq!(image.bytes, bytes, "{json}");
                let camera = camera_of(json.as_bytes());
                assert_eq!(camera.as_deref().unwrap_or(""), frame.camera_id, "{json}");
            }
            (Err(reject), Err(reason)) => assert_eq!(reject.reason, reason, "{json}: {reject}"),
            (got, expected) => panic!("{json}: got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn pictures_are_unpacked_from_either_form() {
        check(
            r#"{"frame_id":"f","camera_id":"c","image_base64":"AQID"}"#,
            Ok((0, 0, 0, &[1, 2, 3])),
        );
        check(
            r#"{"image_array":[[1,2],[3,4]],"camera_id":"\u0063"}"#,
            Ok((2, 2, 1, &[1, 2, 3, 4])),
        );
        check(r#"{"image_array":[[[1,2,3]],[[4,5,6]]]}"#, Ok((1, 2, 3, &[1, 2, 3, 4, 5, 6])));
        check(
            r#" {"image_array":null,"image_base64":"AQID","x":{"camera_id":1}}"#,
            Ok((0, 0, 0, &[1, 2, 3])),
        );
    }

    #[test]
    fn broken_frames_are_refused_with_a_reason() {
        for json in [
            "{",
            "{}",
            "[]",
            r#"{"image_base64":"A"}"#,
            r#"{"image":7}"#,
            r#"{"image_base64":7}"#,
            r#"{"image_array":[]}"#,
            r#"{"image_array":[[]]}"#,
            r#"{"image_array":[[1,2],[3]]}"#,
            r#"{"image_array":[[1,256]]}"#,
            r#"{"image_array":[[-1]]}"#,
            r#"{"image_array":[[256.5]]}"#,
            r#"{"image_array":[[NaN]]}"#,
            r#"{"image_array":[[[1,2]]]}"#,
            r#"{"image_array":[[[1,2,3,4]]]}"#,
            r#"{"image_array":[[1,[1,2,3]]]}"#,
            r#"{"image_array":"no"}"#,
            r#"{"camera_id":["a"],"image_base64":"AQID"}"#,
            r#"{"frame_id":true,"image_base64":"AQID"}"#,
            r#"{"image_base64":"AQID"} trailing"#,
        ] {
            check(json, Err(Reason::Undecodable));
        }
        check(r#"{"image_array":[[1,2,3,4,5,6,7,8,9]]}"#, Err(Reason::TooLarge));
    }

    #[test]
    fn what_python_took_is_taken() {
        let bytes: Result<_, Reason> = Ok((0, 0, 0, &[1, 2, 3][..]));
        for json in [
            r#"{"camera_id":"a","camera_id":"b","image_base64":"AQID"}"#,
            r#"{"camera_id":"a","image_base64":"AQID","camera\u005fid":"b"}"#,
            r#"{"camera_id":"a","image_base64":"AQ\/=","camera_id":7,"image_base64":"AQID"}"#,
            r#"{"camera_id":17,"frame_id":1.50,"image":"AQID"}"#,
            r#"{"image":{"a":1},"camera_id":null,"image_base64":"AQID","image_array":null}"#,
            r#"{"image":"BBBB","image_base64":"AQID"}"#,
            r#"{"gps":NaN,"camera_id":"a","x":[Infinity,-Infinity],"image_base64":"AQID"}"#,
            r#"{"huge":1e999,"camera_id":"a","image_base64":"AQID","lone":"\ud800"}"#,
            "\u{feff}{\"camera_id\":\"a\",\"image_base64\":\"AQID\"}\0\0",
            "{\"camera_id\":\"a\",\"image_base64\":\"AQ\\nID\\r\\n\"}\n\0",
            r#"{"camera_id":"a","image_base64":"data:image/png;base64,AQID"}"#,
        ] {
            check(json, bytes);
        }
        check(r#"{"image_array":[[[1],[2.0]],[[3.7],[true]]]}"#, Ok((2, 2, 1, &[1, 2, 3, 1])));
        check(r#"{"image_array":[[9]],"image_array":[[[1,2.0,3]]]}"#, Ok((1, 1, 3, &[1, 2, 3])));
        let ids = |json: &str| {
            let mut scratch = Scratch::default();
            let frame = open(json.as_bytes(), 8, &mut scratch).unwrap();
            (frame.frame_id.to_string(), frame.camera_id.to_string())
        };
        assert_eq!(ids(r#"{"frame_id":123,"camera_id":1.50,"image":"AQID"}"#).0, "123");
        assert_eq!(ids(r#"{"frame_id":123,"camera_id":1.50,"image":"AQID"}"#).1, "1.50");
        assert_eq!(ids(r#"{"camera_id":"a","camera_id":"b","image":"AQID"}"#).1, "b");
        let utf16: Vec<u8> = r#"{"camera_id":"ä","image":"AQID"}"#
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let mut scratch = Scratch::default();
        assert_eq!(open(&utf16, 8, &mut scratch).unwrap().camera_id, "ä");
        assert_eq!(camera_of(&utf16).as_deref(), Some("ä"));
    }

    #[test]
    fn times_are_numbers_or_iso_8601_and_others_are_told() {
        let time = |value: &str| {
            let json = format!(r#"{{"timestamp":{value},"image":"AQID"}}"#);
            let mut scratch = Scratch::default();
            let frame = open(json.as_bytes(), 8, &mut scratch).unwrap();
            (frame.timestamp, frame.is_time_unclear)
        };
        for value in ["1700000000.5", r#""1700000000.5""#, r#""2023-11-14T22:13:20.5Z""#] {
            assert_eq!(time(value), (Some(1_700_000_000.5), false), "{value}");
        }
        assert_eq!(time("null"), (None, false));
        for value in [r#""yesterday""#, "NaN", "1e999", "[1]", "true", r#""""#] {
            assert_eq!(time(value), (None, true), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_text_whatever_causes_a_panic(text in "[\\[\\]{},:\"0-9a-z_ ]{0,80}") {
            let text = format!("{{{text}");
            let mut scratch = Scratch::default();
            let _ = open(text.as_bytes(), 8, &mut scratch);
            let _ = camera_of(text.as_bytes());
        }
    }
}
