//! The sums over a luma plane that both implementations add up, the figures of these sums, and the
//! 3x3 filters of one pixel.

use crate::frame::Plane;

/// Raw figures of one luma plane, in units of 8-bit levels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LumaStats {
    /// Number of pixels.
    pub pixels: u64,
    /// Mean level, 0 to 255.
    pub mean_luma: f64,
    /// Standard deviation of the level (of the population, as `cv2.meanStdDev`).
    pub std_luma: f64,
    /// Variance of the 3x3 Laplacian `[0 1 0; 1 -4 1; 0 1 0]` (as `cv2.Laplacian` with `ksize` 1).
    pub laplacian_variance: f64,
    /// Standard deviation of the 3x3 high-pass (8 in the middle, -1 around), each value clamped to
    /// 0..255 (as `cv2.filter2D` with 8-bit output).
    pub high_pass_std: f64,
}

/// Integer sums over a plane, on which the two implementations must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub pixels: u64,
    pub luma: u64,
    pub luma_squared: u64,
    pub laplacian: i64,
    pub laplacian_squared: u64,
    pub high_pass: u64,
    pub high_pass_squared: u64,
}

impl Sums {
    /// Adds everything about column `x` except the sum of the Laplacian, which has a shortcut.
    pub fn add_pixel(&mut self, rows: [&[u8]; 3], x: usize) {
        let level = u64::from(rows[1][x]);
        let (laplacian, high_pass) = responses(rows, x);
        self.luma += level;
        self.luma_squared += level * level;
        self.laplacian_squared += (laplacian * laplacian) as u64;
        self.high_pass += high_pass as u64;
        self.high_pass_squared += (high_pass * high_pass) as u64;
    }

    pub fn stats(&self) -> LumaStats {
        let variance = |sum: i64, squared: u64| variance(self.pixels, sum, squared);
        LumaStats {
            pixels: self.pixels,
            mean_luma: self.luma as f64 / self.pixels.max(1) as f64,
            std_luma: variance(self.luma as i64, self.luma_squared).sqrt(),
            laplacian_variance: variance(self.laplacian, self.laplacian_squared),
            high_pass_std: variance(self.high_pass as i64, self.high_pass_squared).sqrt(),
        }
    }
}

/// `E[v²] - E[v]²`, with an exact subtraction.
fn variance(count: u64, sum: i64, squared: u64) -> f64 {
    let count = i128::from(count.max(1));
    let sum = i128::from(sum);
    (count * i128::from(squared) - sum * sum) as f64 / (count * count) as f64
}

/// The index that replaces `at` on an axis of `len` samples. Beyond an end it is mirrored without
/// repeating the end sample, and an axis of one sample has only that one.
///
/// This is OpenCV's `BORDER_REFLECT_101` for a distance of one.
pub(super) fn reflect(at: isize, len: usize) -> usize {
    match at {
        _ if len == 1 => 0,
        -1 => 1,
        at if at as usize >= len => len - 2,
        at => at as usize,
    }
}

/// The 3x3 Laplacian and the clamped 3x3 high-pass at column `x`; `rows` are the rows above, at and
/// below, already mirrored.
pub(super) fn responses(rows: [&[u8]; 3], x: usize) -> (i32, i32) {
    let width = rows[1].len();
    let columns = [reflect(x as isize - 1, width), x, reflect(x as isize + 1, width)];
    let at = |row: usize, column: usize| i32::from(rows[row][columns[column]]);
    let middle = at(1, 1);
    let cross = at(0, 1) + at(2, 1) + at(1, 0) + at(1, 2);
    let corners = at(0, 0) + at(0, 2) + at(2, 0) + at(2, 2);
    (cross - 4 * middle, (8 * middle - cross - corners).clamp(0, 255))
}

/// Row `y` with its neighbours above and below, mirrored at the border.
pub(super) fn mirrored_rows<'a>(luma: &Plane<'a>, y: usize) -> [&'a [u8]; 3] {
    [y as isize - 1, y as isize, y as isize + 1].map(|y| luma.row(reflect(y, luma.height)))
}
