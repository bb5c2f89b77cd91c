//! The two small pictures: the ML image (letterboxed) and the thumbnail (area averaged).
//!
//! Both are made from planes, so that JPEG to JPEG never converts to RGB. The scratch tables are
//! reused, so nothing is allocated for a frame. The loops over whole rows are vectorised; the
//! instruction set is chosen at run time, as in the analysis.

use multiversion::multiversion;

use crate::frame::{Plane, Planes};

/// Position of a letterboxed picture in its square, in pixels. All values are even, for the chroma
/// planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Placement {
    /// The largest picture of the same aspect ratio in a square of `size` pixels, centred. Sizes
    /// are rounded to the nearest even number, offsets down to an even number.
    pub(super) fn fit(width: usize, height: usize, size: usize) -> Self {
        let longest = width.max(height).max(1) as f64;
        let most = (size & !1).max(1);
        let scaled = |side: usize| {
            let half = side as f64 * size as f64 / longest / 2.0;
            (2 * half.round() as usize).clamp(most.min(2), most)
        };
        let (width, height) = (scaled(width), scaled(height));
        let middle = |side: usize| ((size - side) / 2) & !1;
        Placement { x: middle(width), y: middle(height), width, height }
    }
}

/// Two neighbouring samples and the weight of the second, in 256ths.
#[derive(Clone, Copy, Debug)]
struct Tap {
    at: u32,
    weight: u16,
}

impl Tap {
    /// The source position of sample `index` when `from` samples are scaled to `to`, with centres
    /// aligned (as OpenCV's `INTER_LINEAR`).
    fn new(index: usize, from: usize, to: usize) -> Self {
        let centre = (index as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let centre = centre.clamp(0.0, (from - 1) as f64);
        Tap { at: centre as u32, weight: (centre.fract() * 256.0).round() as u16 }
    }

    fn mix(self, first: u8, second: u8) -> u8 {
        let sum = u16::from(first) * (256 - self.weight) + u16::from(second) * self.weight;
        ((sum + 128) >> 8) as u8
    }
}

/// Makes small pictures. Each worker has its own.
#[derive(Debug, Default)]
pub struct Scaler {
    taps: Vec<Tap>,
    line: Vec<u8>,
    spans: Vec<SourceSpan>,
    columns: Vec<u16>,
    sums: Vec<u32>,
}

impl Scaler {
    /// A scaler without any scratch memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fits `source` into a square of `size x size` pixels: aspect ratio kept, centred, bilinear
    /// without antialiasing (as OpenCV's `INTER_LINEAR`). The rest is filled with the gray
    /// `padding`. Returns the position of the picture in the square, for mapping detections back.
    ///
    /// # Panics
    /// If `size` is 0 or `source` is empty.
    pub fn letterbox(
        &mut self,
        source: &Planes,
        size: usize,
        padding: u8,
        target: &mut Planes,
    ) -> Placement {
        target.reshape(size, size, source.is_gray());
        let place = Placement::fit(source.width(), source.height(), size);
        let half = Placement {
            x: place.x / 2,
            y: place.y / 2,
            width: place.width.div_ceil(2),
            height: place.height.div_ceil(2),
        };
        let chroma_size = target.chroma_width();
        let [luma, cb, cr] = target.split_mut();
        bars(luma, size, place, padding);
        self.bilinear(source.luma(), luma, size, place);
        if let Some(planes) = source.chroma() {
            for (plane, out) in planes.into_iter().zip([cb, cr]) {
                bars(out, chroma_size, half, 128);
                self.bilinear(plane, out, chroma_size, half);
            }
        }
        place
    }

