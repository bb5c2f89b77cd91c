//! Huffman tables of baseline JPEG: built from symbol counts, learnt for each camera, exchanged in
//! a file.
//!
//! Huffman tables do not change the coefficients of a picture, only the bits that encode them.
//! Tables that fit a camera's pictures save a tenth to a quarter of the bytes of the standard
//! tables. One pass suffices, because a camera's statistics change slowly.
//!
//! Invariants:
//!
//! 1. Tables for future pictures have a code for every symbol that can occur after quantisation
//!    ([`alphabet`]). libjpeg-turbo does not check for a missing code and would write a broken
//!    file.
//! 2. They have no other codes. Each code takes a byte of every file.
//! 3. No code is longer than 16 bits or consists only of ones (ITU-T T.81, C and K.2).

mod adapt;
mod alphabet;
mod band;
mod count;
mod file;
mod lengths;
mod recode;
mod standard;
mod start;
mod start_weights;

pub use adapt::{Adaptive, CameraTables, Chosen, Learner};
pub use band::Band;
pub use count::{Counts, count_symbols};
pub use recode::recode_jpeg;
pub use start::{ac_symbols, start_tables};

pub(super) use recode::recode_rows;
pub(super) use standard::STANDARD;

/// The tables of T.81, annex K.3.
pub fn standard_tables() -> &'static Tables {
    &STANDARD
}

/// The initial statistics of a camera, by quality.
pub fn start_bands() -> &'static [Band] {
    &start_weights::BANDS
}

/// Which Huffman tables JPEG files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Huffman {
    /// Tables learnt from the camera's frames, in one pass. Small pictures are coded in two passes.
    Adaptive,
    /// The tables of the standard.
    Standard,
    /// Tables optimised for each picture, in two passes.
    Optimised,
}

/// Largest picture, in pixels, that is always coded in two passes under [`Huffman::Adaptive`].
/// Codes for symbols that do not occur take 200 bytes: a twentieth of the file at 128x128, a
/// fiftieth at 320x240.
const SMALL_PIXELS: usize = 160 * 120;
/// A larger picture of up to [`CHEAP_PIXELS`] is coded in two passes if its file is smaller than
/// this, in bytes.
const SMALL_BYTES: usize = 5_000;
/// Largest picture, in pixels, for which a second pass takes at most a tenth of a millisecond.
const CHEAP_PIXELS: usize = 320 * 240;

/// Whether a picture of this size always gets its own tables.
pub fn is_small(width: usize, height: usize) -> bool {
    width * height <= SMALL_PIXELS
}

/// Number of blocks of a JPEG written by the encoder.
pub fn jpeg_blocks(width: usize, height: usize, gray: bool) -> usize {
    if gray {
        width.div_ceil(8) * height.div_ceil(8)
    } else {
        6 * width.div_ceil(16) * height.div_ceil(16)
    }
}

/// Maximum number of codes in a DC table: a difference of 8-bit samples has up to 11 bits.
pub(super) const DC_MAX: usize = 12;
/// Maximum number of codes in an AC table: runs up to 15 followed by values of up to 10 bits, a run
/// of 16, and end of block.
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

/// All tables of a file: luma, then chroma. A gray picture uses only the first pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tables(pub(super) [Pair; 2]);

impl Tables {
    /// Size of these tables in a file, in bytes.
    pub fn bytes(&self, gray: bool) -> usize {
        // Marker, length and identifier; the counts; a byte for each symbol.
        let segment = |symbols: usize| 2 + 2 + 1 + 16 + symbols;
        let pairs = self.0.iter().take(if gray { 1 } else { 2 });
        pairs.map(|pair| segment(pair.dc.values().len()) + segment(pair.ac.values().len())).sum()
    }

    /// Appends tables as segments of a file (T.81, B.2.4.2). `is_wanted` selects them by class and
    /// identifier: 0 and 1 for the DC tables of luma and chroma, 0x10 and 0x11 for the AC tables.
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
