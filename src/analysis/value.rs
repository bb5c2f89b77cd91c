//! The mean of max(R, G, B), the V of HSV, from which lighting is judged.

use multiversion::multiversion;

use crate::frame::{Plane, Planes};

/// Rows are skipped as long as at least this many remain.
const ROWS_ENOUGH: usize = 256;

/// Columns handled at a time; a 32-bit sum of levels cannot overflow within them.
const STRIP: usize = 1024;

/// Mean of max(R, G, B) over the picture, 0 to 255, from planes, at chroma resolution.
///
/// max(R, G, B) is luma plus an offset that depends only on chroma in BT.601 full range: the
/// largest of 1.402 Cr, 1.772 Cb and -0.344 Cb - 0.714 Cr, then clamped. Tall pictures are sampled
/// by rows. 4:2:0 planes do not contain colour noise finer than two pixels, so the result does not
/// either; if the RGB picture is available, [`mean_value_rgb`] includes it. Gray: the mean of luma.
pub fn mean_value(planes: &Planes) -> f64 {
    let luma = planes.luma();
    let Some([cb, cr]) = planes.chroma() else {
        return plane_mean(luma);
    };
    let (mut total, mut pixels) = (0u64, 0u64);
    for y in (0..cb.height).step_by(step(cb.height)) {
        let upper = luma.row(2 * y);
        let lower = luma.row((2 * y + 1).min(luma.height - 1));
        let rows = if 2 * y + 1 < luma.height { 2 } else { 1 };
        let (cb, cr) = (cb.row(y), cr.row(y));
        let pairs = luma.width / 2;
        total += rows * 2 * paired_sum(upper, lower, &cb[..pairs], &cr[..pairs]);
        if luma.width % 2 == 1 {
            let last = luma.width - 1;
            let (upper, lower) = ([upper[last]; 2], [lower[last]; 2]);
            total += rows * paired_sum(&upper, &lower, &cb[pairs..], &cr[pairs..]);
        }
        pixels += rows * luma.width as u64;
    }
    total as f64 / pixels.max(1) as f64
}

/// Mean of max(R, G, B) over interleaved RGB without padding, 0 to 255; tall pictures are sampled
/// by rows. 0 for an empty picture.
///
/// # Panics
/// If `rgb` is shorter than `width * height * 3`.
pub fn mean_value_rgb(rgb: &[u8], width: usize, height: usize) -> f64 {
    let (mut total, mut pixels) = (0u64, 0u64);
    for y in (0..height).step_by(step(height)) {
        total += largest_sum(&rgb[y * width * 3..][..width * 3]);
        pixels += width as u64;
    }
    total as f64 / pixels.max(1) as f64
}

fn step(rows: usize) -> usize {
    (rows / ROWS_ENOUGH).max(1)
}

fn plane_mean(plane: Plane<'_>) -> f64 {
    let (mut total, mut pixels) = (0u64, 0u64);
    for y in (0..plane.height).step_by(step(plane.height)) {
        total += plane.row(y).iter().map(|&v| u64::from(v)).sum::<u64>();
        pixels += plane.width as u64;
    }
    total as f64 / pixels.max(1) as f64
}

/// The value of every 2x2 block of one chroma row, summed.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi2", "x86_64+avx2"))]
pub(super) fn paired_sum(upper: &[u8], lower: &[u8], cb: &[u8], cr: &[u8]) -> u64 {
    paired_sum_here(upper, lower, cb, cr)
}

/// The same, compiled for the instruction set of its caller.
#[inline(always)]
pub(super) fn paired_sum_here(upper: &[u8], lower: &[u8], cb: &[u8], cr: &[u8]) -> u64 {
    let mut values = [0u16; STRIP];
    let mut total = 0;
    let mut start = 0;
    while start < cb.len() {
        let len = (cb.len() - start).min(STRIP);
        let values = &mut values[..len];
        block_values(
            &upper[2 * start..][..2 * len],
            &lower[2 * start..][..2 * len],
            &cb[start..][..len],
            &cr[start..][..len],
            values,
        );
        total += u64::from(values.iter().map(|&v| u32::from(v)).sum::<u32>());
        start += len;
    }
    total
}

#[inline(always)]
fn block_values(upper: &[u8], lower: &[u8], cb: &[u8], cr: &[u8], values: &mut [u16]) {
    let len = values.len();
    let (cb, cr) = (&cb[..len], &cr[..len]);
    let (upper, lower) = (upper.as_chunks::<2>().0, lower.as_chunks::<2>().0);
    let (upper, lower) = (&upper[..len], &lower[..len]);
    for x in 0..len {
        let level = |pair: [u8; 2]| i16::from(pair[0]) + i16::from(pair[1]);
        let luma = (level(upper[x]) + level(lower[x]) + 2) >> 2;
        let (cb, cr) = (i16::from(cb[x]) - 128, i16::from(cr[x]) - 128);
        // In 1/128 of a level: 1.402, 1.772, 0.344 and 0.714. The products fit into 16 bits.
        let (red, blue, green) = (179 * cr, 227 * cb, -44 * cb - 91 * cr);
        let offset = (red.max(green).max(blue) + 64) >> 7;
        values[x] = (luma + offset).clamp(0, 255) as u16;
    }
}

#[multiversion(targets("x86_64+avx2"))]
pub(super) fn largest_sum(row: &[u8]) -> u64 {
    largest_sum_here(row)
}

/// The same, compiled for the instruction set of its caller.
#[inline(always)]
pub(super) fn largest_sum_here(row: &[u8]) -> u64 {
    let (pixels, _) = row.as_chunks::<3>();
    pixels.iter().map(|&[r, g, b]| u64::from(r.max(g).max(b))).sum()
}
