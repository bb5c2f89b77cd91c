//! Types that this module shares with its callers: formats, sources, bounds, headers.

use super::layout::{Extent, PixelLayout, RawLayout};
use super::markers;
use crate::base::error::Reject;
use crate::frame::FileKind;

/// File format of a picture. The names are part of the wire contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG, ITU-T T.81.
    Jpeg,
    /// PNG, lossless.
    Png,
    /// WebP; written with loss, read with or without loss.
    Webp,
    /// Pixels of 8 bits, in the layout of [`RawLayout`].
    Raw,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Format::Jpeg, Format::Png, Format::Webp, Format::Raw];

    /// The name in `ImageData.compression_format`.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Jpeg => "jpeg",
            Format::Png => "png",
            Format::Webp => "webp",
            Format::Raw => "raw",
        }
    }

    /// The usual file extension, without a dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Format::Jpeg => "jpg",
            other => other.name(),
        }
    }

    /// The format of a name, ignoring case; `jpg` means `jpeg`.
    pub fn from_name(name: &str) -> Option<Format> {
        let by_name = |format: &Format| {
            name.eq_ignore_ascii_case(format.name())
                || name.eq_ignore_ascii_case(format.extension())
        };
        Format::ALL.into_iter().find(by_name)
    }

    /// The format whose magic bytes these are; never [`Format::Raw`], which has none.
    pub fn sniff(bytes: &[u8]) -> Option<Format> {
        match FileKind::of(bytes)? {
            FileKind::Jpeg => Some(Format::Jpeg),
            FileKind::Png => Some(Format::Png),
            FileKind::Webp => Some(Format::Webp),
            FileKind::Gzip | FileKind::Other(_) => None,
        }
    }

    /// As [`Format::sniff`], but also recognises a JPEG preceded by the head of a multipart part.
    pub fn find(bytes: &[u8]) -> Option<Format> {
        let behind_lead = || {
            let is_unknown = FileKind::of(bytes)
                .is_none_or(|kind| matches!(kind, FileKind::Other("HTTP answer")));
            (is_unknown && markers::from_start(bytes).is_some()).then_some(Format::Jpeg)
        };
        Format::sniff(bytes).or_else(behind_lead)
    }
}

/// A picture to send or to decode: a file, as [`InputImage::file`] takes it, or raw pixels.
#[derive(Clone, Copy, Debug)]
pub struct InputImage<'a> {
    /// Format of `bytes`.
    pub format: Format,
    /// Pixels in a row. Width, height and channels define a [`Format::Raw`] picture and are ignored for
    /// the other formats, whose bytes say them.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Channels: 3 for RGB, 1 for gray. Ignored if `layout` names a pixel layout.
    pub channels: u32,
    /// Memory layout of a [`Format::Raw`] picture.
    pub layout: RawLayout,
    /// The file, or the pixels.
    pub bytes: &'a [u8],
}

impl<'a> InputImage<'a> {
    /// A file that describes its own size and channels.
    pub fn file(format: Format, bytes: &'a [u8]) -> InputImage<'a> {
        let layout = RawLayout::default();
        InputImage { format, width: 0, height: 0, channels: 0, layout, bytes }
    }

    /// Whether the number of bytes matches the size and layout of a raw picture. Producers do not check
    /// this; the engine makes a dead letter of a picture that does not fit.
    pub fn fits(&self) -> bool {
        let size = (self.width as usize, self.height as usize);
        let channels = self.layout.pixels.map_or(self.channels, PixelLayout::channels);
        size.0 > 0
            && size.1 > 0
            && matches!(channels, 1 | 3)
            && Extent::new(&self.layout, channels, size, self.bytes.len()).is_ok()
    }
}

/// Limits of a decoder.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Maximum number of pixels (width x height) of a picture.
    pub pixels_max: u64,
}

/// Properties of a picture that are known without decoding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format.
    pub format: Format,
    /// Pixels in a row, as stored.
    pub width: u32,
    /// Rows, as stored.
    pub height: u32,
    /// Channels after decoding: 3 for colour, 1 for gray.
    pub channels: u32,
}

impl Header {
    /// Checks a size against the bounds.
    pub(super) fn bounded(self, bounds: &Bounds) -> Result<Self, Reject> {
        let Header { width, height, .. } = self;
        if width == 0 || height == 0 {
            return Err(Reject::undecodable(format!(
                "{} picture of {width}x{height} pixels",
                self.format.name()
            )));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > bounds.pixels_max {
            return Err(Reject::too_large(format!(
                "{width}x{height} is {pixels} pixels, the limit is {}",
                bounds.pixels_max
            )));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for format in Format::ALL {
            assert_eq!(Format::from_name(format.name()), Some(format));
            assert_eq!(Format::from_name(&format.extension().to_uppercase()), Some(format));
        }
        assert_eq!(Format::from_name("gif"), None);
    }

    #[test]
    fn magic_bytes_decide() {
        assert_eq!(Format::sniff(&[0xff, 0xd8, 0xff, 0xe0]), Some(Format::Jpeg));
        assert_eq!(Format::sniff(b"\x89PNG\r\n\x1a\n..."), Some(Format::Png));
        assert_eq!(Format::sniff(b"RIFF1234WEBPVP8 "), Some(Format::Webp));
        assert_eq!(Format::sniff(b"RIFF1234WAVE"), None);
        assert_eq!(Format::sniff(b""), None);
    }
}
