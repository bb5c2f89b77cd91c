//! Pixel storage: borrowed planes, owned planes, and the view of a decoded picture.
//!
//! Inside the engine a picture is three planes (Y, Cb, Cr, 4:2:0, full range, BT.601) or one
//! (gray). The chroma planes have `ceil(width / 2) x ceil(height / 2)` samples.

use std::ops::Range;

use multiversion::multiversion;

/// A borrowed plane of 8-bit samples.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// At least `stride * (height - 1) + width` samples, row by row from the top.
    pub samples: &'a [u8],
    /// Samples in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples from the start of one row to the start of the next; at least `width`.
    pub stride: usize,
}

impl<'a> Plane<'a> {
    /// Row `y`, exactly `width` samples.
    ///
    /// # Panics
    /// If `y` is not below `height`.
    pub fn row(&self, y: usize) -> &'a [u8] {
        &self.samples[y * self.stride..][..self.width]
    }

    /// Most rows that [`Plane::sum_columns`] sums: more could overflow 16 bits.
    pub const SUMMED_ROWS_MAX: usize = u16::MAX as usize / 255;

    /// Sums `rows` column by column into `sums`, which has one element for each column.
    ///
    /// # Panics
    /// If there are more than [`Plane::SUMMED_ROWS_MAX`] rows, or some are not in the plane.
    pub fn sum_columns(self, rows: Range<usize>, sums: &mut [u16]) {
        assert!(rows.len() <= Plane::SUMMED_ROWS_MAX);
        sum_columns(self, rows, sums);
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn sum_columns(plane: Plane<'_>, rows: Range<usize>, sums: &mut [u16]) {
    sum_columns_here(plane, rows, sums);
}

/// The same, compiled for the instruction set of its caller.
#[inline(always)]
fn sum_columns_here(plane: Plane<'_>, rows: Range<usize>, sums: &mut [u16]) {
    sums.fill(0);
    let Range { start: mut y, end } = rows;
    while y + 4 <= end {
        let (a, b, c, d) = (plane.row(y), plane.row(y + 1), plane.row(y + 2), plane.row(y + 3));
        for ((((sum, &a), &b), &c), &d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *sum += u16::from(a) + u16::from(b) + (u16::from(c) + u16::from(d));
        }
        y += 4;
    }
    while y < end {
        for (sum, &level) in sums.iter_mut().zip(plane.row(y)) {
            *sum += u16::from(level);
        }
        y += 1;
    }
}

/// Owned planes whose storage is reused from frame to frame.
#[derive(Debug, Default)]
pub struct Planes {
    samples: Vec<u8>,
    width: usize,
    height: usize,
    gray: bool,
}

impl Planes {
    /// Takes the shape of a picture of `width x height` pixels. Samples keep their old values;
    /// storage grows only if no earlier picture was as large.
    pub fn reshape(&mut self, width: usize, height: usize, gray: bool) {
        (self.width, self.height, self.gray) = (width, height, gray);
        let needed = self.luma_len() + 2 * self.chroma_len();
        if self.samples.len() < needed {
            self.samples.resize(needed, 0);
        }
    }

    /// Pixels in a row of the picture.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of the picture.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Whether there is only the luma plane.
    pub fn is_gray(&self) -> bool {
        self.gray
    }

    /// Width of a chroma plane.
    pub fn chroma_width(&self) -> usize {
        self.width.div_ceil(2)
    }

    /// Height of a chroma plane.
    pub fn chroma_height(&self) -> usize {
        self.height.div_ceil(2)
    }

    fn luma_len(&self) -> usize {
        self.width * self.height
    }

    fn chroma_len(&self) -> usize {
        if self.gray { 0 } else { self.chroma_width() * self.chroma_height() }
    }

    /// The luma plane.
    pub fn luma(&self) -> Plane<'_> {
        let samples = &self.samples[..self.luma_len()];
        Plane { samples, width: self.width, height: self.height, stride: self.width }
    }

    /// The two chroma planes, Cb then Cr, unless the picture is gray.
    pub fn chroma(&self) -> Option<[Plane<'_>; 2]> {
        if self.gray {
            return None;
        }
        let (width, height) = (self.chroma_width(), self.chroma_height());
        let (start, len) = (self.luma_len(), self.chroma_len());
        Some([start, start + len].map(|at| Plane {
            samples: &self.samples[at..at + len],
            width,
            height,
            stride: width,
        }))
    }

    /// All samples, Y then Cb then Cr without padding: the layout libjpeg-turbo calls a planar YUV
    /// image with an alignment of 1.
    pub fn samples(&self) -> &[u8] {
        &self.samples[..self.luma_len() + 2 * self.chroma_len()]
    }

    /// The same, mutable.
    pub fn samples_mut(&mut self) -> &mut [u8] {
        let len = self.luma_len() + 2 * self.chroma_len();
        &mut self.samples[..len]
    }

    /// The three planes at once, mutable; the chroma slices are empty for a gray picture.
    pub fn split_mut(&mut self) -> [&mut [u8]; 3] {
        let (luma_len, chroma_len) = (self.luma_len(), self.chroma_len());
        let (luma, rest) = self.samples[..luma_len + 2 * chroma_len].split_at_mut(luma_len);
        let (cb, cr) = rest.split_at_mut(chroma_len);
        [luma, cb, cr]
    }
}

/// A decoded picture in one or both forms.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// 3 for colour, 1 for gray.
    pub channels: usize,
    /// Interleaved RGB or gray, `width * height * channels` bytes without padding.
    pub interleaved: Option<&'a [u8]>,
    /// The planes.
    pub planes: Option<&'a Planes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sizes_round_chroma_up() {
        let mut planes = Planes::default();
        planes.reshape(5, 3, false);
        let [cb, cr] = planes.chroma().unwrap();
        assert_eq!((cb.width, cb.height, cr.samples.len()), (3, 2, 6));
        assert_eq!(planes.samples().len(), 15 + 2 * 6);
        planes.reshape(5, 3, true);
        assert!(planes.chroma().is_none());
        assert_eq!(planes.samples().len(), 15);
    }

    #[test]
    fn sums_of_columns_are_the_same_on_every_instruction_set() {
        for (width, height) in [(1, 1), (7, 3), (64, 8), (333, 257)] {
            let mut state = 12_u32;
            let mut sample = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            };
            let samples: Vec<u8> = (0..width * height).map(|_| sample()).collect();
            let plane = Plane { samples: &samples, width, height, stride: width };
            let (mut chosen, mut baseline) = (vec![1; width], vec![2; width]);
            plane.sum_columns(0..height, &mut chosen);
            sum_columns_here(plane, 0..height, &mut baseline);
            assert_eq!(chosen, baseline, "{width} x {height}");
            let column = |x: usize| (0..height).map(|y| u16::from(samples[y * width + x])).sum();
            assert_eq!(chosen, (0..width).map(column).collect::<Vec<u16>>());
        }
    }
}
