//! Compares raw layouts with their definition.

use super::*;
use crate::base::error::Reason;

const SIZES: [(usize, usize); 5] = [(64, 48), (63, 47), (1, 1), (6, 3), (389, 5)];

fn padded(rows: impl Iterator<Item = Vec<u8>>, stride: usize) -> Vec<u8> {
    rows.flat_map(|mut row| {
        row.resize(stride.max(row.len()), 0xee);
        row
    })
    .collect()
}

/// Exact luma and chroma of a pixel.
fn yuv(pixel: [f64; 3], range: Range, matrix: Matrix) -> [f64; 3] {
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.212_6, 0.072_2),
    };
    let luma = kr * pixel[0] + (1.0 - kr - kb) * pixel[1] + kb * pixel[2];
    let cb = (pixel[2] - luma) / (2.0 * (1.0 - kb));
    let cr = (pixel[0] - luma) / (2.0 * (1.0 - kr));
    match range {
        Range::Full => [luma, cb + 128.0, cr + 128.0],
        Range::Limited => {
            [16.0 + luma * 219.0 / 255.0, 128.0 + cb * 224.0 / 255.0, 128.0 + cr * 224.0 / 255.0]
        }
    }
}

/// A picture whose colour is the same in every square of two pixels, so that no chroma is lost.
fn squares(width: usize, height: usize) -> Vec<u8> {
    let small = smooth(width.div_ceil(2), height.div_ceil(2));
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let at = 3 * (y / 2 * width.div_ceil(2) + x / 2);
            pixels.extend_from_slice(&small[at..at + 3]);
        }
    }
    pixels
}

/// `pixels` in a layout, rows padded to `stride` if it is not 0.
fn laid_out(
    pixels: &[u8],
    (width, height): (usize, usize),
    layout: PixelLayout,
    range: Range,
    matrix: Matrix,
    stride: usize,
) -> Vec<u8> {
    let at = |x: usize, y: usize| {
        let at = 3 * (y.min(height - 1) * width + x.min(width - 1));
        [pixels[at], pixels[at + 1], pixels[at + 2]]
    };
    let exact = |x: usize, y: usize| {
        yuv(at(x, y).map(f64::from), range, matrix).map(|value| value.round() as u8)
    };
    let packed = |of: &dyn Fn([u8; 3]) -> Vec<u8>| {
        padded((0..height).map(|y| (0..width).flat_map(|x| of(at(x, y))).collect()), stride)
    };
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let luma = || padded((0..height).map(|y| (0..width).map(|x| exact(x, y)[0]).collect()), stride);
    let plane = |index: usize| {
        let row = |y| (0..half_width).map(|x| exact(2 * x, 2 * y)[index]).collect();
        padded((0..half_height).map(row), stride.div_ceil(2))
    };
    match layout {
        PixelLayout::Rgb24 => packed(&|pixel| pixel.to_vec()),
        PixelLayout::Bgr24 => packed(&|[r, g, b]| vec![b, g, r]),
        PixelLayout::Rgba => packed(&|[r, g, b]| vec![r, g, b, 9]),
        PixelLayout::Bgra => packed(&|[r, g, b]| vec![b, g, r, 200]),
        PixelLayout::Gray => packed(&|[_, g, _]| vec![g]),
        PixelLayout::Yuv420p | PixelLayout::Yuvj420p => [luma(), plane(1), plane(2)].concat(),
        PixelLayout::Nv12 => {
            let row = |y| {
                (0..half_width)
                    .flat_map(|x| [exact(2 * x, 2 * y)[1], exact(2 * x, 2 * y)[2]])
                    .collect()
            };
            [luma(), padded((0..half_height).map(row), stride)].concat()
        }
        PixelLayout::Yuyv422 => {
            let row = |y| {
                (0..half_width)
                    .flat_map(|x| {
                        let [left, cb, cr] = exact(2 * x, y);
                        [left, cb, exact(2 * x + 1, y)[0], cr]
                    })
                    .collect()
            };
            padded((0..height).map(row), stride)
        }
    }
}

#[test]
fn every_layout_gives_the_colours_it_stands_for() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let (mut store, mut wanted) = (Picture::default(), Picture::default());
    for (width, height) in SIZES {
        let size = (width, height);
        let pixels = squares(width, height);
        let plain = decoder.decode(&raw(&pixels, width, height), PLANES, &mut wanted).unwrap();
        let want_planes = plain.planes.unwrap().samples();
        for layout in PixelLayout::ALL {
            for range in [None, Some(Range::Limited), Some(Range::Full)] {
                for matrix in [Matrix::Bt601, Matrix::Bt709] {
                    for stride in [0, 4 * width + 16] {
                        let by_itself = match layout {
                            PixelLayout::Yuvj420p => Range::Full,
                            _ => Range::Limited,
                        };
                        let bytes = laid_out(
                            &pixels,
                            size,
                            layout,
                            range.unwrap_or(by_itself),
                            matrix,
                            stride,
                        );
                        let raw = InputImage {
                            format: Format::Raw,
                            width: width as u32,
                            height: height as u32,
                            channels: 0,
                            layout: RawLayout {
                                pixels: Some(layout),
                                row_stride: stride as u32,
                                range,
                                matrix,
                            },
                            bytes: &bytes,
                        };
                        let what = format!("{layout:?} {size:?} {range:?} {matrix:?} {stride}");
                        let view = decoder.decode(&raw, ALL, &mut store).expect(&what);
                        assert_eq!((view.width, view.height), size, "{what}");
                        let got = view.interleaved.unwrap();
                        if layout == PixelLayout::Gray {
                            let green: Vec<u8> = pixels.chunks_exact(3).map(|p| p[1]).collect();
                            assert_eq!((got, view.channels), (&green[..], 1), "{what}");
                            continue;
                        }
                        let most = if layout.is_yuv() { 2 } else { 0 };
                        assert!(worst(got, &pixels) <= most, "{what}: {}", worst(got, &pixels));
                        let planes = view.planes.unwrap().samples();
                        assert!(worst(planes, want_planes) <= 2, "{what}: planes");
                        let alone = decoder.decode(&raw, PLANES, &mut store).unwrap();
                        assert!(worst(alone.planes.unwrap().samples(), want_planes) <= 2);
                        if layout.is_yuv() {
                            assert!(alone.interleaved.is_none(), "{what}: no RGB on this way");
                        }
                    }
                }
            }
        }
    }
}

