//! Compares our codecs with the bare libraries in the same run; only the ratios matter.
//!
//! `cargo bench --bench codecs -- jpeg` runs the comparisons with `jpeg` in their title. Real
//! frames come from `../shared/data/frames`, or from the folder named by `FRAMEPRESS_DATA`.
//!
//! Goals: our JPEG encode from pixels, without analysis, takes at most 1.05 times as long as the
//! bare library. JPEG in and JPEG out takes at most 1/1.2 of decoding to RGB and encoding that.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod support;

use std::hint::black_box;

use fast_image_resize as fir;
use framepress::internals::frame::{Planes, View};
use framepress::internals::image::{
    Decoder, Encoder, Format, InputImage, Matrix, Picture, PixelLayout, Range, RawLayout, Scaler,
};
use framepress::internals::wire::{self, Scratch};

use support::alternation::{compare, side};
use support::frames::{Frames, coded};
use support::{BOUNDS, EITHER, PIXELS, PLANES, bare, target};

/// Measures the sides of one comparison on some frames and prints them under a title.
type Comparison = fn(String, &Frames);

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |title: &str| filter.as_ref().is_none_or(|filter| title.contains(&**filter));
    for frames in Frames::all() {
        let comparisons: [(&str, Comparison); 8] = [
            ("encode jpeg", encode_jpeg),
            ("recode jpeg", recode_jpeg),
            ("encode webp", encode_webp),
            ("encode png and raw", encode_lossless),
            ("decode", decode),
            ("raw layouts", raw_layouts),
            ("scale", scale),
            ("open json", open_json),
        ];
        for (what, run) in comparisons {
            let title = format!("{what}, {}", frames.name);
            if wanted(&title) {
                run(title, &frames);
            }
        }
    }
}

/// Encoding by our encoder into a reused buffer.
fn encoding<'a>(frames: &'a Frames, format: Format) -> impl FnMut(usize) + 'a {
    let (mut encoder, mut out) = (Encoder::new().unwrap(), Vec::new());
    move |number| {
        encoder.encode(&frames.view(number), &target(format), &mut out).unwrap();
        black_box(&out);
    }
}

/// The same through planes.
fn encoding_planes<'a>(frames: &'a Frames, format: Format) -> impl FnMut(usize) + 'a {
    let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
    let (mut encoder, mut out) = (Encoder::new().unwrap(), Vec::new());
    move |number| {
        let view = decoder.decode(&frames.source(number), PLANES, &mut store).unwrap();
        let view = View { interleaved: None, ..view };
        encoder.encode(&view, &target(format), &mut out).unwrap();
        black_box(&out);
    }
}

/// Every frame encoded to a file.
fn files(frames: &Frames, format: Format) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new().unwrap();
    let file = |number| {
        let mut out = Vec::new();
        encoder.encode(&frames.view(number), &target(format), &mut out).unwrap();
        out
    };
    (0..frames.len()).map(file).collect()
}

fn encode_jpeg(title: String, frames: &Frames) {
    let mut bare = bare::Jpeg::new(frames.width, frames.height);
    let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
    let outcome = compare(
        title,
        frames.len(),
        vec![
            side("tj3Compress8", |number| {
                black_box(bare.encode(frames.rgb(number)));
            }),
            side("ours, from pixels", encoding(frames, Format::Jpeg)),
            side("ours, pixels to planes", |number| {
                decoder.decode(&frames.source(number), PLANES, &mut store).unwrap();
            }),
            side("ours, pixels to planes to jpeg", encoding_planes(frames, Format::Jpeg)),
        ],
    );
    outcome.goal("ours, from pixels", "tj3Compress8", 1.05);
}

