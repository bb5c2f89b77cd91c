//! Frames of a real recording.

use std::path::{Path, PathBuf};

use super::Size;
use crate::frame::View;
use crate::image::{Bounds, Decoder, Format, InputImage, Needs, Picture};

/// Larger images are skipped.
const BOUNDS: Bounds = Bounds { pixels_max: 1 << 25 };

/// The folder of the frames: below the folder named by `FRAMEPRESS_DATA`, or below `../shared/data`
/// beside the project, whose root is `root`.
pub fn folder(root: &Path) -> PathBuf {
    match std::env::var_os("FRAMEPRESS_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => root.join("../shared/data"),
    }
    .join("frames")
}

/// At most `count` frames from the files `car_*.png` of `folder`, as interleaved RGB. The images
/// are repeated to fill the size, because scaling would change how hard they are to encode. `None`
/// if there are none.
pub(super) fn frames(folder: &Path, size: Size, count: usize) -> Option<Vec<Vec<u8>>> {
    let (width, height) = (size.width as usize, size.height as usize);
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let mut names: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("car_"))
        .map(|entry| entry.path())
        .collect();
    names.sort();
    let step = names.len().div_ceil(count).max(1);
    let (mut decoder, mut store) = (Decoder::new(BOUNDS).ok()?, Picture::default());
    let mut frame = |path: &PathBuf| {
        let bytes = std::fs::read(path).ok()?;
        let source = InputImage {
            format: Format::Png,
            width: 0,
            height: 0,
            channels: 0,
            layout: Default::default(),
            bytes: &bytes,
        };
        let needs = Needs { planes: false, interleaved: true };
        let view = decoder.decode(&source, needs, &mut store).ok()?;
        (view.channels == 3).then(|| tiled(&view, width, height))
    };
    let frames: Vec<_> = names.iter().step_by(step).filter_map(&mut frame).collect();
    (!frames.is_empty()).then_some(frames)
}

fn tiled(view: &View<'_>, width: usize, height: usize) -> Vec<u8> {
    let pixels = view.interleaved.unwrap_or_default();
    let row = |y: usize| {
        let row = &pixels[y % view.height * view.width * 3..][..view.width * 3];
        row.iter().cycle().take(width * 3).copied()
    };
    (0..height).flat_map(row).collect()
}
