//! The plain twin of [`luma_stats`](super::luma_stats): one pixel at a time, written like the
//! definition. The vector code is tested against it, and pictures too narrow for the vector code
//! use it.

use super::luma::{LumaStats, Sums};
use crate::frame::Plane;

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

/// The same figures as [`luma_stats`](super::luma_stats), bit for bit, without vector code.
pub fn luma_stats(luma: Plane<'_>) -> LumaStats {
    sums(luma).stats()
}

pub(super) fn sums(luma: Plane<'_>) -> Sums {
    let mut sums = Sums::default();
    for y in 0..luma.height {
        let rows = mirrored_rows(&luma, y);
        for x in 0..luma.width {
            sums.add_pixel(rows, x);
            sums.laplacian += i64::from(responses(rows, x).0);
        }
    }
    sums.pixels = luma.width as u64 * luma.height as u64;
    sums
}

/// Row `y` with its neighbours above and below, mirrored at the border.
pub(super) fn mirrored_rows<'a>(luma: &Plane<'a>, y: usize) -> [&'a [u8]; 3] {
    [y as isize - 1, y as isize, y as isize + 1].map(|y| luma.row(reflect(y, luma.height)))
}
