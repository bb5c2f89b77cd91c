//! What a JPEG file says before its first scan, read without libjpeg-turbo.
//!
//! Limits must be decided before anything is allocated or handed to C, and the quality of a file
//! is in its quantisation tables, which the library does not give out. Format: ITU-T T.81, annex B.

/// Components whose tables are looked at: those of a colour picture.
pub(super) const COMPONENTS: usize = 3;

/// The decisive facts of a JPEG header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub width: u16,
    pub height: u16,
    /// Bits per sample.
    pub precision: u8,
    /// 1 gray, 3 colour, 4 print colours.
    pub components: u8,
    /// Low four bits of the start-of-frame marker: 0 baseline, 2 progressive, 3 lossless ...
    pub process: u8,
    /// Whether the chroma components have one block per unit, as all usual files do.
    pub usual_sampling: bool,
    /// Whether there are restart markers.
    pub restarts: bool,
    /// The quantisation table of each component, in zigzag order.
    pub quantisation: [Option<[u16; 64]>; COMPONENTS],
    /// Whether every table the scans need is in the file. A decoder that has seen other files
    /// would use their tables instead.
    pub tables_complete: bool,
}

impl Frame {
    /// Whether the file is of a process that decodes to 8-bit samples with loss.
    pub fn is_lossy(&self) -> bool {
        matches!(self.process, 0 | 1 | 2 | 9 | 10)
    }
}

struct Tables {
    quantisation: [Option<[u16; 64]>; 4],
    /// One bit for each class and identifier.
    huffman: u8,
}

/// Reads all segments up to the first scan.
///
/// The error is a text for a person.
pub(super) fn read(bytes: &[u8]) -> Result<Frame, &'static str> {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return Err("not a JPEG file: no start marker");
    }
    let mut tables = Tables { quantisation: [None; 4], huffman: 0 };
    let mut frame: Option<(Frame, [u8; COMPONENTS])> = None;
    let mut restarts = false;
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
            0xdb => quantisation(body, &mut tables)?,
            0xc4 => huffman(body, &mut tables)?,
            0xc8 | 0xcc => {}
            0xc0..=0xcf => frame = Some(start_of_frame(marker & 15, body)?),
            0xdd => restarts = body.iter().any(|&byte| byte != 0),
            _ => {}
        }
        rest = after;
    }
    let (mut frame, table_ids) = frame.ok_or("JPEG scan without a frame header")?;
    frame.restarts = restarts;
    frame.quantisation = table_ids.map(|id| tables.quantisation[usize::from(id & 3)]);
    // Progressive files bring further tables between scans; whether those are complete is not
    // visible here.
    let needed = if frame.components == 1 { 0b1_0001 } else { 0b11_0011 };
    frame.tables_complete = frame.process <= 1 && tables.huffman & needed == needed;
    Ok(frame)
}

/// The next marker code and what follows it. Bytes in front of it are skipped.
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

/// Splits off a segment; its length counts its own two bytes.
pub(super) fn segment(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let len = usize::from(u16::from_be_bytes(*len)).checked_sub(2)?;
    rest.split_at_checked(len)
}

/// The frame, and the identifiers of its components' quantisation tables.
fn start_of_frame(process: u8, body: &[u8]) -> Result<(Frame, [u8; COMPONENTS]), &'static str> {
    let short = "JPEG frame header is too short";
    let (&[precision, h1, h0, w1, w0, components], list) =
        body.split_first_chunk::<6>().ok_or(short)?;
    let list = list.get(..3 * usize::from(components)).ok_or(short)?;
    let luma_id = list.get(2).copied().ok_or("JPEG without components")?;
    let table_ids = std::array::from_fn(|at| list.get(3 * at + 2).copied().unwrap_or(luma_id));
    let usual_sampling = list.chunks_exact(3).skip(1).all(|component| component[1] == 0x11);
    let frame = Frame {
        width: u16::from_be_bytes([w1, w0]),
        height: u16::from_be_bytes([h1, h0]),
        precision,
        components,
        process,
        usual_sampling,
        restarts: false,
        quantisation: [None; COMPONENTS],
        tables_complete: false,
    };
    Ok((frame, table_ids))
}

fn quantisation(mut body: &[u8], tables: &mut Tables) -> Result<(), &'static str> {
    let broken = "JPEG quantisation table is broken";
    while let Some((&head, rest)) = body.split_first() {
        let size = if head >> 4 == 0 { 1 } else { 2 };
        let (values, rest) = rest.split_at_checked(64 * size).ok_or(broken)?;
        let mut table = [0; 64];
        for (entry, value) in table.iter_mut().zip(values.chunks_exact(size)) {
            *entry = value.iter().fold(0, |sum, &byte| sum << 8 | u16::from(byte));
        }
        *tables.quantisation.get_mut(usize::from(head & 15)).ok_or(broken)? = Some(table);
        body = rest;
    }
    Ok(())
}

fn huffman(mut body: &[u8], tables: &mut Tables) -> Result<(), &'static str> {
    let broken = "JPEG Huffman table is broken";
    while let Some((&head, rest)) = body.split_first() {
        let (counts, rest) = rest.split_first_chunk::<16>().ok_or(broken)?;
        let symbols = counts.iter().map(|&count| usize::from(count)).sum();
        let (class, id) = (head >> 4, head & 15);
        if class > 1 || id > 3 {
            return Err(broken);
        }
        tables.huffman |= 1 << (4 * class + id);
        body = rest.get(symbols..).ok_or(broken)?;
    }
    Ok(())
}
