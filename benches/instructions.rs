//! The work of one frame, for an instruction counter. `instructions count CASE FRAMES` repeats it
//! FRAMES times in one thread. `instructions digest CASE` prints a digest of all output of four
//! frames.
//!
//! Under emulation, time is meaningless but the number of instructions is not. `make
//! perf-instructions` runs this on x86-64 and on ARM64, takes two counts of each to subtract the
//! start-up, and compares the digests: both machines must produce the same bits.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod support;

use std::hash::Hasher;
use std::hint::black_box;
use std::process::ExitCode;

use framepress::internals::analysis::{Background, Reduced, luma_stats, mean_value, quality};
use framepress::internals::frame::Planes;
use framepress::internals::image::{Decoder, Encoder, Format, Picture, Scaler};
use framepress::internals::instruments::Size;
use twox_hash::XxHash3_64;

use support::frames::{Frames, coded, of};
use support::{BOUNDS, PLANES, target};

const SIZE: Size = Size::HD;
/// Number of frames in a digest: all frames.
const SHOWN: usize = 4;
const CASES: [&str; 7] =
    ["decode-jpeg", "encode-jpeg", "encode-webp", "analyse", "scale", "whole-raw", "whole-jpeg"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["count", case, frames] if CASES.contains(&case) => {
            let Ok(frames) = frames.parse() else { return ExitCode::from(2) };
            work(case, frames, &mut |bytes| {
                black_box(bytes);
            });
        }
        ["digest", case] if CASES.contains(&case) => {
            let mut digest = XxHash3_64::default();
            work(case, SHOWN, &mut |bytes| digest.write(bytes));
            println!("{:016x}", digest.finish());
        }
        // How `cargo bench` and `cargo test` call every benchmark.
        _ => println!("run by `make perf-instructions`; cases: {}", CASES.join(" ")),
    }
    ExitCode::SUCCESS
}

/// Does the work of `case` on `count` synthetic frames and passes all output to `out`.
fn work(case: &str, count: usize, out: &mut dyn FnMut(&[u8])) {
    let frames = Frames::synthetic(SIZE);
    let planes = frames.planes();
    let mut makers = Makers::new();
    let files: Vec<Vec<u8>> = planes
        .iter()
        .map(|planes| makers.encode(planes, Format::Jpeg, &mut |_| ()).to_vec())
        .collect();
    let mut decoder = Decoder::new(BOUNDS).unwrap();
    let mut store = Picture::default();
    for number in (0..frames.len()).cycle().take(count) {
        let planes = &planes[number];
        match case {
            "encode-jpeg" => drop(makers.encode(planes, Format::Jpeg, out)),
            "encode-webp" => drop(makers.encode(planes, Format::Webp, out)),
            "analyse" => makers.analyse(planes, out),
            "scale" => makers.scale(planes, out),
            _ => {
                let source = match case {
                    "whole-raw" => frames.source(number),
                    _ => coded(Format::Jpeg, &files[number]),
                };
                let view = decoder.decode(&source, PLANES, &mut store).unwrap();
                let planes = view.planes.unwrap();
                out(planes.samples());
                if case != "decode-jpeg" {
                    makers.analyse(planes, out);
                    makers.encode(planes, Format::Jpeg, out);
                    makers.scale(planes, out);
                }
            }
        }
    }
}

/// The processing stages after decoding.
struct Makers {
    encoder: Encoder,
    scaler: Scaler,
    reduced: Reduced,
    background: Background,
    seconds: f64,
    scaled: Planes,
    file: Vec<u8>,
}

impl Makers {
    fn new() -> Makers {
        Makers {
            encoder: Encoder::new().unwrap(),
            scaler: Scaler::new(),
            reduced: Reduced::new(),
            background: Background::new(),
            seconds: 0.0,
            scaled: Planes::default(),
            file: Vec::new(),
        }
    }

    fn encode(&mut self, planes: &Planes, format: Format, out: &mut dyn FnMut(&[u8])) -> &[u8] {
        self.encoder.encode(&of(planes), &target(format), &mut self.file).unwrap();
        out(&self.file);
        &self.file
    }

    /// Quality figures of planes, and the background model.
    fn analyse(&mut self, planes: &Planes, out: &mut dyn FnMut(&[u8])) {
        let (quality, value) = (quality(&luma_stats(planes.luma())), mean_value(planes));
        self.reduced.fill(planes.luma());
        self.seconds += 0.1;
        let activity = self.background.update(&self.reduced, self.seconds);
        for figure in
            [quality.quality_score, quality.noise_level, activity.density, activity.motion]
        {
            out(&figure.to_le_bytes());
        }
        out(&value.to_le_bytes());
    }

    /// The ML image and the thumbnail.
    fn scale(&mut self, planes: &Planes, out: &mut dyn FnMut(&[u8])) {
        self.scaler.letterbox(planes, 640, 114, &mut self.scaled);
        out(self.scaled.samples());
        self.scaler.thumbnail(planes, 128, &mut self.scaled);
        out(self.scaled.samples());
    }
}
