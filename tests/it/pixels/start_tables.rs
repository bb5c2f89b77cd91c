//! Generates `src/image/huffman/start_weights.rs`, the Huffman tables that cameras begin with:
//! `FRAMEPRESS_WRITE_TABLES=1 cargo test --test it start_tables`. Without the variable it compares.
//!
//! Its frames are those of synthetic cameras over a day and a night, and the picture of a road in
//! `tests/golden`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use framepress::internals::camera::{FrameSource as _, Still, Synthetic, SyntheticOptions};
use framepress::internals::frame::View;
use framepress::internals::image::{
    Band, Bounds, Counts, Decoder, Encoder, Format, InputImage, Needs, Picture, Target, ac_symbols,
    count_symbols, start_bands,
};

/// The last quality of each band, and the quality at which its table is made.
const BANDS: [(u8, u8); 6] = [(35, 25), (55, 47), (68, 62), (80, 75), (91, 86), (100, 95)];
const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
const CAMERAS: u32 = 4;
/// Seconds between the frames of a camera, spread over a day of the scene.
const STEP_SECONDS: f64 = 50.0;
const FRAMES: usize = 7;
/// Steps of rarity per bit.
const STEPS: f64 = 4.0;
/// Count assumed for a symbol that never occurred.
const UNSEEN: f64 = 0.05;

struct Frame {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

fn synthetic() -> Vec<Frame> {
    let mut frames = Vec::new();
    for camera in 0..CAMERAS {
        let options = SyntheticOptions {
            width: WIDTH,
            height: HEIGHT,
            fps: 1.0 / STEP_SECONDS,
            camera,
            ..SyntheticOptions::default()
        };
        let (mut source, mut still) = (Synthetic::new(options).unwrap(), Still::default());
        for _ in 0..FRAMES {
            assert!(source.next(&mut still).unwrap());
            let (width, height) = (WIDTH as usize, HEIGHT as usize);
            frames.push(Frame { width, height, rgb: still.bytes.clone() });
        }
    }
    frames
}

fn road() -> Frame {
    let file = root().join("tests/golden/road.png");
    let bytes = std::fs::read(file).unwrap();
    let source = InputImage::file(Format::Png, &bytes);
    let mut store = Picture::default();
    let mut decoder = Decoder::new(Bounds { pixels_max: 1 << 22 }).unwrap();
    let needs = Needs { planes: false, interleaved: true };
    let view = decoder.decode(&source, needs, &mut store).unwrap();
    assert_eq!(view.channels, 3);
    Frame { width: view.width, height: view.height, rgb: view.interleaved.unwrap().to_vec() }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// How rare each symbol is.
fn rarity<const N: usize>(counts: [f64; N]) -> [u8; N] {
    let counts = counts.map(|count| count + UNSEEN);
    let all: f64 = counts.iter().sum();
    counts.map(|count| ((all / count).log2() * STEPS).round().clamp(0.0, 255.0) as u8)
}

fn band(frames: &[Frame], (quality_max, quality): (u8, u8)) -> Band {
    let (mut dc, mut ac) = ([[0.0; 12]; 2], [[0.0; 256]; 2]);
    let mut encoder = Encoder::new().unwrap();
    let mut file = Vec::new();
    for Frame { width, height, rgb } in frames {
        let (width, height) = (*width, *height);
        let view = View { width, height, channels: 3, interleaved: Some(rgb), planes: None };
        let target = Target { format: Format::Jpeg, quality, webp_method: 0 };
        encoder.encode(&view, &target, &mut file).unwrap();
        let Counts { dc: of_dc, ac: of_ac, .. } = count_symbols(&file).unwrap();
        for class in 0..2 {
            let add = |sum: &mut f64, count: &u32| *sum += f64::from(*count);
            dc[class].iter_mut().zip(&of_dc[class]).for_each(|(sum, count)| add(sum, count));
            ac[class].iter_mut().zip(&of_ac[class]).for_each(|(sum, count)| add(sum, count));
        }
    }
    let listed = |counts: [f64; 256]| {
        let mut symbols = ac_symbols();
        std::array::from_fn(|_| counts[usize::from(symbols.next().unwrap())])
    };
    Band { quality_max, dc: dc.map(rarity), ac: ac.map(|counts| rarity(listed(counts))) }
}

fn source_code(bands: &[Band]) -> String {
    let mut text = String::from(
        "//! How rare each symbol is in usual pictures. Made by `tests/it/pixels/start_tables.rs`.\n\n\
         use super::band::Band;\n\n#[rustfmt::skip]\n",
    );
    writeln!(text, "pub(super) static BANDS: [Band; {}] = [", bands.len()).unwrap();
    let list = |text: &mut String, name: &str, lists: [&[u8]; 2]| {
        writeln!(text, "        {name}: [").unwrap();
        for list in lists {
            writeln!(text, "            [").unwrap();
            for part in list.chunks(20) {
                let part: Vec<String> = part.iter().map(u8::to_string).collect();
                writeln!(text, "                {},", part.join(", ")).unwrap();
            }
            writeln!(text, "            ],").unwrap();
        }
        writeln!(text, "        ],").unwrap();
    };
    for band in bands {
        writeln!(text, "    Band {{\n        quality_max: {},", band.quality_max).unwrap();
        list(&mut text, "dc", [&band.dc[0], &band.dc[1]]);
        list(&mut text, "ac", [&band.ac[0], &band.ac[1]]);
        writeln!(text, "    }},").unwrap();
    }
    text + "];\n"
}

#[test]
fn cameras_begin_with_what_the_program_makes() {
    let mut frames = synthetic();
    frames.push(road());
    let bands: Vec<Band> = BANDS.into_iter().map(|of| band(&frames, of)).collect();
    if std::env::var_os("FRAMEPRESS_WRITE_TABLES").is_some() {
        let place = root().join(Path::new("src/image/huffman/start_weights.rs"));
        std::fs::write(place, source_code(&bands)).unwrap();
        return;
    }
    assert_eq!(start_bands(), bands);
}
