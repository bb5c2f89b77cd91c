//! Tests of all figures: against OpenCV, against the plain twin, and over time.

mod dispatch;
mod footage;
mod parity;
mod single;
mod traffic;

use std::path::{Path, PathBuf};

use crate::frame::{Plane, Planes};

/// The shared data folder, if this machine has it; prints a note if not.
fn data_folder(test: &str) -> Option<PathBuf> {
    let folder = match std::env::var_os("FRAMEPRESS_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    };
    if folder.join("golden.json").is_file() {
        return Some(folder);
    }
    println!("skipped: {test}: no golden.json in {} (set FRAMEPRESS_DATA)", folder.display());
    None
}

/// A tightly packed plane.
fn plane(samples: &[u8], width: usize, height: usize) -> Plane<'_> {
    Plane { samples, width, height, stride: width }
}

/// Planes by the definition: BT.601 full range, luma rounded, chroma averaged over 2x2 pixels.
fn planes_from_rgb(rgb: &[u8], width: usize, height: usize) -> Planes {
    let mut planes = Planes::default();
    planes.reshape(width, height, false);
    let pixel = |x: usize, y: usize| {
        let at = 3 * (y * width + x);
        [f64::from(rgb[at]), f64::from(rgb[at + 1]), f64::from(rgb[at + 2])]
    };
    let (chroma_width, chroma_height) = (planes.chroma_width(), planes.chroma_height());
    let [luma, cb, cr] = planes.split_mut();
    for y in 0..height {
        for x in 0..width {
            let [r, g, b] = pixel(x, y);
            luma[y * width + x] = (0.299 * r + 0.587 * g + 0.114 * b).round() as u8;
        }
    }
    for y in 0..chroma_height {
        for x in 0..chroma_width {
            let (mut blue, mut red, mut count) = (0.0, 0.0, 0.0);
            for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(i, j)| (2 * x + i, 2 * y + j)) {
                if x < width && y < height {
                    let [r, g, b] = pixel(x, y);
                    blue += -0.168_736 * r - 0.331_264 * g + 0.5 * b;
                    red += 0.5 * r - 0.418_688 * g - 0.081_312 * b;
                    count += 1.0;
                }
            }
            cb[y * chroma_width + x] = (128.0 + blue / count).round().clamp(0.0, 255.0) as u8;
            cr[y * chroma_width + x] = (128.0 + red / count).round().clamp(0.0, 255.0) as u8;
        }
    }
    planes
}

/// Repeatable random numbers (xorshift; Marsaglia 2003).
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Nearly Gaussian, mean 0, standard deviation 1: the sum of four bytes, scaled.
    fn gaussian(&mut self) -> f32 {
        let sum: u32 = self.next().to_le_bytes().into_iter().map(u32::from).sum();
        (sum as f32 - 510.0) / 147.8
    }
}
