//! The fields of a frame except its pixels: names, times, and the format of the picture.

use std::fmt::Write;

use super::work::Work;
use crate::base::{Reason, Reject, Stage};
use crate::frame::{Entry, FileKind, Receipt};
use crate::image::{Format, InputImage, Matrix, PixelLayout, Range, RawLayout};
use crate::wire::proto::ProcessingStage;
use crate::wire::{self, Envelope, ImageRef};

/// The field `data` of the entry.
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

/// Fills in the pixels that lie in a frame ring.
pub(super) fn fetch_pixels<'a>(
    envelope: &mut Envelope<'a>,
    entry: &'a Entry,
) -> Result<(), Reject> {
    let Some(pixels) = entry.ring_pixels() else { return Ok(()) };
    if !envelope.image.bytes.is_empty() {
        return Err(Reject::undecodable("there are pixels in data and in a frame ring"));
    }
    envelope.image.bytes = pixels;
    Ok(())
}

/// The camera of a frame: from the envelope, or from the field beside `data`.
pub(super) fn camera_id<'a>(envelope: &'a Envelope<'_>, entry: &'a Entry) -> &'a str {
    match &*envelope.camera_id {
        "" => entry.side_text("camera_id").unwrap_or_default(),
        own => own,
    }
}

/// Fills in the message fields that come with the frame. Fields beside `data` replace missing ones.
/// Returns false if a capture time could not be parsed.
pub(super) fn fill(
    work: &mut Work,
    envelope: &Envelope<'_>,
    entry: &Entry,
    receipt: &Receipt,
) -> bool {
    let message = &mut work.composer.message;
    let or_beside = |own: &str, name: &str, into: &mut String| {
        into.clear();
        into.push_str(if own.is_empty() { entry.side_text(name).unwrap_or_default() } else { own });
    };
    or_beside(&envelope.frame_id, "frame_id", &mut message.frame_id);
    or_beside(&envelope.camera_id, "camera_id", &mut message.camera_id);
    let beside = entry.side_text("timestamp").filter(|_| envelope.timestamp.is_none());
    let beside_seconds = beside.map(wire::seconds);
    let given = envelope.timestamp.or(beside_seconds.flatten());
    let is_understood = given.is_some() || !envelope.is_time_unclear && beside_seconds.is_none();
    #[allow(clippy::cast_precision_loss)] // milliseconds far below 2^53
    let entry_seconds = receipt.id().millis as f64 / 1000.0;
    message.timestamp = given.unwrap_or(if is_understood { 0.0 } else { entry_seconds });
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
    work.is_damaged = false;
    is_understood
}

/// Sets the trace of a frame. This happens first, so that a refusal carries it as well.
pub(super) fn trace(work: &mut Work, entry: Option<&Entry>) {
    work.traceparent.clear();
    let given = entry.and_then(|entry| entry.side_text("traceparent"));
    work.traceparent.push_str(given.unwrap_or_default());
}

/// The format of the picture. Its bytes override the declared name.
pub(super) fn source_of<'a>(image: &ImageRef<'a>) -> Result<InputImage<'a>, Reject> {
    let name = image.format;
    let pixels = PixelLayout::from_name(name);
    let named = Format::from_name(name);
    if pixels.is_some() || named == Some(Format::Raw) {
        return raw(image, pixels);
    }
    let coded = |format| InputImage::file(format, image.bytes);
    if let Some(format) = Format::find(image.bytes) {
        return Ok(coded(format));
    }
    if !name.is_empty() && named.is_none() {
        let name: String = name.chars().take(40).collect();
        return Err(Reject::unsupported(format!("unknown image format {name:?}")));
    }
    let claimed = named.map_or("JPEG, PNG or WebP", Format::name);
    match FileKind::of(image.bytes) {
        Some(FileKind::Gzip) => {
            Err(Reject::unsupported(format!("the picture is not {claimed} (found: gzip)")))
        }
        Some(FileKind::Other(kind)) => {
            Err(Reject::unsupported(format!("the picture is not {claimed} (found: {kind})")))
        }
        _ if is_raw_rgb(image) => Err(Reject::undecodable(format!(
            "the picture is not a {claimed} file; its length is that of {}x{}x{} raw pixels, whose \
             compression_format is raw",
            image.width, image.height, image.channels
        ))),
        _ => match named {
            // The decoder reports what is wrong with it.
            Some(format) => Ok(coded(format)),
            None => Err(Reject::undecodable("the picture is not a JPEG, PNG or WebP file")),
        },
    }
}

fn is_raw_rgb(image: &ImageRef<'_>) -> bool {
    let sides = [image.width, image.height, image.channels].map(i64::from);
    let [width, height, channels] = sides;
    matches!(channels, 1 | 3)
        && width.checked_mul(height).and_then(|n| n.checked_mul(channels))
            == i64::try_from(image.bytes.len()).ok()
}

/// Raw pixels. If the length does not fit and the first bytes are those of an image file, it is
/// decoded as that file.
fn raw<'a>(image: &ImageRef<'a>, pixels: Option<PixelLayout>) -> Result<InputImage<'a>, Reject> {
    let side = |value: i32, name: &str| {
        u32::try_from(value).map_err(|_| Reject::unsupported(format!("{name} is {value}")))
    };
    let layout = RawLayout {
        pixels,
        row_stride: side(image.row_stride, "row_stride")?,
        range: match image.color_range {
            "" => None,
            name => Some(Range::from_name(name).ok_or_else(|| unknown("color_range", name))?),
        },
        matrix: match image.color_matrix {
            "" => Matrix::default(),
            name => Matrix::from_name(name).ok_or_else(|| unknown("color_matrix", name))?,
        },
    };
    let sized = |channels| -> Result<InputImage<'a>, Reject> {
        Ok(InputImage {
            format: Format::Raw,
            width: side(image.width, "width")?,
            height: side(image.height, "height")?,
            channels,
            layout,
            bytes: image.bytes,
        })
    };
    let claimed = side(image.channels, "channels").and_then(sized);
    if claimed.as_ref().is_ok_and(InputImage::fits) {
        return claimed;
    }
    if let Some(format) = Format::sniff(image.bytes) {
        return Ok(InputImage::file(format, image.bytes));
    }
    // Some producers leave `channels` at 0; the length tells it.
    if image.channels == 0 && pixels.is_none() {
        for channels in [1, 3] {
            let source = sized(channels)?;
            if source.fits() {
                return Ok(source);
            }
        }
    }
    claimed
}

fn unknown(field: &str, name: &str) -> Reject {
    let name: String = name.chars().take(40).collect();
    Reject::unsupported(format!("unknown {field} {name:?}"))
}
