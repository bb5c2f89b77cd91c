//! One type for each hop of a frame; each consumes the one before.

use std::fmt::Write;

use smallvec::SmallVec;

use super::entry::Span;
use super::{Entry, EntryId, Lease, Receipt};
use crate::base::{Reject, Stage};

/// From the reader to the workers.
#[derive(Debug)]
pub struct RawFrame {
    /// The obligation to answer for it.
    pub receipt: Receipt,
    /// What was read of it.
    pub body: Body,
    /// The index of its input stream.
    pub shard: usize,
}

/// What was read of an entry.
#[derive(Debug)]
pub enum Body {
    /// Everything.
    Whole(Entry),
    /// The first bytes of `data`, because it was too old to be read.
    Stale(Entry),
    /// Nothing, because it had been trimmed from the stream.
    Trimmed,
}

impl Body {
    /// The fields that are there.
    pub fn fields(&self) -> Option<&Entry> {
        match self {
            Body::Whole(entry) | Body::Stale(entry) => Some(entry),
            Body::Trimmed => None,
        }
    }
}

/// From the workers to the committer.
#[derive(Debug)]
pub struct Finished {
    /// The obligation to answer for it.
    pub receipt: Receipt,
    /// The index of its input stream.
    pub shard: usize,
    /// The same for all frames of a camera whose order is kept; `None` without order.
    pub camera: Option<u64>,
    /// How the committer is to end it.
    pub verdict: Verdict,
}

/// A finished frame in the lane to its committer. The lane has room for every slot `S`; the slot is
/// held until the committer has taken the frame on.
#[derive(Debug)]
pub struct Handed<S> {
    /// The frame.
    pub finished: Finished,
    /// Its slot.
    pub slot: S,
}

/// What the committer is to do.
#[derive(Debug)]
pub enum Verdict {
    /// Store the results in order, and acknowledge. A batch has several results.
    Store(Results),
    /// Store a dead letter and acknowledge.
    DeadLetter(Refused),
    /// Acknowledge only.
    Discard(Discard),
}

impl From<Reject> for Verdict {
    fn from(reject: Reject) -> Verdict {
        Verdict::DeadLetter(Refused { reject, whole: None })
    }
}

/// The contents of a dead letter.
#[derive(Debug)]
pub struct Refused {
    /// The reason.
    pub reject: Reject,
    /// The `ProcessedFrame` with its pixels, if these lie in a frame ring. It replaces `data` and
    /// the reference, so that the dead letter can be replayed later.
    pub whole: Option<Lease>,
}

/// Why a frame is acknowledged without output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Older than `max_frame_age_ms` at that stage.
    Shed(Stage),
    /// Below the quality threshold, and configured to be dropped.
    BelowThreshold,
    /// Its body was trimmed from the stream.
    LostToTrim,
    /// Its slot in a frame ring already holds another frame.
    Overwritten,
    /// This process has ended it before.
    Repeated,
}

/// The results of one entry.
pub type Results = SmallVec<[Stored; 1]>;

/// A result ready to be stored.
#[derive(Debug)]
pub struct Stored {
    /// The encoded `ProcessedFrame`.
    pub payload: Lease,
    /// The fields beside it.
    pub labels: Labels,
}

/// The fields beside `data` in the output entry, in one buffer.
#[derive(Debug)]
pub struct Labels {
    text: Lease,
    frame_id: Span,
    camera_id: Span,
    timestamp: Span,
    source_id: Span,
    traceparent: Span,
}

impl Labels {
    /// Most bytes that labels of these texts need.
    pub fn room(frame_id: &str, camera_id: &str, traceparent: &str) -> usize {
        // A timestamp prints in at most 330 bytes (the largest double), an entry id in 41.
        frame_id.len() + camera_id.len() + traceparent.len() + 330 + 41
    }

    /// Writes the labels into `text`, which must have [`Labels::room`].
    pub fn write(
        text: Lease,
        frame_id: &str,
        camera_id: &str,
        timestamp: f64,
        source_id: EntryId,
        traceparent: &str,
    ) -> Labels {
        let mut cursor = Cursor { text, at: 0 };
        let frame_id = cursor.put(format_args!("{frame_id}"));
        let camera_id = cursor.put(format_args!("{camera_id}"));
        let timestamp = cursor.put(format_args!("{timestamp}"));
        let source_id = cursor.put(format_args!("{source_id}"));
        let traceparent = cursor.put(format_args!("{traceparent}"));
        Labels { text: cursor.text, frame_id, camera_id, timestamp, source_id, traceparent }
    }

    /// Name and value of each field; `traceparent` only if there is one.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let traceparent = (!self.traceparent.is_empty()).then_some(&self.traceparent);
        [
            ("frame_id", Some(&self.frame_id)),
            ("camera_id", Some(&self.camera_id)),
            ("timestamp", Some(&self.timestamp)),
            ("source_id", Some(&self.source_id)),
            ("traceparent", traceparent),
        ]
        .into_iter()
        .filter_map(|(name, span)| {
            span.map(|span| (name, &self.text[span.start as usize..span.end as usize]))
        })
    }
}

struct Cursor {
    text: Lease,
    at: usize,
}

impl Cursor {
    fn put(&mut self, text: std::fmt::Arguments<'_>) -> Span {
        let start = self.at;
        // Too little room would only shorten a label, and `Labels::room` prevents that.
        let _ = self.write_fmt(text);
        u32::try_from(start).unwrap_or(u32::MAX)..u32::try_from(self.at).unwrap_or(u32::MAX)
    }
}

impl Write for Cursor {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.text.get_mut(self.at..self.at + text.len()).ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.at += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Pool;

    #[test]
    fn labels_fit_the_room_they_ask_for() {
        let pool = Pool::new(1 << 20);
        let room = Labels::room("frame", "camera", "");
        let id = EntryId { millis: u64::MAX, sequence: u64::MAX };
        let labels = Labels::write(pool.lease_now(room), "frame", "camera", f64::MAX, id, "");
        let fields: Vec<_> = labels.fields().collect();
        assert_eq!(fields.len(), 4, "no traceparent came in, so none goes out");
        assert_eq!(fields[0], ("frame_id", &b"frame"[..]));
        assert_eq!(std::str::from_utf8(fields[2].1).unwrap().parse::<f64>().unwrap(), f64::MAX);
        assert_eq!(fields[3].1, id.to_string().as_bytes());
    }
}
