//! The background model of a run of samples: a small mixture of Gaussians for each sample.
//!
//! After Stauffer and Grimson (1999) and Zivkovic (2004), the ancestor of OpenCV's MOG2, reduced to
//! three modes. A level belongs to the heaviest mode within [`REACH`] variances; that mode moves
//! towards it and gains weight, the others lose weight. A level that fits no mode replaces the
//! lightest one. A level is foreground unless its mode weighs more than [`BACKGROUND_WEIGHT`]. So
//! an object that stands still becomes background in time, and the earlier background is remembered
//! for a while.
//!
//! State is 8-bit: 10.1 bytes per sample, 194 kB for a camera of 640x480. Slow learning changes a
//! figure by far less than one unit per frame, so rounding is dithered: the threshold changes from
//! frame to frame, and on average nothing is lost. On the sample video, density correlates with
//! that of full-size MOG2 by 0.942, and did by 0.951 with 16-bit state.
//!
//! A block is one struct of arrays, so that the compiler sees that nothing overlaps and compiles
//! the whole step into vector code.

use multiversion::multiversion;

/// Samples in a block.
pub(super) const LANES: usize = 64;

/// Modes per sample. With two, the exposure sweeps of the sample video are never learned.
const MODES: usize = 3;

/// Squared distance, in variances, within which a level belongs to a mode.
const REACH: f32 = 12.0;

/// Weight above which a mode is background.
pub(super) const BACKGROUND_WEIGHT: f32 = 0.1;

/// Variance of a new mode, and its bounds, in squared 8-bit levels; the defaults of MOG2.
const VARIANCE_NEW: f32 = 15.0;
const VARIANCE_MIN: f32 = 4.0;
const VARIANCE_MAX: f32 = 75.0;

/// Units of the stored figures: of a variance, in a squared 8-bit level, and of a weight, in the
/// whole. A mean is stored in 8-bit levels.
const VARIANCE_UNITS: f32 = 3.0;
const WEIGHT_UNITS: f32 = 255.0;
const _: () = assert!(VARIANCE_MAX * VARIANCE_UNITS < 255.0);

/// Units of the samples in an 8-bit level.
const LEVEL_UNITS: f32 = 256.0;

/// What is known of [`LANES`] neighbouring samples.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    mean: [[u8; LANES]; MODES],
    variance: [[u8; LANES]; MODES],
    weight: [[u8; LANES]; MODES],
    /// The last levels.
    previous: [u8; LANES],
    /// A bit for each sample, set if its last level was foreground.
    foreground: u64,
}

/// What a picture shows compared with the past.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Compared {
    /// Samples that are foreground.
    pub foreground: u32,
    /// Sum of the absolute changes against the last picture, in 8-bit levels.
    pub change: u32,
}

impl Block {
    /// A block that knows only the levels of a first picture (in 1/256).
    pub fn knowing(levels: &[u16; LANES]) -> Self {
        let mut weight = [[0; LANES]; MODES];
        weight[0] = [WEIGHT_UNITS as u8; LANES];
        let previous = levels.map(rounded);
        Block {
            mean: [previous; MODES],
            variance: [[(VARIANCE_NEW * VARIANCE_UNITS) as u8; LANES]; MODES],
            weight,
            previous,
            foreground: 0,
        }
    }

    /// Whether the last level of sample `at` was foreground.
    pub fn is_foreground(&self, at: usize) -> bool {
        self.foreground >> at & 1 == 1
    }
}

/// A level in 1/256 as an 8-bit level.
#[inline(always)]
fn rounded(level: u16) -> u8 {
    ((u32::from(level) + 128) >> 8) as u8
}

