//! Arithmetic on planes: chroma resampling, padding of odd sizes, and conversion between full and
//! limited range.
//!
//! The loops over slices are kept simple, so that the compiler vectorises them; `multiversion`
//! compiles them for the instruction set of the processor.

use multiversion::multiversion;
use turbojpeg::Subsamp;

use super::turbo::Layout;
use crate::frame::Planes;

/// Grows `buffer` to at least `len` bytes if needed and returns exactly `len` of them, with
/// unspecified contents.
pub(super) fn stretch(buffer: &mut Vec<u8>, len: usize) -> &mut [u8] {
    if buffer.len() < len {
        // Fresh zeroed memory is not resident until it is written; memory from `resize` is.
        *buffer = vec![0; len];
    }
    &mut buffer[..len]
}

/// The 4:2:0 or gray layout of a picture.
pub(super) fn own_layout(width: usize, height: usize, gray: bool) -> Layout {
    let subsampling = if gray { Subsamp::Gray } else { Subsamp::Sub2x2 };
    Layout { width, height, subsampling }
}

/// Whether libjpeg-turbo can work directly on `Planes::samples` of this shape. It cannot for colour
/// of odd width or height, because it expects luma padded to an even size.
pub(super) fn is_direct(layout: Layout) -> bool {
    layout.subsampling == Subsamp::Gray
        || layout.subsampling == Subsamp::Sub2x2 && layout.luma() == (layout.width, layout.height)
}

/// Copies planes into libjpeg-turbo's padded layout. The padding repeats the last column and row.
pub(super) fn pad(planes: &Planes, padded: &mut Vec<u8>) {
    let layout = own_layout(planes.width(), planes.height(), planes.is_gray());
    let (wide, high) = layout.luma();
    let out = stretch(padded, layout.len());
    let (luma_out, chroma_out) = out.split_at_mut(wide * high);
    let luma = planes.luma();
    for (y, row_out) in luma_out.chunks_exact_mut(wide).enumerate() {
        let row = luma.row(y.min(luma.height - 1));
        row_out[..row.len()].copy_from_slice(row);
        row_out[row.len()..].fill(row[row.len() - 1]);
    }
    let luma_len = luma.width * luma.height;
    chroma_out.copy_from_slice(&planes.samples()[luma_len..]);
}

/// Converts planes of any subsampling to 4:2:0 in `planes`. Chroma is averaged if the file has more
/// of it, and repeated if the file has less.
pub(super) fn gather(samples: &[u8], layout: Layout, planes: &mut Planes) {
    planes.reshape(layout.width, layout.height, false);
    let (wide, high) = layout.luma();
    let (chroma_width, chroma_height) = layout.chroma();
    let out_width = planes.chroma_width();
    let (luma, chroma) = samples.split_at(wide * high);
    let (cb, cr) = chroma.split_at(chroma_width * chroma_height);
    let [luma_out, cb_out, cr_out] = planes.split_mut();
    for (row_out, row) in luma_out.chunks_exact_mut(layout.width).zip(luma.chunks_exact(wide)) {
        row_out.copy_from_slice(&row[..layout.width]);
    }
    let (across, down) = layout.subsampling.size();
    for (plane_out, plane) in [(cb_out, cb), (cr_out, &cr[..chroma_width * chroma_height])] {
        for (y, row_out) in plane_out.chunks_exact_mut(out_width).enumerate() {
            let row = |y: usize| &plane[y.min(chroma_height - 1) * chroma_width..][..chroma_width];
            match down {
                1 => across_rows(row(2 * y), row(2 * y + 1), across, row_out),
                2 => across_rows(row(y), row(y), across, row_out),
                _ => across_rows(row(y / 2), row(y / 2), across, row_out),
            }
        }
    }
}

/// Makes one row of 4:2:0 chroma from the two rows that it covers.
#[multiversion(targets("x86_64+avx2"))]
fn across_rows(upper: &[u8], lower: &[u8], across: usize, out: &mut [u8]) {
    let mean = |a: u8, b: u8| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;
    match across {
        1 => {
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2));
            for (out, (a, b)) in out.iter_mut().zip(pairs) {
                let sum = [a[0], a[1], b[0], b[1]].into_iter().map(u16::from).sum::<u16>();
                *out = ((sum + 2) >> 2) as u8;
            }
            if upper.len() % 2 == 1 {
                let end = upper.len() - 1;
                out[end / 2] = mean(upper[end], lower[end]);
            }
        }
        2 => {
            for (out, (&a, &b)) in out.iter_mut().zip(upper.iter().zip(lower)) {
                *out = mean(a, b);
            }
        }
        _ => {
            for (pair, (&a, &b)) in out.chunks_mut(2).zip(upper.iter().zip(lower)) {
                pair.fill(mean(a, b));
            }
        }
    }
}

