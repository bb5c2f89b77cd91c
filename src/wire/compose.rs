//! Writes a `ProcessedFrame` and copies each picture exactly once.
//!
//! prost encodes everything except the pictures, and this module frames the large `bytes` fields.
//! Protobuf allows the fields of a message in any order, so the pictures come first and the other
//! fields last.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::proto::{ImageData, ProcessedFrame};
use crate::frame::{Lease, Pool};

/// Field number of `ImageData.compressed_data`.
const COMPRESSED_DATA: u32 = 1;

/// One picture of the message.
#[derive(Clone, Copy, Debug)]
pub struct MessagePart<'a> {
    /// Everything except the bytes; its `compressed_data` is empty.
    pub about: &'a ImageData,
    /// The coded picture.
    pub bytes: &'a [u8],
}

/// The message under construction. It stays in its slot so that its strings keep their storage.
#[derive(Debug, Default)]
pub struct Composer {
    /// All fields except the pictures.
    pub message: ProcessedFrame,
    /// `original_image` without its bytes.
    pub original: ImageData,
    /// `processed_image` without its bytes.
    pub processed: ImageData,
    /// `thumbnail` without its bytes.
    pub thumbnail: ImageData,
}

/// A message with its pictures written and its other fields still missing.
#[derive(Debug)]
pub struct Draft {
    lease: Lease,
    used: usize,
}

impl Draft {
    /// Bytes written so far: those of the pictures.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }
}

impl Composer {
    /// Writes the pictures into a buffer of the pool, with room for `message` as it is and `growth`
    /// more bytes.
    pub fn draft(
        &self,
        original: &[u8],
        processed: Option<&[u8]>,
        thumbnail: Option<&[u8]>,
        growth: usize,
        pool: &Pool,
    ) -> Draft {
        let parts = [
            (4, Some(MessagePart { about: &self.original, bytes: original })),
            (5, processed.map(|bytes| MessagePart { about: &self.processed, bytes })),
            (6, thumbnail.map(|bytes| MessagePart { about: &self.thumbnail, bytes })),
        ];
        let parts = parts.iter().filter_map(|(field, part)| part.map(|part| (*field, part)));
        let used = parts.clone().map(|(field, part)| part.len_as(field)).sum::<usize>();
        let mut lease = pool.lease_now(used + self.message.encoded_len() + growth);
        let mut rest: &mut [u8] = &mut lease[..used];
        for (field, part) in parts {
            part.write(field, &mut rest);
        }
        debug_assert!(rest.is_empty(), "the length was computed from the same fields");
        Draft { lease, used }
    }

    /// Completes a draft with the other fields.
    pub fn finish(&self, draft: Draft, pool: &Pool) -> Lease {
        let Draft { mut lease, used } = draft;
        let len = used + self.message.encoded_len();
        if len > lease.len() {
            // It grew by more than `growth`. The result is still right, with one more copy.
            let mut larger = pool.lease_now(len);
            larger[..used].copy_from_slice(&lease[..used]);
            lease = larger;
        }
        lease.truncate(len);
        let mut rest: &mut [u8] = &mut lease[used..];
        self.message.encode_raw(&mut rest);
        lease
    }
}

/// A `ProcessedFrame` with `bytes` in its `original_image`; `data` holds everything else. `None` if
/// `data` is not such a message.
pub fn whole(data: &[u8], bytes: &[u8], pool: &Pool) -> Option<Lease> {
    let mut message = ProcessedFrame::decode(data).ok()?;
    let original = message.original_image.take()?;
    let composer = Composer { message, original, ..Composer::default() };
    let draft = composer.draft(bytes, None, None, 0, pool);
    Some(composer.finish(draft, pool))
}

impl MessagePart<'_> {
    fn body_len(&self) -> usize {
        let bytes = self.bytes.len();
        key_len(COMPRESSED_DATA)
            + encoded_len_varint(bytes as u64)
            + bytes
            + self.about.encoded_len()
    }

    fn len_as(&self, field: u32) -> usize {
        let body = self.body_len();
        key_len(field) + encoded_len_varint(body as u64) + body
    }

    fn write(&self, field: u32, rest: &mut &mut [u8]) {
        encode_key(field, WireType::LengthDelimited, rest);
        encode_varint(self.body_len() as u64, rest);
        encode_key(COMPRESSED_DATA, WireType::LengthDelimited, rest);
        encode_varint(self.bytes.len() as u64, rest);
        bytes::BufMut::put_slice(rest, self.bytes);
        self.about.encode_raw(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_put_into_a_message_that_has_everything_else() {
        let original_image = Some(ImageData { width: 2, height: 1, ..ImageData::default() });
        let frame_id = "frame".to_owned();
        let mut message = ProcessedFrame { frame_id, original_image, ..ProcessedFrame::default() };
        let pool = Pool::new(1 << 20);
        let read = whole(&message.encode_to_vec(), &[1; 6], &pool).unwrap();
        message.original_image.as_mut().unwrap().compressed_data = vec![1; 6];
        assert_eq!(ProcessedFrame::decode(&read[..]).unwrap(), message);
        assert!(whole(b"{", &[1], &pool).is_none());
        assert!(whole(b"", &[1], &pool).is_none(), "no picture is announced");
    }

    #[test]
    fn prost_reads_what_was_composed() {
        let mut composer = Composer::default();
        composer.message.frame_id = "frame".into();
        composer.message.validation_passed = true;
        composer.original.width = 640;
        composer.original.compression_format = "jpeg".into();
        composer.thumbnail.width = 128;
        let pool = Pool::new(1 << 20);
        let draft = composer.draft(&[7; 1000], None, Some(&[1, 2, 3]), 0, &pool);
        composer.message.version = "9".repeat(2000);
        let lease = composer.finish(draft, &pool);

        let read = ProcessedFrame::decode(&lease[..]).unwrap();
        let original = read.original_image.unwrap();
        assert_eq!(original.compressed_data, vec![7; 1000]);
        assert_eq!((original.width, original.compression_format.as_str()), (640, "jpeg"));
        assert_eq!(read.thumbnail.unwrap().compressed_data, vec![1, 2, 3]);
        assert!(read.processed_image.is_none() && read.validation_passed);
        assert_eq!(read.version.len(), 2000, "growing beyond the room is only slower");
    }
}
