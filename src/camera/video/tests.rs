//! Tests of video, with small videos made by `ffmpeg`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// A video of 12 frames, 64x48, 10 per second; `None`, with a message, without `ffmpeg`.
fn video(folder: &Path, name: &str) -> Option<PathBuf> {
    let path = folder.join(name);
    let made = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=64x48:rate=10:duration=1.2",
        ])
        .args(["-c:v", "mpeg4", "-y"])
        .arg(format!("file:{}", path.display()))
        .stdin(Stdio::null())
        .status();
    match made {
        Ok(status) => {
            assert!(status.success(), "ffmpeg made no test video");
            Some(path)
        }
        Err(error) => {
            eprintln!("SKIPPED: no video test without ffmpeg ({error})");
            None
        }
    }
}

fn installed() -> bool {
    let found = Command::new("ffprobe").arg("-version").stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: no video test without ffmpeg");
    }
    found
}

fn count(video: &mut Video, still: &mut Still) -> u64 {
    (0..).find(|_| !video.next(still).unwrap()).unwrap()
}

#[test]
fn every_frame_comes_once_in_the_size_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = video(folder.path(), "small.mp4") else { return };
    let (stop, mut still) = (Stop::default(), Still::default());
    let mut own = Video::open(path.to_str().unwrap(), None, false, &stop).unwrap();
    assert_eq!((own.fps(), own.frames()), (Some(10.0), Some(12)));
    assert_eq!(count(&mut own, &mut still), 12);
    assert_eq!((still.width, still.height, still.bytes.len()), (64, 48, 64 * 48 * 3));
    assert!(!own.next(&mut still).unwrap(), "the end stays the end");
    let mut odd = Video::open(path.to_str().unwrap(), Some((33, 17)), false, &stop).unwrap();
    assert!(odd.next(&mut still).unwrap());
    assert_eq!((still.width, still.height, still.bytes.len()), (33, 17, 33 * 17 * 3));
    assert!(Video::open(path.to_str().unwrap(), Some((0, 17)), false, &stop).is_err());
}

#[test]
fn a_looped_file_has_no_end_until_stop_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = video(folder.path(), "small.mp4") else { return };
    let (stop, mut still) = (Stop::default(), Still::default());
    let mut looped = Video::open(path.to_str().unwrap(), None, true, &stop).unwrap();
    assert_eq!(looped.frames(), None);
    for _ in 0..40 {
        assert!(looped.next(&mut still).unwrap());
    }
    stop.drain();
    assert!(!looped.next(&mut still).unwrap());
}

#[test]
fn names_that_look_like_options_or_protocols_are_only_names() {
    let folder = tempfile::tempdir().unwrap();
    let stop = Stop::default();
    for name in ["-y.mp4", "concat:a.mp4", "100%d.mp4"] {
        let Some(path) = video(folder.path(), name) else { return };
        let opened = Video::open(path.to_str().unwrap(), None, false, &stop);
        assert_eq!(opened.unwrap().frames(), Some(12), "{name}");
    }
}

#[test]
fn what_is_no_video_is_refused_with_its_name() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let stop = Stop::default();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("empty.mp4"), b"").unwrap();
    fs::write(path("text.mp4"), b"this is not a video\n".repeat(100)).unwrap();
    let said = |name: &str| Video::open(path(name), None, false, &stop).unwrap_err().to_string();
    assert!(said("empty.mp4").contains("the file is empty"));
    assert!(said("text.mp4").contains("text.mp4 is not a"), "{}", said("text.mp4"));
    assert!(said("none.mp4").contains("none.mp4"));
}

#[test]
fn a_local_playlist_cannot_reach_the_network() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("list.m3u8");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let segment = format!("http://{}/x.ts", server.local_addr().unwrap());
    let list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n");
    fs::write(&path, list).unwrap();
    let refused = Video::open(path.to_str().unwrap(), None, false, &Stop::default());
    assert!(matches!(refused, Err(Fault::Unusable(_))), "{refused:?}");
    assert!(server.accept().is_err(), "no client has connected");
}

#[test]
fn a_refused_camera_is_named_without_its_password() {
    if !installed() {
        return;
    }
    let url = "rtsp://admin:hunter2@127.0.0.1:9/live";
    let said = Video::open(url, None, false, &Stop::default()).unwrap_err().to_string();
    assert!(said.contains("rtsp://***@127.0.0.1:9/live") && !said.contains("hunter2"), "{said}");
    assert!(said.contains("refused"), "{said}");
}

#[test]
fn a_broken_off_ffmpeg_is_a_fault_that_says_how_far_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = video(folder.path(), "small.mp4") else { return };
    let whole = folder.path().join("whole.nut");
    let reading =
        Reading { pixels: DecodedPixels::Rgb, size: Some((64, 48)), repeat: false, live: None };
    let location = Location::new(&path).unwrap();
    let made = Command::new("ffmpeg").args(arguments(&location, &reading)).output().unwrap();
    fs::write(&whole, &made.stdout).unwrap();
    let (stop, mut still) = (Stop::default(), Still::default());
    let mut broken = Video::open(path.to_str().unwrap(), None, true, &stop).unwrap();
    let mut end_with = |script: String| {
        let script = script.replace("FILE", whole.to_str().unwrap());
        broken.frames = Nut::new(Piped::start("sh", ["-c", &script], None, &stop).unwrap());
        (broken.ended, broken.read) = (false, 0);
        assert!(broken.next(&mut still).unwrap());
        broken.next(&mut still).unwrap_err().to_string()
    };
    let said = end_with("head -c 10000 FILE; echo camera gone >&2; exit 3".into());
    assert!(said.contains("after 1 frames: camera gone"), "{said}");
    let said = end_with("head -c 10000 FILE".into());
    assert!(said.contains("after 1 frames: the next frame is incomplete"), "{said}");
    let said = end_with("head -c 9600 FILE; head -c 9000 /dev/zero".into());
    assert!(said.contains("after 1 frames"), "{said}");
}

/// A named pipe without a writer is the worst camera: opening it never returns. Without the stop
/// signal this test would hang until the runner's time-out.
#[test]
fn a_camera_that_stays_silent_is_left_when_stop_is_raised() {
    if !installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("silent");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (stop, (done, ended)) = (Stop::default(), crossbeam_channel::bounded(1));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let opened = Video::open(path.to_str().unwrap(), None, false, &stop);
            done.send(opened.map(drop)).unwrap();
        });
        assert!(ended.recv_timeout(Duration::from_millis(300)).is_err(), "it waits");
        stop.drain();
        let opened = ended.recv_timeout(Duration::from_secs(60)).expect("it ends when told to");
        assert!(matches!(opened, Err(Fault::Unusable(_))), "{opened:?}");
    });
}
