//! Frames of one scene, made once per run and shared by all feeders as files.

#[path = "../../../benches/support/recording.rs"]
mod recording;

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use framepress::camera::{Source as _, Still, Synthetic, SyntheticOptions};
use framepress::frame::View;
use framepress::image::{Encoder, Format, Target};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// Frames sent over and over: enough to be larger than any cache.
const FRAMES: usize = 8;
/// Every so many frames of the road one is taken, so that vehicles move.
const STRIDE: usize = 5;
/// Quality of JPEG frames as cameras send them.
const CAMERA_QUALITY: u8 = 90;

/// Width and height, written `640x480`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    pub const VGA: Size = Size { width: 640, height: 480 };
    pub const HD: Size = Size { width: 1920, height: 1080 };

    /// Bytes of the raw pixels.
    pub fn raw_bytes(self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * 3
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let sides = text.split_once('x').map(|(width, height)| (width.parse(), height.parse()));
        match sides {
            Some((Ok(width), Ok(height))) if width > 0 && height > 0 => Ok(Size { width, height }),
            _ => Err("valid: WIDTHxHEIGHT, as in 640x480".into()),
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// How a frame travels in the input stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Raw RGB in a `ProcessedFrame`.
    Raw,
    /// JPEG in a `ProcessedFrame`.
    Jpeg,
    /// JPEG in base64 in legacy JSON.
    Json,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Raw => "raw",
            Kind::Jpeg => "jpeg",
            Kind::Json => "json",
        }
    }

    fn is_coded(self) -> bool {
        self != Kind::Raw
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What the frames show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A synthetic road, with the noise of a sensor in dim light.
    Road,
    /// Frames of a recording, in this folder.
    Recording(PathBuf),
}

impl Scene {
    pub fn name(&self) -> &'static str {
        match self {
            Scene::Road => "road",
            Scene::Recording(_) => "recording",
        }
    }
}

/// Where frames lie once they are made; removed with the value.
pub struct Studio {
    pub scene: Scene,
    folder: tempfile::TempDir,
}

impl Studio {
    /// For frames of the synthetic road.
    pub fn open() -> Outcome<Studio> {
        Studio::of(Scene::Road)
    }

    /// For frames of a recording; the folder where there should be one is the error.
    pub fn of_recording() -> Outcome<Result<Studio, PathBuf>> {
        let folder = recording::folder(Path::new("."));
        if recording::frames(&folder, 16, 16, 1).is_none() {
            return Ok(Err(folder));
        }
        Studio::of(Scene::Recording(folder)).map(Ok)
    }

    fn of(scene: Scene) -> Outcome<Studio> {
        let folder = tempfile::Builder::new().prefix("framepress-frames-").tempdir()?;
        Ok(Studio { scene, folder })
    }

    /// The folder with frames of this kind and size, rendered now if they were not yet.
    pub fn frames(&self, size: Size, kind: Kind) -> Outcome<PathBuf> {
        let coding = if kind.is_coded() { "jpeg" } else { "raw" };
        let folder = self.folder.path().join(format!("{size}-{coding}"));
        if !folder.exists() {
            fs::create_dir(&folder)?;
            let pixels = match &self.scene {
                Scene::Road => road(size)?,
                Scene::Recording(files) => recorded(files, size)?,
            };
            write(&pixels, size, kind, &folder)?;
        }
        Ok(folder)
    }
}

fn road(Size { width, height }: Size) -> Outcome<Vec<Vec<u8>>> {
    let mut road = Synthetic::new(SyntheticOptions { width, height, ..Default::default() })?;
    let mut still = Still::default();
    let frame = |_| {
        for _ in 0..STRIDE {
            road.next(&mut still)?;
        }
        Ok(still.bytes.clone())
    };
    (0..FRAMES).map(frame).collect()
}

/// As many as there are, over and over.
fn recorded(files: &Path, Size { width, height }: Size) -> Outcome<Vec<Vec<u8>>> {
    let frames = recording::frames(files, width as usize, height as usize, FRAMES);
    let frames = frames.ok_or_else(|| format!("no frames in {}", files.display()))?;
    Ok(frames.iter().cycle().take(FRAMES).cloned().collect())
}

fn write(frames: &[Vec<u8>], size: Size, kind: Kind, folder: &Path) -> Outcome<()> {
    let mut encoder = Encoder::new()?;
    for (number, pixels) in frames.iter().enumerate() {
        let path = folder.join(number.to_string());
        if !kind.is_coded() {
            fs::write(path, pixels)?;
            continue;
        }
        let view = View {
            width: size.width as usize,
            height: size.height as usize,
            channels: 3,
            interleaved: Some(pixels),
            planes: None,
        };
        let target = Target { format: Format::Jpeg, quality: CAMERA_QUALITY, webp_method: 0 };
        let mut file = Vec::new();
        encoder.encode(&view, &target, &mut file).map_err(|reject| reject.to_string())?;
        fs::write(path, file)?;
    }
    Ok(())
}

/// Reads the frames of a folder, in order.
pub fn load(folder: &Path) -> Outcome<Vec<Vec<u8>>> {
    (0..FRAMES).map(|number| Ok(fs::read(folder.join(number.to_string()))?)).collect()
}
