//! Frames of one scene, rendered once per run and shared by all feeders as files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use framepress::internals::base::Stop;
use framepress::internals::instruments::{SCENE_FRAMES, Scene, Size, recording};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// How a frame travels in the input stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Raw RGB in a `ProcessedFrame`.
    Raw,
    /// Planes as video decoders output them: `yuv420p`, limited range.
    Planes,
    /// JPEG in a `ProcessedFrame`.
    Jpeg,
    /// JPEG in base64 in legacy JSON.
    Json,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Raw => "raw",
            Kind::Planes => "planes",
            Kind::Jpeg => "jpeg",
            Kind::Json => "json",
        }
    }

    fn is_coded(self) -> bool {
        matches!(self, Kind::Jpeg | Kind::Json)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the frames show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A synthetic road, with the noise of a sensor in dim light.
    Road,
    /// Frames of a recording, in this folder.
    Recording(PathBuf),
    /// Frames of a video file, decoded by ffmpeg.
    Video(PathBuf),
}

impl Subject {
    pub fn name(&self) -> &'static str {
        match self {
            Subject::Road => "road",
            Subject::Recording(_) => "recording",
            Subject::Video(_) => "video",
        }
    }
}

/// The folder of rendered frames; dropping the value removes it.
pub struct Studio {
    pub subject: Subject,
    folder: tempfile::TempDir,
}

impl Studio {
    /// For frames of the synthetic road.
    pub fn open() -> Outcome<Studio> {
        Studio::of(Subject::Road)
    }

    /// For frames of a recording; if there is none, the error is the folder where it should be.
    pub fn of_recording() -> Outcome<Result<Studio, PathBuf>> {
        let folder = recording::folder(Path::new("."));
        let smallest = Size { width: 16, height: 16 };
        if Scene::recorded(&folder, smallest, 1).is_none() {
            return Ok(Err(folder));
        }
        Studio::of(Subject::Recording(folder)).map(Ok)
    }

    /// For frames of a video file.
    pub fn of_video(file: PathBuf) -> Outcome<Studio> {
        Studio::of(Subject::Video(file))
    }

    fn of(subject: Subject) -> Outcome<Studio> {
        let folder = tempfile::Builder::new().prefix("framepress-frames-").tempdir()?;
        Ok(Studio { subject, folder })
    }

    /// The folder with frames of this kind and size; renders them at the first call.
    pub fn frames(&self, size: Size, kind: Kind) -> Outcome<PathBuf> {
        let coding = if kind.is_coded() { "jpeg" } else { kind.name() };
        let folder = self.folder.path().join(format!("{size}-{coding}"));
        if !folder.exists() {
            fs::create_dir(&folder)?;
            match &self.subject {
                Subject::Road => {
                    write(Scene::of_moving_traffic(size, &Stop::default())?, kind, &folder)?
                }
                Subject::Recording(files) => write(recorded(files, size)?, kind, &folder)?,
                Subject::Video(file) => decode(file, size, kind, &folder)?,
            }
        }
        Ok(folder)
    }
}

/// The available frames, repeated as needed.
fn recorded(files: &Path, size: Size) -> Outcome<Scene> {
    let scene = Scene::recorded(files, size, SCENE_FRAMES);
    let mut scene = scene.ok_or_else(|| format!("no frames in {}", files.display()))?;
    scene.frames = scene.frames.iter().cycle().take(SCENE_FRAMES).cloned().collect();
    Ok(scene)
}

fn write(scene: Scene, kind: Kind, folder: &Path) -> Outcome<()> {
    let files = match kind {
        Kind::Raw => scene.frames,
        Kind::Planes => scene.frames.iter().map(|pixels| planes(pixels, scene.size)).collect(),
        Kind::Jpeg | Kind::Json => scene.jpeg()?,
    };
    for (number, file) in files.iter().enumerate() {
        fs::write(folder.join(number.to_string()), file)?;
    }
    Ok(())
}

/// The same as three planes: BT.601, limited range, chroma the mean of four pixels.
fn planes(rgb: &[u8], Size { width, height }: Size) -> Vec<u8> {
    let (width, height) = (width as usize, height as usize);
    let at = |x: usize, y: usize| {
        let from = (y.min(height - 1) * width + x.min(width - 1)) * 3;
        [rgb[from], rgb[from + 1], rgb[from + 2]].map(f64::from)
    };
    let weigh = |[r, g, b]: [f64; 3], [by_r, by_g, by_b]: [f64; 3], zero: f64| {
        (zero + (by_r * r + by_g * g + by_b * b) / 255.0).round() as u8
    };
    let mut out = Vec::with_capacity(width * height * 2);
    for y in 0..height {
        out.extend((0..width).map(|x| weigh(at(x, y), [65.481, 128.553, 24.966], 16.0)));
    }
    for weights in [[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]] {
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                let four = [at(x, y), at(x + 1, y), at(x, y + 1), at(x + 1, y + 1)];
                let mean = [0, 1, 2].map(|c| four.iter().map(|pixel| pixel[c]).sum::<f64>() / 4.0);
                out.push(weigh(mean, weights, 128.0));
            }
        }
    }
    out
}

/// Frames of a video, spread over its first ten seconds.
fn decode(video: &Path, size: Size, kind: Kind, folder: &Path) -> Outcome<()> {
    let (layout, bytes) = match kind {
        Kind::Raw => ("rgb24", size.raw_bytes()),
        Kind::Planes => ("yuv420p", size.raw_bytes() / 2),
        Kind::Jpeg | Kind::Json => return Err("a video gives raw frames and planes only".into()),
    };
    let filter = format!("fps=1,scale={}:{}", size.width, size.height);
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-stream_loop", "-1", "-i"])
        .arg(video)
        .args(["-vf", &filter, "-frames:v", &SCENE_FRAMES.to_string()])
        .args(["-pix_fmt", layout, "-f", "rawvideo", "-"])
        .stdin(Stdio::null())
        .output()?;
    if !decoded.status.success() {
        return Err(String::from_utf8_lossy(&decoded.stderr).into_owned().into());
    }
    let frames = decoded.stdout.chunks_exact(usize::try_from(bytes)?);
    if frames.len() != SCENE_FRAMES {
        return Err(format!("{} frames in {}", frames.len(), video.display()).into());
    }
    for (number, frame) in frames.enumerate() {
        fs::write(folder.join(number.to_string()), frame)?;
    }
    Ok(())
}

/// Reads the frames of a folder, in order.
pub fn load(folder: &Path) -> Outcome<Vec<Vec<u8>>> {
    (0..SCENE_FRAMES).map(|number| Ok(fs::read(folder.join(number.to_string()))?)).collect()
}
