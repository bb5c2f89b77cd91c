//! How often each symbol occurs in a file.

use super::alphabet::Alphabet;
use super::file::{Coded, Visit};
use super::lengths::table;
use super::{DC_MAX, Pair, Tables};

/// The symbols of a file, of luma and of chroma.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Of differences between neighbouring blocks.
    pub dc: [[u32; DC_MAX]; 2],
    /// Of the other coefficients.
    pub ac: [[u32; 256]; 2],
    /// Blocks of both.
    pub blocks: usize,
    /// Bytes of coded data.
    pub bytes: usize,
    /// Of these, zeros behind bytes of ones.
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

/// Counts the symbols of a baseline JPEG of one scan, without decoding it. `None` for any other file and
/// for a broken one.
pub fn count_symbols(file: &[u8]) -> Option<Counts> {
    count(&Coded::open(file)?)
}

pub(super) fn count(coded: &Coded<'_>) -> Option<Counts> {
    let mut counts = Counts::default();
    let walked = coded.walk(&mut counts)?;
    (counts.blocks, counts.bytes, counts.stuffed) = (coded.blocks(), walked.len, walked.stuffed);
    Some(counts)
}

impl Visit for Counts {
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

/// How much a count weighs beside what is expected without one.
const COUNT: u64 = 256;
/// Symbols that the expectation counts for in all.
const EXPECTED: u64 = 32;

impl Counts {
    /// Tables for further pictures of this kind, at the same quality: every symbol that can occur has a
    /// code, those that did not occur by what `before` holds of them.
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

    /// The best tables for the counted picture alone; they fit no other.
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

    /// Bits that the counted picture takes with other tables up to the end of its file, but for its head:
    /// with stuffing, restart markers and half a byte before each marker. `None` if a symbol of it
    /// has no code there.
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
