//! Frames for measurements: real ones if the folder of recordings exists, and synthetic ones.

use std::path::Path;

use framepress::internals::base::Stop;
use framepress::internals::camera::SyntheticOptions;
use framepress::internals::frame::{Planes, View};
use framepress::internals::image::{Decoder, Format, InputImage, Picture};
use framepress::internals::instruments::{Scene, Size, recording};

use super::{BOUNDS, PLANES};

/// Number of different frames of each kind.
const FRAMES: usize = 4;

/// Some frames of one size.
pub struct Frames {
    pub name: String,
    pub width: usize,
    pub height: usize,
    pub scene: Scene,
}

impl Frames {
    /// Every kind in every size.
    pub fn all() -> Vec<Frames> {
        [Size::VGA, Size::HD].into_iter().flat_map(Self::of).collect()
    }

    /// Every kind in one size.
    pub fn of(size: Size) -> Vec<Frames> {
        let mut all = vec![Self::synthetic(size)];
        let folder = recording::folder(Path::new(env!("CARGO_MANIFEST_DIR")));
        match Scene::recorded(&folder, size, FRAMES) {
            Some(scene) => all.push(Self::named("real", scene)),
            None => println!("SKIPPED: real frames: no car_*.png in {}", folder.display()),
        }
        all
    }

    /// A moving scene, the same in every run.
    pub fn synthetic(size: Size) -> Frames {
        let Size { width, height } = size;
        let options = SyntheticOptions { width, height, fps: 1.0, ..SyntheticOptions::default() };
        let scene = Scene::road(options, FRAMES, 1, &Stop::default()).unwrap();
        Self::named("synthetic", scene)
    }

    fn named(kind: &str, scene: Scene) -> Frames {
        let name = format!("{kind} {}", scene.size);
        let (width, height) = (scene.size.width as usize, scene.size.height as usize);
        Frames { name, width, height, scene }
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
        self.scene.frames.len()
    }

    pub fn rgb(&self, number: usize) -> &[u8] {
        &self.scene.frames[number]
    }

    pub fn view(&self, number: usize) -> View<'_> {
        self.scene.view(number)
    }

    pub fn source(&self, number: usize) -> InputImage<'_> {
        self.scene.raw(number)
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
