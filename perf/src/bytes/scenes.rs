//! The scenes to encode.

use std::path::PathBuf;
use std::process::Command;

use framepress::internals::base::Stop;
use framepress::internals::camera::SyntheticOptions;
use framepress::internals::instruments::{Scene, Size};

use crate::Outcome;
use crate::common::Chance;

/// A scene as one camera takes it.
pub struct Footage {
    pub name: String,
    pub fps: usize,
    /// The first frame after a change from day to night.
    pub cut: Option<usize>,
    pub scene: Scene,
}

/// The video, if it and ffmpeg are available; a painted road with sensor noise; one that changes
/// from day to night; a small picture.
pub fn all(frames: usize) -> Outcome<Vec<Footage>> {
    let mut scenes = Vec::new();
    match video(frames)? {
        Some(scene) => scenes.push(scene),
        None => eprintln!("SKIPPED: the video: no car-detection.mp4 or no ffmpeg"),
    }
    scenes.push(painted(format!("painted {}", Size::HD), Size::HD, (frames / 4).max(12), 10)?);
    for (width, height) in [(640, 480), (320, 240), (128, 128)] {
        let size = Size { width, height };
        scenes.push(painted(format!("painted {size}"), size, frames, 15)?);
    }
    scenes.push(day_and_night(frames)?);
    Ok(scenes)
}

fn video(frames: usize) -> Outcome<Option<Footage>> {
    let folder = std::env::var_os("FRAMEPRESS_DATA")
        .map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let file = folder.join("car-detection.mp4");
    let size = Size { width: 768, height: 432 };
    if !file.exists() {
        return Ok(None);
    }
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&file)
        .args(["-frames:v", &frames.to_string(), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output();
    let Ok(output) = output else { return Ok(None) };
    let bytes = usize::try_from(size.raw_bytes())?;
    let frames = output.stdout.chunks_exact(bytes).map(<[u8]>::to_vec).collect();
    let scene = Scene { size, frames };
    Ok(Some(Footage { name: format!("video {size}"), fps: 12, cut: None, scene }))
}

fn painted(name: String, size: Size, count: usize, fps: usize) -> Outcome<Footage> {
    let Size { width, height } = size;
    let options =
        SyntheticOptions { width, height, fps: fps as f64, ..SyntheticOptions::default() };
    let scene = Scene::road(options, count, 1, &Stop::default())?;
    Ok(Footage { name, fps, cut: None, scene })
}

/// The second half is dark, with the noise of a sensor at high gain.
fn day_and_night(count: usize) -> Outcome<Footage> {
    let mut footage = painted(format!("day, then night, {}", Size::VGA), Size::VGA, count, 15)?;
    let cut = count / 2;
    let mut chance = Chance::new(7);
    for frame in &mut footage.scene.frames[cut..] {
        for sample in frame.iter_mut() {
            let noise = chance.below(7) as i32 + chance.below(7) as i32 - 6;
            *sample = (i32::from(*sample) / 5 + 6 + noise).clamp(0, 255) as u8;
        }
    }
    footage.cut = Some(cut);
    Ok(footage)
}
