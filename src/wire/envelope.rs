//! The envelope of a frame, and its form in protobuf, read without copying the picture.

use std::borrow::Cow;

use super::cursor::{Fields, Malformed};
use crate::base::{Reject, limits};

/// A picture as described by its envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ImageRef<'a> {
    /// `jpeg`, `png`, `webp`, `raw` or a pixel layout, as the producer wrote it; empty if not
    /// given.
    pub format: &'a str,
    /// Claimed pixels in a row.
    pub width: i32,
    /// Claimed rows.
    pub height: i32,
    /// Claimed channels.
    pub channels: i32,
    /// Bytes from one row of the first plane to the next; 0 for no padding.
    pub row_stride: i32,
    /// `limited` or `full`; empty for the default of the layout.
    pub color_range: &'a str,
    /// `bt601` or `bt709`; empty for `bt601`.
    pub color_matrix: &'a str,
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
    /// Whether a capture time was given that cannot be parsed.
    pub is_time_unclear: bool,
    /// Version set by the producer; empty if none.
    pub version: &'a str,
    /// The picture.
    pub image: ImageRef<'a>,
}

pub(super) fn not_a_frame(what: Malformed) -> Reject {
    Reject::undecodable(format!("not a ProcessedFrame: {what}"))
}

impl Envelope<'_> {
    /// Refuses ids that are too long.
    pub(super) fn bounded(self) -> Result<Self, Reject> {
        for (name, id) in [("frame_id", &self.frame_id), ("camera_id", &self.camera_id)] {
            if id.len() > limits::ID_BYTES_MAX {
                let (len, max) = (id.len(), limits::ID_BYTES_MAX);
                return Err(Reject::undecodable(format!(
                    "{name} has {len} bytes, more than {max}"
                )));
            }
        }
        Ok(self)
    }
}

pub(super) fn protobuf(data: &[u8]) -> Result<Envelope<'_>, Malformed> {
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

/// Merges an `ImageData` into `image`, as protobuf does with a message that occurs twice.
fn image<'a>(bytes: &'a [u8], image: &mut ImageRef<'a>) -> Result<(), Malformed> {
    let mut fields = Fields::new(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => image.bytes = value.bytes()?,
            2 => image.width = value.int32()?,
            3 => image.height = value.int32()?,
            4 => image.channels = value.int32()?,
            5 => image.format = value.text()?,
            20 => image.row_stride = value.int32()?,
            21 => image.color_range = value.text()?,
            22 => image.color_matrix = value.text()?,
            _ => {}
        }
    }
    Ok(())
}
