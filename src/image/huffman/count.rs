//! Counts the symbols of a file.

use super::alphabet::Alphabet;
use super::file::{CodeVisitor, ScanFile};
use super::lengths::table;
use super::{DC_MAX, Pair, Tables};

/// Symbol counts of a file; the outer index is 0 for luma and 1 for chroma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Symbols of DC differences between neighbouring blocks.
    pub dc: [[u32; DC_MAX]; 2],
    /// Symbols of AC coefficients.
    pub ac: [[u32; 256]; 2],
    /// Blocks of luma and chroma together.
    pub blocks: usize,
    /// Bytes of coded data.
    pub bytes: usize,
    /// Bytes of these that are zeros stuffed after 0xff.
    pub stuffed: usize,
    /// Restart markers.
    pub restarts: usize,
}

impl Default for Counts {
    fn default() -> Self {
        let (dc, ac) = ([[0; DC_MAX]; 2], [[0; 256]; 2]);
        Counts { dc, ac, blocks: 0, bytes: 0, stuffed: 0, restarts: 0 }
    }
}

/// Counts the symbols of a baseline JPEG of one scan without decoding it. `None` for any other file
/// and for a broken one.
pub fn count_symbols(file: &[u8]) -> Option<Counts> {
    count(&ScanFile::open(file)?)
}

pub(super) fn count(coded: &ScanFile<'_>) -> Option<Counts> {
    let mut counts = Counts::default();
    let walked = coded.walk(&mut counts)?;
    (counts.blocks, counts.bytes, counts.stuffed) = (coded.blocks(), walked.len, walked.stuffed);
    Some(counts)
}

impl CodeVisitor for Counts {
    #[inline]
    fn dc(&mut self, class: usize, symbol: u8, _: u32) {
        self.dc[class][usize::from(symbol) % DC_MAX] += 1;
    }

    #[inline]
    fn ac(&mut self, class: usize, symbol: u8, _: u32) {
        self.ac[class][usize::from(symbol)] += 1;
    }

    fn restart(&mut self, _: u8) {
        self.restarts += 1;
    }
}

/// Weight of one counted symbol.
const COUNT: u64 = 256;
/// Number of symbols that the expected distribution counts for in total.
const EXPECTED: u64 = 32;

impl Counts {
    /// Tables for further pictures of this kind at the same quality. Every symbol that can occur
    /// has a code. A symbol that did not occur is weighted by the length of its code in `before`.
    pub(super) fn tables(&self, quality: u8, before: &Tables) -> Tables {
        Tables([0, 1].map(|class| {
            let alphabet = Alphabet::of(quality, class == 1);
            let (dc, ac) = (before.0[class].dc.codes(), before.0[class].ac.codes());
            let weigh = |symbol: u8, counts: &[u32], code: u8| {
                let expected = if code == 0 { 0 } else { (EXPECTED * COUNT) >> code };
                (symbol, u64::from(counts[usize::from(symbol)]) * COUNT + expected)
            };
            Pair {
                dc: table(
                    alphabet
                        .dc()
                        .map(|symbol| weigh(symbol, &self.dc[class], dc[usize::from(symbol)].len)),
                ),
                ac: table(
                    alphabet
                        .ac()
                        .map(|symbol| weigh(symbol, &self.ac[class], ac[usize::from(symbol)].len)),
                ),
            }
        }))
    }

    /// The optimal tables for the counted picture; they fit no other.
    pub(super) fn own_tables(&self) -> Tables {
        fn used(counts: &[u32]) -> impl Iterator<Item = (u8, u64)> {
            let listed = (0..=255_u8).zip(counts).filter(|(_, count)| **count > 0);
            listed.map(|(symbol, &count)| (symbol, count.into()))
        }
        Tables([0, 1].map(|class| Pair {
            dc: table(used(&self.dc[class])),
            ac: table(used(&self.ac[class])),
        }))
    }

    /// Size of the counted picture with other tables, in bits, without the head of its file.
    /// Includes byte stuffing, restart markers, and half a byte of padding before each marker.
    /// `None` if one of its symbols has no code in `tables`.
    pub(super) fn bits_with(&self, tables: &Tables) -> Option<u64> {
        let mut bits = 0;
        for (class, pair) in tables.0.iter().enumerate() {
            let codes =
                [(&self.dc[class][..], pair.dc.codes()), (&self.ac[class], pair.ac.codes())];
            for (counts, codes) in codes {
                for (symbol, (&count, code)) in counts.iter().zip(codes).enumerate() {
                    if count > 0 && code.len == 0 {
                        return None;
                    }
                    let extra = symbol as u64 & 15;
                    bits += u64::from(count) * (u64::from(code.len) + extra);
                }
            }
        }
        let stuffed = self.stuffed as u64;
        let bytes = (self.bytes as u64 - stuffed).max(1);
        let markers = (self.restarts as u64 + 1) * (16 + 4);
        Some(bits + bits * stuffed / bytes + markers)
    }
}
