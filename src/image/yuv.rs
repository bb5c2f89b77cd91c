//! Converts raw luma and chroma to the engine's planes, and to RGB for lossless output.
//!
//! Coefficients: ITU-R BT.601-7 and BT.709-6. Range and matrix are converted in one step, in 16.16
//! fixed point, so that nothing is rounded twice. Each chroma sample applies to all pixels it
//! covers, as in FFmpeg's unscaled conversion.

use multiversion::multiversion;

use super::layout::{Extent, Matrix, PixelLayout, PlaneAt, Range};
use super::samples::{widen_chroma_here, widen_luma_here};
use crate::frame::Planes;

const ONE: f64 = 65_536.0;
const HALF: i32 = 1 << 15;

/// Samples of chroma that are converted at once.
const CHUNK: usize = 64;

/// Converts to 4:2:0 planes, full range, BT.601.
pub(super) fn to_planes(
    bytes: &[u8],
    extent: &Extent,
    (width, height): (usize, usize),
    planes: &mut Planes,
) {
    planes.reshape(width, height, false);
    let half = planes.chroma_width();
    let [luma, cb, cr] = planes.split_mut();
    let change = Change::of(extent.range, extent.matrix);
    let luma = luma.chunks_mut(2 * width);
    let chroma = cb.chunks_exact_mut(half).zip(cr.chunks_exact_mut(half));
    for (y, (luma, (cb, cr))) in luma.zip(chroma).enumerate() {
        convert_rows(bytes, extent, &change, y, &mut RowGroup { luma, width, cb, cr });
    }
}

/// Two rows of luma, or the last one, and the row of chroma that belongs to them.
struct RowGroup<'a> {
    luma: &'a mut [u8],
    width: usize,
    cb: &'a mut [u8],
    cr: &'a mut [u8],
}

/// Copies the rows with chroma row `y` and converts them while they are in the first-level cache.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx512vbmi2", "x86_64+avx2"))]
fn convert_rows(bytes: &[u8], extent: &Extent, change: &Change, y: usize, rows: &mut RowGroup<'_>) {
    copy(bytes, extent, y, rows);
    match change {
        Change::Nothing => {}
        Change::Range => {
            widen_luma_here(rows.luma);
            widen_chroma_here(rows.cb);
            widen_chroma_here(rows.cr);
        }
        Change::Matrix(matrix) => matrix.convert(rows),
    }
}

/// Copies the samples unchanged; chroma of 4:2:2 is averaged over two rows.
#[inline(always)]
fn copy(bytes: &[u8], extent: &Extent, y: usize, rows: &mut RowGroup<'_>) {
    let [Some(first), second, third] = extent.planes else { return };
    let luma = rows.luma.chunks_exact_mut(rows.width).enumerate();
    if extent.pixels == PixelLayout::Yuyv422 {
        for (below, out) in luma {
            let row = first.row(bytes, 2 * y + below);
            for (out, pair) in out.iter_mut().zip(row.chunks_exact(2)) {
                *out = pair[0];
            }
        }
        let upper = first.row(bytes, 2 * y).chunks_exact(4);
        let lower = first.row(bytes, (2 * y + 1).min(first.rows - 1)).chunks_exact(4);
        for ((cb, cr), (a, b)) in rows.cb.iter_mut().zip(&mut *rows.cr).zip(upper.zip(lower)) {
            *cb = mean(a[1], b[1]);
            *cr = mean(a[3], b[3]);
        }
        return;
    }
    for (below, out) in luma {
        out.copy_from_slice(first.row(bytes, 2 * y + below));
    }
    match (second, third) {
        (Some(cb), Some(cr)) => {
            rows.cb.copy_from_slice(cb.row(bytes, y));
            rows.cr.copy_from_slice(cr.row(bytes, y));
        }
        (Some(both), None) => {
            let pairs = both.row(bytes, y).chunks_exact(2);
            for ((cb, cr), pair) in rows.cb.iter_mut().zip(&mut *rows.cr).zip(pairs) {
                (*cb, *cr) = (pair[0], pair[1]);
            }
        }
        _ => {}
    }
}

/// Copies the rows of a plane without their padding.
pub(super) fn copy_rows(bytes: &[u8], at: PlaneAt, out: &mut [u8]) {
    for (y, row_out) in out.chunks_exact_mut(at.used).enumerate() {
        row_out.copy_from_slice(at.row(bytes, y));
    }
}

#[inline(always)]
fn mean(a: u8, b: u8) -> u8 {
    ((u16::from(a) + u16::from(b) + 1) >> 1) as u8
}

fn fixed(value: f64) -> i32 {
    (value * ONE).round() as i32
}

#[inline(always)]
fn rounded(value: i32) -> u8 {
    whole(value + HALF)
}

#[inline(always)]
fn whole(value: i32) -> u8 {
    (value >> 16).clamp(0, 255) as u8
}

/// Offset and scale of luma, and scale of chroma.
fn reach(range: Range) -> (i32, f64, f64) {
    match range {
        Range::Full => (0, 1.0, 1.0),
        Range::Limited => (16, 255.0 / 219.0, 255.0 / 224.0),
    }
}

/// What makes samples full-range BT.601.
enum Change {
    Nothing,
    Range,
    Matrix(FromBt709),
}

