//! The same figures as OpenCV, for the shared frames and for the project's small ones.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde_json::Value;

use super::super::*;
use super::{data_folder, plane, planes_from_rgb};
use crate::frame::Planes;

#[test]
fn the_projects_own_golden_pictures_are_matched() {
    check_folder(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")), "");
}

#[test]
fn the_shared_golden_frames_are_matched() {
    if let Some(folder) = data_folder("the_shared_golden_frames_are_matched") {
        check_folder(&folder, "frames");
    }
}

fn check_folder(folder: &Path, pictures: &str) {
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let frames = golden["frames"].as_object().unwrap();
    assert!(!frames.is_empty());
    let mut worst = Worst::default();
    for (name, golden) in frames {
        let path = folder.join(pictures).join(format!("{name}.png"));
        check_picture(name, golden, &path, &mut worst);
    }
    println!("{} pictures, worst differences: {worst:?}", frames.len());
}

#[derive(Debug, Default)]
struct Worst {
    raw: f64,
    score: f64,
    value_from_rgb: f64,
    value_from_planes: (f64, String),
}

fn check_picture(name: &str, golden: &Value, path: &Path, worst: &mut Worst) {
    let (pixels, width, height, channels) = read_png(path);
    assert_eq!(channels as u64, golden["channels"].as_u64().unwrap(), "{name}");
    let planes = if channels == 3 {
        planes_from_rgb(&pixels, width, height)
    } else {
        let mut planes = Planes::default();
        planes.reshape(width, height, true);
        planes.samples_mut().copy_from_slice(&pixels);
        planes
    };
    let stats = luma_stats(planes.luma());
    assert_eq!(stats, scalar::luma_stats(planes.luma()), "{name}");
    let quality = quality(&stats);
    let from_planes = mean_value(&planes);
    let value = if channels == 3 { mean_value_rgb(&pixels, width, height) } else { from_planes };

    let near = |key: &str, ours: f64| {
        let theirs = golden[key].as_f64().unwrap();
        let difference = (ours - theirs).abs();
        assert!(difference <= (0.01 * theirs).max(0.5), "{name} {key}: {ours}, OpenCV {theirs}");
        difference
    };
    for (key, ours) in [
        ("laplacian_variance", stats.laplacian_variance),
        ("mean_luma", stats.mean_luma),
        ("std_luma", stats.std_luma),
        ("high_pass_std", stats.high_pass_std),
    ] {
        worst.raw = worst.raw.max(near(key, ours));
    }
    worst.value_from_rgb = worst.value_from_rgb.max(near("mean_value", value));
    // 4:2:0 does not keep chroma noise in single pixels; see `mean_value`.
    if name != "noisy" {
        let difference = near("mean_value", from_planes);
        if difference > worst.value_from_planes.0 {
            worst.value_from_planes = (difference, name.to_owned());
        }
    }

    for (key, ours) in [
        ("quality_score", quality.quality_score),
        ("blur_score", quality.blur_score),
        ("brightness_score", quality.brightness_score),
        ("contrast_score", quality.contrast_score),
        ("noise_level", quality.noise_level),
    ] {
        let theirs = golden[key].as_f64().unwrap();
        let difference = (f64::from(ours) - theirs).abs();
        assert!(difference <= 0.01, "{name} {key}: {ours}, OpenCV {theirs}");
        worst.score = worst.score.max(difference);
    }

    let label = |key: &str| golden[key].as_str().unwrap();
    assert_eq!(lighting(value).name(), label("lighting_conditions"), "{name}");
    assert_eq!(lighting(from_planes).name(), label("lighting_conditions"), "{name}, planes");
    let weather = weather(stats.mean_luma, stats.std_luma);
    assert_eq!(weather.name(), label("weather_conditions"), "{name}");
}

/// Pixels, width, height and channels.
fn read_png(path: &Path) -> (Vec<u8>, usize, usize, usize) {
    let file = BufReader::new(File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    pixels.truncate(info.buffer_size());
    assert_eq!(info.bit_depth, png::BitDepth::Eight);
    (pixels, info.width as usize, info.height as usize, info.color_type.samples())
}

#[test]
fn a_stride_wider_than_the_row_changes_nothing() {
    let samples: Vec<u8> = (0..40 * 30).map(|i| (i * 7 % 251) as u8).collect();
    let mut padded = Vec::new();
    for row in samples.chunks(40) {
        padded.extend_from_slice(row);
        padded.extend_from_slice(&[255; 9]);
    }
    let wide = crate::frame::Plane { samples: &padded, width: 40, height: 30, stride: 49 };
    assert_eq!(luma_stats(wide), luma_stats(plane(&samples, 40, 30)));
}
