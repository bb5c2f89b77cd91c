//! Our codecs beside the bare libraries, in the same run: the ratios are the point.
//!
//! Pictures are generated; with `FRAMEPRESS_DATA` set to a folder that has `frames/*.png`, the
//! largest of those is measured as well.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used)]

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use fast_image_resize as fir;
use framepress::frame::{Planes, View};
use framepress::image::{Bounds, Decoder, Encoder, Format, Needs, Picture, Scaler, Source, Target};
use turbojpeg::{Image, PixelFormat, Subsamp};

const BOUNDS: Bounds = Bounds { pixels_max: 1 << 25 };
const PLANES: Needs = Needs { planes: true, interleaved: false };
const PIXELS: Needs = Needs { planes: false, interleaved: true };

struct Frame {
    name: String,
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Frame {
    fn view(&self) -> View<'_> {
        let (width, height) = (self.width, self.height);
        View { width, height, channels: 3, interleaved: Some(&self.rgb), planes: None }
    }

    fn source(&self) -> Source<'_> {
        Source {
            format: Format::Raw,
            width: self.width as u32,
            height: self.height as u32,
            channels: 3,
            bytes: &self.rgb,
        }
    }

    fn image(&self) -> Image<&[u8]> {
        let (width, height) = (self.width, self.height);
        Image { pixels: &self.rgb, width, pitch: 3 * width, height, format: PixelFormat::RGB }
    }
}

/// Slopes, edges and a little noise, roughly as hard to code as a street.
fn generated(width: usize, height: usize) -> Frame {
    let mut state = 1_u32;
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 28) as usize;
            let block = 60 * usize::from((x / 37 + y / 23) % 3 == 0);
            let slope = 100 * x / width + 60 * y / height;
            rgb.extend(
                [slope + noise + block, slope + noise, 200 - slope + noise].map(|v| v as u8),
            );
        }
    }
    Frame { name: format!("{width}x{height}"), width, height, rgb }
}

fn frames() -> Vec<Frame> {
    let mut frames = vec![generated(640, 480), generated(1920, 1080)];
    let Ok(folder) = std::env::var("FRAMEPRESS_DATA") else { return frames };
    let folder = std::fs::read_dir(Path::new(&folder).join("frames")).unwrap();
    // The largest one, by its file.
    let png = |path: &std::path::PathBuf| path.extension().is_some_and(|name| name == "png");
    let largest = folder
        .map(|entry| entry.unwrap().path())
        .filter(png)
        .max_by_key(|path| path.metadata().unwrap().len());
    if let Some(path) = largest {
        let bytes = std::fs::read(path).unwrap();
        let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
        let source = coded(Format::Png, &bytes);
        let view = decoder.decode(&source, PIXELS, &mut store).unwrap();
        let (width, height) = (view.width, view.height);
        let rgb = view.interleaved.unwrap().to_vec();
        frames.push(Frame { name: format!("real-{width}x{height}"), width, height, rgb });
    }
    frames
}

fn coded(format: Format, bytes: &[u8]) -> Source<'_> {
    Source { format, width: 0, height: 0, channels: 0, bytes }
}

fn target(format: Format) -> Target {
    Target { format, quality: 85, webp_method: 1 }
}

fn encoders(c: &mut Criterion) {
    let mut encoder = Encoder::new().unwrap();
    let mut out = Vec::new();
    for frame in frames() {
        let mut group = c.benchmark_group(format!("encode/{}", frame.name));
        let mut bare = turbojpeg::Compressor::new().unwrap();
        bare.set_quality(85).unwrap();
        bare.set_subsamp(Subsamp::Sub2x2).unwrap();
        let mut room = vec![0; bare.buf_len(frame.width, frame.height).unwrap()];
        group.bench_function("jpeg bare", |b| {
            b.iter(|| bare.compress_to_slice(black_box(frame.image()), &mut room).unwrap());
        });
        group.bench_function("jpeg from pixels", |b| {
            b.iter(|| encoder.encode(&frame.view(), &target(Format::Jpeg), &mut out).unwrap());
        });
        let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
        group.bench_function("pixels to planes", |b| {
            b.iter(|| decoder.decode(&frame.source(), PLANES, &mut store).unwrap().width);
        });
        let view = decoder.decode(&frame.source(), PLANES, &mut store).unwrap();
        let view = View { interleaved: None, ..view };
        group.bench_function("jpeg from planes", |b| {
            b.iter(|| encoder.encode(&view, &target(Format::Jpeg), &mut out).unwrap());
        });
        group.bench_function("webp bare", |b| b.iter(|| bare_webp(&frame)));
        for (what, view) in [("webp from pixels", frame.view()), ("webp from planes", view)] {
            group.bench_function(what, |b| {
                b.iter(|| encoder.encode(&view, &target(Format::Webp), &mut out).unwrap());
            });
        }
        group.bench_function("png from pixels", |b| {
            b.iter(|| encoder.encode(&frame.view(), &target(Format::Png), &mut out).unwrap());
        });
        group.finish();
    }
}

