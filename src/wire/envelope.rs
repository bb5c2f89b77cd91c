//! What a producer sent: protobuf or legacy JSON, opened without copying the picture.

use std::borrow::Cow;
use std::ops::Range;

use super::cursor::{Fields, Malformed};
use super::json;
use crate::base::{Reject, limits};

/// A picture as claimed by its envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ImageRef<'a> {
    /// `jpeg`, `png`, `webp` or `raw`, as the producer wrote it; empty if it did not say.
    pub format: &'a str,
    /// Claimed pixels in a row.
    pub width: i32,
    /// Claimed rows.
    pub height: i32,
    /// Claimed channels.
    pub channels: i32,
    /// The coded file, or raw pixels.
    pub bytes: &'a [u8],
}

/// An opened frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Envelope<'a> {
    /// The producer's name for the frame.
    pub frame_id: Cow<'a, str>,
    /// The camera.
    pub camera_id: Cow<'a, str>,
    /// Capture time in seconds since the Unix epoch, if given.
    pub timestamp: Option<f64>,
    /// Version set by the producer; empty if none.
    pub version: &'a str,
    /// The picture.
    pub image: ImageRef<'a>,
}

/// Storage of a worker for pictures that have to be unpacked from text.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) unpacked: Vec<u8>,
}

/// Opens the `data` of an entry.
///
/// Pictures of protobuf frames are borrowed from `data`; those of JSON frames are unpacked into
/// `scratch`. A picture of more than `pixels_max` pixels in an `image_array` is refused before
/// more than that is stored.
///
/// # Errors
/// `undecodable` for anything that is not a frame, or whose ids are longer than
/// [`limits::ID_BYTES_MAX`]; `unsupported_image` for a frame without an
/// image, `too_large` as said.
pub fn open<'a>(
    data: &'a [u8],
    pixels_max: u64,
    scratch: &'a mut Scratch,
) -> Result<Envelope<'a>, Reject> {
    let envelope = match kind_of(data) {
        Kind::Json => json::open(data, pixels_max, scratch)?,
        Kind::Protobuf => protobuf(data)
            .map_err(|what| Reject::undecodable(format!("not a ProcessedFrame: {what}")))?,
    };
    for (name, id) in [("frame_id", &envelope.frame_id), ("camera_id", &envelope.camera_id)] {
        if id.len() > limits::ID_BYTES_MAX {
            let (len, max) = (id.len(), limits::ID_BYTES_MAX);
            return Err(Reject::undecodable(format!("{name} has {len} bytes, more than {max}")));
        }
    }
    Ok(envelope)
}

/// The camera of a frame, without unpacking anything: what decides the order of frames.
///
/// Agrees with [`open`] for every frame that `open` accepts.
pub fn camera_of(data: &[u8]) -> Option<Cow<'_, str>> {
    let camera = match kind_of(data) {
        Kind::Json => json::camera_of(data)?,
        Kind::Protobuf => {
            let mut camera = "";
            let mut fields = Fields::new(data);
            // Of a frame that is not whole, as far as it goes.
            while let Ok(Some((number, value))) = fields.next() {
                if number == 2 {
                    camera = value.text().ok()?;
                }
            }
            Cow::Borrowed(camera)
        }
    };
    (1..=limits::ID_BYTES_MAX).contains(&camera.len()).then_some(camera)
}

/// Where the picture will be in a `data` of `len` bytes that begins with `head`, as far as that can
/// be said yet; nothing for JSON, whose picture is not there as it is.
///
/// A guess: only [`open`] knows, for a later field may replace the picture.
pub fn locate_picture(head: &[u8], len: usize) -> Option<Range<usize>> {
    let mut fields = Fields::new(head);
    fields.enter(4).ok()?; // original_image
    let size = fields.enter(1).ok()?; // compressed_data
    let start = head.len() - fields.remaining();
    let end = start.checked_add(size)?;
    (end <= len).then_some(start..end)
}

enum Kind {
    Protobuf,
    Json,
}

/// JSON begins with a brace, which no `ProcessedFrame` can: it would be the start of a group in
/// field 15. White space in front is allowed unless the bytes are a frame as they stand, for a
/// line feed is also the tag of `frame_id`.
fn kind_of(data: &[u8]) -> Kind {
    if data.first() == Some(&b'{') {
        return Kind::Json;
    }
    if data.first().is_some_and(u8::is_ascii_whitespace)
        && data.trim_ascii_start().first() == Some(&b'{')
        && protobuf(data).is_err()
    {
        return Kind::Json;
    }
    Kind::Protobuf
}

