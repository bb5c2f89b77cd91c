//! Tests of the public interface of this module.

mod hostile;
mod huffman;
mod inputs;
mod layouts;
mod odd;
mod round_trip;
mod scaling;
mod upright;

use super::*;
use crate::frame::View;

const BOUNDS: Bounds = Bounds { pixels_max: 1 << 22 };
const ALL: Needs = Needs { planes: true, interleaved: true };
const PLANES: Needs = Needs { planes: true, interleaved: false };
const PIXELS: Needs = Needs { planes: false, interleaved: true };

fn source(format: Format, bytes: &[u8]) -> InputImage<'_> {
    InputImage { format, width: 0, height: 0, channels: 0, layout: Default::default(), bytes }
}

fn raw(pixels: &[u8], width: usize, height: usize) -> InputImage<'_> {
    let channels = (pixels.len() / (width * height)) as u32;
    let (width, height) = (width as u32, height as u32);
    InputImage {
        format: Format::Raw,
        width,
        height,
        channels,
        layout: Default::default(),
        bytes: pixels,
    }
}

fn noise(len: usize, mut seed: u32) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn interleaved(pixels: &[u8], width: usize, height: usize) -> View<'_> {
    let channels = pixels.len() / (width * height);
    View { width, height, channels, interleaved: Some(pixels), planes: None }
}

/// A smooth colourful picture, which every codec preserves well.
fn smooth(width: usize, height: usize) -> Vec<u8> {
    let wave = |at: usize, of: usize, phase: f64| {
        let angle = at as f64 / of.max(96) as f64 * std::f64::consts::TAU;
        (128.0 + 90.0 * (angle + phase).sin()).round() as u8
    };
    let mut pixels = Vec::new();
    for y in 0..height {
        for x in 0..width {
            pixels.extend([
                wave(x, width, 0.0),
                wave(y, height, 1.0),
                wave(x + y, width + height, 2.0),
            ]);
        }
    }
    pixels
}

fn gray(width: usize, height: usize) -> Vec<u8> {
    smooth(width, height).chunks_exact(3).map(|pixel| pixel[1]).collect()
}

fn encode(view: &View<'_>, format: Format, quality: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let target = Target { format, quality, webp_method: 2 };
    Encoder::new().unwrap().encode(view, &target, &mut out).unwrap();
    out
}

/// A JPEG with a restart marker after every row of blocks.
fn with_restart_rows(pixels: &[u8], size: (usize, usize), quality: u8) -> Vec<u8> {
    let codes = Codes::Tables(standard_tables());
    let coding = compress::JpegCoding { quality, restart_rows: true, codes };
    let mut file = Vec::new();
    let mut compressor = compress::Compressor::new().unwrap();
    compressor.compress(pixels, size, false, coding, &mut file).unwrap();
    file
}

/// Interleaved pixels of a coded picture.
fn decode(format: Format, bytes: &[u8]) -> Vec<u8> {
    let mut store = Picture::default();
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let view = decoder.decode(&source(format, bytes), PIXELS, &mut store).unwrap();
    view.interleaved.unwrap().to_vec()
}

fn worst(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn mean(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}