/// libwebp as its own example program uses it: RGB in, a memory writer out, method 1.
fn bare_webp(frame: &Frame) -> usize {
    use libwebp_sys::*;
    let mut config = WebPConfig::new().unwrap();
    (config.quality, config.method) = (85.0, 1);
    let mut picture = WebPPicture::new().unwrap();
    (picture.width, picture.height) = (frame.width as i32, frame.height as i32);
    // SAFETY: the pixels are `height` rows of `3 * width` bytes; writer and picture are
    // initialised, used on this thread only, and cleared below.
    unsafe {
        let mut writer = std::mem::zeroed::<WebPMemoryWriter>();
        WebPMemoryWriterInit(&mut writer);
        picture.writer = Some(WebPMemoryWrite);
        picture.custom_ptr = (&raw mut writer).cast();
        assert_ne!(WebPPictureImportRGB(&mut picture, frame.rgb.as_ptr(), 3 * picture.width), 0);
        assert_ne!(WebPEncode(&config, &mut picture), 0);
        WebPPictureFree(&mut picture);
        let len = writer.size;
        WebPMemoryWriterClear(&mut writer);
        len
    }
}

fn decoders(c: &mut Criterion) {
    let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
    let (mut encoder, mut out) = (Encoder::new().unwrap(), Vec::new());
    for frame in frames() {
        let mut group = c.benchmark_group(format!("decode/{}", frame.name));
        for format in [Format::Jpeg, Format::Webp, Format::Png] {
            encoder.encode(&frame.view(), &target(format), &mut out).unwrap();
            for (needs, what) in [(PLANES, "planes"), (PIXELS, "pixels")] {
                group.bench_function(format!("{} to {what}", format.name()), |b| {
                    b.iter(|| {
                        decoder.decode(&coded(format, &out), needs, &mut store).unwrap().width
                    });
                });
            }
        }
        encoder.encode(&frame.view(), &target(Format::Jpeg), &mut out).unwrap();
        let mut again = Vec::new();
        for (needs, what) in [(PLANES, "planes"), (PIXELS, "pixels")] {
            group.bench_function(format!("jpeg to {what} to jpeg"), |b| {
                b.iter(|| {
                    let view = decoder.decode(&coded(Format::Jpeg, &out), needs, &mut store);
                    encoder.encode(&view.unwrap(), &target(Format::Jpeg), &mut again).unwrap();
                });
            });
        }
        let mut bare = turbojpeg::Compressor::new().unwrap();
        bare.set_quality(85).unwrap();
        bare.set_subsamp(Subsamp::Sub2x2).unwrap();
        let mut room = vec![0; bare.buf_len(frame.width, frame.height).unwrap()];
        let mut bare_decoder = turbojpeg::Decompressor::new().unwrap();
        let mut pixels = vec![0; frame.rgb.len()];
        group.bench_function("jpeg to pixels to jpeg, bare", |b| {
            b.iter(|| {
                let (width, height) = (frame.width, frame.height);
                let format = PixelFormat::RGB;
                let image =
                    Image { pixels: &mut pixels[..], width, pitch: 3 * width, height, format };
                bare_decoder.decompress(&out, image).unwrap();
                let image = Image { pixels: &pixels[..], width, pitch: 3 * width, height, format };
                bare.compress_to_slice(image, &mut room).unwrap()
            });
        });
        group.finish();
    }
}

fn scalers(c: &mut Criterion) {
    let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
    for frame in frames() {
        let mut group = c.benchmark_group(format!("scale/{}", frame.name));
        let view = decoder.decode(&frame.source(), PLANES, &mut store).unwrap();
        let planes = view.planes.unwrap();
        let (mut scaler, mut out) = (Scaler::new(), Planes::default());
        group.bench_function("letterbox", |b| {
            b.iter(|| scaler.letterbox(planes, 640, 114, &mut out));
        });
        group.bench_function("thumbnail", |b| b.iter(|| scaler.thumbnail(planes, 128, &mut out)));
        let [cb, cr] = planes.chroma().unwrap();
        let mut resizer = fir::Resizer::new();
        let algorithm = fir::ResizeAlg::Interpolation(fir::FilterType::Bilinear);
        let options = fir::ResizeOptions::new().resize_alg(algorithm);
        let small = |side: usize| (side * 640 / frame.width) as u32;
        let mut targets = [(planes.luma(), 1), (cb, 2), (cr, 2)].map(|(plane, half)| {
            let (width, height) = (small(frame.width) / half, small(frame.height) / half);
            (plane, fir::images::Image::new(width, height, fir::PixelType::U8))
        });
        group.bench_function("letterbox by fast_image_resize", |b| {
            b.iter(|| {
                for (plane, target) in &mut targets {
                    let source = fir::images::ImageRef::new(
                        plane.width as u32,
                        plane.height as u32,
                        plane.samples,
                        fir::PixelType::U8,
                    );
                    resizer.resize(&source.unwrap(), target, &options).unwrap();
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, encoders, decoders, scalers);
criterion_main!(benches);
