//! Opens the data of an entry: protobuf, a batch, legacy JSON, a picture file or gzip.

use std::borrow::Cow;
use std::ops::Range;

use super::batch::FrameBatch;
use super::cursor::Fields;
use super::envelope::{Envelope, ImageRef, not_a_frame, protobuf};
use super::json::{self, JsonText};
use super::{gzip, text};
use crate::base::{Reject, limits};
use crate::frame::FileKind;

/// Buffers of a worker for unpacked data.
#[derive(Debug)]
pub struct Scratch {
    /// Pictures that came as text.
    unpacked: Vec<u8>,
    /// The contents of gzip.
    inflated: Vec<u8>,
    inflated_max: usize,
    json: JsonText,
}

impl Scratch {
    /// Buffers that unpack at most `inflated_max` bytes of gzip.
    pub fn new(inflated_max: usize) -> Scratch {
        Scratch {
            unpacked: Vec::new(),
            inflated: Vec::new(),
            inflated_max,
            json: JsonText::default(),
        }
    }
}

impl Default for Scratch {
    /// At most 64 MiB are unpacked.
    fn default() -> Self {
        Scratch::new(64 << 20)
    }
}

/// The contents of an entry.
#[derive(Debug)]
pub enum OpenedEnvelope<'a> {
    /// One frame.
    Frame(Envelope<'a>),
    /// Several frames.
    Batch(FrameBatch<'a>),
}

/// Opens the `data` of an entry that holds one frame; see [`open_all`].
///
/// # Errors
/// As [`open_all`]; `undecodable` for a batch of several frames.
pub fn open<'a>(
    data: &'a [u8],
    pixels_max: u64,
    scratch: &'a mut Scratch,
) -> Result<Envelope<'a>, Reject> {
    match open_all(data, pixels_max, scratch)? {
        OpenedEnvelope::Frame(envelope) => Ok(envelope),
        OpenedEnvelope::Batch(batch) => Err(Reject::undecodable(format!(
            "data is a ProcessedFrameBatch of {} frames; one is expected",
            batch.len()
        ))),
    }
}

/// Opens the `data` of an entry: a `ProcessedFrame`, a `ProcessedFrameBatch`, legacy JSON, a
/// picture file alone, or gzip of one of these.
///
/// Pictures of protobuf frames are borrowed from `data`. Pictures of JSON frames and the contents
/// of gzip are unpacked into `scratch`. An `image_array` of more than `pixels_max` pixels is
/// refused before more than that is stored.
///
/// # Errors
/// `undecodable` for anything that is not a frame, or whose ids are longer than
/// [`limits::ID_BYTES_MAX`]; `unsupported_image` for a file of another kind; `too_large` above
/// `pixels_max` or the gzip limit, and for a batch of more than [`limits::BATCH_FRAMES_MAX`]
/// frames.
pub fn open_all<'a>(
    data: &'a [u8],
    pixels_max: u64,
    scratch: &'a mut Scratch,
) -> Result<OpenedEnvelope<'a>, Reject> {
    let Scratch { unpacked, inflated, inflated_max, json } = scratch;
    let mut data = data;
    let mut kind = MessageKind::of(data);
    if let MessageKind::Gzip = kind {
        gzip::unpack(data, *inflated_max, inflated)?;
        data = inflated;
        kind = MessageKind::of(data);
    }
    let envelope = match kind {
        MessageKind::Json => json::open(data, pixels_max, unpacked, json)?,
        MessageKind::Protobuf => match protobuf(data) {
            Ok(envelope) => envelope,
            Err(what) => match FrameBatch::of(data) {
                Some(batch) if batch.len() > 1 => {
                    return Ok(OpenedEnvelope::Batch(batch.bounded()?));
                }
                Some(mut batch) => batch.next().unwrap_or_else(|| Err(not_a_frame(what)))?,
                None => return Err(not_a_frame(what)),
            },
        },
        MessageKind::Picture => {
            let image = ImageRef { bytes: data, ..ImageRef::default() };
            Envelope { image, ..Envelope::default() }
        }
        MessageKind::Gzip => return Err(Reject::undecodable("gzip within gzip")),
        MessageKind::Other(name) => {
            return Err(Reject::unsupported(format!(
                "data is of an unknown kind: {name}; a ProcessedFrame, JSON, or a JPEG, PNG or WebP \
                 file is expected"
            )));
        }
    };
    envelope.bounded().map(OpenedEnvelope::Frame)
}

