//! The picture as the background model sees it: box averages of luma, small and nearly free of
//! sensor noise.

use multiversion::multiversion;

use crate::frame::Plane;

/// Longest side of the reduced picture, in samples. On the sample video, factors of 4, 5, 6
/// and 8 followed full-size MOG2 equally well (within 0.001); 160 keeps small regions meaningful.
const LONG_SIDE: usize = 160;

/// Rows summed in 16 bits before they are carried over.
const ROWS_MAX: usize = 257;
const _: () = assert!(ROWS_MAX * 255 <= u16::MAX as usize);

/// Reusable low-resolution luma: averages over boxes of `factor x factor` pixels, in 1/256 level.
///
/// The factor is the smallest that brings the long side to 160 samples or less. Boxes at the right
/// and lower edge may be cut off; they average what is there. Storage is reused while the picture
/// does not grow.
#[derive(Debug, Default)]
pub struct Reduced {
    samples: Vec<u16>,
    column_sums: Vec<u16>,
    box_sums: Vec<u32>,
    shape: Shape,
}

/// What makes two reduced pictures comparable sample by sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Size of the full picture, in pixels.
    pub width: usize,
    pub height: usize,
    /// Pixels along a box.
    pub factor: usize,
}

impl Shape {
    fn of(width: usize, height: usize) -> Self {
        Shape { width, height, factor: width.max(height).div_ceil(LONG_SIDE).max(1) }
    }

    /// Boxes in a row.
    pub fn columns(&self) -> usize {
        self.width.div_ceil(self.factor.max(1))
    }

    /// Rows of boxes.
    pub fn rows(&self) -> usize {
        self.height.div_ceil(self.factor.max(1))
    }
}

impl Reduced {
    /// An empty one, without storage.
    pub fn new() -> Self {
        Reduced::default()
    }

    /// Takes the box averages of `luma`.
    pub fn fill(&mut self, luma: Plane<'_>) {
        self.shape = Shape::of(luma.width, luma.height);
        let columns = self.shape.columns();
        self.samples.resize(columns * self.shape.rows(), 0);
        self.column_sums.resize(luma.width, 0);
        self.box_sums.resize(columns, 0);
        if self.samples.is_empty() {
            return;
        }
        let factor = self.shape.factor;
        for (band, samples) in self.samples.chunks_exact_mut(columns).enumerate() {
            let top = band * factor;
            let bottom = (top + factor).min(luma.height);
            self.box_sums.fill(0);
            for first in (top..bottom).step_by(ROWS_MAX) {
                let last = (first + ROWS_MAX).min(bottom);
                sum_columns(luma, first, last, &mut self.column_sums);
                let boxes = self.column_sums.chunks(factor);
                for (sum, columns) in self.box_sums.iter_mut().zip(boxes) {
                    *sum += columns.iter().map(|&v| u32::from(v)).sum::<u32>();
                }
            }
            average(&self.box_sums, samples, luma.width, factor, bottom - top);
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// Averages in 1/256 level, row by row.
    pub(super) fn samples(&self) -> &[u16] {
        &self.samples
    }

    /// Samples in a row and rows of the reduced picture.
    pub fn size(&self) -> (usize, usize) {
        (self.shape.columns(), self.shape.rows())
    }
}

/// Sums rows `first..last` column by column.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn sum_columns(luma: Plane<'_>, first: usize, last: usize, sums: &mut [u16]) {
    sum_columns_here(luma, first, last, sums);
}

/// The same, compiled for whatever its caller is compiled for.
#[inline(always)]
pub(super) fn sum_columns_here(luma: Plane<'_>, first: usize, last: usize, sums: &mut [u16]) {
    sums.fill(0);
    let mut y = first;
    while y + 4 <= last {
        let (a, b, c, d) = (luma.row(y), luma.row(y + 1), luma.row(y + 2), luma.row(y + 3));
        for ((((sum, &a), &b), &c), &d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *sum += u16::from(a) + u16::from(b) + (u16::from(c) + u16::from(d));
        }
        y += 4;
    }
    while y < last {
        for (sum, &level) in sums.iter_mut().zip(luma.row(y)) {
            *sum += u16::from(level);
        }
        y += 1;
    }
}

/// Turns box sums into averages in 1/256 level; the last box of a row may be narrower.
fn average(sums: &[u32], samples: &mut [u16], width: usize, factor: usize, rows: usize) {
    let whole = 256.0 / (factor * rows) as f64;
    let narrow = width - (samples.len() - 1) * factor;
    for (sample, &sum) in samples.iter_mut().zip(sums) {
        *sample = (f64::from(sum) * whole + 0.5) as u16;
    }
    if let (Some(sample), Some(&sum)) = (samples.last_mut(), sums.last()) {
        *sample = (f64::from(sum) * 256.0 / (narrow * rows) as f64 + 0.5) as u16;
    }
}
