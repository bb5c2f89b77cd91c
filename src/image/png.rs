//! PNG, through the `png` crate.
//!
//! The crate allocates for each picture: use PNG for lossless output, not for speed. Alpha is
//! dropped and the colours stored under it are kept. Sixteen-bit samples lose their low byte. An
//! animation gives its default picture.

use std::io::Cursor;

use png::{BitDepth, ColorType, Compression, Transformations};

use super::samples::stretch;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Contents of a PNG header.
#[derive(Clone, Copy, Debug)]
pub(super) struct PngHead {
    pub width: u32,
    pub height: u32,
    /// 1 for gray, 3 for colour and palette.
    pub channels: u32,
}

/// Reads the first chunk (PNG specification, 11.2.1). The error is a message for the user.
pub(super) fn head(bytes: &[u8]) -> Result<PngHead, &'static str> {
    let rest = bytes.strip_prefix(SIGNATURE).ok_or("not a PNG file: no signature")?;
    let rest = rest.strip_prefix(b"\0\0\0\x0dIHDR").ok_or("PNG without a header chunk")?;
    let &[w3, w2, w1, w0, h3, h2, h1, h0, _, colour, ..] = rest else {
        return Err("PNG ends within its header");
    };
    let channels = match colour {
        0 | 4 => 1,
        2 | 3 | 6 => 3,
        _ => return Err("PNG of an unknown colour type"),
    };
    let width = u32::from_be_bytes([w3, w2, w1, w0]);
    let height = u32::from_be_bytes([h3, h2, h1, h0]);
    Ok(PngHead { width, height, channels })
}

/// Decodes to 8-bit gray or RGB, which must fill `out` exactly. `scratch` is used for files with
/// alpha. The file is read to its end, so that truncation is detected. The error is a message for
/// the user.
pub(super) fn decode(
    bytes: &[u8],
    head: PngHead,
    scratch: &mut Vec<u8>,
    out: &mut [u8],
) -> Result<(), String> {
    let text = |error: png::DecodingError| error.to_string();
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(text)?;
    let (colour, depth) = reader.output_color_type();
    let pixels = head.width as usize * head.height as usize;
    let same = (reader.info().width, reader.info().height) == (head.width, head.height);
    if !same || depth != BitDepth::Eight || pixels * head.channels as usize != out.len() {
        return Err("PNG header contradicts itself".to_owned());
    }
    match (colour, head.channels) {
        (ColorType::Grayscale, 1) | (ColorType::Rgb, 3) => {
            reader.next_frame(out).map_err(text)?;
        }
        (ColorType::GrayscaleAlpha, 1) => {
            let scratch = stretch(scratch, 2 * pixels);
            reader.next_frame(scratch).map_err(text)?;
            for (out, pixel) in out.iter_mut().zip(scratch.chunks_exact(2)) {
                *out = pixel[0];
            }
        }
        (ColorType::Rgba, 3) => {
            let scratch = stretch(scratch, 4 * pixels);
            reader.next_frame(scratch).map_err(text)?;
            for (out, pixel) in out.chunks_exact_mut(3).zip(scratch.chunks_exact(4)) {
                out.copy_from_slice(&pixel[..3]);
            }
        }
        _ => return Err("PNG header contradicts itself".to_owned()),
    }
    reader.finish().map_err(text)
}

/// How hard a PNG is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PngLevel {
    /// Fast and large.
    #[default]
    Fast,
    /// The level that most programs use.
    Balanced,
    /// Slow and small.
    High,
}

impl PngLevel {
    /// The level as an effort from 0 to 2.
    pub fn effort(self) -> u8 {
        self as u8
    }

    /// The level for an effort from 0 to 2; larger values give [`PngLevel::High`].
    pub fn of_effort(effort: u8) -> PngLevel {
        match effort {
            0 => PngLevel::Fast,
            1 => PngLevel::Balanced,
            _ => PngLevel::High,
        }
    }
}

/// Encodes interleaved RGB or gray into `out`, which must be empty. The error is a message for the
/// user.
pub(super) fn encode(
    pixels: &[u8],
    (width, height): (usize, usize),
    gray: bool,
    level: PngLevel,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let text = |error: png::EncodingError| error.to_string();
    let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err("picture size out of range".to_owned());
    };
    let mut encoder = png::Encoder::new(out, width, height);
    encoder.set_color(if gray { ColorType::Grayscale } else { ColorType::Rgb });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(match level {
        PngLevel::Fast => Compression::Fast,
        PngLevel::Balanced => Compression::Balanced,
        PngLevel::High => Compression::High,
    });
    let mut writer = encoder.write_header().map_err(text)?;
    writer.write_image_data(pixels).map_err(text)?;
    writer.finish().map_err(text)
}
