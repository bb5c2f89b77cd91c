//! Reads a picture's header and decides whether the picture can be decoded.

use super::format::{Bounds, Format, Header, InputImage};
use super::layout::{Extent, PixelLayout};
use super::{markers, png, webp};
use crate::base::error::Reject;

/// The largest width or height that libjpeg-turbo handles, for files and for conversions.
pub(super) const JPEG_SIDE_MAX: usize = 65_500;

/// Reads only the header and checks it against the format's own limits, then against `bounds`.
/// Allocates nothing for the picture.
///
/// # Errors
/// `undecodable` if the bytes are not of the claimed format; `unsupported_image` for CMYK,
/// lossless and 12-bit JPEG, for animated WebP, and for raw pictures whose size, channels and
/// number of bytes do not agree; `too_large` above `bounds`.
pub fn probe(source: &InputImage<'_>, bounds: &Bounds) -> Result<Header, Reject> {
    let bytes = source.bytes;
    let of = |width, height, channels| Header { format: source.format, width, height, channels };
    match source.format {
        Format::Jpeg => jpeg_header(bytes)?.2.bounded(bounds),
        Format::Png => {
            let head = png::head(bytes).map_err(Reject::undecodable)?;
            of(head.width, head.height, head.channels).bounded(bounds)
        }
        Format::Webp => {
            let features = webp::features(bytes).map_err(Reject::undecodable)?;
            if features.animated {
                return Err(Reject::unsupported("animated WebP"));
            }
            of(features.width, features.height, 3).bounded(bounds)
        }
        Format::Raw => {
            let InputImage { width, height, channels, layout, .. } = *source;
            let channels = layout.pixels.map_or(channels, PixelLayout::channels);
            if width == 0 || height == 0 || !matches!(channels, 1 | 3) {
                return Err(Reject::unsupported(format!(
                    "raw picture of {width}x{height} pixels and {channels} channels; channels \
                     must be 3 (RGB) or 1 (gray)"
                )));
            }
            let header = of(width, height, channels).bounded(bounds)?;
            let size = (width as usize, height as usize);
            Extent::new(&layout, channels, size, bytes.len()).map_err(Reject::unsupported)?;
            Ok(header)
        }
    }
}

/// Checks that a JPEG can be decoded. Returns the file from its start marker on, and its header in
/// both forms.
pub(super) fn jpeg_header(bytes: &[u8]) -> Result<(&[u8], markers::JpegFrame, Header), Reject> {
    let bytes = markers::from_start(bytes).unwrap_or(bytes);
    let frame = markers::read(bytes).map_err(Reject::undecodable)?;
    if !frame.is_lossy() {
        return Err(Reject::unsupported("lossless or hierarchical JPEG"));
    }
    if frame.precision != 8 {
        return Err(Reject::unsupported(format!("JPEG of {} bits a sample", frame.precision)));
    }
    if !matches!(frame.components, 1 | 3) {
        return Err(Reject::unsupported(format!(
            "JPEG of {} components (CMYK or YCCK?); 1 and 3 are handled",
            frame.components
        )));
    }
    if usize::from(frame.width.max(frame.height)) > JPEG_SIDE_MAX {
        return Err(Reject::unsupported("JPEG of more than 65500 pixels a side"));
    }
    if frame.quantisation[0].is_none() {
        return Err(Reject::undecodable("JPEG without quantisation tables"));
    }
    let header = Header {
        format: Format::Jpeg,
        width: frame.width.into(),
        height: frame.height.into(),
        channels: frame.components.into(),
    };
    Ok((bytes, frame, header))
}
