//! Vehicle density on the scene of the demo, whose true share of vehicle pixels is known.

use framepress::internals::analysis::{Background, Reduced};
use framepress::internals::camera::{FrameSource as _, Still, Synthetic, SyntheticOptions};
use framepress::internals::image::{Bounds, Decoder, Format, InputImage, Needs, Picture};

/// Largest mean difference between density and truth.
const OFF_MAX: f32 = 0.05;

/// The default demo: four cameras, twenty seconds at fifteen frames per second.
const CAMERAS: u32 = 4;
const FRAMES: usize = 300;

#[test]
fn density_is_near_the_true_share_in_the_scene_of_the_demo() {
    let mut sum = 0.0;
    for camera in 0..CAMERAS {
        let (off, truth) = watch(camera);
        println!("camera {camera}: off by {off:.4} on average, the true share is {truth:.4}");
        assert!(truth > 0.01, "there is traffic before camera {camera}: {truth}");
        sum += off;
    }
    let off = sum / CAMERAS as f32;
    assert!(off <= OFF_MAX, "off by {off} on average");
}

/// Mean difference and mean true share of one camera of the demo.
fn watch(camera: u32) -> (f32, f32) {
    let options = SyntheticOptions { camera, ..Default::default() };
    let mut scene = Synthetic::new(options).unwrap();
    let mut decoder = Decoder::new(Bounds { pixels_max: 1 << 20 }).unwrap();
    let (mut still, mut store) = (Still::default(), Picture::default());
    let (mut reduced, mut background) = (Reduced::new(), Background::new());
    let (mut off, mut truths) = (0.0, 0.0);
    for frame in 0..FRAMES {
        assert!(scene.next(&mut still).unwrap());
        let (width, height, channels) = (still.width, still.height, still.channels);
        let picture = InputImage {
            format: Format::Raw,
            width,
            height,
            channels,
            layout: Default::default(),
            bytes: &still.bytes,
        };
        let needs = Needs { planes: true, interleaved: false };
        let view = decoder.decode(&picture, needs, &mut store).unwrap();
        reduced.fill(view.planes.unwrap().luma());
        let time = frame as f64 / options.fps;
        let density = background.update(&reduced, time).density;
        let truth = still.vehicle_share.unwrap();
        off += (density - truth).abs();
        truths += truth;
    }
    let count = FRAMES as f32;
    (off / count, truths / count)
}