/// Full-range BT.601 of samples in another range and matrix.
fn full_601([y, cb, cr]: [f64; 3], range: Range, matrix: Matrix) -> [f64; 3] {
    let (y, scale) = match range {
        Range::Limited => ((y - 16.0) * 255.0 / 219.0, 255.0 / 224.0),
        Range::Full => (y, 1.0),
    };
    let (cb, cr) = ((cb - 128.0) * scale, (cr - 128.0) * scale);
    if matrix == Matrix::Bt601 {
        return [y, cb + 128.0, cr + 128.0];
    }
    let (red, blue) = (y + 1.574_8 * cr, y + 1.855_6 * cb);
    let green = (y - 0.212_6 * red - 0.072_2 * blue) / 0.715_2;
    yuv([red, green, blue], Range::Full, Matrix::Bt601)
}

#[test]
fn planes_of_any_samples_are_the_nearest_to_the_definition() {
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let mut store = Picture::default();
    // Wider than the vectors and the chunks of every variant, with an odd rest.
    let (width, height) = (389usize, 6);
    let half = width.div_ceil(2);
    let bytes = noise(width * height + half * height, 1);
    let (luma, chroma) = bytes.split_at(width * height);
    let (cb, cr) = chroma.split_at(half * height / 2);
    for range in [Range::Limited, Range::Full] {
        for matrix in [Matrix::Bt601, Matrix::Bt709] {
            let layout = RawLayout {
                pixels: Some(PixelLayout::Yuv420p),
                range: Some(range),
                matrix,
                ..RawLayout::default()
            };
            let source =
                InputImage { channels: 0, layout, bytes: &bytes, ..raw(&bytes, width, height) };
            let view = decoder.decode(&source, PLANES, &mut store).unwrap();
            let planes = view.planes.unwrap();
            let [got_cb, got_cr] = planes.chroma().unwrap();
            for (at, &y) in luma.iter().enumerate() {
                let of_chroma = at / width / 2 * half + at % width / 2;
                let given = [y, cb[of_chroma], cr[of_chroma]];
                let got = [
                    planes.luma().samples[at],
                    got_cb.samples[of_chroma],
                    got_cr.samples[of_chroma],
                ];
                let exact = full_601(given.map(f64::from), range, matrix);
                for (got, exact) in got.into_iter().zip(exact) {
                    let apart = (f64::from(got) - exact.clamp(0.0, 255.0)).abs();
                    assert!(apart < 0.51, "{given:?} {range:?} {matrix:?}: {got} for {exact}");
                }
            }
        }
    }
}

#[test]
fn lengths_are_checked_to_the_byte() {
    let refusal = |layout: PixelLayout, row_stride, len: usize| {
        let bytes = vec![0; len];
        let layout = RawLayout { pixels: Some(layout), row_stride, ..RawLayout::default() };
        let picture = InputImage {
            format: Format::Raw,
            width: 5,
            height: 3,
            channels: 0,
            layout,
            bytes: &bytes,
        };
        probe(&picture, &BOUNDS).map_err(|reject| reject.reason)
    };
    for (layout, stride, len) in [
        (PixelLayout::Bgr24, 0, 45),
        (PixelLayout::Bgra, 0, 60),
        (PixelLayout::Yuv420p, 0, 15 + 6 + 6),
        (PixelLayout::Nv12, 0, 15 + 12),
        (PixelLayout::Yuyv422, 0, 36),
        // Padding after the last row may be missing.
        (PixelLayout::Bgr24, 16, 48),
        (PixelLayout::Bgr24, 16, 47),
        (PixelLayout::Yuv420p, 8, 24 + 8 + 8),
        (PixelLayout::Yuv420p, 8, 24 + 8 + 7),
        (PixelLayout::Nv12, 8, 24 + 16),
        (PixelLayout::Nv12, 8, 24 + 14),
    ] {
        assert!(refusal(layout, stride, len).is_ok(), "{layout:?} {stride} {len}");
    }
    for (layout, stride, len) in [
        (PixelLayout::Bgr24, 0, 44),
        (PixelLayout::Bgr24, 0, 46),
        (PixelLayout::Bgr24, 16, 46),
        (PixelLayout::Bgr24, 16, 49),
        (PixelLayout::Bgr24, 14, 42),
        (PixelLayout::Yuv420p, 0, 26),
        (PixelLayout::Nv12, 0, 25),
        (PixelLayout::Yuyv422, 0, 30),
        (PixelLayout::Gray, u32::MAX, 15),
    ] {
        assert_eq!(refusal(layout, stride, len), Err(Reason::UnsupportedImage), "{layout:?}");
    }
}
