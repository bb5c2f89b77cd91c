//! The figures of frames sent as files, compared with those OpenCV found for their pixels.

use std::path::Path;

use framepress::internals::analysis::{
    LumaStats, lighting, luma_stats, mean_value, quality, weather,
};
use framepress::internals::frame::View;
use framepress::internals::image::{
    Bounds, Decoder, Encoder, Format, InputImage, Needs, Picture, Target,
};
use serde_json::Value;

use crate::support::{data_folder, skip};

/// Largest difference of a score after a lossy and after a lossless codec.
const LOSSY: f64 = 0.05;
const LOSSLESS: f64 = 0.01;

/// A label may differ if its figure is this close to a limit, in 8-bit levels.
const BOUNDARY: f64 = 2.0;

const PIXELS: Needs = Needs { planes: false, interleaved: true };
const PLANES: Needs = Needs { planes: true, interleaved: false };

#[test]
fn jpeg_frames_have_the_figures_of_their_pixels() {
    check_all(Format::Jpeg, 85, LOSSY);
    check_all(Format::Jpeg, 95, LOSSY);
}

#[test]
fn webp_frames_have_the_figures_of_their_pixels() {
    check_all(Format::Webp, 90, LOSSY);
}

#[test]
fn png_frames_have_the_figures_of_their_pixels() {
    check_all(Format::Png, 100, LOSSLESS);
}

fn check_all(format: Format, quality: u8, score_off_max: f64) {
    let target = Target { format, quality, webp_method: 1 };
    let own = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
    // The others are a few pixels of noise and stripes, which no lossy codec keeps.
    let keeps = |name: &str| format == Format::Png || matches!(name, "gradient" | "road");
    check_folder(own, own, &target, score_off_max, keeps);
    let shared = data_folder();
    if shared.join("golden.json").is_file() {
        check_folder(&shared, &shared.join("frames"), &target, score_off_max, |_| true);
    } else {
        skip(&format!("no golden.json in {}; FRAMEPRESS_DATA names its folder", shared.display()));
    }
}

fn check_folder(
    golden: &Path,
    pictures: &Path,
    target: &Target,
    score_off_max: f64,
    wanted: impl Fn(&str) -> bool,
) {
    let text = std::fs::read_to_string(golden.join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let (mut worst, mut worst_name) = (0.0, "");
    for (name, golden) in golden["frames"].as_object().unwrap() {
        if wanted(name) {
            let file = recoded(&pictures.join(format!("{name}.png")), target);
            let (off, _) = check(name, golden, &file_of(target.format, &file), score_off_max);
            if off > worst {
                (worst, worst_name) = (off, name);
            }
        }
    }
    println!("{target:?}: scores are off by {worst:.4} at most ({worst_name})");
}

/// A PNG file re-encoded as another format.
fn recoded(path: &Path, target: &Target) -> Vec<u8> {
    let png = std::fs::read(path).unwrap();
    let (mut decoder, mut store) = (decoder(), Picture::default());
    let view = decoder.decode(&file_of(Format::Png, &png), PIXELS, &mut store).unwrap();
    let view = View { planes: None, ..view };
    let mut out = Vec::new();
    Encoder::new().unwrap().encode(&view, target, &mut out).unwrap();
    out
}

fn decoder() -> Decoder {
    Decoder::new(Bounds { pixels_max: 1 << 24 }).unwrap()
}

fn file_of(format: Format, bytes: &[u8]) -> InputImage<'_> {
    InputImage { format, width: 0, height: 0, channels: 0, layout: Default::default(), bytes }
}

/// Compares the figures of a picture with the golden ones. Returns the largest difference of a
/// score, and the figures of its luma.
pub(super) fn check(
    name: &str,
    golden: &Value,
    source: &InputImage<'_>,
    score_off_max: f64,
) -> (f64, LumaStats) {
    let (mut decoder, mut store) = (decoder(), Picture::default());
    let view = decoder.decode(source, PLANES, &mut store).expect(name);
    let planes = view.planes.unwrap();
    let stats = luma_stats(planes.luma());
    let quality = quality(&stats);
    let number = |key: &str| golden[key].as_f64().unwrap();
    let mut worst: f64 = 0.0;
    for (key, ours) in [
        ("quality_score", quality.quality_score),
        ("blur_score", quality.blur_score),
        ("brightness_score", quality.brightness_score),
        ("contrast_score", quality.contrast_score),
        ("noise_level", quality.noise_level),
    ] {
        let off = (f64::from(ours) - number(key)).abs();
        assert!(off <= score_off_max, "{name} {key}: {ours}, OpenCV {}", number(key));
        worst = worst.max(off);
    }

    let clear_of =
        |value: f64, limits: &[f64]| limits.iter().all(|limit| (value - limit).abs() > BOUNDARY);
    let label = |key: &str| golden[key].as_str().unwrap();
    if clear_of(number("mean_value"), &[180.0, 100.0, 50.0]) {
        let value = mean_value(planes);
        assert_eq!(lighting(value).name(), label("lighting_conditions"), "{name}: {value}");
    }
    if clear_of(number("mean_luma"), &[100.0, 80.0]) && clear_of(number("std_luma"), &[30.0, 60.0])
    {
        let weather = weather(stats.mean_luma, stats.std_luma).name();
        assert_eq!(weather, label("weather_conditions"), "{name}: {stats:?}");
    }
    (worst, stats)
}
