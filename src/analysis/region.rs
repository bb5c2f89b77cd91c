//! A box of the picture with separate figures.

use crate::frame::Plane;

/// A box in picture pixels; it may lie partly or wholly outside the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionBox {
    /// Left edge, pixels from the left of the picture.
    pub x: i32,
    /// Upper edge, pixels from the top.
    pub y: i32,
    /// Pixels across; zero or less is an empty box.
    pub width: i32,
    /// Pixels down; zero or less is an empty box.
    pub height: i32,
}

impl RegionBox {
    /// Left, top, right and bottom of the part inside the picture; `None` if there is none. Right
    /// and bottom are one past the last pixel.
    pub(super) fn clip(&self, width: usize, height: usize) -> Option<[usize; 4]> {
        let (left, right) = clip_axis(self.x, self.width, width)?;
        let (top, bottom) = clip_axis(self.y, self.height, height)?;
        Some([left, top, right, bottom])
    }
}

fn clip_axis(start: i32, len: i32, limit: usize) -> Option<(usize, usize)> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let from = i64::from(start).clamp(0, limit);
    let to = (i64::from(start) + i64::from(len)).clamp(0, limit);
    (from < to).then_some((from as usize, to as usize))
}

/// Mean luma of the part of the picture that `region` covers, 0 to 255; 0 if it covers nothing.
pub fn region_luma(luma: Plane<'_>, region: &RegionBox) -> f32 {
    let Some([left, top, right, bottom]) = region.clip(luma.width, luma.height) else {
        return 0.0;
    };
    let sum: u64 = (top..bottom)
        .flat_map(|y| luma.row(y)[left..right].chunks(1024))
        .map(|part| u64::from(part.iter().map(|&v| u32::from(v)).sum::<u32>()))
        .sum();
    (sum as f64 / ((right - left) * (bottom - top)) as f64) as f32
}
