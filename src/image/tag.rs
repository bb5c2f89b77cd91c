//! Inserts an EXIF orientation into files that were encoded without one.

use super::exif;
use super::format::Format;
use super::orient::Orientation;

/// Offset, in bytes, where application data is inserted into a JPEG of libjpeg-turbo: after the
/// start marker and the JFIF segment.
const JPEG_HEAD: usize = 20;
/// Bytes of the signature and the header chunk of a PNG.
const PNG_HEAD: usize = 33;
/// Bytes of the head of a RIFF file.
const RIFF_HEAD: usize = 12;

/// Inserts an orientation into a file written by an [`Encoder`](super::Encoder), of a picture of
/// `size` pixels. Raw pixels have no place for it. Upright pictures are left unchanged.
pub fn tag(file: &mut Vec<u8>, format: Format, size: (usize, usize), orientation: Orientation) {
    if orientation.is_upright() {
        return;
    }
    match format {
        Format::Jpeg if file.len() > JPEG_HEAD && file.get(2..4) == Some(&[0xff, 0xe0]) => {
            let body = exif::segment(orientation);
            let head = [0xff, 0xe1, 0, 2 + body.len() as u8];
            file.splice(JPEG_HEAD..JPEG_HEAD, head.into_iter().chain(body));
        }
        Format::Png if file.len() > PNG_HEAD => {
            let tiff = exif::tiff(orientation);
            let mut chunk = [0; 38];
            chunk[3] = tiff.len() as u8;
            chunk[4..8].copy_from_slice(b"eXIf");
            chunk[8..34].copy_from_slice(&tiff);
            let sum = crc32(&chunk[4..34]);
            chunk[34..].copy_from_slice(&sum.to_be_bytes());
            file.splice(PNG_HEAD..PNG_HEAD, chunk);
        }
        Format::Webp if file.len() > RIFF_HEAD => webp(file, size, orientation),
        _ => {}
    }
}

/// Converts a simple WebP file to an extended one (VP8X).
fn webp(file: &mut Vec<u8>, (width, height): (usize, usize), orientation: Orientation) {
    const HAS_EXIF: u8 = 8;
    let side = |side: usize| (side.saturating_sub(1) as u32).to_le_bytes();
    let ([w0, w1, w2, _], [h0, h1, h2, _]) = (side(width), side(height));
    let mut extended = *b"VP8X\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0";
    extended[8] = HAS_EXIF;
    extended[12..].copy_from_slice(&[w0, w1, w2, h0, h1, h2]);
    file.splice(RIFF_HEAD..RIFF_HEAD, extended);
    let tiff = exif::tiff(orientation);
    file.extend_from_slice(b"EXIF");
    file.extend((tiff.len() as u32).to_le_bytes());
    file.extend(tiff);
    let len = (file.len() - 8) as u32;
    file[4..8].copy_from_slice(&len.to_le_bytes());
}

/// CRC-32 of a PNG chunk (PNG specification, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}
