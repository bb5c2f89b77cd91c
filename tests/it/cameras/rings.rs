//! Cameras whose pixels stay in a frame ring.

use std::fs;
use std::path::Path;
use std::time::Duration;

use framepress::internals::metrics::Counter;
use framepress::internals::ring::{Ring, RingOptions};
use rustix::process::Signal;

use super::faults::video;
use super::{Camera, Sent, children_of, median, sent, wait_for_frames};
use crate::ring::rings_folder;
use crate::support::{
    FramepressProcess, INPUT, LONG, RedisServer, RunningEngine, decoded, wait_until,
};

/// `ingest` of camera `cam` with a ring in `folder`.
fn ingest(
    server: &RedisServer,
    folder: &Path,
    source: &str,
    options: &[&str],
) -> FramepressProcess {
    let (url, dir) = (server.url(), folder.display().to_string());
    let common = ["ingest", "--redis-url", &url, "--camera", "cam", "--source", source];
    let all = [&common[..], &["--log-level", "info"], options].concat();
    FramepressProcess::start(&all, &[("RING__DIR", &dir), ("REDIS_QUEUE__RETENTION", "delete")])
}

fn engine(server: &RedisServer, folder: &Path) -> RunningEngine {
    let dir = folder.display().to_string();
    RunningEngine::start(server, &[("ring.dir", &dir), ("redis_queue.retention", "delete")])
}

/// Results as pictures with a clock drawn into them.
fn results(server: &RedisServer) -> Vec<Sent> {
    let outputs = server.outputs().into_iter();
    let sent = outputs.map(|output| {
        let added_ms = crate::support::parts(&output.id).0;
        let captured_ms = (output.frame.timestamp * 1000.0) as u64;
        Sent { added_ms, captured_ms, frame: output.frame }
    });
    sent.collect()
}

#[test]
fn a_live_camera_leaves_planes_and_the_results_are_of_now() {
    let Some(mut camera) = Camera::start(&["--fps", "10"]) else { return };
    let folder = rings_folder();
    let server = RedisServer::start();
    let engine = engine(&server, folder.path());
    let mut ingest = ingest(&server, folder.path(), &camera.url(), &["--ring", "8"]);
    server.wait_for_outputs(30);
    assert!(ingest.said().matches(" live after").count() == 1, "{}", ingest.said());
    camera.tell("size 160x120");
    wait_until("pictures of the other size", LONG, || {
        server.outputs().last().is_some_and(|last| {
            last.frame.original_image.as_ref().is_some_and(|image| image.width == 160)
        })
    });
    let before = server.outputs().len();
    // Frames left in a replaced ring become dead letters.
    camera.tell("stall");
    wait_until("everything has been read", LONG, || server.len(INPUT) == 0);
    camera.tell("size 640x480");
    camera.tell("resume");
    wait_until("pictures for which the ring had no room", LONG, || {
        let now = server.outputs();
        now.len() > before + 10
            && now.last().is_some_and(|last| {
                last.frame.original_image.as_ref().is_some_and(|image| image.width == 640)
            })
    });
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
    server.wait_until_done();
    let results = results(&server);
    let ages: Vec<i64> = results.iter().skip(5).map(Sent::age_ms).collect();
    assert!(median(ages.clone()) < 2000, "{ages:?}");
    let ring = fs::metadata(folder.path().join("cam.ring")).unwrap().len();
    assert_eq!(ring, 4096 + 8 * (4096 + (640_u64 * 480 * 3 / 2).next_multiple_of(4096)));
    assert!(engine.count(Counter::RingFrames) >= results.len() as u64);
    let account = engine.stop();
    assert_eq!(account.read, account.out + account.lost, "{account:?}");
    assert!(server.dead_letters().is_empty());
    assert!(children_of(ingest.pid()).is_empty());
}

#[test]
fn a_lossless_ring_brings_every_frame_of_a_file_in_order() {
    let folder = rings_folder();
    let options = ["-i", "testsrc=s=64x48:r=25:d=4", "-c:v", "libx264"];
    let Some(path) = video(folder.path(), "road.mkv", &options) else { return };
    let server = RedisServer::start();
    let options = ["--ring", "3", "--ring-reuse", "lossless", "--fps", "0"];
    let mut ingest = ingest(&server, folder.path(), &path, &options);
    wait_for_frames(&server, 3);
    let engine = engine(&server, folder.path());
    let said = ingest.ends_with(0);
    assert!(said.contains("100 frames of cam sent"), "{said}");
    server.wait_for_outputs(100);
    let outputs = server.outputs().into_iter().map(|output| output.frame);
    let named: Vec<String> = outputs.map(|frame| frame.frame_id).collect();
    assert!(named.is_sorted_by(|a, b| a < b) && named.len() == 100, "{named:?}");
    assert_eq!(engine.count(Counter::RingFrames), 100);
    assert_eq!(engine.stop().lost, 0);
}

#[test]
fn a_lossless_ring_needs_entries_that_go() {
    let folder = rings_folder();
    let server = RedisServer::start();
    let url = server.url();
    let options = ["ingest", "--redis-url", &url, "--camera", "cam", "--source", "synthetic"];
    let ring = ["--ring", "3", "--ring-reuse", "lossless", "--limit", "9"];
    let dir = folder.path().display().to_string();
    let all = [&options[..], &ring].concat();
    let mut kept = FramepressProcess::start(&all, &[("RING__DIR", &dir)]);
    let said = kept.ends_with(2);
    assert!(said.contains("retention: delete"), "{said}");
    // The producer stops on request even if no engine reads.
    let synthetic = ["--ring", "3", "--ring-reuse", "lossless"];
    let mut stuck = ingest(&server, folder.path(), "synthetic", &synthetic);
    wait_for_frames(&server, 3);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(server.len(INPUT), 3);
    stuck.signal(Signal::TERM);
    stuck.ends_with(0);
}

