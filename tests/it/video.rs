//! Videos, from the file to the output stream, through the program itself.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{
    FramepressProcess, INPUT, RedisServer, data_folder, decoded, has_program, skip,
};

/// A video may take longer than other tests.
const LIMIT: Duration = Duration::from_secs(240);

/// Sends a video through `ingest` and `run`: every frame arrives, once and in order.
fn passes(video: &Path, frames: usize, size: (i32, i32), format: &str) {
    let server = RedisServer::start();
    let mut engine = FramepressProcess::run(&server, &[]);
    let mut ingest = FramepressProcess::start(
        &[
            "ingest",
            "--redis-url",
            &server.url(),
            "--camera",
            "cam1",
            "--source",
            video.to_str().unwrap(),
            "--format",
            format,
        ],
        &[],
    );
    let status = ingest.wait(LIMIT);
    assert!(status.success(), "{status}: {}", ingest.said());
    assert_eq!(server.len(INPUT), frames, "frames in; ingest said:\n{}", ingest.said());
    server.wait_for_outputs(frames);
    server.wait_until_done();
    engine.signal(Signal::TERM);
    engine.ends_with(0);

    server.assert_every_entry_once();
    let outputs = server.outputs();
    assert_eq!(outputs.len(), frames, "frames out");
    let entries: Vec<_> = server.range(INPUT).into_iter().map(|(id, _)| id).collect();
    let sources: Vec<_> = outputs.iter().map(|output| output.source_id()).collect();
    assert_eq!(sources, entries, "in order");
    let mut ids = std::collections::HashSet::new();
    for output in &outputs {
        assert_eq!(output.frame.camera_id, "cam1");
        assert!(ids.insert(output.frame.frame_id.clone()), "{} twice", output.frame.frame_id);
        let image = output.frame.original_image.as_ref().unwrap();
        assert_eq!((image.width, image.height), size);
    }
    let times: Vec<f64> = outputs.iter().map(|output| output.frame.timestamp).collect();
    assert!(times.is_sorted(), "capture times rise: {times:?}");
    assert_eq!(decoded(outputs[0].frame.original_image.as_ref().unwrap()).width, size.0 as usize);
    assert!(server.dead_letters().is_empty());
}

#[test]
fn the_recording_of_the_cars_passes_whole() {
    let video = data_folder().join("car-detection.mp4");
    if !video.exists() {
        return skip(&format!("no {}; FRAMEPRESS_DATA names its folder", video.display()));
    }
    if !has_program("ffmpeg") {
        return skip("the program ffmpeg is not installed");
    }
    passes(&video, 377, (768, 432), "jpeg");
}

#[test]
fn a_video_made_by_ffmpeg_passes_whole() {
    if !has_program("ffmpeg") {
        return skip("the program ffmpeg is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let video = folder.path().join("test.avi");
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-f", "lavfi"])
        .args(["-i", "testsrc=size=160x120:rate=25:duration=3", "-c:v", "mjpeg"])
        .arg(&video)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success(), "ffmpeg makes a video");
    passes(&video, 75, (160, 120), "raw");
}

#[test]
fn a_missing_video_is_reported() {
    let server = RedisServer::start();
    let mut ingest = FramepressProcess::start(
        &["ingest", "--redis-url", &server.url(), "--camera", "c", "--source", "no-such.mp4"],
        &[],
    );
    let said = ingest.ends_with(1);
    assert!(said.contains("no-such.mp4"), "{said}");
}

#[test]
fn synthetic_frames_pass_whole() {
    let server = RedisServer::start();
    let mut engine = FramepressProcess::run(&server, &[]);
    let mut ingest = FramepressProcess::start(
        &[
            "ingest",
            "--redis-url",
            &server.url(),
            "--camera",
            "cam1",
            "--source",
            "synthetic",
            "--limit",
            "20",
            "--fps",
            "100",
        ],
        &[],
    );
    assert!(ingest.wait(LIMIT).success(), "{}", ingest.said());
    server.wait_for_outputs(20);
    server.wait_until_done();
    assert_eq!(server.outputs().len(), 20);
    server.assert_every_entry_once();
    engine.signal(Signal::TERM);
    engine.ends_with(0);
}
