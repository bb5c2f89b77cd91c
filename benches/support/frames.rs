//! Frames for measurements: real ones if the folder of recordings exists, and synthetic ones.

use std::path::Path;

use framepress::internals::camera::{FrameSource as _, Still, Synthetic, SyntheticOptions};
use framepress::internals::frame::{Planes, View};
use framepress::internals::image::{Decoder, Format, InputImage, Picture};

use super::{BOUNDS, PLANES, recording};

/// The measured sizes.
pub const SIZES: [(usize, usize); 2] = [(640, 480), (1920, 1080)];

/// Number of different frames of each kind.
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
        let mut all = vec![Self::synthetic(width, height)];
        let folder = recording::folder(Path::new(env!("CARGO_MANIFEST_DIR")));
        match recording::frames(&folder, width, height, FRAMES) {
            Some(rgb) => {
                all.push(Frames { name: format!("real {width}x{height}"), width, height, rgb });
            }
            None => println!("SKIPPED: real frames: no car_*.png in {}", folder.display()),
        }
        all
    }

    /// A moving scene, the same in every run.
    pub fn synthetic(width: usize, height: usize) -> Frames {
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

    /// The planes of every frame.
    pub fn planes(&self) -> Vec<Planes> {
        let mut decoder = Decoder::new(BOUNDS).unwrap();
        let mut of = |number| {
            let mut store = Picture::default();
            let view = decoder.decode(&self.source(number), PLANES, &mut store).unwrap();
            let made = view.planes.unwrap();
            let mut planes = Planes::default();
            planes.reshape(made.width(), made.height(), false);
            planes.samples_mut().copy_from_slice(made.samples());
            planes
        };
        (0..self.len()).map(&mut of).collect()
    }

    pub fn len(&self) -> usize {
        self.rgb.len()
    }

    pub fn view(&self, number: usize) -> View<'_> {
        let (width, height) = (self.width, self.height);
        View { width, height, channels: 3, interleaved: Some(&self.rgb[number]), planes: None }
    }

    pub fn source(&self, number: usize) -> InputImage<'_> {
        InputImage {
            format: Format::Raw,
            width: self.width as u32,
            height: self.height as u32,
            channels: 3,
            layout: Default::default(),
            bytes: &self.rgb[number],
        }
    }
}

/// An image given as planes.
pub fn of(planes: &Planes) -> View<'_> {
    let (width, height) = (planes.width(), planes.height());
    View { width, height, channels: 3, interleaved: None, planes: Some(planes) }
}

/// An image given as a file.
pub fn coded(format: Format, bytes: &[u8]) -> InputImage<'_> {
    InputImage { format, width: 0, height: 0, channels: 0, layout: Default::default(), bytes }
}
