//! `bytes`: size, CPU and similarity of every format, quality, Huffman mode and effort, compared
//! with Pillow with the settings of the replaced system: JPEG with `optimize`, WebP method 6, PNG
//! with `optimize`.
//!
//! All modes encode the same frames, one mode after the other within a frame, so that they run
//! under the same conditions.

mod coders;
mod likeness;
mod report;
mod scenes;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use framepress::internals::instruments::{Scene, Size};
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::folder::RunArgs;
use crate::peers::environment::Environment;
use scenes::Footage;

/// Qualities measured.
pub const QUALITIES: [u8; 4] = [60, 75, 85, 95];

#[derive(Args)]
pub struct BytesArgs {
    #[command(flatten)]
    run: RunArgs,
    /// Frames of a scene; a quarter of them at 1920x1080
    #[arg(long, default_value_t = 100)]
    frames: usize,
    /// Only scenes whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where Python packages are installed
    #[arg(long, default_value = "target/peers")]
    peers_dir: PathBuf,
}

/// File sizes and CPU time of one mode.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    /// Bytes of each encoded frame.
    pub sizes: Vec<usize>,
    /// CPU seconds for all frames.
    pub cpu: f64,
    /// CPU seconds for each frame, if measured one by one.
    #[serde(default)]
    pub times: Vec<f64>,
}

impl Series {
    pub fn bytes(&self) -> f64 {
        self.sizes.iter().sum::<usize>() as f64 / self.sizes.len().max(1) as f64
    }

    /// Milliseconds per frame.
    pub fn ms(&self) -> f64 {
        1e3 * self.cpu / self.sizes.len().max(1) as f64
    }
}

/// One mode of one format at one quality.
#[derive(Debug, Serialize)]
pub struct Mode {
    pub format: &'static str,
    pub quality: u8,
    pub mode: String,
    pub series: Series,
    pub psnr: f64,
    pub ssim: f64,
}

/// One scene.
#[derive(Debug, Serialize)]
pub struct Found {
    pub scene: String,
    pub size: Size,
    pub frames: usize,
    /// Frames per second, which determines where the second second begins.
    pub fps: usize,
    /// Frame at which the scene changes, if it does.
    pub cut: Option<usize>,
    pub modes: Vec<Mode>,
    /// Pillow's figures, by format and quality.
    pub pillow: Option<std::collections::BTreeMap<String, Series>>,
}

pub fn run(args: &BytesArgs) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let (environment, skipped) = Environment::prepare(&args.peers_dir);
    skipped.iter().for_each(|line| eprintln!("\nSKIPPED: {line}\n"));
    let mut all = Vec::new();
    for Footage { name, fps, cut, scene } in scenes::all(args.frames)? {
        if !name.contains(&args.only) {
            continue;
        }
        println!("{name}: {} frames", scene.frames.len());
        let modes = coders::measure(&scene)?;
        let pillow = environment.python.as_deref().map(|python| pillow(python, &scene));
        all.push(Found {
            size: scene.size,
            frames: scene.frames.len(),
            fps,
            cut,
            modes,
            pillow: pillow.transpose()?,
            scene: name,
        });
    }
    report::draw(&folder, &all)?;
    let (text, is_met) = report::text(&all)?;
    folder.part("bytes", &report::short(&all), &text)?;
    Ok(is_met)
}

fn pillow(python: &str, scene: &Scene) -> Outcome<std::collections::BTreeMap<String, Series>> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), scene.frames.concat())?;
    let qualities: Vec<String> = QUALITIES.iter().map(u8::to_string).collect();
    let script = Path::new("perf/peers/python/bytes.py");
    let output = Command::new(python)
        .arg(script)
        .arg(file.path())
        .args([scene.size.width, scene.size.height].map(|side| side.to_string()))
        .arg(scene.frames.len().to_string())
        .arg(qualities.join(","))
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