#[test]
fn a_ring_that_cannot_be_made_is_named_and_tried_again() {
    let Some(camera) = Camera::start(&[]) else { return };
    let folder = rings_folder();
    let server = RedisServer::start();
    let other = Ring::create(&RingOptions {
        folder: folder.path().to_owned(),
        name: "cam".into(),
        slots: 2,
        frame_bytes_max: 1,
    });
    let mut ingest = ingest(&server, folder.path(), &camera.url(), &["--ring", "4"]);
    wait_until("it says why", LONG, || ingest.said().contains("has a producer already"));
    assert_eq!(server.len(INPUT), 0);
    drop(other);
    wait_for_frames(&server, 5);
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
    let image = sent(&server).remove(0).frame.original_image.unwrap();
    assert_eq!(image.compression_format, "yuv420p", "no program has converted it");
    // With a source that is not live, the same error ends the command.
    let mut refused = self::ingest(&server, Path::new("/dev/null"), "synthetic", &["--ring", "4"]);
    let said = refused.ends_with(1);
    assert!(said.contains("/dev/null"), "{said}");
}

#[test]
fn planes_say_what_their_colours_are() {
    let folder = rings_folder();
    let source = "testsrc2=s=128x96:d=0.3";
    let cases: [(&str, &[&str], &str, &str, &str); 5] = [
        ("sd.mkv", &["-c:v", "libx264", "-pix_fmt", "yuv420p"], "yuv420p", "", ""),
        (
            "hd.mkv",
            &["-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709", "-pix_fmt", "yuv420p"],
            "yuv420p",
            "",
            "bt709",
        ),
        ("jpeg.avi", &["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"], "yuvj420p", "", ""),
        ("ten.mkv", &["-c:v", "libx264", "-pix_fmt", "yuv420p10le"], "yuv420p", "", ""),
        (
            "uhd.mkv",
            &[
                "-vf",
                "scale=out_color_matrix=bt2020",
                "-colorspace",
                "bt2020nc",
                "-pix_fmt",
                "yuv420p",
            ],
            "yuvj420p",
            "",
            "",
        ),
    ];
    for (name, options, layout, range, matrix) in cases {
        let options = [&["-i", source], options].concat();
        let Some(path) = video(folder.path(), name, &options) else { return };
        let server = RedisServer::start();
        for (camera, format) in [("planes", "yuv420p"), ("rgb", "raw")] {
            let url = server.url();
            let common = ["ingest", "--redis-url", &url, "--camera", camera, "--source", &path];
            let all = [&common[..], &["--fps", "0", "--format", format]].concat();
            FramepressProcess::start(&all, &[]).ends_with(0);
        }
        let first = sent(&server).remove(0).frame.original_image.unwrap();
        let said = (first.compression_format, first.color_range, first.color_matrix);
        assert_eq!(said, (layout.into(), range.into(), matrix.into()), "{name}");
        let engine = engine(&server, folder.path());
        server.wait_for_outputs(2);
        server.wait_until_done();
        let outputs = server.outputs();
        let of = |camera: &str| {
            let output = outputs.iter().find(|output| output.frame.camera_id == camera).unwrap();
            decoded(output.frame.original_image.as_ref().unwrap()).pixels
        };
        let (planes, rgb) = (of("planes"), of("rgb"));
        let apart = planes.iter().zip(&rgb).map(|(a, b)| u64::from(a.abs_diff(*b))).sum::<u64>();
        let apart = apart as f64 / rgb.len() as f64;
        assert!(apart < 3.0, "{name}: {apart}");
        engine.stop();
    }
}

#[test]
fn a_right_that_one_camera_lacks_is_no_matter_of_the_others() {
    let Some(camera) = Camera::start(&["--fps", "10"]) else { return };
    let folder = rings_folder();
    let server = RedisServer::start();
    let rules = ["reset", "on", ">word", "resetchannels", "%W~camera_frames", "+xadd"];
    let _: redis::Value = server.ask(redis::cmd("ACL").arg("SETUSER").arg("cam").arg(&rules));
    let file = folder.path().join("cameras.yaml");
    let text = format!(
        "redis_queue: {{url: 'redis://cam:word@127.0.0.1:{0}', retention: delete}}\n\
         stats: {{addr: null}}\nring: {{dir: {1}}}\ningest: {{stats: {{addr: null}}}}\ncameras:\n  \
         - {{id: a, source: '{2}', ring: 2, ring_reuse: lossless}}\n  - {{id: b, source: '{2}'}}\n",
        server.port(),
        folder.path().display(),
        camera.url()
    );
    fs::write(&file, text).unwrap();
    let mut ingest = FramepressProcess::start(&["ingest", "--config", file.to_str().unwrap()], &[]);
    let of = |id: &str| sent(&server).iter().filter(|it| it.frame.camera_id == id).count();
    wait_until("it says what is missing", LONG, || {
        let said = ingest.said();
        said.lines().any(|line| line.contains("xrange") && line.contains("camera=\"a\""))
    });
    let before = of("b");
    wait_until("the other one goes on", LONG, || of("b") > before + 10);
    assert!(of("a") >= 2);
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
}
