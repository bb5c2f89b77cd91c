//! Camera faults that a producer must handle: changed rates, silence, absence, another size.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use super::{Camera, Sent, children_of, ingest, median, sent, wait_for_frames, wait_for_news};
use crate::support::{INPUT, LONG, RedisServer, has_program, skip, wait_until};

/// Ages without those of the first frames, which include the start-up delay of the camera's
/// encoder.
fn ages(frames: &[Sent]) -> Vec<i64> {
    frames.iter().skip(5).map(Sent::age_ms).collect()
}

#[test]
fn a_rate_below_the_cameras_does_not_make_frames_old() {
    let Some(mut camera) = Camera::start(&["--fps", "10"]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &["--fps", "5"]);
    wait_for_frames(&server, 50);
    camera.tell("fps 25");
    wait_for_frames(&server, 90);
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
    let frames = sent(&server);
    let ages = ages(&frames);
    // Two intervals for the camera's encoder, and one until the next picture marks the end of this
    // one.
    let limit = 3 * 100 + 100 + 250;
    assert!(median(ages[..20].to_vec()) < limit, "{ages:?}");
    assert!(median(ages[ages.len() - 20..].to_vec()) < limit, "it does not grow: {ages:?}");
    let times: Vec<u64> = frames.iter().map(|frame| frame.captured_ms).collect();
    let rate = (times.len() - 1) as f64 * 1000.0 / (times[times.len() - 1] - times[0]) as f64;
    assert!((4.0..=5.2).contains(&rate), "five a second, whatever the camera's rate: {rate}");
    // The timestamp is the arrival time: not the send time, and without drift.
    let apart = |frame: &Sent| frame.captured_ms as i64 - frame.made_ms() as i64;
    assert!(median(frames.iter().map(apart).collect()) < limit, "timestamps are of the pictures");
}

#[test]
fn pictures_of_h265_come_in_time() {
    let Some(camera) = Camera::start(&["--codec", "h265", "--fps", "10"]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &[]);
    wait_for_frames(&server, 30);
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
    let ages = ages(&sent(&server));
    assert!(median(ages.clone()) < 1500, "{ages:?}");
}

#[test]
fn a_redis_that_is_away_costs_old_frames_and_never_makes_new_ones_late() {
    let Some(camera) = Camera::start(&["--fps", "10"]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &[]);
    wait_for_frames(&server, 20);
    server.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(6));
    server.signal(Signal::CONT);
    let before = server.len(INPUT);
    wait_for_frames(&server, before + 30);
    ingest.signal(Signal::TERM);
    let said = ingest.ends_with(0);
    let old = sent(&server).iter().filter(|frame| frame.age_ms() > 2000).count();
    // Only frames in flight when Redis stopped are old; there is no backlog of six seconds.
    assert!(old <= 20, "{old} frames were old; it said {said}");
    let tail: Vec<i64> = ages(&sent(&server)).into_iter().rev().take(20).collect();
    assert!(median(tail.clone()) < 700, "{tail:?}");
    assert!(said.contains(" were replaced by newer ones"), "{said}");
    assert!(!said.contains(" 0 were replaced"), "{said}");
}

#[test]
fn a_camera_that_vanishes_is_read_again_three_seconds_after_its_return() {
    let Some(mut camera) = Camera::start(&["--fps", "10"]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &[]);
    wait_for_frames(&server, 10);
    camera.vanish();
    std::thread::sleep(Duration::from_secs(8));
    assert!(ingest.is_running(), "a loss is not the end: {}", ingest.said());
    assert!(children_of(ingest.pid()).iter().all(|(_, state)| *state != 'Z'), "all are reaped");
    let port = camera.port.to_string();
    let Some(_camera) = Camera::start(&["--fps", "10", "--port", &port]) else { return };
    let after = wait_for_news(&server);
    assert!(after < Duration::from_secs(6), "{after:?}; it said {}", ingest.said());
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
}

#[test]
fn a_loss_is_no_success_when_a_camera_is_read_once() {
    let Some(mut camera) = Camera::start(&[]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &["--once"]);
    wait_for_frames(&server, 5);
    camera.vanish();
    let said = ingest.ends_with(1);
    assert!(said.contains("camera cam: ") && said.contains("frames of cam sent in"), "{said}");
}

#[test]
fn a_camera_that_stalls_is_begun_again_though_its_connection_lives() {
    let Some(mut camera) = Camera::start(&["--fps", "10", "--audio"]) else { return };
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.yaml");
    std::fs::write(&config, "ingest: {defaults: {no_frame_ms: 2000}}").unwrap();
    let options = ["--config", config.to_str().unwrap()];
    let mut ingest = ingest(&server, &camera.url(), &options);
    wait_for_frames(&server, 10);
    camera.tell("stall");
    wait_until("the stall is noticed", Duration::from_secs(10), || {
        ingest.said().contains("no picture for 2000 ms")
    });
    camera.tell("resume");
    let after = wait_for_news(&server);
    assert!(after < Duration::from_secs(15), "{after:?}");
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
}

#[test]
fn no_child_outlives_a_producer_that_is_killed() {
    let Some(mut camera) = Camera::start(&[]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &[]);
    wait_for_frames(&server, 5);
    // A child that writes nothing does not notice that its reader is gone.
    camera.tell("stall");
    std::thread::sleep(Duration::from_millis(500));
    let children = children_of(ingest.pid());
    assert!(!children.is_empty(), "there is an ffmpeg");
    ingest.kill();
    wait_until("the children end", Duration::from_secs(5), || {
        let is_there = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat"));
        children.iter().all(|(pid, _)| is_there(*pid).map_or(true, |stat| stat.contains(") Z ")))
    });
}

