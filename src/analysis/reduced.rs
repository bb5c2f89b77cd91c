//! The picture for the background model: box averages of luma, small and nearly free of sensor
//! noise.

use crate::frame::Plane;

/// Longest side of the reduced picture, in samples. On the sample video, factors of 4, 5, 6
/// and 8 followed full-size MOG2 equally well (within 0.001); 160 keeps small regions meaningful.
const LONG_SIDE: usize = 160;

/// Reusable low-resolution luma: averages over boxes of `factor x factor` pixels, in 1/256 level.
///
/// The factor is the smallest that brings the long side to 160 samples or less. Boxes at the right
/// and lower edge may be cut off and then average the remaining pixels. Storage is reused while the
/// picture does not grow.
#[derive(Debug, Default)]
pub struct Reduced {
    samples: Vec<u16>,
    column_sums: Vec<u16>,
    box_sums: Vec<u32>,
    shape: ReducedShape,
}

/// Two reduced pictures of the same shape are comparable sample by sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReducedShape {
    /// Size of the full picture, in pixels.
    pub width: usize,
    pub height: usize,
    /// Side of a box, in pixels.
    pub factor: usize,
}

impl ReducedShape {
    fn of(width: usize, height: usize) -> Self {
        ReducedShape { width, height, factor: width.max(height).div_ceil(LONG_SIDE).max(1) }
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

    /// Computes the box averages of `luma`.
    pub fn fill(&mut self, luma: Plane<'_>) {
        self.shape = ReducedShape::of(luma.width, luma.height);
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
            for first in (top..bottom).step_by(Plane::SUMMED_ROWS_MAX) {
                let last = (first + Plane::SUMMED_ROWS_MAX).min(bottom);
                luma.sum_columns(first..last, &mut self.column_sums);
                add_boxes(&self.column_sums, factor, &mut self.box_sums);
            }
            average(&self.box_sums, samples, luma.width, factor, bottom - top);
        }
    }

    pub(super) fn shape(&self) -> ReducedShape {
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

/// Adds the columns of each box to its sum.
fn add_boxes(columns: &[u16], factor: usize, sums: &mut [u32]) {
    // The factors of pictures 640, 1280, 1920 and 3840 pixels wide. A constant width compiles to
    // vector code.
    match factor {
        4 => add_boxes_of::<4>(columns, sums),
        8 => add_boxes_of::<8>(columns, sums),
        12 => add_boxes_of::<12>(columns, sums),
        24 => add_boxes_of::<24>(columns, sums),
        _ => add_narrow(columns.chunks(factor), sums),
    }
}

fn add_boxes_of<const FACTOR: usize>(columns: &[u16], sums: &mut [u32]) {
    let (boxes, rest) = columns.as_chunks::<FACTOR>();
    for (sum, columns) in sums.iter_mut().zip(boxes) {
        *sum += columns.iter().map(|&v| u32::from(v)).sum::<u32>();
    }
    let whole = boxes.len();
    add_narrow(rest.chunks(FACTOR), &mut sums[whole..]);
}

fn add_narrow<'a>(boxes: impl Iterator<Item = &'a [u16]>, sums: &mut [u32]) {
    for (sum, columns) in sums.iter_mut().zip(boxes) {
        *sum += columns.iter().map(|&v| u32::from(v)).sum::<u32>();
    }
}

/// Converts box sums into averages in 1/256 level; the last box of a row may be narrower.
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
