//! What comes with a frame beside its pixels: names, times, and what the picture is.

use std::fmt::Write;

use super::work::Work;
use crate::base::{Reason, Reject, Stage};
use crate::frame::{Entry, Receipt};
use crate::image::{Format, Source};
use crate::wire::proto::ProcessingStage;
use crate::wire::{Envelope, ImageRef};

/// The frame itself.
pub(super) fn data_of(entry: &Entry) -> Result<&[u8], Reject> {
    if let Some(len) = entry.oversized {
        return Err(Reject::new(
            Reason::TooLarge,
            Stage::Read,
            format!("data has {len} bytes, more than limits.max_payload_bytes"),
        ));
    }
    entry
        .data()
        .ok_or_else(|| Reject::new(Reason::Undecodable, Stage::Read, "the entry has no field data"))
}

/// The message's fields that come with the frame; fields beside `data` stand in for missing ones.
pub(super) fn fill(work: &mut Work, envelope: &Envelope<'_>, entry: &Entry, receipt: &Receipt) {
    let message = &mut work.composer.message;
    let or_beside = |own: &str, name: &str, into: &mut String| {
        into.clear();
        into.push_str(if own.is_empty() { entry.side_text(name).unwrap_or_default() } else { own });
    };
    or_beside(&envelope.frame_id, "frame_id", &mut message.frame_id);
    or_beside(&envelope.camera_id, "camera_id", &mut message.camera_id);
    let beside = || entry.side_text("timestamp").and_then(|text| text.parse().ok());
    message.timestamp = envelope.timestamp.or_else(beside).unwrap_or_default();
    message.version.clear();
    message.version.push_str(if envelope.version.is_empty() { "1.0" } else { envelope.version });
    message.source_hash.clear();
    let hash = entry.hash_of(envelope.image.bytes);
    // Writing to a string cannot fail.
    let _ = write!(message.source_hash, "{hash:016x}");
    message.received_timestamp = receipt.read_unix_seconds();
    message.processing_stage = ProcessingStage::Output.into();
    message.validation_passed = true;
    work.draft = None;
}

/// The trace a frame belongs to; known before anything else, so that a refusal names it as well.
pub(super) fn trace(work: &mut Work, entry: Option<&Entry>) {
    work.traceparent.clear();
    let given = entry.and_then(|entry| entry.side_text("traceparent"));
    work.traceparent.push_str(given.unwrap_or_default());
}

/// What the picture is: the bytes know better than the name they were given.
pub(super) fn source_of<'a>(image: &ImageRef<'a>) -> Result<Source<'a>, Reject> {
    let named = Format::from_name(image.format);
    let format = match named {
        Some(Format::Raw) => Format::Raw,
        _ => match (Format::sniff(image.bytes), named) {
            (Some(format), _) | (None, Some(format)) => format,
            (None, None) if image.format.is_empty() => {
                return Err(Reject::undecodable("the picture is no JPEG, PNG or WebP file"));
            }
            (None, None) => {
                let name: String = image.format.chars().take(40).collect();
                return Err(Reject::unsupported(format!("unknown image format {name:?}")));
            }
        },
    };
    let side = |value: i32, name: &str| {
        u32::try_from(value).map_err(|_| Reject::unsupported(format!("{name} is {value}")))
    };
    let (width, height, channels) = if format == Format::Raw {
        (
            side(image.width, "width")?,
            side(image.height, "height")?,
            side(image.channels, "channels")?,
        )
    } else {
        (0, 0, 0)
    };
    Ok(Source { format, width, height, channels, bytes: image.bytes })
}