/// Judges `levels` (in 1/256) against `block` and learns from them. The first `count` of them are
/// in the picture.
///
/// `rate` is the share of its knowledge that one frame replaces, above 0 and at most 0.5; `dither`
/// shifts the rounding threshold, 0 to 1.
#[inline(always)]
fn learn_block(
    block: &mut Block,
    levels: &[u16; LANES],
    count: usize,
    rate: f32,
    dither: f32,
) -> Compared {
    let mut foreground = [0; LANES];
    let keep = 1.0 - rate;
    let dither = dither - 0.5;
    for i in 0..LANES {
        let level = f32::from(levels[i]) / LEVEL_UNITS;
        let mut mean = [0.0; MODES];
        let mut variance = [0.0; MODES];
        let mut weight = [0.0; MODES];
        let mut offset = [0.0; MODES];
        // The weight of a mode that fits, or -1.
        let mut fit = [0.0; MODES];
        for k in 0..MODES {
            mean[k] = f32::from(block.mean[k][i]);
            variance[k] = f32::from(block.variance[k][i]) / VARIANCE_UNITS;
            weight[k] = f32::from(block.weight[k][i]) / WEIGHT_UNITS;
            offset[k] = level - mean[k];
            let near = offset[k] * offset[k] < REACH * variance[k];
            fit[k] = if near & (weight[k] > 0.0) { weight[k] } else { -1.0 };
        }
        let heaviest = larger(larger(fit[0], fit[1]), fit[2]);
        let lightest = smaller(smaller(weight[0], weight[1]), weight[2]);
        let known = heaviest > 0.0;
        foreground[i] = u8::from(heaviest <= BACKGROUND_WEIGHT);

        // At most one mode is chosen: the first best fit, otherwise the first of the lightest.
        let mut free = true;
        let mut total = 0.0;
        for k in 0..MODES {
            let chosen = free & if known { fit[k] == heaviest } else { weight[k] == lightest };
            free &= !chosen;
            let (grows, begins) = (chosen & known, chosen & !known);
            let grown = weight[k] * keep + rate;
            let pull = rate / grown;
            let spread = variance[k] + pull * (offset[k] * offset[k] - variance[k]);
            let spread = smaller(larger(spread, VARIANCE_MIN), VARIANCE_MAX);
            mean[k] = if grows { mean[k] + pull * offset[k] } else { mean[k] };
            mean[k] = if begins { level } else { mean[k] };
            variance[k] = if grows { spread } else { variance[k] };
            variance[k] = if begins { VARIANCE_NEW } else { variance[k] };
            weight[k] = if grows { grown } else { weight[k] * keep };
            weight[k] = if begins { rate } else { weight[k] };
            total += weight[k];
        }
        let scale = WEIGHT_UNITS / total;
        for k in 0..MODES {
            block.mean[k][i] = stored(mean[k] + dither);
            block.variance[k][i] = stored(variance[k] * VARIANCE_UNITS + dither);
            block.weight[k][i] = stored(weight[k] * scale + dither);
        }
    }
    let inside = u64::MAX >> (LANES - count);
    block.foreground = bits(&foreground) & inside;
    let mut change = 0;
    for (previous, &level) in block.previous.iter_mut().zip(levels) {
        let level = rounded(level);
        change += u32::from(previous.abs_diff(level));
        *previous = level;
    }
    Compared { foreground: block.foreground.count_ones(), change }
}

/// One bit for each byte, which is 0 or 1; the first is the lowest.
#[inline(always)]
fn bits(bytes: &[u8; LANES]) -> u64 {
    // The product moves the bit of byte i to bit 56 + i, and no two sums carry.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (groups, _) = bytes.as_chunks();
    groups
        .iter()
        .rev()
        .fold(0, |bits, &group| bits << 8 | u64::from_le_bytes(group).wrapping_mul(GATHER) >> 56)
}

/// Rounds a value of at least -0.5 to 8 bits.
///
/// Adding 1.5 x 2^23 rounds a value to a whole number, which is then in the lowest bits. The cast
/// `as i32` also handles values out of range, one lane at a time, and cost more than the rest of
/// the model.
#[inline(always)]
fn stored(value: f32) -> u8 {
    const WHOLE_NUMBERS: f32 = 12_582_912.0;
    (smaller(value, 255.0) + WHOLE_NUMBERS).to_bits() as u8
}

// Plain comparisons: `f32::min` and `max` also handle NaN, which costs instructions.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Judges and learns a whole picture, block by block; `levels` may end within the last block.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi2", "x86_64+avx2"))]
pub(super) fn learn(blocks: &mut [Block], levels: &[u16], rate: f32, dither: f32) -> Compared {
    learn_here(blocks, levels, rate, dither)
}

/// The same, compiled for the instruction set of its caller.
#[inline(always)]
pub(super) fn learn_here(blocks: &mut [Block], levels: &[u16], rate: f32, dither: f32) -> Compared {
    let mut sum = Compared::default();
    for (block, (levels, count)) in blocks.iter_mut().zip(padded(levels)) {
        let of_block = learn_block(block, &levels, count, rate, dither);
        sum.foreground += of_block.foreground;
        sum.change += of_block.change;
    }
    sum
}

/// The levels of each block. The last block may have fewer than [`LANES`], then zeros.
#[inline(always)]
pub(super) fn padded(levels: &[u16]) -> impl Iterator<Item = ([u16; LANES], usize)> {
    levels.chunks(LANES).map(|levels| {
        let mut padded = [0; LANES];
        padded[..levels.len()].copy_from_slice(levels);
        (padded, levels.len())
    })
}
