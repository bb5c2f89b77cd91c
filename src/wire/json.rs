//! Legacy JSON frames: `image_base64`, or `image_array` as rows of pixels.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::envelope::{Envelope, ImageRef, Scratch};
use crate::base::Reject;

/// Opens a JSON frame; the picture lands in `scratch`.
pub(super) fn open<'a>(
    data: &'a [u8],
    pixels_max: u64,
    scratch: &'a mut Scratch,
) -> Result<Envelope<'a>, Reject> {
    scratch.unpacked.clear();
    let mut too_large = false;
    let seed = FrameSeed {
        pixels: &mut scratch.unpacked,
        pixels_max: usize::try_from(pixels_max).unwrap_or(usize::MAX),
        too_large: &mut too_large,
    };
    let mut json = serde_json::Deserializer::from_slice(data);
    let parsed = seed.deserialize(&mut json).and_then(|frame| json.end().map(|()| frame));
    let frame = match parsed {
        Ok(frame) => frame,
        Err(_) if too_large => {
            return Err(Reject::too_large(format!(
                "image_array has more than {pixels_max} pixels"
            )));
        }
        Err(error) => return Err(Reject::undecodable(format!("broken JSON: {error}"))),
    };
    let image = match frame.picture {
        Some(Picture::Base64(text)) => {
            unpack_base64(&text, &mut scratch.unpacked)?;
            ImageRef { bytes: &scratch.unpacked, ..ImageRef::default() }
        }
        Some(Picture::Array(shape)) => ImageRef {
            format: "raw",
            width: side(shape.width)?,
            height: side(shape.height)?,
            channels: side(shape.channels)?,
            bytes: &scratch.unpacked,
        },
        None => {
            return Err(Reject::undecodable("JSON has neither image_base64 nor image_array"));
        }
    };
    Ok(Envelope {
        frame_id: frame.frame_id.unwrap_or_default(),
        camera_id: frame.camera_id.unwrap_or_default(),
        timestamp: frame.timestamp,
        version: "",
        image,
    })
}

/// Finds the value of the first `camera_id` of the outermost object, skipping everything else
/// without storing it.
pub(super) fn camera_of(data: &[u8]) -> Option<Cow<'_, str>> {
    struct Finder;
    impl<'de> Visitor<'de> for Finder {
        type Value = Option<Cow<'de, str>>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while let Some(Text(key)) = map.next_key()? {
                if key == "camera_id" {
                    let camera: Option<Text<'de>> = map.next_value()?;
                    // Stopping here leaves the object half read, which is what makes it cheap:
                    // producers write the ids before the picture.
                    return Ok(camera.map(|Text(camera)| camera));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(None)
        }
    }
    // The value is handed out through `found`, because serde_json calls a half-read object broken.
    struct Keep<'s, 'de>(&'s mut Option<Cow<'de, str>>);
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
    let mut json = serde_json::Deserializer::from_slice(data);
    let _ = json.deserialize_map(Keep(&mut found));
    found
}

fn side(value: usize) -> Result<i32, Reject> {
    i32::try_from(value).map_err(|_| Reject::too_large("image_array is too long"))
}

fn unpack_base64(text: &str, into: &mut Vec<u8>) -> Result<(), Reject> {
    into.resize(base64_simd::STANDARD.estimated_decoded_length(text.len()), 0);
    let decoded = base64_simd::STANDARD
        .decode(text.as_bytes(), base64_simd::Out::from_slice(into))
        .map_err(|_| Reject::undecodable("image_base64 is not base64"))?
        .len();
    into.truncate(decoded);
    Ok(())
}

#[derive(Default)]
struct Frame<'de> {
    frame_id: Option<Cow<'de, str>>,
    camera_id: Option<Cow<'de, str>>,
    timestamp: Option<f64>,
    picture: Option<Picture<'de>>,
}

enum Picture<'de> {
    Base64(Cow<'de, str>),
    Array(Shape),
}

