//! The scenes to encode.

use std::path::PathBuf;
use std::process::Command;

use framepress::internals::base::Stop;
use framepress::internals::camera::SyntheticOptions;
use framepress::internals::instruments;

use crate::Outcome;
use crate::common::Chance;

/// Frames of one camera.
pub struct Scene {
    pub name: String,
    pub width: usize,
    pub height: usize,
    pub fps: usize,
    /// The first frame after a change from day to night.
    pub cut: Option<usize>,
    /// RGB pixels of each frame.
    pub frames: Vec<Vec<u8>>,
}

/// The video, if it and ffmpeg are available; a painted road with sensor noise; one that changes
/// from day to night; a small picture.
pub fn all(frames: usize) -> Outcome<Vec<Scene>> {
    let mut scenes = Vec::new();
    match video(frames)? {
        Some(scene) => scenes.push(scene),
        None => eprintln!("SKIPPED: the video: no car-detection.mp4 or no ffmpeg"),
    }
    scenes.push(painted("painted 1920x1080", (1920, 1080), (frames / 4).max(12), 10)?);
    scenes.push(painted("painted 640x480", (640, 480), frames, 15)?);
    scenes.push(painted("painted 320x240", (320, 240), frames, 15)?);
    scenes.push(painted("painted 128x128", (128, 128), frames, 15)?);
    scenes.push(day_and_night(frames)?);
    Ok(scenes)
}

fn video(frames: usize) -> Outcome<Option<Scene>> {
    let folder = std::env::var_os("FRAMEPRESS_DATA")
        .map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let file = folder.join("car-detection.mp4");
    let (width, height) = (768, 432);
    if !file.exists() {
        return Ok(None);
    }
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&file)
        .args(["-frames:v", &frames.to_string(), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output();
    let Ok(output) = output else { return Ok(None) };
    let frames = output.stdout.chunks_exact(3 * width * height).map(<[u8]>::to_vec).collect();
    Ok(Some(Scene { name: "video 768x432".to_owned(), width, height, fps: 12, cut: None, frames }))
}

fn painted(name: &str, size: (usize, usize), count: usize, fps: usize) -> Outcome<Scene> {
    let (width, height) = size;
    let options = SyntheticOptions {
        width: u32::try_from(width)?,
        height: u32::try_from(height)?,
        fps: fps as f64,
        ..SyntheticOptions::default()
    };
    let frames = instruments::Scene::road(options, count, 1, &Stop::default())?.frames;
    Ok(Scene { name: name.to_owned(), width, height, fps, cut: None, frames })
}

/// The second half is dark, with the noise of a sensor at high gain.
fn day_and_night(count: usize) -> Outcome<Scene> {
    let mut scene = painted("day, then night, 640x480", (640, 480), count, 15)?;
    let cut = count / 2;
    let mut chance = Chance::new(7);
    for frame in &mut scene.frames[cut..] {
        for sample in frame.iter_mut() {
            let noise = chance.below(7) as i32 + chance.below(7) as i32 - 6;
            *sample = (i32::from(*sample) / 5 + 6 + noise).clamp(0, 255) as u8;
        }
    }
    scene.cut = Some(cut);
    Ok(scene)
}
