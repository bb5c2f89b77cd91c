//! HTTP streams other than MJPEG, reordered pictures, key frames, rotated pictures.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::faults::video;
use super::{Camera, Sent, ingest, median, sent, wait_for_frames};
use crate::support::{INPUT, LONG, RedisServer, wait_until};

/// Dropping the value ends the program.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A web server for a folder, and its port.
fn serve(folder: &Path) -> (Program, u16) {
    let mut child = Command::new("python3")
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
        .arg(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // Parse "Serving HTTP on 127.0.0.1 port N (...".
    let port = line.split(' ').nth(5).and_then(|port| port.parse().ok());
    (Program(child), port.unwrap_or_else(|| panic!("no port in {line:?}")))
}

#[test]
fn a_live_playlist_is_read_segment_after_segment() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["-i", "testsrc=s=64x48:d=0.2", "-c:v", "libx264"];
    if video(folder.path(), "here.mkv", &options).is_none() {
        return;
    }
    let camera = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-re", "-f", "lavfi", "-i"])
        .args(["testsrc=s=320x240:r=10", "-t", "120", "-c:v", "libx264", "-bf", "2", "-g", "10"])
        .args(["-f", "hls", "-hls_time", "1", "-hls_list_size", "4"])
        .args(["-hls_flags", "delete_segments"])
        .arg(folder.path().join("live.m3u8"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let _camera = Program(camera);
    let (_server, port) = serve(folder.path());
    wait_until("segments", LONG, || folder.path().join("live.m3u8").exists());
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &format!("http://127.0.0.1:{port}/live.m3u8"), &[]);
    wait_for_frames(&server, 60);
    ingest.signal(Signal::TERM);
    let said = ingest.ends_with(0);
    assert!(!said.contains("again in"), "one connection lasts: {said}");
    let frames = sent(&server);
    let image = frames[0].frame.original_image.as_ref().unwrap();
    assert_eq!((image.width, image.height), (320, 240));
    assert!(frames.is_sorted_by(|a, b| a.frame.timestamp < b.frame.timestamp));
}

#[test]
fn a_transport_stream_that_ends_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = "testsrc=s=320x240:r=10:d=6";
    let options = ["-i", source, "-c:v", "libx264", "-bf", "2", "-g", "10", "-f", "mpegts"];
    if video(folder.path(), "camera.ts", &options).is_none() {
        return;
    }
    let (_server, port) = serve(folder.path());
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &format!("http://127.0.0.1:{port}/camera.ts"), &[]);
    wait_until("the second time", LONG, || {
        ingest.said().matches("the camera has ended the stream").count() >= 2
    });
    assert!(server.len(INPUT) > 2);
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
}

#[test]
fn pictures_that_come_out_of_order_are_sent_in_order() {
    let Some(camera) = Camera::start(&["--codec", "h264-bframes", "--fps", "10"]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &[]);
    wait_for_frames(&server, 40);
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
    let frames = sent(&server);
    let made: Vec<u64> = frames.iter().map(Sent::made_ms).collect();
    assert!(made.is_sorted(), "{made:?}");
    assert!(frames.is_sorted_by(|a, b| a.frame.timestamp < b.frame.timestamp));
    let ages: Vec<i64> = frames.iter().skip(5).map(Sent::age_ms).collect();
    // x264 without `zerolatency` looks ahead; reordering needs two more pictures.
    assert!(median(ages.clone()) < 8000, "{ages:?}");
}

#[test]
fn key_frames_alone_are_decoded_where_that_is_asked_for() {
    let Some(camera) = Camera::start(&["--fps", "10", "--gop", "20"]) else { return };
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cameras.yaml");
    let text = format!(
        "redis_queue: {{url: '{}'}}\nstats: {{addr: null}}\ningest: {{stats: {{addr: null}}}}\n\
         cameras: [{{id: cam, source: '{}', keyframes_only: true}}]\n",
        server.url(),
        camera.url()
    );
    std::fs::write(&file, text).unwrap();
    let options = ["ingest", "--config", file.to_str().unwrap()];
    let mut ingest = crate::support::FramepressProcess::start(&options, &[]);
    wait_for_frames(&server, 6);
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
    let frames = sent(&server);
    let apart: Vec<i64> =
        frames.windows(2).map(|pair| pair[1].made_ms() as i64 - pair[0].made_ms() as i64).collect();
    assert!((1500..2500).contains(&median(apart.clone())), "one in twenty: {apart:?}");
}

#[test]
fn a_turned_picture_is_upright() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["-i", "testsrc=s=96x64:d=0.3", "-c:v", "mpeg4"];
    let Some(path) = video(folder.path(), "level.mp4", &options) else { return };
    let turned = folder.path().join("turned.mp4");
    let made = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-i", &path, "-c", "copy"])
        .args(["-metadata:s:v:0", "rotate=90"])
        .arg(&turned)
        .status()
        .unwrap();
    assert!(made.success());
    let path = turned.to_str().unwrap();
    for format in ["jpeg", "raw", "yuv420p"] {
        let server = RedisServer::start();
        let mut ingest = ingest(&server, path, &["--fps", "0", "--format", format]);
        ingest.ends_with(0);
        let frames = sent(&server);
        assert!(frames.len() >= 6, "{format}: {}", frames.len());
        for frame in frames {
            let image = frame.frame.original_image.unwrap();
            assert_eq!((image.width, image.height), (64, 96), "{format}");
        }
    }
}
