//! Frames of one size: a synthetic road, or a recording.

use std::path::Path;

use super::{Size, recording};
use crate::base::{Fault, Reject, Stop};
use crate::camera::{FrameSource as _, Still, Synthetic, SyntheticOptions};
use crate::frame::View;
use crate::image::{Encoder, Format, InputImage, Target};

/// Number of different frames of a load, sent repeatedly; together they exceed any cache.
pub const SCENE_FRAMES: usize = 8;
/// One of this many frames of the synthetic road is used, so that vehicles move visibly.
const STRIDE: usize = 5;
/// JPEG quality of the frames, as usual for cameras.
const CAMERA_QUALITY: u8 = 90;

/// Frames of one size, in order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// Size of each frame.
    pub size: Size,
    /// Interleaved RGB of each frame.
    pub frames: Vec<Vec<u8>>,
}

impl Scene {
    /// [`SCENE_FRAMES`] frames of a synthetic road for a load.
    ///
    /// # Errors
    /// As for [`Scene::road`].
    pub fn of_moving_traffic(size: Size, stop: &Stop) -> Result<Scene, Fault> {
        let Size { width, height } = size;
        let options = SyntheticOptions { width, height, ..Default::default() };
        Scene::road(options, SCENE_FRAMES, STRIDE, stop)
    }

    /// `count` frames of a synthetic road, each `stride` frames after the one before. Large frames
    /// take seconds.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for options that no road has, and if `stop` is raised.
    pub fn road(
        options: SyntheticOptions,
        count: usize,
        stride: usize,
        stop: &Stop,
    ) -> Result<Scene, Fault> {
        let mut road = Synthetic::new(options)?;
        let mut still = Still::default();
        let mut frames = Vec::with_capacity(count);
        for _ in 0..count {
            for _ in 0..stride.max(1) {
                if stop.is_draining() {
                    return Err(Fault::Unusable("stopped while frames were painted".into()));
                }
                road.next(&mut still)?;
            }
            frames.push(still.bytes.clone());
        }
        let size = Size { width: options.width, height: options.height };
        Ok(Scene { size, frames })
    }

    /// The first frame of each of `cameras` synthetic roads.
    ///
    /// # Errors
    /// As for [`Scene::road`].
    pub fn of_cameras(size: Size, cameras: u32) -> Result<Scene, Fault> {
        let Size { width, height } = size;
        let mut frames = Vec::new();
        for camera in 0..cameras {
            let options = SyntheticOptions { width, height, camera, ..Default::default() };
            frames.extend(Scene::road(options, 1, 1, &Stop::default())?.frames);
        }
        Ok(Scene { size, frames })
    }

    /// At most `count` frames of the recording in `folder`; `None` if there are none.
    pub fn recorded(folder: &Path, size: Size, count: usize) -> Option<Scene> {
        Some(Scene { size, frames: recording::frames(folder, size, count)? })
    }

    /// A frame for an encoder.
    ///
    /// # Panics
    /// If `number` is not below the number of frames.
    pub fn view(&self, number: usize) -> View<'_> {
        View {
            width: self.size.width as usize,
            height: self.size.height as usize,
            channels: 3,
            interleaved: Some(&self.frames[number]),
            planes: None,
        }
    }

    /// A frame as a raw image.
    ///
    /// # Panics
    /// If `number` is not below the number of frames.
    pub fn raw(&self, number: usize) -> InputImage<'_> {
        InputImage {
            format: Format::Raw,
            width: self.size.width,
            height: self.size.height,
            channels: 3,
            layout: Default::default(),
            bytes: &self.frames[number],
        }
    }

    /// Each frame as a JPEG of the quality that cameras use.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if the encoder cannot be made or refuses a frame.
    pub fn jpeg(&self) -> Result<Vec<Vec<u8>>, Fault> {
        let target = Target { format: Format::Jpeg, quality: CAMERA_QUALITY, webp_method: 0 };
        let mut encoder = Encoder::new()?;
        let encode = |number| {
            let mut file = Vec::new();
            encoder.encode(&self.view(number), &target, &mut file).map_err(|reject: Reject| {
                Fault::Unusable(format!("cannot encode a frame: {reject}"))
            })?;
            Ok(file)
        };
        (0..self.frames.len()).map(encode).collect()
    }
}
