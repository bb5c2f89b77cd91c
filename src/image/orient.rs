//! EXIF orientations, and rotating and mirroring pictures by them.

use super::samples::stretch;
use crate::frame::Planes;

/// Side of the square tiles in which a picture is transposed, in pixels. Source and target of a
/// tile both fit the cache.
const TILE: usize = 32;

/// EXIF orientation number, 1 to 8: how a stored picture is rotated and mirrored to be upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation(u8);

impl Default for Orientation {
    /// Upright as stored.
    fn default() -> Self {
        Orientation(1)
    }
}

impl Orientation {
    /// The orientation of an EXIF number; `None` if the number is not 1 to 8.
    pub fn new(number: u16) -> Option<Orientation> {
        u8::try_from(number).ok().filter(|number| (1..=8).contains(number)).map(Orientation)
    }

    /// EXIF's number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether the picture is upright as stored.
    pub fn is_upright(self) -> bool {
        self.0 == 1
    }

    /// Whether width and height are exchanged.
    pub fn swaps_sides(self) -> bool {
        self.0 >= 5
    }

    /// Whether columns of the stored picture are read from the right.
    fn flips_columns(self) -> bool {
        matches!(self.0, 2 | 3 | 7 | 8)
    }

    /// Whether rows of the stored picture are read from the bottom.
    fn flips_rows(self) -> bool {
        matches!(self.0, 3 | 4 | 6 | 7)
    }

    /// The size of the upright picture.
    pub fn size(self, (width, height): (usize, usize)) -> (usize, usize) {
        if self.swaps_sides() { (height, width) } else { (width, height) }
    }

    /// Whether rotated chroma samples cover the same pixels as before. They do not if a side that
    /// is read backwards is odd: its last sample covers one pixel and would become the first.
    pub(super) fn keeps_chroma(self, (width, height): (usize, usize)) -> bool {
        let odd = |side: usize| side % 2 == 1;
        !(self.flips_columns() && odd(width) || self.flips_rows() && odd(height))
    }
}

/// Rotates and mirrors `source`, pixels of `N` bytes without padding, into `out`.
pub(super) fn orient<const N: usize>(
    source: &[u8],
    (width, height): (usize, usize),
    orientation: Orientation,
    out: &mut [u8],
) {
    let row_at = |y: usize| if orientation.flips_rows() { height - 1 - y } else { y };
    if !orientation.swaps_sides() {
        for (y, row_out) in out.chunks_exact_mut(N * width).take(height).enumerate() {
            let row = &source[row_at(y) * N * width..][..N * width];
            if orientation.flips_columns() {
                let backwards = row.chunks_exact(N).rev();
                for (pixel_out, pixel) in row_out.chunks_exact_mut(N).zip(backwards) {
                    pixel_out.copy_from_slice(pixel);
                }
            } else {
                row_out.copy_from_slice(row);
            }
        }
        return;
    }
    let column_at = |x: usize| if orientation.flips_columns() { width - 1 - x } else { x };
    // Row `y` of the result is a column of the source.
    for top in (0..width).step_by(TILE) {
        for left in (0..height).step_by(TILE) {
            for y in top..(top + TILE).min(width) {
                let column = column_at(y);
                for x in left..(left + TILE).min(height) {
                    let from = N * (row_at(x) * width + column);
                    out[N * (y * height + x)..][..N].copy_from_slice(&source[from..][..N]);
                }
            }
        }
    }
}

/// Rotates and mirrors interleaved RGB in place.
pub(super) fn orient_pixels(
    rgb: &mut [u8],
    size: (usize, usize),
    orientation: Orientation,
    scratch: &mut Vec<u8>,
) {
    let stored = stretch(scratch, rgb.len());
    stored.copy_from_slice(rgb);
    orient::<3>(stored, size, orientation, rgb);
}

/// Rotates and mirrors planes in place. Colour planes require [`Orientation::keeps_chroma`].
pub(super) fn orient_planes(planes: &mut Planes, orientation: Orientation, scratch: &mut Vec<u8>) {
    let (size, gray) = ((planes.width(), planes.height()), planes.is_gray());
    let chroma = (planes.chroma_width(), planes.chroma_height());
    let samples = planes.samples();
    let stored = stretch(scratch, samples.len());
    stored.copy_from_slice(samples);
    let (width, height) = orientation.size(size);
    planes.reshape(width, height, gray);
    let (luma, rest) = stored.split_at(size.0 * size.1);
    let [luma_out, cb_out, cr_out] = planes.split_mut();
    orient::<1>(luma, size, orientation, luma_out);
    if !gray {
        let (cb, cr) = rest.split_at(chroma.0 * chroma.1);
        orient::<1>(cb, chroma, orientation, cb_out);
        orient::<1>(cr, chroma, orientation, cr_out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_is_what_exif_says() {
        // The eight pictures of the EXIF specification, row by row, stored as "abc/def".
        let pictures =
            ["abcdef", "cbafed", "fedcba", "defabc", "adbecf", "daebfc", "fcebda", "cfbead"];
        for (number, want) in (1..).zip(pictures) {
            let orientation = Orientation::new(number).unwrap();
            let mut out = [0; 6];
            orient::<1>(b"abcdef", (3, 2), orientation, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), want, "{number}");
            let wide: Vec<u8> = b"abcdef".iter().flat_map(|&pixel| [pixel; 3]).collect();
            let mut turned = wide.clone();
            orient_pixels(&mut turned, (3, 2), orientation, &mut Vec::new());
            assert!(turned.iter().step_by(3).eq(want.as_bytes()), "{number}");
        }
        assert_eq!(Orientation::new(0), None);
        assert_eq!(Orientation::new(9), None);
    }

    #[test]
    fn larger_pictures_than_a_tile_come_back_after_four_rotations() {
        let (width, height) = (77, 45);
        let picture: Vec<u8> = (0..width * height).map(|at| (at * 7 % 251) as u8).collect();
        let right = Orientation::new(6).unwrap();
        let (mut size, mut now) = ((width, height), picture.clone());
        for _ in 0..4 {
            let mut out = vec![0; now.len()];
            orient::<1>(&now, size, right, &mut out);
            (size, now) = (right.size(size), out);
        }
        assert_eq!(now, picture);
    }
}