#[derive(Clone, Copy, Default)]
struct Shape {
    width: usize,
    height: usize,
    channels: usize,
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

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame<'de>, A::Error> {
        let FrameSeed { pixels, pixels_max, too_large } = self;
        let mut frame = Frame::default();
        let mut seen = [false; 5];
        let mut once = |index: usize, name: &'static str| {
            if std::mem::replace(&mut seen[index], true) {
                return Err(de::Error::duplicate_field(name));
            }
            Ok(())
        };
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "frame_id" => {
                    once(0, "frame_id")?;
                    frame.frame_id = map.next_value::<Option<Text<'de>>>()?.map(|Text(text)| text);
                }
                "camera_id" => {
                    once(1, "camera_id")?;
                    frame.camera_id = map.next_value::<Option<Text<'de>>>()?.map(|Text(text)| text);
                }
                "timestamp" => {
                    once(2, "timestamp")?;
                    frame.timestamp = map.next_value()?;
                }
                "image_base64" => {
                    once(3, "image_base64")?;
                    if let Some(Text(text)) = map.next_value()? {
                        frame.picture = Some(Picture::Base64(text));
                    }
                }
                "image_array" => {
                    once(4, "image_array")?;
                    let rows = Rows { pixels, pixels_max, too_large, shape: Shape::default() };
                    let shape = map.next_value_seed(rows)?;
                    // A base64 picture, if there is one as well, is the original.
                    if let (Some(shape), None) = (shape, &frame.picture) {
                        frame.picture = Some(Picture::Array(shape));
                    }
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(frame)
    }
}

/// Reads `image_array` straight into interleaved pixels.
struct Rows<'s> {
    pixels: &'s mut Vec<u8>,
    pixels_max: usize,
    too_large: &'s mut bool,
    shape: Shape,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = Option<Shape>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = Option<Shape>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows of pixels")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut rows: A) -> Result<Self::Value, A::Error> {
        while rows.next_element_seed(Row(&mut self))?.is_some() {
            self.shape.height += 1;
        }
        if self.shape.height == 0 {
            return Err(de::Error::invalid_length(0, &"at least one row"));
        }
        Ok(Some(self.shape))
    }
}

struct Row<'r, 's>(&'r mut Rows<'s>);

impl<'de> DeserializeSeed<'de> for Row<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Row<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row of pixels")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        let rows = self.0;
        let mut width = 0;
        while row.next_element_seed(Pixel(rows))?.is_some() {
            width += 1;
            if rows.pixels.len() / rows.shape.channels.max(1) > rows.pixels_max {
                *rows.too_large = true;
                return Err(de::Error::custom("too many pixels"));
            }
        }
        if rows.shape.height == 0 && width > 0 {
            rows.shape.width = width;
        } else if width != rows.shape.width || width == 0 {
            return Err(de::Error::custom("image_array is ragged: its rows differ in length"));
        }
        Ok(())
    }
}

struct Pixel<'r, 's>(&'r mut Rows<'s>);

impl Pixel<'_, '_> {
    fn put<E: de::Error>(&mut self, value: u64) -> Result<(), E> {
        let sample = u8::try_from(value).map_err(|_| {
            E::invalid_value(Unexpected::Unsigned(value), &"a number from 0 to 255")
        })?;
        self.0.pixels.push(sample);
        Ok(())
    }

    fn channels<E: de::Error>(&mut self, channels: usize) -> Result<(), E> {
        match self.0.shape.channels {
            0 => self.0.shape.channels = channels,
            same if same == channels => {}
            _ => return Err(E::custom("image_array mixes gray and colour pixels")),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Pixel<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Pixel<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pixel: three numbers or one, each from 0 to 255")
    }

    fn visit_u64<E: de::Error>(mut self, value: u64) -> Result<(), E> {
        self.channels(1)?;
        self.put(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut samples: A) -> Result<(), A::Error> {
        self.channels(3)?;
        let mut count = 0;
        while let Some(value) = samples.next_element::<u64>()? {
            if count == 3 {
                return Err(de::Error::invalid_length(4, &"three numbers"));
            }
            self.put(value)?;
            count += 1;
        }
        if count != 3 {
            return Err(de::Error::invalid_length(count, &"three numbers"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
            r#"{"image_base64":"AQI*"}"#,
            r#"{"image_base64":7}"#,
            r#"{"image_array":[]}"#,
            r#"{"image_array":[[]]}"#,
            r#"{"image_array":[[1,2],[3]]}"#,
            r#"{"image_array":[[1,256]]}"#,
            r#"{"image_array":[[-1]]}"#,
            r#"{"image_array":[[1.5]]}"#,
            r#"{"image_array":[[[1,2]]]}"#,
            r#"{"image_array":[[[1,2,3,4]]]}"#,
            r#"{"image_array":[[1,[1,2,3]]]}"#,
            r#"{"image_array":"no"}"#,
            r#"{"camera_id":"a","camera_id":"b","image_base64":"AQID"}"#,
            r#"{"image_base64":"AQID"} trailing"#,
            r#"{"timestamp":"yesterday","image_base64":"AQID"}"#,
        ] {
            check(json, Err(Reason::Undecodable));
        }
        check(r#"{"image_array":[[1,2,3,4,5,6,7,8,9]]}"#, Err(Reason::TooLarge));
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
