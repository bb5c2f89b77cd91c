//! Frames to measure with: real ones, if the folder of recordings is there, and synthetic ones.

use std::path::{Path, PathBuf};

use framepress::camera::{Source as _, Still, Synthetic, SyntheticOptions};
use framepress::frame::View;
use framepress::image::{Decoder, Format, Picture, Source};

use super::{BOUNDS, PIXELS};

/// Sizes measured.
pub const SIZES: [(usize, usize); 2] = [(640, 480), (1920, 1080)];

/// Frames of each kind; different ones, as a camera sends them.
const FRAMES: usize = 4;

/// Some frames of one size.
pub struct Frames {
    pub name: String,
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<Vec<u8>>,
}

impl Frames {
    /// Every kind in every size.
    pub fn all() -> Vec<Frames> {
        SIZES.into_iter().flat_map(|size| Self::of(size.0, size.1)).collect()
    }

    /// Every kind in one size.
    pub fn of(width: usize, height: usize) -> Vec<Frames> {
        let mut all = vec![synthetic(width, height)];
        let folder = match std::env::var_os("FRAMEPRESS_DATA") {
            Some(folder) => PathBuf::from(folder),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        }
        .join("frames");
        match real(&folder, width, height) {
            Some(frames) => all.push(frames),
            None => println!("SKIPPED: real frames: no car_*.png in {}", folder.display()),
        }
        all
    }

    pub fn len(&self) -> usize {
        self.rgb.len()
    }

    pub fn view(&self, number: usize) -> View<'_> {
        let (width, height) = (self.width, self.height);
        View { width, height, channels: 3, interleaved: Some(&self.rgb[number]), planes: None }
    }

    pub fn source(&self, number: usize) -> Source<'_> {
        Source {
            format: Format::Raw,
            width: self.width as u32,
            height: self.height as u32,
            channels: 3,
            bytes: &self.rgb[number],
        }
    }
}

fn synthetic(width: usize, height: usize) -> Frames {
    let options = SyntheticOptions {
        width: width as u32,
        height: height as u32,
        fps: 1.0,
        ..SyntheticOptions::default()
    };
    let (mut camera, mut still) = (Synthetic::new(options).unwrap(), Still::default());
    let mut next = |_| {
        camera.next(&mut still).unwrap();
        still.bytes.clone()
    };
    let rgb = (0..FRAMES).map(&mut next).collect();
    Frames { name: format!("synthetic {width}x{height}"), width, height, rgb }
}

/// Frames of the sample video, repeated to fill the size: scaling them would change how hard they
/// are to code.
fn real(folder: &Path, width: usize, height: usize) -> Option<Frames> {
    let (mut decoder, mut store) = (Decoder::new(BOUNDS).unwrap(), Picture::default());
    let mut names: Vec<_> = std::fs::read_dir(folder).ok()?.map(|entry| entry.unwrap()).collect();
    names.retain(|entry| entry.file_name().to_string_lossy().starts_with("car_"));
    names.sort_by_key(std::fs::DirEntry::file_name);
    let rgb: Vec<_> = names
        .iter()
        .step_by(names.len().div_ceil(FRAMES).max(1))
        .map(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap();
            let source = coded(Format::Png, &bytes);
            let view = decoder.decode(&source, PIXELS, &mut store).unwrap();
            tiled(&view, width, height)
        })
        .collect();
    let name = format!("real {width}x{height}");
    (!rgb.is_empty()).then_some(Frames { name, width, height, rgb })
}

fn tiled(view: &View<'_>, width: usize, height: usize) -> Vec<u8> {
    let pixels = view.interleaved.unwrap();
    let row = |y: usize| {
        let row = &pixels[y % view.height * view.width * 3..][..view.width * 3];
        row.iter().cycle().take(width * 3).copied()
    };
    (0..height).flat_map(row).collect()
}

/// A picture that is a file.
pub fn coded(format: Format, bytes: &[u8]) -> Source<'_> {
    Source { format, width: 0, height: 0, channels: 0, bytes }
}
