//! A `ProcessedFrameBatch`: several frames in one entry.

use super::cursor::Fields;
use super::envelope::{Envelope, not_a_frame, protobuf};
use crate::base::{Reason, Reject, Stage, limits};

/// The frames of a batch, each opened when the iterator reaches it.
#[derive(Clone, Debug)]
pub struct FrameBatch<'a> {
    fields: Fields<'a>,
    len: usize,
    taken: usize,
}

impl<'a> FrameBatch<'a> {
    /// `None` if `data` is not a batch: one of its fields has another type than in a batch, or none
    /// of its frames can be read.
    pub(super) fn of(data: &'a [u8]) -> Option<FrameBatch<'a>> {
        let (mut len, mut has_frame) = (0, false);
        let mut fields = Fields::new(data);
        while let Some((number, value)) = fields.next().ok()? {
            match number {
                1 => {
                    let frame = value.bytes().ok()?;
                    has_frame = has_frame || protobuf(frame).is_ok();
                    len += 1;
                }
                2 => drop(value.bytes().ok()?),
                3 => drop(value.double().ok()?),
                4 => drop(value.int32().ok()?),
                _ => {}
            }
        }
        has_frame.then(|| FrameBatch { fields: Fields::new(data), len, taken: 0 })
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always false: data without frames is not a batch.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds to a refusal which frame of the batch it concerns.
    pub fn blame(&self, reject: Reject) -> Reject {
        let detail =
            format!("frame {} of {} in the batch: {}", self.taken, self.len, reject.detail);
        Reject { detail: detail.into(), ..reject }
    }

    /// Refuses a batch with more than [`limits::BATCH_FRAMES_MAX`] frames.
    pub(super) fn bounded(self) -> Result<FrameBatch<'a>, Reject> {
        let (len, most) = (self.len, limits::BATCH_FRAMES_MAX);
        if len <= most {
            return Ok(self);
        }
        Err(Reject::new(
            Reason::TooLarge,
            Stage::Decode,
            format!("data is a ProcessedFrameBatch of {len} frames, more than {most}"),
        ))
    }

    /// The bytes of the first frame.
    pub(super) fn first(mut self) -> Option<&'a [u8]> {
        self.next_bytes()
    }

    fn next_bytes(&mut self) -> Option<&'a [u8]> {
        while let Some((number, value)) = self.fields.next().ok()? {
            if number == 1 {
                self.taken += 1;
                return value.bytes().ok();
            }
        }
        None
    }
}

impl<'a> Iterator for FrameBatch<'a> {
    type Item = Result<Envelope<'a>, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        let frame = self.next_bytes()?;
        Some(protobuf(frame).map_err(not_a_frame).and_then(Envelope::bounded))
    }
}
