//! Vehicle density on the scene of the demo, whose true share of vehicle pixels is known.

use framepress::analysis::{Background, Reduced};
use framepress::camera::{Source as _, Still, Synthetic, SyntheticOptions};
use framepress::image::{Bounds, Decoder, Format, Needs, Picture, Source};

/// Largest mean difference between density and truth.
const OFF_MAX: f32 = 0.05;

/// Frames before the comparison begins: a model that has seen nothing takes the vehicles of the
/// first frame for road.
const SETTLING: usize = 60;
const FRAMES: usize = 360;

#[test]
fn density_is_near_the_true_share_in_the_scene_of_the_demo() {
    for camera in 0..4 {
        let (off, truth) = watch(camera);
        println!("camera {camera}: off by {off:.4} on average, the true share is {truth:.4}");
        assert!(truth > 0.01, "there is traffic before camera {camera}: {truth}");
        assert!(off <= OFF_MAX, "camera {camera}: off by {off} on average");
    }
}

/// Mean difference and mean true share of one camera of the demo.
fn watch(camera: u32) -> (f32, f32) {
    let options = SyntheticOptions { width: 320, height: 240, camera, ..Default::default() };
    let mut scene = Synthetic::new(options).unwrap();
    let mut decoder = Decoder::new(Bounds { pixels_max: 1 << 20 }).unwrap();
    let (mut still, mut store) = (Still::default(), Picture::default());
    let (mut reduced, mut background) = (Reduced::new(), Background::new());
    let (mut off, mut truths) = (0.0, 0.0);
    for frame in 0..FRAMES {
        assert!(scene.next(&mut still).unwrap());
        let (width, height, channels) = (still.width, still.height, still.channels);
        let picture = Source { format: Format::Raw, width, height, channels, bytes: &still.bytes };
        let needs = Needs { planes: true, interleaved: false };
        let view = decoder.decode(&picture, needs, &mut store).unwrap();
        reduced.fill(view.planes.unwrap().luma());
        let time = frame as f64 / options.fps;
        let density = background.update(&reduced, time).density;
        if frame >= SETTLING {
            let truth = still.vehicle_share.unwrap();
            off += (density - truth).abs();
            truths += truth;
        }
    }
    let count = (FRAMES - SETTLING) as f32;
    (off / count, truths / count)
}
