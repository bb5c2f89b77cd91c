//! Measures the CPU time of the analysis relative to the JPEG encode of the same frame, and that of
//! all processing together.
//!
//! The JPEG encode is the bare library: `tj3Compress8` from RGB, quality 85, 4:2:0. Goals at 1080p:
//! the whole analysis takes at most 0.35 of it; everything together (planes, quality, scene,
//! density, ML image, thumbnail, and the JPEG itself) takes at most twice as much.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod support;

use std::hint::black_box;

use framepress::internals::analysis::{
    self, Background, Reduced, luma_stats, mean_value, mean_value_rgb, quality, scalar,
};
use framepress::internals::frame::Planes;
use framepress::internals::image::{
    Decoder, Encoder, Format, InputImage, Needs, Picture, Scaler, Target, keeps_its_rows,
    standard_tables,
};

use support::alternation::{compare, side};
use support::frames::{Frames, coded, of};
use support::{BOUNDS, bare, target};

fn main() {
    for frames in Frames::all() {
        let planes = frames.planes();
        parts(&frames, &planes);
        whole(&frames, &planes);
    }
}

fn parts(frames: &Frames, planes: &[Planes]) {
    let (width, height) = (frames.width, frames.height);
    let (mut reduced, mut filled) = (Reduced::new(), Reduced::new());
    filled.fill(planes[0].luma());
    let (mut background, mut seconds) = (Background::new(), 0.0);
    let luma = |number: usize| planes[number].luma();
    compare(
        format!("parts of the analysis, {}", frames.name),
        frames.len(),
        vec![
            side("luma_stats", |number| {
                black_box(luma_stats(luma(number)));
            }),
            side("its plain twin", |number| {
                black_box(scalar::luma_stats(luma(number)));
            }),
            side("mean_value, planes", |number| {
                black_box(mean_value(&planes[number]));
            }),
            side("mean_value_rgb", |number| {
                black_box(mean_value_rgb(frames.rgb(number), width, height));
            }),
            side("Reduced::fill", |number| reduced.fill(luma(number))),
            side("Background::update", |_| {
                seconds += 0.04;
                black_box(background.update(&filled, seconds));
            }),
        ],
    );
}

/// The whole analysis, as in the engine.
#[derive(Default)]
struct Analysis {
    reduced: Reduced,
    background: Background,
    seconds: f64,
}

impl Analysis {
    fn run(&mut self, planes: &Planes, rgb: Option<&[u8]>) {
        self.seconds += 0.04;
        let stats = luma_stats(planes.luma());
        let value = match rgb {
            Some(rgb) => mean_value_rgb(rgb, planes.width(), planes.height()),
            None => mean_value(planes),
        };
        self.reduced.fill(planes.luma());
        let activity = self.background.update(&self.reduced, self.seconds);
        black_box((quality(&stats), analysis::lighting(value)));
        black_box(analysis::weather(stats.mean_luma, stats.std_luma));
        black_box((activity, analysis::congestion(activity.density.into())));
    }
}

/// All processing that the engine offers.
struct Everything {
    decoder: Decoder,
    store: Picture,
    analysis: Analysis,
    encoder: Encoder,
    scaler: Scaler,
    scaled: Planes,
    out: Vec<u8>,
    boxed: Vec<u8>,
}

impl Everything {
    fn new() -> Everything {
        Everything {
            decoder: Decoder::new(BOUNDS).unwrap(),
            store: Picture::default(),
            analysis: Analysis::default(),
            encoder: Encoder::new().unwrap(),
            scaler: Scaler::new(),
            scaled: Planes::default(),
            out: Vec::new(),
            boxed: Vec::new(),
        }
    }

    fn run(&mut self, source: &InputImage<'_>) {
        let needs = Needs { planes: true, interleaved: false };
        let view = self.decoder.decode(source, needs, &mut self.store).unwrap();
        let planes = view.planes.unwrap();
        self.analysis.run(planes, view.interleaved);
        let jpeg = target(Format::Jpeg);
        if keeps_its_rows(&view, 640) {
            let (file, boxed) = (&mut self.out, &mut self.boxed);
            self.encoder
                .encode_boxed(&view, (jpeg.quality, standard_tables()), (640, 114), file, boxed)
                .unwrap();
            black_box((&self.out, &self.boxed));
        } else {
            self.encoder.encode(&view, &jpeg, &mut self.out).unwrap();
            black_box(&self.out);
            self.scaler.letterbox(planes, 640, 114, &mut self.scaled);
            self.encoder.encode(&of(&self.scaled), &jpeg, &mut self.boxed).unwrap();
            black_box(&self.boxed);
        }
        self.scaler.thumbnail(planes, 128, &mut self.scaled);
        let small = Target { quality: 90, ..target(Format::Jpeg) };
        self.encoder.encode(&of(&self.scaled), &small, &mut self.out).unwrap();
        black_box(&self.out);
    }
}

fn whole(frames: &Frames, planes: &[Planes]) {
    let mut bare = bare::Jpeg::new(frames.width, frames.height);
    let mut recode = bare::Jpeg::new(frames.width, frames.height);
    let mut encoder = Encoder::new().unwrap();
    let file = |number| {
        let mut out = Vec::new();
        encoder.encode(&frames.view(number), &target(Format::Jpeg), &mut out).unwrap();
        out
    };
    let files: Vec<_> = (0..frames.len()).map(file).collect();
    let (mut from_raw, mut from_jpeg) = (Analysis::default(), Analysis::default());
    let (mut all_of_raw, mut all_of_jpeg) = (Everything::new(), Everything::new());
    let outcome = compare(
        format!("analysis and everything, {}", frames.name),
        frames.len(),
        vec![
            side("JPEG encode", |number| {
                black_box(bare.encode(frames.rgb(number)));
            }),
            side("analysis of a raw frame", |number| {
                from_raw.run(&planes[number], Some(frames.rgb(number)));
            }),
            side("analysis of a JPEG", |number| from_jpeg.run(&planes[number], None)),
            side("everything, raw in", |number| all_of_raw.run(&frames.source(number))),
            side("everything, JPEG in", |number| {
                all_of_jpeg.run(&coded(Format::Jpeg, &files[number]));
            }),
            side("JPEG decode to RGB and encode", |number| {
                black_box(recode.recode(&files[number]));
            }),
        ],
    );
    outcome.goal("analysis of a raw frame", "JPEG encode", 0.35);
    outcome.goal("analysis of a JPEG", "JPEG encode", 0.35);
    outcome.goal("everything, raw in", "JPEG encode", 2.0);
}