/// The camera of a frame, without unpacking the picture. It decides the order of frames.
///
/// Agrees with [`open`] for every frame that `open` accepts. Of gzip, at most `inflated_max` bytes
/// are unpacked.
pub fn camera_of(data: &[u8], inflated_max: usize) -> Option<Cow<'_, str>> {
    let camera = match MessageKind::of(data) {
        MessageKind::Json => json::camera_of(data)?,
        MessageKind::Protobuf => camera_of_protobuf(data)?,
        MessageKind::Gzip => {
            let mut inflated = Vec::new();
            gzip::unpack(data, inflated_max, &mut inflated).ok()?;
            match MessageKind::of(&inflated) {
                MessageKind::Json => json::camera_of(&inflated)?.into_owned().into(),
                MessageKind::Protobuf => camera_of_protobuf(&inflated)?.into_owned().into(),
                _ => return None,
            }
        }
        MessageKind::Picture | MessageKind::Other(_) => return None,
    };
    (1..=limits::ID_BYTES_MAX).contains(&camera.len()).then_some(camera)
}

fn camera_of_protobuf(data: &[u8]) -> Option<Cow<'_, str>> {
    let mut camera = Some("");
    let mut has_image = false;
    let mut fields = Fields::new(data);
    // An incomplete frame is read as far as it goes.
    while let Ok(Some((number, value))) = fields.next() {
        match number {
            // In a batch this is the id of the batch, which may be anything.
            2 => camera = camera.and(value.text().ok()),
            // In a batch this is a number.
            4 => has_image = has_image || value.bytes().is_ok(),
            _ => {}
        }
    }
    if !has_image && let Some(frame) = FrameBatch::of(data).and_then(FrameBatch::first) {
        return camera_of_protobuf(frame);
    }
    camera.map(Cow::Borrowed)
}

/// The position of the picture in `data` of `len` bytes that begins with `head`, if it is known
/// yet. `None` for JSON, which holds the picture only as text.
///
/// This is a guess, because a later field may replace the picture; only [`open`] knows.
pub fn locate_picture(head: &[u8], len: usize) -> Option<Range<usize>> {
    let mut fields = Fields::new(head);
    fields.enter(4).ok()?; // original_image
    let size = fields.enter(1).ok()?; // compressed_data
    let start = head.len() - fields.remaining();
    let end = start.checked_add(size)?;
    (end <= len).then_some(start..end)
}

enum MessageKind {
    Protobuf,
    Json,
    Picture,
    Gzip,
    Other(&'static str),
}

impl MessageKind {
    /// JSON begins with a brace, which a `ProcessedFrame` cannot: it would be the start of a group
    /// in field 15. Leading white space is allowed unless the bytes are a valid frame, because a
    /// line feed is also the tag of `frame_id`. The same holds for files whose first bytes could be
    /// tags.
    fn of(data: &[u8]) -> MessageKind {
        let has_brace = data.trim_ascii_start().first() == Some(&b'{');
        let is_json = match data.first() {
            Some(b'{') => true,
            Some(_) if has_brace => protobuf(data).is_err(),
            _ => text::is_object(data),
        };
        if is_json {
            return MessageKind::Json;
        }
        match FileKind::of(data).filter(|_| protobuf(data).is_err()) {
            Some(FileKind::Jpeg | FileKind::Png | FileKind::Webp) => MessageKind::Picture,
            Some(FileKind::Gzip) => MessageKind::Gzip,
            Some(FileKind::Other(name)) => MessageKind::Other(name),
            None => MessageKind::Protobuf,
        }
    }
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
                ..Default::default()
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
            let camera = camera_of(data, 1 << 20);
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
    fn the_camera_of_a_batch_is_that_of_its_first_frame() {
        let other = proto::ProcessedFrame { camera_id: "other".into(), ..frame() };
        for frames in [vec![frame()], vec![frame(), other]] {
            let batch = proto::ProcessedFrameBatch {
                frames,
                batch_id: "b".into(),
                batch_timestamp: 1.0,
                batch_size: 2,
            };
            let bytes = batch.encode_to_vec();
            assert_eq!(camera_of(&bytes, 100).as_deref(), Some("cam"));
            check(&bytes);
        }
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
