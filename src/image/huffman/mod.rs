//! Huffman tables of baseline JPEG: made from counts, learnt for each camera, exchanged in a file.
//!
//! The coefficients of a picture stay what they are under any tables; only the bits that tell of them
//! change. Tables that fit a camera's pictures save a tenth to a quarter of the bytes that the standard
//! ones take. One pass suffices, because a camera's statistics change slowly.
//!
//! Invariants:
//!
//! 1. Tables for pictures not seen yet have a code for every symbol that the quantiser lets occur
//!    ([`alphabet`]). libjpeg-turbo does not look for a missing code; the file would be broken.
//! 2. They have no other codes. Each takes a byte of every file.
//! 3. No code is longer than 16 bits or consists of ones alone (ITU-T T.81, C and K.2).

mod adapt;
mod alphabet;
mod count;
mod file;
mod lengths;
mod recode;
mod standard;
mod start;
mod start_weights;

pub use adapt::{Adaptive, CameraTables, Chosen, Learner};
pub use count::{Counts, count_symbols};
pub use recode::recode_jpeg;
pub use start::{Band, ac_symbols, start_tables};

pub(super) use recode::recode_rows;
pub(super) use standard::STANDARD;

/// The tables of T.81, annex K.3.
pub fn standard_tables() -> &'static Tables {
    &STANDARD
}

/// What cameras begin with, by quality.
pub fn start_bands() -> &'static [Band] {
    &start_weights::BANDS
}

/// Which Huffman tables JPEG files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Huffman {
    /// Those learnt from the camera's frames, in one pass; small pictures in two.
    Adaptive,
    /// Those of the standard.
    Standard,
    /// The best ones for each picture, in two passes.
    Optimised,
}

/// Pixels up to which a picture is coded in two passes under [`Huffman::Adaptive`]: codes for symbols that
/// do not occur take 200 bytes, at 128x128 a twentieth of the file, at 320x240 a fiftieth.
const SMALL_PIXELS: usize = 160 * 120;
/// Bytes below which a larger picture is, too, as long as a second pass takes a tenth of a millisecond.
const SMALL_BYTES: usize = 5_000;
/// Pixels up to which it does.
const CHEAP_PIXELS: usize = 320 * 240;

/// Whether tables for a picture of this size are made anew each time.
pub fn is_small(width: usize, height: usize) -> bool {
    width * height <= SMALL_PIXELS
}

/// The blocks of a JPEG as the encoder writes it.
pub fn jpeg_blocks(width: usize, height: usize, gray: bool) -> usize {
    if gray {
        width.div_ceil(8) * height.div_ceil(8)
    } else {
        6 * width.div_ceil(16) * height.div_ceil(16)
    }
}

/// Codes of a DC table at most: a difference of 8-bit samples has up to 11 bits.
pub(super) const DC_MAX: usize = 12;
/// Codes of an AC table at most: runs up to 15 before values up to 10 bits, a run of 16, end of block.
pub(super) const AC_MAX: usize = 162;

/// The symbol that ends a block.
const END_OF_BLOCK: u8 = 0;
/// The symbol for a run of sixteen zeros.
const SIXTEEN_ZEROS: u8 = 0xf0;

/// One table, with room for `N` symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<const N: usize> {
    /// Number of codes of 1, 2, ... 16 bits.
    counts: [u8; 16],
    /// Symbols in the order of their codes.
    values: [u8; N],
}

impl<const N: usize> Table<N> {
    /// Number of codes of each length.
    pub(super) fn counts(&self) -> &[u8; 16] {
        &self.counts
    }

    /// Symbols in the order of their codes.
    pub(super) fn values(&self) -> &[u8] {
        let len = self.counts.iter().map(|&count| usize::from(count)).sum::<usize>();
        &self.values[..len.min(N)]
    }

    /// Length and code of each symbol; length 0 for one without a code.
    fn codes(&self) -> [Code; 256] {
        let mut codes = [Code::default(); 256];
        let mut values = self.values().iter();
        let mut code = 0_u32;
        for (length, &count) in (1..).zip(&self.counts) {
            for &symbol in values.by_ref().take(count.into()) {
                codes[usize::from(symbol)] = Code { bits: code as u16, len: length };
                code += 1;
            }
            code <<= 1;
        }
        codes
    }
}

/// The code of a symbol.
#[derive(Clone, Copy, Debug, Default)]
struct Code {
    bits: u16,
    /// In bits; 0 for a symbol without a code.
    len: u8,
}

/// The tables of luma, or of both chroma components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub(super) dc: Table<DC_MAX>,
    pub(super) ac: Table<AC_MAX>,
}

/// All tables of a file: those of luma, then those of chroma. A gray picture uses the first pair only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables(pub(super) [Pair; 2]);

impl Tables {
    /// Bytes of a file that these tables take.
    pub fn bytes(&self, gray: bool) -> usize {
        // Marker, length and identifier; the counts; a byte for each symbol.
        let segment = |symbols: usize| 2 + 2 + 1 + 16 + symbols;
        let pairs = self.0.iter().take(if gray { 1 } else { 2 });
        pairs.map(|pair| segment(pair.dc.values().len()) + segment(pair.ac.values().len())).sum()
    }

    /// Appends those that `is_wanted` by class and identifier as segments of a file (T.81, B.2.4.2): 0 and
    /// 1 for the DC tables of luma and chroma, 0x10 and 0x11 for the AC tables.
    pub fn write(&self, mut is_wanted: impl FnMut(u8) -> bool, out: &mut Vec<u8>) {
        let mut write = |id: u8, counts: &[u8; 16], values: &[u8]| {
            if is_wanted(id) {
                out.extend([0xff, 0xc4]);
                out.extend((19 + values.len() as u16).to_be_bytes());
                out.push(id);
                out.extend_from_slice(counts);
                out.extend_from_slice(values);
            }
        };
        for (id, pair) in (0..).zip(&self.0) {
            write(id, pair.dc.counts(), pair.dc.values());
            write(0x10 | id, pair.ac.counts(), pair.ac.values());
        }
    }
}