fn recode_jpeg(title: String, frames: &Frames) {
    let files = files(frames, Format::Jpeg);
    let mut bare = bare::Jpeg::new(frames.width, frames.height);
    let recoding = |needs| {
        let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
        let (mut encoder, mut out) = (Encoder::new().unwrap(), Vec::new());
        let files = &files;
        move |number: usize| {
            let view = decoder.decode(&coded(Format::Jpeg, &files[number]), needs, &mut store);
            encoder.encode(&view.unwrap(), &target(Format::Jpeg), &mut out).unwrap();
            black_box(&out);
        }
    };
    let outcome = compare(
        title,
        frames.len(),
        vec![
            side("tj3Decompress8 to RGB, tj3Compress8", |number| {
                black_box(bare.recode(&files[number]));
            }),
            side("ours, through planes", recoding(EITHER)),
            side("ours, through RGB", recoding(PIXELS)),
        ],
    );
    outcome.goal("ours, through planes", "tj3Decompress8 to RGB, tj3Compress8", 1.0 / 1.2);
}

fn encode_webp(title: String, frames: &Frames) {
    let size = (frames.width, frames.height);
    compare(
        title,
        frames.len(),
        vec![
            side("WebPPictureImportRGB, WebPEncode", |number| {
                black_box(bare::webp(frames.rgb(number), size, 1));
            }),
            side("ours, from pixels", encoding(frames, Format::Webp)),
            side("ours, pixels to planes to webp", encoding_planes(frames, Format::Webp)),
        ],
    );
}

fn encode_lossless(title: String, frames: &Frames) {
    let formats = [("ours, raw", Format::Raw), ("ours, png", Format::Png)];
    let sides = formats.map(|(name, format)| side(name, encoding(frames, format)));
    compare(title, frames.len(), sides.into());
}

fn decode(title: String, frames: &Frames) {
    let jpegs = files(frames, Format::Jpeg);
    let mut bare = bare::Jpeg::new(frames.width, frames.height);
    let mut sides = vec![side("tj3Decompress8 to RGB", |number| bare.decode(&jpegs[number]))];
    for (name, format, needs) in [
        ("ours, jpeg to planes", Format::Jpeg, PLANES),
        ("ours, jpeg to RGB", Format::Jpeg, PIXELS),
        ("ours, webp to planes", Format::Webp, PLANES),
        ("ours, webp to RGB", Format::Webp, PIXELS),
        ("ours, png to RGB", Format::Png, PIXELS),
        ("ours, png to planes", Format::Png, PLANES),
    ] {
        let files = files(frames, format);
        let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
        sides.push(side(name, move |number| {
            decoder.decode(&coded(format, &files[number]), needs, &mut store).unwrap();
        }));
    }
    compare(title, frames.len(), sides);
}

/// Planes from raw pixels of each layout. The time does not depend on the pixels.
fn raw_layouts(title: String, frames: &Frames) {
    let (width, height) = (frames.width, frames.height);
    let bytes = vec![77; 4 * width * height];
    let mut copied = vec![0; width * height * 3 / 2];
    let mut sides = vec![side("copying 4:2:0", |_| {
        let len = copied.len();
        copied.copy_from_slice(&bytes[..len]);
        black_box(&copied);
    })];
    let limited = (Some(Range::Limited), Matrix::Bt601);
    for (name, (range, matrix), pixels) in [
        ("yuvj420p", (None, Matrix::Bt601), PixelLayout::Yuvj420p),
        ("yuv420p", limited, PixelLayout::Yuv420p),
        ("yuv420p, BT.709", (None, Matrix::Bt709), PixelLayout::Yuv420p),
        ("nv12", limited, PixelLayout::Nv12),
        ("yuyv422", limited, PixelLayout::Yuyv422),
        ("bgr24", limited, PixelLayout::Bgr24),
        ("bgra", limited, PixelLayout::Bgra),
    ] {
        let layout = RawLayout { pixels: Some(pixels), row_stride: 0, range, matrix };
        let len = match pixels {
            PixelLayout::Bgr24 => 3 * width * height,
            PixelLayout::Bgra => 4 * width * height,
            PixelLayout::Yuyv422 => 2 * width * height,
            _ => width * height * 3 / 2,
        };
        let source = InputImage {
            format: Format::Raw,
            width: width as u32,
            height: height as u32,
            channels: 0,
            layout,
            bytes: &bytes[..len],
        };
        let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
        sides.push(side(name, move |_| {
            decoder.decode(&source, PLANES, &mut store).unwrap();
        }));
    }
    compare(title, 1, sides);
}