/// Converts full-range luma (0..255) to the 16..235 of BT.601 video, rounded.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn narrow_luma(full: &[u8], out: &mut [u8]) {
    for (out, &value) in out.iter_mut().zip(full) {
        *out = by_255(u16::from(value) * 219 + 16 * 255);
    }
}

/// Converts full-range chroma to the 16..240 of BT.601 video, rounded; 128 stays 128.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn narrow_chroma(full: &[u8], out: &mut [u8]) {
    for (out, &value) in out.iter_mut().zip(full) {
        *out = by_255(u16::from(value) * 224 + 128 * 31);
    }
}

/// `value / 255`, rounded; exact for values up to 65 152.
#[inline(always)]
fn by_255(value: u16) -> u8 {
    let value = value + 128;
    ((value + (value >> 8)) >> 8) as u8
}

/// Converts luma of 16..235 to full range in place; values outside are clipped.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn widen_luma(samples: &mut [u8]) {
    widen_luma_here(samples);
}

/// The same, compiled for the instruction set of its caller.
#[inline(always)]
pub(super) fn widen_luma_here(samples: &mut [u8]) {
    for value in samples {
        // 255/219 is 1 + 24/146, and the reciprocal of 146 in 2^-23 is exact enough for 219 values.
        let above = u16::from(value.saturating_sub(16).min(219));
        *value = (above + (high(24 * above + 73, 57_457) >> 7)) as u8;
    }
}

/// Converts chroma of 16..240 to full range in place; values outside are clipped.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn widen_chroma(samples: &mut [u8]) {
    widen_chroma_here(samples);
}

/// The same, compiled for the instruction set of its caller.
#[inline(always)]
pub(super) fn widen_chroma_here(samples: &mut [u8]) {
    for value in samples {
        // 255/224 is 1 + 31/224. Counted from 16, what is rounded to the nearest around 128 is
        // rounded up.
        let above = u16::from(value.saturating_sub(16).min(224));
        *value = (above + (high(31 * above + 223, 37_450) >> 7)) as u8;
    }
}

/// The upper half of a product: one instruction in every lane.
#[inline(always)]
fn high(a: u16, b: u16) -> u16 {
    ((u32::from(a) * u32::from(b)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_match_their_definition() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = vec![0; 256];
        narrow_luma(&all, &mut out);
        for (value, &got) in out.iter().enumerate() {
            assert_eq!(got, (16.0 + value as f64 * 219.0 / 255.0).round() as u8);
        }
        widen_luma(&mut out);
        assert!(all.iter().zip(&out).all(|(a, b)| a.abs_diff(*b) <= 1));
        narrow_chroma(&all, &mut out);
        for (value, &got) in out.iter().enumerate() {
            let exact = 128.0 + (value as f64 - 128.0) * 224.0 / 255.0;
            assert_eq!(got, exact.round() as u8);
        }
        widen_chroma(&mut out);
        assert!(all.iter().zip(&out).all(|(a, b)| a.abs_diff(*b) <= 1));
    }

    #[test]
    fn widening_is_the_nearest_of_every_value() {
        let mut luma: Vec<u8> = (0..=255).collect();
        let mut chroma = luma.clone();
        widen_luma(&mut luma);
        widen_chroma(&mut chroma);
        for (value, (&luma, &chroma)) in luma.iter().zip(&chroma).enumerate() {
            let exact = ((value as f64 - 16.0) * 255.0 / 219.0).clamp(0.0, 255.0);
            assert!((exact - f64::from(luma)).abs() <= 0.5, "luma {value}");
            let exact = (128.0 + (value as f64 - 128.0) * 255.0 / 224.0).clamp(0.0, 255.0);
            assert!((exact - f64::from(chroma)).abs() <= 0.5, "chroma {value}");
        }
    }

    #[test]
    fn full_chroma_is_averaged_over_boxes() {
        let layout = Layout { width: 3, height: 3, subsampling: Subsamp::None };
        let mut samples = vec![9; 9];
        samples.extend([0, 10, 20, 30, 40, 50, 60, 70, 80]);
        samples.extend([7; 9]);
        let mut planes = Planes::default();
        gather(&samples, layout, &mut planes);
        let [cb, cr] = planes.chroma().unwrap();
        assert_eq!(cb.samples, [20, 35, 65, 80]);
        assert_eq!(cr.samples, [7; 4]);
    }

    #[test]
    fn padding_repeats_the_edge() {
        let mut planes = Planes::default();
        planes.reshape(3, 1, false);
        planes.samples_mut().copy_from_slice(&[1, 2, 3, 4, 5, 6, 7]);
        let mut padded = Vec::new();
        pad(&planes, &mut padded);
        assert_eq!(padded, [1, 2, 3, 3, 1, 2, 3, 3, 4, 5, 6, 7]);
    }
}
