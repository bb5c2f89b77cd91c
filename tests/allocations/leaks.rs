//! Every exit path of a codec frees what the C libraries allocated.

use framepress::internals::frame::View;
use framepress::internals::image::{
    Bounds, Decoder, Encoder, Format, InputImage, Needs, Picture, Target,
};

use crate::{HEIGHT, ONE_AT_A_TIME, WIDTH, counter, pixels};

const PLANES: Needs = Needs { planes: true, interleaved: false };
const PIXELS: Needs = Needs { planes: false, interleaved: true };
const ROUNDS: usize = 20;

/// Repeats a run that succeeds or fails according to `fine`, and compares the C heap.
#[track_caller]
fn leaves_nothing(what: &str, fine: bool, mut run: impl FnMut() -> bool) {
    for _ in 0..2 {
        assert_eq!(run(), fine, "{what}"); // codecs allocate permanent buffers here
    }
    let before = counter::c_blocks();
    for _ in 0..ROUNDS {
        run();
    }
    assert_eq!(counter::c_blocks() - before, 0, "{what}: blocks left after {ROUNDS} rounds");
}

fn coded(format: Format, bytes: &[u8]) -> InputImage<'_> {
    InputImage { format, width: 0, height: 0, channels: 0, layout: Default::default(), bytes }
}

#[test]
fn every_end_of_an_encoder_frees_its_picture() {
    let _alone = ONE_AT_A_TIME.lock();
    let rgb = pixels(1);
    let raw = InputImage {
        format: Format::Raw,
        width: WIDTH as u32,
        height: HEIGHT as u32,
        channels: 3,
        layout: Default::default(),
        bytes: &rgb,
    };
    let mut store = Picture::default();
    let mut decoder = Decoder::new(Bounds { pixels_max: 1 << 22 }).unwrap();
    let full = decoder.decode(&raw, PLANES, &mut store).unwrap();
    let planar = View { interleaved: None, ..full };
    let packed = View { planes: None, ..full };
    let row = vec![90; 3 * 65_536];
    let wide = |width: usize| View {
        width,
        height: 1,
        channels: 3,
        interleaved: Some(&row[..3 * width]),
        planes: None,
    };
    let (mut encoder, mut out) = (Encoder::new().unwrap(), Vec::new());
    let before = counter::c_blocks();
    for format in [Format::Webp, Format::Jpeg] {
        for method in [0, 4, 6] {
            let target = Target { format, quality: 85, webp_method: method };
            for (what, view, fine) in [
                ("from planes", planar, true),
                ("from pixels", packed, true),
                ("too wide", wide(65_536), false),
                ("of a view that lies", View { width: WIDTH + 1, ..packed }, false),
            ] {
                leaves_nothing(&format!("{target:?} {what}"), fine, || {
                    encoder.encode(&view, &target, &mut out).is_ok()
                });
            }
        }
    }
    drop(encoder);
    assert!(counter::c_blocks() < before, "an encoder gives back its own");
}

#[test]
fn every_end_of_a_decoder_frees_what_it_took() {
    let _alone = ONE_AT_A_TIME.lock();
    let rgb = pixels(2);
    let view =
        View { width: WIDTH, height: HEIGHT, channels: 3, interleaved: Some(&rgb), planes: None };
    let mut decoder = Decoder::new(Bounds { pixels_max: 1 << 22 }).unwrap();
    let mut store = Picture::default();
    for format in [Format::Webp, Format::Jpeg] {
        let mut file = Vec::new();
        let target = Target { format, quality: 85, webp_method: 0 };
        Encoder::new().unwrap().encode(&view, &target, &mut file).unwrap();
        let mut damaged = file.clone();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 40].fill(0xff);
        let cut = &file[..middle];
        // The head alone, with its original length field.
        let mut hollow = file.clone();
        hollow[700..].fill(0);
        for needs in [PLANES, PIXELS] {
            let mut decode = |what: &str, bytes: &[u8], fine: Option<bool>| {
                let what = format!("{format:?} {what} to {needs:?}");
                let mut run = || decoder.decode(&coded(format, bytes), needs, &mut store).is_ok();
                let fine = fine.unwrap_or_else(&mut run);
                leaves_nothing(&what, fine, run);
            };
            decode("whole", &file, Some(true));
            decode("cut", cut, Some(false));
            decode("damaged", &damaged, None);
            decode("hollow", &hollow, None);
            decode("head", &file[..20], Some(false));
        }
    }
}