    /// Interpolates vertically into one line, then horizontally.
    fn bilinear(&mut self, source: Plane<'_>, out: &mut [u8], stride: usize, place: Placement) {
        self.taps.clear();
        self.taps.extend((0..place.width).map(|x| Tap::new(x, source.width, place.width)));
        // One extra sample, so that each tap has a second sample.
        self.line.resize(source.width + 1, 0);
        for y in 0..place.height {
            let (line, end) = self.line.split_at_mut(source.width);
            let tap = Tap::new(y, source.height, place.height);
            let above = tap.at as usize;
            let upper = source.row(above);
            let row = &mut out[(place.y + y) * stride + place.x..][..place.width];
            if tap.weight == 0 {
                if try_shrink(upper, row) {
                    continue;
                }
                line.copy_from_slice(upper);
            } else {
                mix_rows(upper, source.row((above + 1).min(source.height - 1)), tap, line);
                if try_shrink(line, row) {
                    continue;
                }
            }
            end[0] = line[source.width - 1];
            for (out, tap) in row.iter_mut().zip(&self.taps) {
                let pair = &self.line[tap.at as usize..][..2];
                *out = tap.mix(pair[0], pair[1]);
            }
        }
    }

    /// Scales `source` to exactly `size x size` pixels; the aspect ratio is not kept. Each sample
    /// is the mean of the area it covers (as OpenCV's `INTER_AREA` when scaling down; when scaling
    /// up, samples are repeated).
    ///
    /// # Panics
    /// If `size` is 0 or `source` is empty.
    pub fn thumbnail(&mut self, source: &Planes, size: usize, target: &mut Planes) {
        target.reshape(size, size, source.is_gray());
        let chroma_size = target.chroma_width();
        let [luma, cb, cr] = target.split_mut();
        self.area(source.luma(), luma, size);
        if let Some(planes) = source.chroma() {
            for (plane, out) in planes.into_iter().zip([cb, cr]) {
                self.area(plane, out, chroma_size);
            }
        }
    }

    /// Averages areas exactly in integers: positions are counted in `1 / size` of a source sample,
    /// so that the shares of one output sample add up to `width * height`.
    fn area(&mut self, source: Plane<'_>, out: &mut [u8], size: usize) {
        let (width, height) = (source.width, source.height);
        let mean = AreaMean::new(width * height, size);
        self.spans.clear();
        self.spans.extend((0..size).map(|x| SourceSpan::new(x, width, size)));
        self.columns.resize(width, 0);
        self.sums.resize(width, 0);
        let (columns, sums) = (&mut self.columns[..width], &mut self.sums[..width]);
        for (y, row_out) in out.chunks_exact_mut(size).enumerate() {
            let span = SourceSpan::new(y, height, size);
            weigh_ends(source.row(span.first), source.row(span.last), &span, sums);
            for first in (span.first + 1..span.last).step_by(Plane::SUMMED_ROWS_MAX) {
                let last = (first + Plane::SUMMED_ROWS_MAX).min(span.last);
                source.sum_columns(first..last, columns);
                add_scaled(columns, size as u32, sums);
            }
            if try_means(sums, mean, row_out) {
                continue;
            }
            for (out, span) in row_out.iter_mut().zip(&self.spans) {
                let inner = sums.get(span.first + 1..span.last).unwrap_or(&[]);
                let inner: u64 = inner.iter().map(|&sum| u64::from(sum)).sum();
                let ends = u64::from(sums[span.first]) * u64::from(span.first_share)
                    + u64::from(sums[span.last]) * u64::from(span.last_share);
                *out = mean.of(inner * mean.size + ends);
            }
        }
    }
}

/// Divides the weighted sum of an area to give its mean.
#[derive(Clone, Copy, Debug)]
struct AreaMean {
    size: u64,
    total: u64,
    reciprocal: u64,
}

impl AreaMean {
    /// For areas whose shares add up to `total`, counted in `1 / size` of a sample.
    fn new(total: usize, size: usize) -> AreaMean {
        let (size, total) = (size as u64, total as u64);
        AreaMean { size, total, reciprocal: u64::MAX / total }
    }

