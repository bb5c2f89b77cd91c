//! Replaces the Huffman tables of a file: each symbol gets another code, the bits after the codes
//! are unchanged.

use super::super::markers::{next_marker, segment};
use super::count::count;
use super::file::{CodeVisitor, ScanFile, Unit};
use super::{Code, Tables};

/// Writes the picture of `file` into `out`, which is cleared first, with the optimal tables for it.
/// Coefficients are unchanged. `None` unless the file is an intact baseline file of one scan; the
/// contents of `out` are then unusable.
pub fn recode_jpeg(file: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let coded = ScanFile::open(file)?;
    let counts = count(&coded)?;
    let tables = counts.own_tables();
    head(coded.head, &tables, out)?;
    // At most the old size, except for byte stuffing.
    out.reserve(counts.bytes + counts.bytes / 16 + 2);
    let mut writer = BitWriter::new(&tables, out);
    let walked = coded.walk(&mut writer)?;
    writer.end()?;
    let rest = &coded.data[walked.len..];
    let (marker, _) = next_marker(rest)?;
    out.extend([0xff, 0xd9]);
    (marker == 0xd9).then_some(())
}

/// Appends coded units to `out` with other tables; `None` if a symbol has no code in them.
pub(in super::super) fn recode_rows(
    rows: &[u8],
    (gray, units): (bool, usize),
    (from, to): (&Tables, &Tables),
    out: &mut Vec<u8>,
) -> Option<()> {
    let coded = ScanFile::rows(rows, Unit::own(gray), units, from);
    let mut writer = BitWriter::new(to, out);
    coded.walk(&mut writer)?;
    writer.end()
}

/// Writes the head with other tables. The scan assigns the luma tables to the first component and
/// the chroma tables to the others.
fn head(old: &[u8], tables: &Tables, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(old.get(..2)?);
    let mut rest = old.get(2..)?;
    loop {
        let (marker, after) = next_marker(rest)?;
        let (body, after) = segment(after)?;
        if marker == 0xda {
            let (&components, list) = body.split_first()?;
            tables.write(|id| components > 1 || id & 15 == 0, out);
            out.extend([0xff, marker]);
            out.extend((2 + body.len() as u16).to_be_bytes());
            out.push(components);
            for at in 0..usize::from(components) {
                out.extend([*list.get(2 * at)?, if at == 0 { 0 } else { 0x11 }]);
            }
            out.extend([0, 63, 0]);
            return Some(());
        }
        if marker != 0xc4 {
            out.extend([0xff, marker]);
            out.extend((2 + body.len() as u16).to_be_bytes());
            out.extend_from_slice(body);
        }
        rest = after;
    }
}

struct BitWriter<'a> {
    /// Luma DC, luma AC, chroma DC, chroma AC.
    codes: [[Code; 256]; 4],
    out: &'a mut Vec<u8>,
    /// Pending bits, in the low end.
    buffer: u64,
    held: u32,
    is_complete: bool,
}

impl<'a> BitWriter<'a> {
    fn new(tables: &Tables, out: &'a mut Vec<u8>) -> BitWriter<'a> {
        let [luma, chroma] = &tables.0;
        let codes = [luma.dc.codes(), luma.ac.codes(), chroma.dc.codes(), chroma.ac.codes()];
        BitWriter { codes, out, buffer: 0, held: 0, is_complete: true }
    }

    #[inline]
    fn put(&mut self, table: usize, symbol: u8, extra: u32) {
        let code = self.codes[table][usize::from(symbol)];
        self.is_complete &= code.len > 0;
        let behind = u32::from(symbol & 15);
        // At most 31 bits are held; a code and its extra bits have at most 31 more.
        self.buffer = (self.buffer << code.len | u64::from(code.bits)) << behind | u64::from(extra);
        self.held += u32::from(code.len) + behind;
        if self.held >= 32 {
            self.held -= 32;
            let word = (self.buffer >> self.held) as u32;
            self.write(word);
        }
    }

    #[inline]
    fn write(&mut self, word: u32) {
        let inverse = !word;
        if inverse.wrapping_sub(0x0101_0101) & !inverse & 0x8080_8080 == 0 {
            self.out.extend_from_slice(&word.to_be_bytes());
        } else {
            for byte in word.to_be_bytes() {
                self.write_byte(byte);
            }
        }
    }

    fn write_byte(&mut self, byte: u8) {
        self.out.push(byte);
        if byte == 0xff {
            self.out.push(0);
        }
    }

    /// Fills the last byte with ones.
    fn flush(&mut self) {
        while self.held > 0 {
            let missing = 8_u32.saturating_sub(self.held);
            let byte = (self.buffer << missing | ((1 << missing) - 1)) >> (self.held + missing - 8);
            self.write_byte(byte as u8);
            self.held = self.held.saturating_sub(8);
        }
    }

    fn end(mut self) -> Option<()> {
        self.flush();
        self.is_complete.then_some(())
    }
}

impl CodeVisitor for BitWriter<'_> {
    #[inline]
    fn dc(&mut self, class: usize, symbol: u8, extra: u32) {
        self.put(2 * class, symbol, extra);
    }

    #[inline]
    fn ac(&mut self, class: usize, symbol: u8, extra: u32) {
        self.put(2 * class + 1, symbol, extra);
    }

    fn restart(&mut self, code: u8) {
        self.flush();
        self.out.extend([0xff, code]);
    }
}
