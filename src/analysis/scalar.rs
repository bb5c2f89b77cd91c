//! The plain twin of [`luma_stats`](super::luma_stats): one pixel at a time, written like the
//! definition. The vector code is tested against it, and pictures too narrow for the vector code
//! use it.

use super::sums::{LumaStats, Sums, mirrored_rows, responses};
use crate::frame::Plane;

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
