//! The figures of golden pictures sent as YUV, compared with those OpenCV found for their RGB.

use std::path::Path;

use framepress::internals::image::{
    Bounds, Decoder, Format, InputImage, Matrix, Needs, Picture, PixelLayout, Range, RawLayout,
};
use serde_json::Value;

use super::parity::check;

/// Largest difference of a score, as for RGB pixels.
const SCORE: f64 = 0.01;

/// The same for limited range: 220 levels of luma become 256, and rounding looks like noise in
/// smooth pictures.
const SCORE_LIMITED: f64 = 0.02;

/// The same if luma is recomputed with chroma of 2x2 pixels: the input is BT.709, the figures use
/// BT.601. As for lossy codecs.
const SCORE_709: f64 = 0.05;

/// Exact luma and chroma of a pixel, in levels.
fn yuv(pixel: [f64; 3], range: Range, matrix: Matrix) -> [f64; 3] {
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
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

/// A picture in a layout: chroma is the mean of the pixels it covers, rows are padded to `stride`.
fn laid_out(
    pixels: &[u8],
    (width, height): (usize, usize),
    layout: PixelLayout,
    (range, matrix): (Range, Matrix),
    stride: usize,
) -> Vec<u8> {
    let at = |x: usize, y: usize| {
        let at = 3 * (y.min(height - 1) * width + x.min(width - 1));
        yuv([0, 1, 2].map(|of| f64::from(pixels[at + of])), range, matrix)
    };
    let rows_of_chroma = if layout == PixelLayout::Yuyv422 { 1 } else { 2 };
    let chroma = |x: usize, y: usize, of: usize| {
        let rows = y..y + rows_of_chroma;
        let all = rows.flat_map(|y| [at(x, y)[of], at(x + 1, y)[of]]);
        (all.sum::<f64>() / (2 * rows_of_chroma) as f64).round() as u8
    };
    let luma = |x: usize, y: usize| at(x, y)[0].round() as u8;
    let columns = || (0..width).step_by(2);
    let padded = |row: Vec<u8>, stride: usize| {
        let padding = stride.saturating_sub(row.len());
        [row, vec![0xee; padding]].concat()
    };
    let first =
        || (0..height).flat_map(|y| padded((0..width).map(|x| luma(x, y)).collect(), stride));
    let plane = |of: usize| {
        let row = move |y| padded(columns().map(|x| chroma(x, y, of)).collect(), stride / 2);
        (0..height).step_by(2).flat_map(row).collect::<Vec<_>>()
    };
    match layout {
        PixelLayout::Yuyv422 => {
            let four = |x, y| [luma(x, y), chroma(x, y, 1), luma(x + 1, y), chroma(x, y, 2)];
            (0..height)
                .flat_map(|y| padded(columns().flat_map(|x| four(x, y)).collect(), stride))
                .collect()
        }
        PixelLayout::Nv12 => {
            let row = |y| columns().flat_map(|x| [1, 2].map(|of| chroma(x, y, of))).collect();
            let pairs = (0..height).step_by(2).flat_map(|y| padded(row(y), stride));
            first().chain(pairs).collect()
        }
        _ => first().chain(plane(1)).chain(plane(2)).collect(),
    }
}

#[test]
fn yuv_pixels_have_the_figures_of_their_colours() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let mut decoder = Decoder::new(Bounds { pixels_max: 1 << 24 }).unwrap();
    let (mut store, mut worst) = (Picture::default(), [(0.0, String::new()), (0.0, String::new())]);
    for (name, golden) in golden["frames"].as_object().unwrap() {
        if golden["channels"] != 3 {
            continue;
        }
        let png = std::fs::read(folder.join(format!("{name}.png"))).unwrap();
        let needs = Needs { planes: false, interleaved: true };
        let view = decoder.decode(&InputImage::file(Format::Png, &png), needs, &mut store).unwrap();
        let (size, pixels) = ((view.width, view.height), view.interleaved.unwrap().to_vec());
        for layout in
            [PixelLayout::Yuyv422, PixelLayout::Yuv420p, PixelLayout::Yuvj420p, PixelLayout::Nv12]
        {
            for range in [Range::Limited, Range::Full] {
                for matrix in [Matrix::Bt601, Matrix::Bt709] {
                    for stride in [0, 2 * size.0 + 30] {
                        let bytes = laid_out(&pixels, size, layout, (range, matrix), stride);
                        let raw = RawLayout {
                            pixels: Some(layout),
                            row_stride: stride as u32,
                            range: Some(range),
                            matrix,
                        };
                        let source = InputImage {
                            format: Format::Raw,
                            width: size.0 as u32,
                            height: size.1 as u32,
                            channels: 0,
                            layout: raw,
                            bytes: &bytes,
                        };
                        let what = format!("{name} {layout:?} {range:?} {matrix:?} {stride}");
                        let most = match (matrix, range) {
                            (Matrix::Bt709, _) => SCORE_709,
                            (_, Range::Limited) => SCORE_LIMITED,
                            (_, Range::Full) => SCORE,
                        };
                        let (off, stats) = check(&what, golden, &source, most);
                        let lumas = [("mean_luma", stats.mean_luma), ("std_luma", stats.std_luma)];
                        for (key, ours) in lumas {
                            let theirs = golden[key].as_f64().unwrap();
                            let most = (0.01 * theirs).max(0.5);
                            assert!(
                                (ours - theirs).abs() <= most,
                                "{what} {key}: {ours}, {theirs}"
                            );
                        }
                        let worst = &mut worst[usize::from(matrix == Matrix::Bt709)];
                        if off > worst.0 {
                            *worst = (off, what);
                        }
                    }
                }
            }
        }
    }
    println!("scores are off by at most: {worst:?}");
}