impl Change {
    fn of(range: Range, matrix: Matrix) -> Change {
        match (range, matrix) {
            (Range::Full, Matrix::Bt601) => Change::Nothing,
            (Range::Limited, Matrix::Bt601) => Change::Range,
            (range, Matrix::Bt709) => Change::Matrix(FromBt709::of(range)),
        }
    }
}

/// Conversion from BT.709 to full-range BT.601.
struct FromBt709 {
    luma: i32,
    /// What is added to every sample of luma: the offset of the range, and half for rounding.
    base: i32,
    luma_of: [i32; 2],
    cb_of: [i32; 2],
    cr_of: [i32; 2],
}

impl FromBt709 {
    fn of(range: Range) -> FromBt709 {
        let (offset, luma, chroma) = reach(range);
        let pair = |cb: f64, cr: f64| [fixed(cb * chroma), fixed(cr * chroma)];
        FromBt709 {
            luma: fixed(luma),
            base: HALF - offset * fixed(luma),
            luma_of: pair(0.101_579, 0.196_076),
            cb_of: pair(0.989_854, -0.110_653),
            cr_of: pair(-0.072_453, 0.983_399),
        }
    }

    #[inline(always)]
    fn convert(&self, rows: &mut RowGroup<'_>) {
        let chroma = rows.cb.chunks_mut(CHUNK).zip(rows.cr.chunks_mut(CHUNK));
        for (at, (cb, cr)) in chroma.enumerate() {
            let mut of_chroma = [0; 2 * CHUNK];
            let (pairs, _) = of_chroma.as_chunks_mut();
            for (pair, (&cb, &cr)) in pairs.iter_mut().zip(cb.iter().zip(&*cr)) {
                *pair = [apply(self.luma_of, cb, cr) + self.base; 2];
            }
            for row in rows.luma.chunks_exact_mut(rows.width) {
                let end = (2 * CHUNK * (at + 1)).min(rows.width);
                for (luma, add) in row[2 * CHUNK * at..end].iter_mut().zip(of_chroma) {
                    *luma = whole(i32::from(*luma) * self.luma + add);
                }
            }
            for (cb, cr) in cb.iter_mut().zip(cr) {
                let (blue, red) = (*cb, *cr);
                *cb = rounded(apply(self.cb_of, blue, red) + (128 << 16));
                *cr = rounded(apply(self.cr_of, blue, red) + (128 << 16));
            }
        }
    }
}

#[inline(always)]
fn apply([of_cb, of_cr]: [i32; 2], cb: u8, cr: u8) -> i32 {
    (i32::from(cb) - 128) * of_cb + (i32::from(cr) - 128) * of_cr
}

/// Conversion from luma and chroma to red, green and blue.
struct ColourMatrix {
    offset: i32,
    luma: i32,
    red_of_cr: i32,
    green_of: [i32; 2],
    blue_of_cb: i32,
}

impl ColourMatrix {
    fn of(range: Range, matrix: Matrix) -> ColourMatrix {
        let (offset, luma, chroma) = reach(range);
        let [red, green_cb, green_cr, blue] = match matrix {
            Matrix::Bt601 => [1.402, -0.344_136, -0.714_136, 1.772],
            Matrix::Bt709 => [1.574_8, -0.187_324, -0.468_124, 1.855_6],
        };
        ColourMatrix {
            offset,
            luma: fixed(luma),
            red_of_cr: fixed(red * chroma),
            green_of: [fixed(green_cb * chroma), fixed(green_cr * chroma)],
            blue_of_cb: fixed(blue * chroma),
        }
    }

    fn row(
        &self,
        mut luma: impl Iterator<Item = u8>,
        chroma: impl Iterator<Item = (u8, u8)>,
        out: &mut [u8],
    ) {
        for (pixels, (cb, cr)) in out.chunks_mut(6).zip(chroma) {
            let red = (i32::from(cr) - 128) * self.red_of_cr;
            let green = apply(self.green_of, cb, cr);
            let blue = (i32::from(cb) - 128) * self.blue_of_cb;
            for pixel in pixels.chunks_exact_mut(3) {
                let luma = i32::from(luma.next().unwrap_or(0)) - self.offset;
                let luma = luma * self.luma;
                pixel[0] = rounded(luma + red);
                pixel[1] = rounded(luma + green);
                pixel[2] = rounded(luma + blue);
            }
        }
    }
}

/// Converts to interleaved RGB.
pub(super) fn to_rgb(bytes: &[u8], extent: &Extent, width: usize, out: &mut [u8]) {
    let colours = ColourMatrix::of(extent.range, extent.matrix);
    let [Some(first), second, third] = extent.planes else { return };
    for (y, out) in out.chunks_exact_mut(3 * width).enumerate() {
        let row = first.row(bytes, y);
        match (second, third) {
            (Some(cb), Some(cr)) => {
                let chroma = cb.row(bytes, y / 2).iter().zip(cr.row(bytes, y / 2));
                colours.row(row.iter().copied(), chroma.map(|(&cb, &cr)| (cb, cr)), out);
            }
            (Some(both), None) => {
                let chroma = both.row(bytes, y / 2).chunks_exact(2).map(|pair| (pair[0], pair[1]));
                colours.row(row.iter().copied(), chroma, out);
            }
            _ => {
                let luma = row.iter().step_by(2).copied();
                let chroma = row.chunks_exact(4).map(|quad| (quad[1], quad[3]));
                colours.row(luma, chroma, out);
            }
        }
    }
}