/// Opens legacy JSON up to the image file in it, including the look-up of the camera for ordering.
fn open_json(title: String, frames: &Frames) {
    let coded: Vec<String> = files(frames, Format::Jpeg)
        .iter()
        .map(|file| base64_simd::STANDARD.encode_to_string(file))
        .collect();
    let entries: Vec<String> = coded
        .iter()
        .map(|text| {
            format!(
                r#"{{"frame_id": "f-000001", "camera_id": "camera-1", "timestamp": 1700000000.25, "image_base64": "{text}"}}"#
            )
        })
        .collect();
    let mut scratch = Scratch::default();
    let mut room = vec![0; coded.iter().map(String::len).max().unwrap_or(0)];
    let alone = side("base64 alone", |number| {
        let out = base64_simd::Out::from_slice(&mut room);
        black_box(base64_simd::STANDARD.decode(coded[number].as_bytes(), out).unwrap().len());
    });
    let ours = side("camera and picture of an entry", |number| {
        let data = entries[number].as_bytes();
        black_box(wire::camera_of(data, 1 << 26));
        black_box(wire::open(data, 1 << 25, &mut scratch).unwrap().image.bytes.len());
    });
    compare(title, frames.len(), vec![alone, ours]);
}

/// Compares our scaler with `fast_image_resize`, which has the same two filters.
fn scale(title: String, frames: &Frames) {
    let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
    let view = decoder.decode(&frames.source(0), PLANES, &mut store).unwrap();
    let planes = view.planes.unwrap();
    let (high, wide) = (frames.height * 640 / frames.width, 640);
    let bilinear = fir::ResizeAlg::Interpolation(fir::FilterType::Bilinear);
    let sides = vec![
        side("fast_image_resize, letterbox", by_library(planes, bilinear, (wide, high))),
        side(
            "ours, letterbox",
            scaling(|scaler, out| {
                black_box(scaler.letterbox(planes, 640, 114, out));
            }),
        ),
        side(
            "fast_image_resize, thumbnail",
            by_library(planes, fir::ResizeAlg::Convolution(fir::FilterType::Box), (128, 128)),
        ),
        side("ours, thumbnail", scaling(|scaler, out| scaler.thumbnail(planes, 128, out))),
    ];
    compare(title, 1, sides);
}

fn scaling<'a>(run: impl Fn(&mut Scaler, &mut Planes) + 'a) -> impl FnMut(usize) + 'a {
    let (mut scaler, mut out) = (Scaler::new(), Planes::default());
    move |_| run(&mut scaler, &mut out)
}

fn by_library<'a>(
    planes: &'a Planes,
    algorithm: fir::ResizeAlg,
    (width, height): (usize, usize),
) -> impl FnMut(usize) + 'a {
    let [cb, cr] = planes.chroma().unwrap();
    let mut resizer = fir::Resizer::new();
    let options = fir::ResizeOptions::new().resize_alg(algorithm);
    let mut targets = [(planes.luma(), 1), (cb, 2), (cr, 2)].map(|(plane, half)| {
        let (width, height) = (width as u32 / half, height as u32 / half);
        (plane, fir::images::Image::new(width, height, fir::PixelType::U8))
    });
    move |_| {
        for (plane, target) in &mut targets {
            let (width, height) = (plane.width as u32, plane.height as u32);
            let source =
                fir::images::ImageRef::new(width, height, plane.samples, fir::PixelType::U8);
            resizer.resize(&source.unwrap(), target, &options).unwrap();
        }
    }
}
