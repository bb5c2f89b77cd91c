//! The background model of a run of samples: a small mixture of Gaussians for each sample.
//!
//! After Stauffer and Grimson (1999) and Zivkovic (2004), the ancestor of OpenCV's MOG2, reduced to
//! three modes. A level belongs to the heaviest mode within [`REACH`] variances; that mode moves
//! towards it and gains weight, the others lose weight. A level that fits no mode replaces the
//! lightest one. A level is foreground unless its mode weighs more than [`BACKGROUND_WEIGHT`]. So
//! an object that stands still becomes background in time, and the earlier background is remembered
//! for a while.
//!
//! State is 16-bit: 18 bytes per sample, 260 kB for a camera. Slow learning changes it by less than
//! one unit per frame, so rounding is dithered: the threshold changes from frame to frame, and on
//! average nothing is lost. A block is one struct of arrays, so that the compiler sees that nothing
//! overlaps and compiles the whole step into vector code.

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

/// Units of the stored figures.
const LEVEL_UNITS: f32 = 256.0;
const VARIANCE_UNITS: f32 = 512.0;
const WEIGHT_UNITS: f32 = 65535.0;
const _: () = assert!(VARIANCE_MAX * VARIANCE_UNITS < 65535.0);

/// The models of [`LANES`] neighbouring samples.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    mean: [[u16; LANES]; MODES],
    variance: [[u16; LANES]; MODES],
    weight: [[u16; LANES]; MODES],
}

impl Block {
    /// A block that knows only the levels of a first picture (in 1/256).
    pub fn knowing(levels: &[u16; LANES]) -> Self {
        let mut weight = [[0; LANES]; MODES];
        weight[0] = [WEIGHT_UNITS as u16; LANES];
        Block {
            mean: [*levels; MODES],
            variance: [[(VARIANCE_NEW * VARIANCE_UNITS) as u16; LANES]; MODES],
            weight,
        }
    }
}

/// Judges `levels` (in 1/256) against `block` and learns from them; `foreground` becomes 1 or 0.
///
/// `rate` is the share of its knowledge that one frame replaces, above 0 and at most 0.5; `dither`
/// shifts the rounding threshold, 0 to 1.
#[inline(always)]
fn learn_block(
    block: &mut Block,
    levels: &[u16; LANES],
    foreground: &mut [u8; LANES],
    rate: f32,
    dither: f32,
) {
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
            mean[k] = f32::from(block.mean[k][i]) / LEVEL_UNITS;
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
            block.mean[k][i] = stored(mean[k] * LEVEL_UNITS + dither);
            block.variance[k][i] = stored(variance[k] * VARIANCE_UNITS + dither);
            block.weight[k][i] = stored(weight[k] * scale + dither);
        }
    }
}

/// Rounds a value of at least -0.5 to 16 bits.
///
/// Adding 1.5 x 2^23 rounds a value to a whole number, which is then in the lowest bits. The cast
/// `as i32` also handles values out of range, one lane at a time, and cost more than the rest of
/// the model.
#[inline(always)]
fn stored(value: f32) -> u16 {
    const WHOLE_NUMBERS: f32 = 12_582_912.0;
    (smaller(value, 65535.0) + WHOLE_NUMBERS).to_bits() as u16
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

/// Judges and learns a whole picture. All three slices run block by block, and `levels` may end
/// within the last block. Returns the number of foreground samples.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi2", "x86_64+avx2"))]
pub(super) fn learn(
    blocks: &mut [Block],
    levels: &[u16],
    foreground: &mut [[u8; LANES]],
    rate: f32,
    dither: f32,
) -> usize {
    learn_here(blocks, levels, foreground, rate, dither)
}

/// The same, compiled for the instruction set of its caller.
#[inline(always)]
pub(super) fn learn_here(
    blocks: &mut [Block],
    levels: &[u16],
    foreground: &mut [[u8; LANES]],
    rate: f32,
    dither: f32,
) -> usize {
    let mut count = 0;
    let mut padded = [0; LANES];
    for ((block, levels), foreground) in
        blocks.iter_mut().zip(levels.chunks(LANES)).zip(foreground.iter_mut())
    {
        padded[..levels.len()].copy_from_slice(levels);
        learn_block(block, &padded, foreground, rate, dither);
        count += foreground[..levels.len()].iter().map(|&v| usize::from(v)).sum::<usize>();
    }
    count
}
