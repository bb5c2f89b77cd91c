//! Frames of one camera leave in the order they were read, however long each of them takes.

use std::collections::BTreeMap;

use framepress::internals::image::Format;
use framepress::internals::wire::proto::ImageData;

use crate::support::{Fields, RedisServer, RunningEngine, Sample, data, protobuf_of};

const CAMERAS: usize = 5;
const FRAMES: usize = 160;

/// Frames of all cameras alternately. Large, slow ones come before small ones, and some are not
/// pictures.
fn load() -> Vec<Fields> {
    let sizes = [(640, 480), (32, 24), (320, 240), (16, 16), (800, 600)];
    let pictures: Vec<ImageData> = sizes
        .iter()
        .enumerate()
        .flat_map(|(seed, &(width, height))| {
            let sample = Sample::colour(width, height, seed);
            [sample.image(Format::Raw), sample.image(Format::Png)]
        })
        .collect();
    let entry = |index: usize| {
        if index % 23 == 22 {
            return data("{no frame");
        }
        let picture = pictures[index * 7 % pictures.len()].clone();
        let (camera, number) = (index % CAMERAS, index / CAMERAS);
        protobuf_of(&format!("{number:04}"), &format!("cam{camera}"), picture)
    };
    (0..FRAMES).map(entry).collect()
}

/// Frame ids by camera, in the order of the output stream.
fn arrived(server: &RedisServer) -> BTreeMap<String, Vec<String>> {
    let mut by_camera = BTreeMap::<String, Vec<String>>::new();
    for output in server.outputs() {
        by_camera.entry(output.frame.camera_id).or_default().push(output.frame.frame_id);
    }
    by_camera
}

/// The arrived frames of [`load`], with an engine configured by `flags`.
fn run(flags: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    let server = RedisServer::start();
    let entries = load();
    let bad = entries.iter().filter(|entry| entry[0].1 == b"{no frame").count();
    let engine = RunningEngine::start(&server, flags);
    server.add_all(&entries);
    server.wait_until_done();
    let account = engine.stop();
    assert_eq!(account.dead_lettered, bad as u64);
    let arrived = arrived(&server);
    assert_eq!(arrived.values().map(Vec::len).sum::<usize>(), FRAMES - bad, "all arrive, once");
    arrived
}

#[test]
fn the_order_of_each_camera_holds() {
    for (camera, frames) in run(&[("engine.workers", "4"), ("engine.committers", "3")]) {
        assert!(frames.is_sorted(), "{camera}: {frames:?}");
    }
}

#[test]
fn the_order_holds_without_analysis() {
    let flags = [("engine.workers", "4"), ("analysis.enabled", "false")];
    for (camera, frames) in run(&flags) {
        assert!(frames.is_sorted(), "{camera}: {frames:?}");
    }
}

#[test]
fn without_order_all_frames_arrive() {
    let flags = [
        ("engine.workers", "4"),
        ("engine.readers", "2"),
        ("engine.ordering", "none"),
        ("analysis.enabled", "false"),
    ];
    for (_, mut frames) in run(&flags) {
        let count = frames.len();
        frames.sort();
        frames.dedup();
        assert_eq!(frames.len(), count, "each once");
    }
}

#[test]
fn the_order_holds_when_only_a_few_cameras_are_remembered() {
    let flags = [("engine.workers", "4"), ("engine.max_concurrent_streams", "1")];
    for (camera, frames) in run(&flags) {
        assert!(frames.is_sorted(), "{camera}: {frames:?}");
    }
}
