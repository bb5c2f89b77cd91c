//! State kept per camera: each camera sees its own frames in order, no camera waits for another,
//! and the number of remembered cameras is limited.

use std::collections::BTreeMap;
use std::sync::Arc;

use framepress::internals::image::Format;
use framepress::internals::metrics::Counter;
use parking_lot::{Condvar, Mutex};

use crate::support::{
    Fields, FramepressProcess, LONG, Output, RedisServer, RunningEngine, Sample, protobuf,
    protobuf_of, status_of,
};

/// Records which frames have begun, and holds frames until others have begun.
#[derive(Default)]
struct Starts {
    begun: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Starts {
    fn begin(&self, frame: &str) {
        self.begun.lock().push(frame.to_owned());
        self.changed.notify_all();
    }

    /// Waits until `frame` has begun, or until the test must fail.
    fn wait_for(&self, frame: &str) {
        let mut begun = self.begun.lock();
        while !begun.iter().any(|known| known == frame) {
            if self.changed.wait_for(&mut begun, LONG).timed_out() {
                return;
            }
        }
    }
}

#[test]
fn a_frame_held_up_delays_its_own_camera_and_no_other() {
    let server = RedisServer::start();
    let starts = Arc::new(Starts::default());
    let probe = {
        let starts = Arc::clone(&starts);
        move |frame: &str| {
            if frame == "slow-0" {
                starts.wait_for("released");
            }
        }
    };
    let engine = RunningEngine::probed(&server, &[("engine.workers", "2")], probe);
    server.add_frames("slow", 4);
    server.add_frames("other", 30);
    // The first frame of one camera is still in work; three of its frames wait behind it.
    server.wait_for_outputs(30);
    let frames: Vec<_> = server.outputs().into_iter().map(|out| out.frame.frame_id).collect();
    let other: Vec<_> = (0..30).map(|number| format!("other-{number}")).collect();
    assert_eq!(frames, other);
    starts.begin("released");
    server.wait_for_outputs(34);
    let frames: Vec<_> = server.outputs().into_iter().map(|out| out.frame.frame_id).collect();
    assert_eq!(frames[30..], ["slow-0", "slow-1", "slow-2", "slow-3"]);
    engine.stop();
}

/// A block that moves by a different step in each frame, so that density and motion depend on the
/// frames before.
fn moving_block(frames: usize) -> Vec<Fields> {
    let block = |number: usize| {
        let mut sample = Sample::gray(96, 64, 1);
        sample.pixels.fill(90);
        let left = number * number * 7 % 60;
        for row in sample.pixels.chunks_exact_mut(96).skip(10).take(20 + number % 30) {
            row[left..left + 36].fill(200);
        }
        protobuf_of(&format!("{number:03}"), "cam", sample.image(Format::Raw))
    };
    (0..frames).map(block).collect()
}

/// Density and motion by frame, with an engine whose frames end in the order of `probe`.
fn figures(
    workers: &str,
    probe: impl Fn(&str) + Send + Sync + 'static,
) -> BTreeMap<String, (f32, f32)> {
    let server = RedisServer::start();
    let engine = RunningEngine::probed(&server, &[("engine.workers", workers)], probe);
    let entries = moving_block(60);
    server.add_all(&entries);
    server.wait_for_outputs(entries.len());
    engine.stop();
    let figures = |output: Output| {
        let traffic = output.frame.traffic_features.unwrap();
        (output.frame.frame_id, (traffic.vehicle_density, traffic.motion_intensity))
    };
    let outputs = server.outputs();
    assert!(outputs.is_sorted_by_key(|output| output.frame.frame_id.clone()), "in order");
    outputs.into_iter().map(figures).collect()
}

#[test]
fn the_background_sees_frames_in_order_whatever_order_they_are_ready_in() {
    let one_by_one = figures("1", |_| ());
    assert!(one_by_one.values().any(|(density, motion)| *density > 0.1 && *motion > 0.02));
    // With four workers, every sixth frame is held until the fifth after it has begun. By then at
    // least two of the frames between are ready.
    let starts = Starts::default();
    let shuffled = figures("4", move |frame| {
        let number: usize = frame.parse().unwrap();
        starts.begin(frame);
        if number.is_multiple_of(6) {
            starts.wait_for(&format!("{:03}", number + 5));
        }
    });
    assert_eq!(one_by_one, shuffled);
}

#[test]
fn cameras_beyond_the_limit_are_forgotten_the_least_recently_used_first() {
    const LIMIT: usize = 8;
    const STRANGERS: usize = 60;
    /// Slots of an engine with two workers.
    const SLOTS: usize = 8;
    let server = RedisServer::start();
    let flags = [("engine.max_concurrent_streams", "8")];
    let engine = RunningEngine::start(&server, &flags);
    let mut entries = Vec::new();
    for number in 0..STRANGERS {
        entries.push(protobuf("f", &format!("stranger-{number}")));
        entries.push(protobuf("f", "regular"));
    }
    server.add_all(&entries);
    server.wait_for_outputs(entries.len());
    let cameras = engine.cameras().statuses();
    let regular = cameras.iter().find(|camera| camera.camera_id == "regular").expect("is kept");
    assert_eq!(regular.frames_processed, STRANGERS as u64, "and was at no time forgotten");
    let forgotten = engine.count(Counter::CamerasEvicted);
    assert_eq!(forgotten + cameras.len() as u64, STRANGERS as u64 + 1);
    // A camera with a frame in work cannot be forgotten, so a few more may remain at the end.
    assert!(cameras.len() <= LIMIT + SLOTS, "{} cameras are kept", cameras.len());
    engine.stop();
}

#[test]
fn a_thousand_cameras_take_at_most_250_mib() {
    let server = RedisServer::start();
    let everything = [("ANALYSIS__THUMBNAIL", "true"), ("ANALYSIS__ML_IMAGE", "true")];
    let process = FramepressProcess::run(&server, &everything);
    let image = Sample::colour(640, 480, 1).image(Format::Jpeg);
    let mut of_cameras = Vec::new();
    for cameras in [1, 1000] {
        // With its second frame a camera has a background, and tables that follow it.
        for frame in ["first", "second"] {
            let frames: Vec<_> = (0..cameras)
                .map(|camera| protobuf_of(frame, &format!("{cameras}-{camera}"), image.clone()))
                .collect();
            server.add_all(&frames);
        }
        server.wait_for_outputs(2 * cameras + 2 * of_cameras.len());
        of_cameras.push(status_of(process.pid(), "VmRSS").unwrap());
    }
    let [few, many] = of_cameras[..] else { unreachable!() };
    println!("one camera {} MiB, 1,001 cameras {} MiB", few >> 10, many >> 10);
    assert!(many <= 250 << 10, "{many} KiB");
}