fn protobuf(data: &[u8]) -> Result<Envelope<'_>, Malformed> {
    let mut envelope = Envelope::default();
    let mut has_image = false;
    let mut fields = Fields::new(data);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => envelope.frame_id = Cow::Borrowed(value.text()?),
            2 => envelope.camera_id = Cow::Borrowed(value.text()?),
            3 => envelope.timestamp = Some(value.double()?),
            4 => {
                has_image = true;
                image(value.bytes()?, &mut envelope.image)?;
            }
            14 => envelope.version = value.text()?,
            _ => {}
        }
    }
    if !has_image {
        return Err("no original_image");
    }
    Ok(envelope)
}

/// Reads an `ImageData` over what is there: a message that occurs twice is merged.
fn image<'a>(bytes: &'a [u8], image: &mut ImageRef<'a>) -> Result<(), Malformed> {
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => image.bytes = value.bytes()?,
            2 => image.width = value.int32()?,
            3 => image.height = value.int32()?,
            4 => image.channels = value.int32()?,
            5 => image.format = value.text()?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto;
    use proptest::prelude::*;
    use prost::Message;

    fn frame() -> proto::ProcessedFrame {
        proto::ProcessedFrame {
            frame_id: "f1".into(),
            camera_id: "cam".into(),
            timestamp: 1.5,
            version: "2".into(),
            source_hash: "0123".into(),
            original_image: Some(proto::ImageData {
                compressed_data: vec![1, 2, 3],
                width: 4,
                height: -5,
                channels: 3,
                compression_format: "raw".into(),
                quality: 9,
            }),
            ..Default::default()
        }
    }

    fn check(data: &[u8]) {
        let mut scratch = Scratch::default();
        let ours = open(data, 1 << 20, &mut scratch);
        if let (Ok(ours), Ok(theirs)) = (&ours, proto::ProcessedFrame::decode(data)) {
            let image = theirs.original_image.unwrap_or_default();
            assert_eq!(ours.frame_id, theirs.frame_id);
            assert_eq!(ours.camera_id, theirs.camera_id);
            assert_eq!(ours.timestamp.unwrap_or(0.0).to_bits(), theirs.timestamp.to_bits());
            assert_eq!(ours.image.bytes, image.compressed_data);
            assert_eq!(
                (ours.image.width, ours.image.height, ours.image.channels, ours.image.format),
                (image.width, image.height, image.channels, image.compression_format.as_str())
            );
        }
        if let Ok(ours) = &ours {
            let camera = camera_of(data);
            assert_eq!(camera.as_deref().unwrap_or(""), ours.camera_id, "the order key agrees");
        }
    }

    #[test]
    fn a_frame_of_prost_is_read_without_copying() {
        let bytes = frame().encode_to_vec();
        let mut scratch = Scratch::default();
        let envelope = open(&bytes, 100, &mut scratch).unwrap();
        assert!(bytes.as_ptr_range().contains(&envelope.image.bytes.as_ptr()));
        assert_eq!(envelope.image.height, -5);
        check(&bytes);
    }

    #[test]
    fn the_picture_is_located_as_soon_as_its_length_is_known() {
        let bytes = frame().encode_to_vec();
        let mut scratch = Scratch::default();
        let picture = open(&bytes, 100, &mut scratch).unwrap().image.bytes;
        let start = picture.as_ptr() as usize - bytes.as_ptr() as usize;
        for len in 0..=bytes.len() {
            let expected = (len >= start).then_some(start..start + picture.len());
            assert_eq!(locate_picture(&bytes[..len], bytes.len()), expected, "{len} bytes");
        }
        assert_eq!(locate_picture(&bytes, start + picture.len() - 1), None, "beyond the end");
        assert_eq!(locate_picture(br#"{"frame_id": "f"}"#, 17), None);
    }

    #[test]
    fn a_frame_that_begins_with_a_line_feed_is_still_protobuf() {
        let mut odd = frame();
        odd.frame_id = "{".repeat(9);
        let bytes = odd.encode_to_vec();
        assert_eq!(bytes[0], b'\n');
        let mut scratch = Scratch::default();
        assert_eq!(open(&bytes, 100, &mut scratch).unwrap().frame_id, "{".repeat(9));
    }

    #[test]
    fn every_truncation_is_refused_or_loses_only_trailing_fields() {
        let bytes = frame().encode_to_vec();
        for len in 0..bytes.len() {
            check(&bytes[..len]);
        }
        let mut scratch = Scratch::default();
        let refused = open(&bytes[..bytes.len() / 2], 100, &mut scratch).unwrap_err();
        assert_eq!(refused.reason, crate::base::Reason::Undecodable);
    }

    proptest! {
        #[test]
        fn whatever_prost_also_accepts_reads_the_same(
            at in 0_usize..60, byte: u8, tail in proptest::collection::vec(any::<u8>(), 0..40)
        ) {
            let mut bytes = frame().encode_to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.extend(tail);
            check(&bytes);
        }

        #[test]
        fn no_bytes_whatever_cause_a_panic(
            data in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            check(&data);
        }
    }
}
