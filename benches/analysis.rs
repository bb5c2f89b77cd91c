//! The whole analysis of a 1080p frame beside the JPEG encode of the same frame.
//!
//! The last line is the figure that counts: analysis / encode (quality 85, 4:2:0, from RGB), medians
//! of turns taken alternately, so that a busy machine slows both. Goal: 0.35 or less.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use framepress::analysis::{Background, Reduced, luma_stats, mean_value, mean_value_rgb, scalar};
use framepress::frame::Planes;
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp, YuvImage};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;
const GOAL: f64 = 0.35;

/// A road-like frame: sky, textured ground, vehicles, sensor noise; moved by `shift` pixels. Kept
/// calm, so that its encode costs no more than that of a real frame and does not flatter the ratio.
fn draw(shift: usize) -> Vec<u8> {
    let mut state = 0x2545_f491u32;
    let mut rgb = Vec::with_capacity(WIDTH * HEIGHT * 3);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let noise = (state % 5) as i32 - 2;
            let texture = ((x * 7 / 5) ^ (y * 3)) as i32 % 7;
            let vehicle = y > 500 && ((x + shift) / 240).is_multiple_of(3) && y / 160 % 2 == 0;
            let base = match () {
                () if y < 300 => [150 + (y / 10) as i32, 180, 220 - (y / 12) as i32],
                () if vehicle => [40 + texture, 60, 140 - (x % 240) as i32 / 4],
                () => [90 + texture, 92 + texture, 98 + texture],
            };
            rgb.extend(base.map(|v| (v + noise).clamp(0, 255) as u8));
        }
    }
    rgb
}

fn image(rgb: &[u8]) -> Image<&[u8]> {
    Image { pixels: rgb, width: WIDTH, pitch: WIDTH * 3, height: HEIGHT, format: PixelFormat::RGB }
}

/// Planes as libjpeg-turbo makes them.
fn planes(rgb: &[u8]) -> Planes {
    let yuv = turbojpeg::compress(image(rgb), 100, Subsamp::Sub2x2).unwrap();
    let yuv = turbojpeg::decompress_to_yuv(&yuv).unwrap();
    let mut planes = Planes::default();
    planes.reshape(WIDTH, HEIGHT, false);
    let align = yuv.align;
    assert!((WIDTH / 2).is_multiple_of(align), "no padding at this size");
    planes.samples_mut().copy_from_slice(&yuv.pixels);
    planes
}

struct Analysis {
    reduced: Reduced,
    background: Background,
    seconds: f64,
}

impl Analysis {
    fn run(&mut self, planes: &Planes) {
        self.seconds += 0.04;
        black_box(luma_stats(planes.luma()));
        black_box(mean_value(planes));
        self.reduced.fill(planes.luma());
        black_box(self.background.update(&self.reduced, self.seconds));
    }
}

fn analysis(criterion: &mut Criterion) {
    let rgb = draw(0);
    let frames = [planes(&rgb), planes(&draw(12))];
    let planes = &frames[0];
    assert_eq!(luma_stats(planes.luma()), scalar::luma_stats(planes.luma()));

    let mut encoder = Compressor::new().unwrap();
    encoder.set_quality(85).unwrap();
    encoder.set_subsamp(Subsamp::Sub2x2).unwrap();
    let mut jpeg = vec![0; encoder.buf_len(WIDTH, HEIGHT).unwrap()];
    let yuv = || YuvImage {
        pixels: planes.samples(),
        width: WIDTH,
        align: 1,
        height: HEIGHT,
        subsamp: Subsamp::Sub2x2,
    };
    let mut whole =
        Analysis { reduced: Reduced::new(), background: Background::new(), seconds: 0.0 };
    whole.run(planes);

    let mut group = criterion.benchmark_group("analysis_1080p");
    group.sample_size(20);
    group.bench_function("luma_stats", |b| b.iter(|| luma_stats(black_box(planes.luma()))));
    group.bench_function("mean_value", |b| b.iter(|| mean_value(black_box(planes))));
    group.bench_function("mean_value_rgb", |b| {
        b.iter(|| mean_value_rgb(black_box(&rgb), WIDTH, HEIGHT));
    });
    group.bench_function("reduced_fill", |b| {
        b.iter(|| whole.reduced.fill(black_box(planes.luma())));
    });
    group.bench_function("background_update", |b| {
        b.iter(|| {
            whole.seconds += 0.04;
            whole.background.update(black_box(&whole.reduced), whole.seconds)
        });
    });
    group.bench_function("whole", |b| b.iter(|| whole.run(planes)));
    group.bench_function("jpeg_from_rgb", |b| {
        b.iter(|| encoder.compress_to_slice(image(&rgb), &mut jpeg).unwrap());
    });
    group.bench_function("jpeg_from_planes", |b| {
        b.iter(|| encoder.compress_yuv_to_slice(yuv(), &mut jpeg).unwrap());
    });
    group.finish();

    let (mut ours, mut from_rgb, mut from_planes) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..101 {
        ours.push(milliseconds(|| whole.run(&frames[turn % 2])));
        from_rgb.push(milliseconds(|| {
            encoder.compress_to_slice(image(&rgb), &mut jpeg).unwrap();
        }));
        from_planes.push(milliseconds(|| {
            encoder.compress_yuv_to_slice(yuv(), &mut jpeg).unwrap();
        }));
    }
    let [ours, from_rgb, from_planes] = [ours, from_rgb, from_planes].map(median);
    println!("analysis {ours:.3} ms; JPEG from RGB {from_rgb:.3}, from planes {from_planes:.3} ms");
    println!(
        "analysis / JPEG encode: {:.3} from RGB, {:.3} from planes (goal {GOAL})",
        ours / from_rgb,
        ours / from_planes
    );
}

fn milliseconds(mut work: impl FnMut()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

criterion_group!(benches, analysis);
criterion_main!(benches);
