//! The work of one frame, for an instruction counter: `instructions CASE COUNT` does it `COUNT`
//! times in one thread and prints a digest of everything that came out.
//!
//! Time says nothing under emulation; the number of instructions does. `make perf-instructions` runs
//! this on x86-64 and on ARM64, takes two counts of each to be rid of the start, and compares the
//! digests: both machines must give the same bits.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod support;

use std::hash::Hasher;
use std::process::ExitCode;

use framepress::analysis::{Background, Reduced, luma_stats, mean_value, quality};
use framepress::frame::{Planes, View};
use framepress::image::{Decoder, Encoder, Format, Picture, Scaler, Source};
use twox_hash::XxHash3_64;

use support::frames::{Frames, coded};
use support::{BOUNDS, PLANES, target};

const SIZE: (usize, usize) = (1920, 1080);
const CASES: [&str; 7] =
    ["decode-jpeg", "encode-jpeg", "encode-webp", "analyse", "scale", "whole-raw", "whole-jpeg"];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let (Some(case), Some(count)) = (arguments.next(), arguments.next()) else {
        // As `cargo bench` and `cargo test` run every benchmark.
        println!("run by `make perf-instructions`; cases: {}", CASES.join(" "));
        return ExitCode::SUCCESS;
    };
    let Some(count) = count.parse().ok().filter(|_| CASES.contains(&&*case)) else {
        eprintln!("instructions CASE COUNT, with a case of: {}", CASES.join(" "));
        return ExitCode::from(2);
    };
    println!("{:016x}", digest(&case, count));
    ExitCode::SUCCESS
}

/// Does the work of `case` `count` times, on synthetic frames by turns.
fn digest(case: &str, count: usize) -> u64 {
    let frames = Frames::synthetic(SIZE.0, SIZE.1);
    let mut work = Work::new();
    let files: Vec<Vec<u8>> = (0..frames.len())
        .map(|number| {
            work.encode(&frames.view(number), Format::Jpeg);
            work.out.clone()
        })
        .collect();
    let planes: Vec<Planes> =
        (0..frames.len()).map(|number| work.planes(&frames.source(number))).collect();
    work.digest = XxHash3_64::default();
    for number in (0..frames.len()).cycle().take(count) {
        let file = coded(Format::Jpeg, &files[number]);
        let picture = &planes[number];
        match case {
            "decode-jpeg" => drop(work.planes(&file)),
            "encode-jpeg" => work.encode(&of(picture), Format::Jpeg),
            "encode-webp" => work.encode(&of(picture), Format::Webp),
            "analyse" => work.analyse(picture),
            "scale" => work.scale(picture),
            source => {
                let decoded = match source {
                    "whole-raw" => work.planes(&frames.source(number)),
                    _ => work.planes(&file),
                };
                work.analyse(&decoded);
                work.encode(&of(&decoded), Format::Jpeg);
                work.scale(&decoded);
            }
        }
    }
    work.digest.finish()
}

/// The tools of a worker, and a digest of what they made.
struct Work {
    decoder: Decoder,
    encoder: Encoder,
    scaler: Scaler,
    store: Picture,
    reduced: Reduced,
    background: Background,
    seconds: f64,
    scaled: Planes,
    out: Vec<u8>,
    digest: XxHash3_64,
}

impl Work {
    fn new() -> Work {
        Work {
            decoder: Decoder::new(BOUNDS).unwrap(),
            encoder: Encoder::new().unwrap(),
            scaler: Scaler::new(),
            store: Picture::default(),
            reduced: Reduced::new(),
            background: Background::new(),
            seconds: 0.0,
            scaled: Planes::default(),
            out: Vec::new(),
            digest: XxHash3_64::default(),
        }
    }

    fn planes(&mut self, source: &Source<'_>) -> Planes {
        let view = self.decoder.decode(source, PLANES, &mut self.store).unwrap();
        let made = view.planes.unwrap();
        let mut planes = Planes::default();
        planes.reshape(made.width(), made.height(), false);
        planes.samples_mut().copy_from_slice(made.samples());
        self.digest.write(made.samples());
        planes
    }

    fn encode(&mut self, view: &View<'_>, format: Format) {
        self.encoder.encode(view, &target(format), &mut self.out).unwrap();
        self.digest.write(&self.out);
    }

    /// Every figure of a frame, as the engine computes them.
    fn analyse(&mut self, planes: &Planes) {
        let stats = luma_stats(planes.luma());
        self.reduced.fill(planes.luma());
        self.seconds += 0.1;
        let activity = self.background.update(&self.reduced, self.seconds);
        let figures = (quality(&stats), mean_value(planes), activity);
        self.digest.write(format!("{figures:?}").as_bytes());
    }

    /// ML image and thumbnail.
    fn scale(&mut self, planes: &Planes) {
        self.scaler.letterbox(planes, 640, 114, &mut self.scaled);
        self.digest.write(self.scaled.samples());
        self.scaler.thumbnail(planes, 128, &mut self.scaled);
        self.digest.write(self.scaled.samples());
    }
}

fn of(planes: &Planes) -> View<'_> {
    let (width, height) = (planes.width(), planes.height());
    View { width, height, channels: 3, interleaved: None, planes: Some(planes) }
}