#[test]
fn another_size_in_mid_stream_brings_whole_pictures_of_that_size() {
    let Some(mut camera) = Camera::start(&["--fps", "10", "--codec", "mjpeg"]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &["--format", "webp"]);
    wait_for_frames(&server, 10);
    camera.tell("size 640x480");
    wait_until("pictures of the new size", LONG, || {
        let last = sent(&server).pop().unwrap();
        last.frame.original_image.unwrap().width == 640
    });
    let before = server.len(INPUT);
    wait_for_frames(&server, before + 5);
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
    for frame in sent(&server) {
        let image = frame.frame.original_image.as_ref().unwrap();
        assert!([(320, 240), (640, 480)].contains(&(image.width, image.height)));
        // The stamp of a sheared picture cannot be read.
        assert!((-50..10_000).contains(&frame.age_ms()), "{}", frame.age_ms());
    }
}

/// A video of a white square, 64x64 pixels, each pixel twice as wide as high.
pub fn video(folder: &std::path::Path, name: &str, options: &[&str]) -> Option<String> {
    if !has_program("ffmpeg") {
        skip("the program ffmpeg is not installed");
        return None;
    }
    let path = folder.join(name);
    let made = Command::new("ffmpeg")
        .args(["-loglevel", "error", "-f", "lavfi"])
        .args(options)
        .arg(&path)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success(), "ffmpeg makes a video");
    Some(path.to_str().unwrap().to_owned())
}

fn send(server: &RedisServer, source: &str, options: &[&str]) -> String {
    let mut ingest = ingest(server, source, options);
    ingest.ends_with(0)
}

#[test]
fn wide_pixels_rotation_and_ten_bits_give_the_right_picture() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str], (i32, i32)); 3] = [
        (
            "wide.mkv",
            &["-i", "testsrc=s=64x64:d=0.3", "-vf", "setsar=2", "-c:v", "mpeg4"],
            (128, 64),
        ),
        (
            "ten.mkv",
            &["-i", "testsrc=s=64x48:d=0.3", "-c:v", "libx264", "-pix_fmt", "yuv420p10le"],
            (64, 48),
        ),
        (
            "interlaced.mkv",
            &["-i", "testsrc=s=64x64:d=0.3", "-c:v", "mpeg2video", "-flags", "ilme+ildct"],
            (64, 64),
        ),
    ];
    for (name, options, size) in cases {
        let Some(path) = video(folder.path(), name, options) else { return };
        let server = RedisServer::start();
        send(&server, &path, &["--fps", "0"]);
        let frames = sent(&server);
        assert!(frames.len() >= 6, "{name}: {}", frames.len());
        for frame in frames {
            let image = frame.frame.original_image.unwrap();
            assert_eq!((image.width, image.height), size, "{name}");
            assert_eq!(image.compression_format, "jpeg", "{name}: bytes are bounded");
        }
    }
    // A different aspect ratio leaves bars.
    let Some(path) =
        video(folder.path(), "white.mkv", &["-i", "color=white:s=64x64:d=0.2", "-c:v", "mpeg4"])
    else {
        return;
    };
    let server = RedisServer::start();
    send(&server, &path, &["--fps", "0", "--size", "128x64", "--format", "raw"]);
    let image = sent(&server).remove(0).frame.original_image.unwrap();
    let at = |x: usize| image.compressed_data[(32 * 128 + x) * 3];
    assert!(at(4) < 30 && at(64) > 220 && at(123) < 30, "{} {} {}", at(4), at(64), at(123));
}

#[test]
fn files_keep_their_positions_also_of_a_variable_rate() {
    let folder = tempfile::tempdir().unwrap();
    // Frames 0 to 5 at 10 a second, the later ones at 5.
    let filter = "setpts='if(lt(N,6),N*0.1,0.5+(N-5)*0.2)/TB+0.2'";
    let options =
        ["-i", "testsrc=s=64x48:r=10:d=1.2", "-vf", filter, "-fps_mode", "vfr", "-c:v", "mpeg4"];
    let Some(path) = video(folder.path(), "variable.mkv", &options) else { return };
    let server = RedisServer::start();
    send(&server, &path, &["--start-time", "1000", "--fps", "0"]);
    let times: Vec<f64> = sent(&server).iter().map(|frame| frame.frame.timestamp).collect();
    assert_eq!(times.len(), 12);
    for (number, time) in times.iter().enumerate() {
        let number = number as f64;
        let place = if number < 6.0 { number * 0.1 } else { 0.5 + (number - 5.0) * 0.2 };
        assert!((time - 1000.0 - place).abs() < 0.011, "{number}: {time} is not {place}");
    }
}

#[test]
fn a_corrupt_file_says_what_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["-i", "testsrc=s=320x240:d=2", "-c:v", "libx264", "-f", "mpegts"];
    let Some(path) = video(folder.path(), "broken.ts", &options) else { return };
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 4000] {
        *byte ^= 0x5A;
    }
    std::fs::write(&path, bytes).unwrap();
    let server = RedisServer::start();
    let said = send(&server, &path, &["--fps", "0"]);
    assert!(said.contains("broken.ts is damaged: "), "{said}");
}

#[test]
fn bytes_in_the_stream_are_bounded() {
    let server = RedisServer::start();
    let options = [
        "--size",
        "640x480",
        "--fps",
        "0",
        "--limit",
        "60",
        "--format",
        "raw",
        "--max-stream-bytes",
        "10000000",
    ];
    send(&server, "synthetic", &options);
    let left = server.len(INPUT);
    assert!((9..=12).contains(&left), "ten frames of 921,600 bytes: {left}");
}
