//! Similarity of a picture to its original: PSNR and SSIM of luma.

use framepress::internals::image::{Bounds, Decoder, Format, InputImage, Needs, Picture};

use crate::Outcome;

/// Constants of SSIM for 8-bit samples (Wang et al., IEEE Transactions on Image Processing 13,
/// 2004).
const C1: f64 = 6.5025;
const C2: f64 = 58.5225;
/// Side of a window, and the step from one to the next, in pixels.
const WINDOW: usize = 8;

/// Luma of the picture in a file.
pub fn luma_of_file(format: Format, bytes: &[u8]) -> Outcome<Vec<f64>> {
    let mut decoder = Decoder::new(Bounds { pixels_max: 1 << 25 })?;
    let source =
        InputImage { format, width: 0, height: 0, channels: 0, layout: Default::default(), bytes };
    let mut store = Picture::default();
    let needs = Needs { planes: false, interleaved: true };
    let view = decoder.decode(&source, needs, &mut store).map_err(|reject| reject.to_string())?;
    Ok(luma(view.interleaved.unwrap_or_default()))
}

/// Luma by BT.601.
pub fn luma(rgb: &[u8]) -> Vec<f64> {
    let weigh = |pixel: &[u8]| {
        0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2])
    };
    rgb.chunks_exact(3).map(weigh).collect()
}

/// PSNR in decibels; 99 for equal pictures.
pub fn psnr(a: &[f64], b: &[f64]) -> f64 {
    let error: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>() / a.len() as f64;
    if error < 1e-9 { 99.0 } else { 10.0 * (255.0 * 255.0 / error).log10() }
}

/// SSIM: the mean over windows of 8x8.
pub fn ssim(a: &[f64], b: &[f64], width: usize) -> f64 {
    let height = a.len() / width;
    let (mut sum, mut windows) = (0.0, 0.0);
    for top in (0..=height.saturating_sub(WINDOW)).step_by(WINDOW) {
        for left in (0..=width.saturating_sub(WINDOW)).step_by(WINDOW) {
            let [mut ma, mut mb, mut aa, mut bb, mut ab] = [0.0; 5];
            for y in top..top + WINDOW {
                for at in y * width + left..y * width + left + WINDOW {
                    ma += a[at];
                    mb += b[at];
                    aa += a[at] * a[at];
                    bb += b[at] * b[at];
                    ab += a[at] * b[at];
                }
            }
            let n = (WINDOW * WINDOW) as f64;
            (ma, mb) = (ma / n, mb / n);
            let (va, vb, cov) = (aa / n - ma * ma, bb / n - mb * mb, ab / n - ma * mb);
            sum += (2.0 * ma * mb + C1) * (2.0 * cov + C2)
                / ((ma * ma + mb * mb + C1) * (va + vb + C2));
            windows += 1.0;
        }
    }
    sum / windows
}
