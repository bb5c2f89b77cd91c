//! Density on real footage, compared with OpenCV's MOG2.

use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::super::*;
use super::{data_folder, plane};

const TEST: &str = "density_follows_mog2_on_real_footage";
const WIDTH: usize = 768;
const HEIGHT: usize = 432;
const FRAMES_PER_SECOND: f64 = 12.5;

#[test]
fn density_follows_mog2_on_real_footage() {
    let Some(folder) = data_folder(TEST) else { return };
    let text = std::fs::read_to_string(folder.join("golden.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let series = &golden["foreground_fraction"]["car-detection.mp4"];
    let mog2: Vec<f64> = series.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();

    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-i"]).arg(folder.join("car-detection.mp4"));
    ffmpeg.args(["-f", "rawvideo", "-pix_fmt", "gray", "-"]);
    ffmpeg.stdin(Stdio::null()).stdout(Stdio::piped());
    let Ok(mut ffmpeg) = ffmpeg.spawn() else {
        println!("skipped: {TEST}: the ffmpeg program is not installed");
        return;
    };
    let mut stdout = ffmpeg.stdout.take().unwrap();
    let mut frame = vec![0; WIDTH * HEIGHT];
    let (mut reduced, mut background) = (Reduced::new(), Background::new());
    let mut ours = Vec::new();
    while stdout.read_exact(&mut frame).is_ok() {
        reduced.fill(plane(&frame, WIDTH, HEIGHT));
        let activity = background.update(&reduced, ours.len() as f64 / FRAMES_PER_SECOND);
        ours.push(f64::from(activity.density));
    }
    assert!(ffmpeg.wait().unwrap().success());
    assert_eq!(ours.len(), mog2.len());

    let pearson = pearson(&ours[50..], &mog2[50..]);
    let apart = ours[50..].iter().zip(&mog2[50..]).map(|(a, b)| (a - b).abs()).sum::<f64>()
        / (ours.len() - 50) as f64;
    println!("correlation {pearson:.4}, mean absolute difference {apart:.4}");
    assert!(pearson >= 0.85, "correlation {pearson}");
    assert!(ours[1..50].iter().all(|&d| d < 0.02), "an empty car park is empty");
    assert!(ours[68..76].iter().all(|&d| d > 0.8), "the exposure change is seen");
    assert!(ours[115..170].iter().all(|&d| d < 0.1), "and got over");
}

/// The correlation coefficient of two series of the same length.
fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f(a - mean_a, b - mean_b)).sum()
    };
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}