    /// Multiplies by 2^64 / total, rounded up. Exact up to 2^28 pixels; above that, a sample may be
    /// one level too high.
    #[inline(always)]
    fn of(self, sum: u64) -> u8 {
        let sum = u128::from(sum + self.total / 2);
        ((sum * u128::from(self.reciprocal) + sum) >> 64) as u8
    }
}

/// Scales a row to a whole fraction of its length, the usual case for camera resolutions: all taps
/// are then evenly spaced and have the same weight. Returns false if there is no specialised loop
/// for the fraction.
#[multiversion(targets("x86_64+avx2"))]
fn try_shrink(line: &[u8], out: &mut [u8]) -> bool {
    match whole_fraction(line.len(), out.len()) {
        1 => out.copy_from_slice(line),
        2 => middles::<2>(line, out),
        3 => middles::<3>(line, out),
        4 => middles::<4>(line, out),
        6 => middles::<6>(line, out),
        _ => return false,
    }
    true
}

/// Takes the middle sample of every `N`, or the mean of the two middle ones.
#[inline(always)]
fn middles<const N: usize>(line: &[u8], out: &mut [u8]) {
    for (out, part) in out.iter_mut().zip(line.chunks_exact(N)) {
        let (a, b) = (u16::from(part[(N - 1) / 2]), u16::from(part[N / 2]));
        *out = ((a + b + 1) >> 1) as u8;
    }
}

/// Averages along a row if each output covers a whole number of samples. Returns false if there is
/// no specialised loop for that number.
#[multiversion(targets("x86_64+avx2"))]
fn try_means(sums: &[u32], mean: AreaMean, out: &mut [u8]) -> bool {
    match whole_fraction(sums.len(), out.len()) {
        5 => means::<5>(sums, mean, out),
        8 => means::<8>(sums, mean, out),
        10 => means::<10>(sums, mean, out),
        15 => means::<15>(sums, mean, out),
        20 => means::<20>(sums, mean, out),
        30 => means::<30>(sums, mean, out),
        _ => return false,
    }
    true
}

#[inline(always)]
fn means<const N: usize>(sums: &[u32], mean: AreaMean, out: &mut [u8]) {
    for (out, part) in out.iter_mut().zip(sums.chunks_exact(N)) {
        let sum: u64 = part.iter().map(|&sum| u64::from(sum)).sum();
        *out = mean.of(sum * mean.size);
    }
}

/// `long / short`; 0 if there is a remainder.
fn whole_fraction(long: usize, short: usize) -> usize {
    if long.is_multiple_of(short) { long / short } else { 0 }
}

/// Fills the square outside the picture.
fn bars(out: &mut [u8], stride: usize, place: Placement, level: u8) {
    for (y, row) in out.chunks_exact_mut(stride).enumerate() {
        if (place.y..place.y + place.height).contains(&y) {
            row[..place.x].fill(level);
            row[place.x + place.width..].fill(level);
        } else {
            row.fill(level);
        }
    }
}

/// Mixes two rows sample by sample.
#[multiversion(targets("x86_64+avx2"))]
fn mix_rows(upper: &[u8], lower: &[u8], tap: Tap, out: &mut [u8]) {
    for (out, (&a, &b)) in out.iter_mut().zip(upper.iter().zip(lower)) {
        *out = tap.mix(a, b);
    }
}

/// Weights the first and the last row under an output row by their shares.
#[multiversion(targets("x86_64+avx2"))]
fn weigh_ends(first: &[u8], last: &[u8], span: &SourceSpan, sums: &mut [u32]) {
    let (first_share, last_share) = (span.first_share, span.last_share);
    for (sum, (&first, &last)) in sums.iter_mut().zip(first.iter().zip(last)) {
        *sum = u32::from(first) * first_share + u32::from(last) * last_share;
    }
}

/// Adds `columns` multiplied by `times` to `sums`.
#[multiversion(targets("x86_64+avx2"))]
fn add_scaled(columns: &[u16], times: u32, sums: &mut [u32]) {
    for (sum, &column) in sums.iter_mut().zip(columns) {
        *sum += u32::from(column) * times;
    }
}

/// The source samples under one output sample. All samples between the first and the last are
/// covered wholly, with a share of `to`.
#[derive(Debug)]
struct SourceSpan {
    first: usize,
    last: usize,
    first_share: u32,
    last_share: u32,
}

impl SourceSpan {
    fn new(index: usize, from: usize, to: usize) -> Self {
        let (start, end) = (index * from, (index + 1) * from);
        let (first, last) = (start / to, (end - 1) / to);
        let first_share = (end.min((first + 1) * to) - start) as u32;
        let last_share = if last == first { 0 } else { (end - last * to) as u32 };
        SourceSpan { first, last, first_share, last_share }
    }
}
