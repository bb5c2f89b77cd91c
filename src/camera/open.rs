//! Opens the source named by `SRC` on the command line.

use std::ffi::OsStr;
use std::path::Path;

use super::video::DecodedPixels;
use super::{Folder, FrameSource, RawInput, Synthetic, SyntheticOptions, Video};
use crate::base::{Fault, Stop};

/// Options of a source besides its location.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Size of the frames in pixels. Required for raw input, scales a video, 640x480 by default for
    /// the synthetic camera. Image files keep their size.
    pub size: Option<(u32, u32)>,
    /// Frames per second of the synthetic camera; 15 by default. Other sources have their own rate,
    /// see [`FrameSource::fps`].
    pub fps: Option<f64>,
    /// Seed of the synthetic camera.
    pub seed: u64,
    /// Number of the synthetic camera.
    pub camera: u32,
    /// Whether a file or folder starts again at its end.
    pub loop_: bool,
    /// Whether a folder is watched for new files.
    pub follow: bool,
    /// Whether a video yields planes of luma and chroma instead of RGB.
    pub planes: bool,
    /// Ends every wait for frames.
    pub stop: Stop,
}

/// Opens `synthetic`, `-` (raw RGB on standard input), a folder of images, or otherwise a video
/// file or URL.
///
/// The error of the source; [`Fault::Unusable`] if raw input has no size.
pub fn open(spec: impl AsRef<OsStr>, options: &OpenOptions) -> Result<Box<dyn FrameSource>, Fault> {
    let &OpenOptions { size, loop_, .. } = options;
    let spec = spec.as_ref();
    match spec.to_str() {
        Some("") => Err(Fault::Unusable(
            "no source: give synthetic, - for raw RGB on standard input, a folder, or a video"
                .into(),
        )),
        Some("synthetic") => {
            let usual = SyntheticOptions::default();
            let (width, height) = size.unwrap_or((usual.width, usual.height));
            Ok(Box::new(Synthetic::new(SyntheticOptions {
                width,
                height,
                fps: options.fps.unwrap_or(usual.fps),
                seed: options.seed,
                camera: options.camera,
            })?))
        }
        Some("-") => {
            let (width, height) = size.ok_or_else(|| {
                Fault::Unusable(
                    "raw RGB on standard input needs the size of its frames: --size 640x480".into(),
                )
            })?;
            Ok(Box::new(RawInput::stdin(width, height, &options.stop)?))
        }
        _ if Path::new(spec).is_dir() => Ok(Box::new(match options.follow {
            true => Folder::follow(spec, &options.stop)?,
            false => Folder::open(spec, loop_)?,
        })),
        _ => {
            let pixels = if options.planes { DecodedPixels::Planes } else { DecodedPixels::Rgb };
            Ok(Box::new(Video::open_as(spec, pixels, size, loop_, &options.stop)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::{Coding, Still};

    #[test]
    fn each_kind_of_source_is_told_by_its_spec() {
        let options = OpenOptions { size: Some((32, 24)), ..Default::default() };
        let mut still = Still::default();
        let mut synthetic = open("synthetic", &options).unwrap();
        assert!(synthetic.next(&mut still).unwrap());
        assert_eq!((still.width, still.height, synthetic.fps()), (32, 24, Some(15.0)));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), b"png").unwrap();
        let mut images = open(folder.path().to_str().unwrap(), &options).unwrap();
        assert!(images.next(&mut still).unwrap() && still.coding == Coding::File);
        assert!(open("no/such/video.mp4", &options).is_err());
        assert!(open("", &options).is_err());
        let Err(Fault::Unusable(said)) = open("-", &OpenOptions::default()) else {
            panic!("raw input without a size was opened")
        };
        assert!(said.contains("--size"), "{said}");
    }
}
