//! Reads a JPEG header up to the first scan, without libjpeg-turbo.
//!
//! Limits must be checked before anything is allocated or passed to C. The quality of a file is in
//! its quantisation tables, which the library does not expose. Format: ITU-T T.81, annex B.

use super::exif;
use super::orient::Orientation;

/// Components whose tables are read: those of a colour picture.
pub(super) const COMPONENTS: usize = 3;

/// Contents of a JPEG header.
#[derive(Clone, Copy, Debug)]
pub(super) struct JpegFrame {
    pub width: u16,
    pub height: u16,
    /// Bits per sample.
    pub precision: u8,
    /// 1 gray, 3 colour, 4 print colours.
    pub components: u8,
    /// Low four bits of the start-of-frame marker: 0 baseline, 2 progressive, 3 lossless ...
    pub process: u8,
    /// Whether the chroma components have one block per unit, as in all common files.
    pub usual_sampling: bool,
    /// The quantisation table of each component, in zigzag order.
    pub quantisation: [Option<[u16; 64]>; COMPONENTS],
    /// EXIF orientation.
    pub orientation: Orientation,
}

impl JpegFrame {
    /// Whether the file is of a process that decodes to 8-bit samples with loss.
    pub fn is_lossy(&self) -> bool {
        matches!(self.process, 0 | 1 | 2 | 9 | 10)
    }
}

/// Maximum bytes skipped before the start marker: the head of a part of a multipart stream.
const LEAD_MAX: usize = 4 << 10;

/// The file from its start marker on. Some cameras write the start marker twice. Some producers
/// leave the head of a multipart part before it.
pub(super) fn from_start(bytes: &[u8]) -> Option<&[u8]> {
    const START: [u8; 2] = [0xff, 0xd8];
    let mut rest = bytes;
    if !bytes.starts_with(&START) {
        let lead = &bytes[..bytes.len().min(LEAD_MAX)];
        rest = &bytes[memchr::memmem::find(lead, &[START[0], START[1], 0xff])?..];
    }
    while rest.get(2..).is_some_and(|rest| rest.starts_with(&START)) {
        rest = &rest[2..];
    }
    Some(rest)
}

/// Reads all segments up to the first scan. The file must begin with its start marker.
///
/// The error is a message for the user.
pub(super) fn read(bytes: &[u8]) -> Result<JpegFrame, &'static str> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Err("not a JPEG file: no start marker");
    }
    let mut quantisation = [None; 4];
    let mut frame: Option<(JpegFrame, [u8; COMPONENTS])> = None;
    let mut orientation = None;
    let mut rest = &bytes[2..];
    loop {
        let (marker, after) = next_marker(rest).ok_or("JPEG ends within its header")?;
        if marker == 0x01 || (0xd0..=0xd7).contains(&marker) {
            rest = after;
            continue;
        }
        if marker == 0xd8 || marker == 0xd9 {
            return Err("JPEG without a picture");
        }
        let (body, after) = segment(after).ok_or("JPEG ends within its header")?;
        match marker {
            0xda => break,
            0xdb => read_quantisation(body, &mut quantisation)?,
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => frame = Some(start_of_frame(marker & 15, body)?),
            0xe1 if orientation.is_none() => orientation = exif::of_segment(body),
            _ => {}
        }
        rest = after;
    }
    let (mut frame, table_ids) = frame.ok_or("JPEG scan without a frame header")?;
    frame.quantisation = table_ids.map(|id| quantisation[usize::from(id & 3)]);
    frame.orientation = orientation.unwrap_or_default();
    Ok(frame)
}

/// The next marker code and the bytes after it. Bytes before the marker are skipped.
pub(super) fn next_marker(mut bytes: &[u8]) -> Option<(u8, &[u8])> {
    loop {
        let start = memchr::memchr(0xff, bytes)?;
        let fill = bytes[start..].iter().take_while(|&&byte| byte == 0xff).count();
        let (&marker, after) = bytes[start + fill..].split_first()?;
        if marker != 0 {
            return Some((marker, after));
        }
        bytes = after;
    }
}

/// Splits off a segment; its length includes its own two bytes.
pub(super) fn segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len)).checked_sub(2)?;
    rest.split_at_checked(len)
}

/// The frame, and the identifiers of its components' quantisation tables.
fn start_of_frame(process: u8, body: &[u8]) -> Result<(JpegFrame, [u8; COMPONENTS]), &'static str> {
    let short = "JPEG frame header is too short";
    let (&[precision, h1, h0, w1, w0, components], list) =
        body.split_first_chunk::<6>().ok_or(short)?;
    let list = list.get(..3 * usize::from(components)).ok_or(short)?;
    let luma_id = list.get(2).copied().ok_or("JPEG without components")?;
    let table_ids = std::array::from_fn(|at| list.get(3 * at + 2).copied().unwrap_or(luma_id));
    let usual_sampling = list.chunks_exact(3).skip(1).all(|component| component[1] == 0x11);
    let frame = JpegFrame {
        width: u16::from_be_bytes([w1, w0]),
        height: u16::from_be_bytes([h1, h0]),
        precision,
        components,
        process,
        usual_sampling,
        quantisation: [None; COMPONENTS],
        orientation: Orientation::default(),
    };
    Ok((frame, table_ids))
}

fn read_quantisation(
    mut body: &[u8],
    tables: &mut [Option<[u16; 64]>; 4],
) -> Result<(), &'static str> {
    let broken = "JPEG quantisation table is broken";
    while let Some((&head, rest)) = body.split_first() {
        let size = if head >> 4 == 0 { 1 } else { 2 };
        let (values, rest) = rest.split_at_checked(64 * size).ok_or(broken)?;
        let mut table = [0; 64];
        for (entry, value) in table.iter_mut().zip(values.chunks_exact(size)) {
            *entry = value.iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte));
        }
        *tables.get_mut(usize::from(head & 15)).ok_or(broken)? = Some(table);
        body = rest;
    }
    Ok(())
}
