//! MJPEG over HTTP, as cameras write it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::image::Format;
use framepress::metrics::clock::unix_millis;
use rustix::process::Signal;

use super::{ingest, median, sent, wait_for_frames};
use crate::support::{FramepressProcess, RedisServer, Sample, free_port, skip, wait_until};

/// How a server writes.
#[derive(Clone, Copy)]
struct Style {
    kind: &'static str,
    /// What stands before a picture; `LENGTH` is replaced.
    before: &'static str,
    chunked: bool,
    /// Pictures without Huffman tables.
    bare: bool,
    /// Basic authentication is asked for.
    login: bool,
    interval: Duration,
}

const PLAIN: Style = Style {
    kind: "multipart/x-mixed-replace; boundary=x",
    before: "--x\r\nContent-Type: image/jpeg\r\nContent-Length: LENGTH\r\n\r\n",
    chunked: false,
    bare: false,
    login: false,
    interval: Duration::from_millis(33),
};

/// A server of MJPEG with the time in its pictures; ended with the value.
struct Server {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Server {
    fn start(style: Style) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        framepress::base::threads::spawn(
            framepress::base::threads::Identity {
                role: framepress::base::threads::Role::Camera,
                index: 0,
                core: None,
            },
            &framepress::base::Stop::default(),
            move || {
                for stream in listener.incoming() {
                    if end.load(Ordering::Relaxed) {
                        break;
                    }
                    let _ = stream.map(|stream| serve(stream, style, &end));
                }
                Ok(())
            },
        )
        .unwrap()
        .abandon();
        Server { port, ended }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, style: Style, end: &AtomicBool) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut allowed = !style.login;
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        // user:pass word
        allowed |= line.trim() == "Authorization: Basic dXNlcjpwYXNzIHdvcmQ=";
    }
    if !allowed {
        return stream.write_all(
            b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
        );
    }
    let coding = if style.chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: {}\r\n{coding}\r\n", style.kind)?;
    while !end.load(Ordering::Relaxed) {
        let jpeg = picture(style.bare);
        let before = style.before.replace("LENGTH", &jpeg.len().to_string());
        let part = [before.as_bytes(), &jpeg, b"\r\n"].concat();
        if style.chunked {
            let bytes = [format!("{:x}\r\n", part.len()).as_bytes(), &part, b"\r\n"].concat();
            stream.write_all(&bytes)?;
        } else {
            stream.write_all(&part)?;
        }
        std::thread::sleep(style.interval);
    }
    Ok(())
}

/// A JPEG with the time in it, perhaps without its Huffman tables.
fn picture(bare: bool) -> Vec<u8> {
    let stamp = unix_millis() as u32;
    let mut sample = Sample::colour(320, 240, 1);
    for y in 0..40 {
        for x in 0..320 {
            let bit = (y / 20) * 16 + x / 20;
            let value = if stamp >> (31 - bit) & 1 == 1 { 235 } else { 16 };
            sample.pixels[(y * 320 + x) * 3..][..3].fill(value);
        }
    }
    let jpeg = sample.encode(Format::Jpeg);
    if !bare {
        return jpeg;
    }
    let mut out = jpeg[..2].to_vec();
    let mut at = 2;
    while jpeg[at + 1] != 0xDA {
        let length = 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] != 0xC4 {
            out.extend_from_slice(&jpeg[at..at + length]);
        }
        at += length;
    }
    out.extend_from_slice(&jpeg[at..]);
    out
}

fn passes(style: Style, account: &str) {
    let server = RedisServer::start();
    let camera = Server::start(style);
    let url = format!("http://{account}127.0.0.1:{}/video?x=1", camera.port);
    let mut ingest = ingest(&server, &url, &[]);
    wait_for_frames(&server, 60);
    ingest.signal(Signal::TERM);
    let said = ingest.ends_with(0);
    let frames = sent(&server);
    let ages: Vec<i64> = frames.iter().map(super::Sent::age_ms).collect();
    assert!(median(ages.clone()) < 33 + 100, "{ages:?}");
    for frame in &frames {
        let image = frame.frame.original_image.as_ref().unwrap();
        assert_eq!((image.width, image.height), (320, 240), "{said}");
        assert_eq!(image.compression_format, "jpeg");
        // No newer than its capture time, and not much older.
        let apart = frame.captured_ms as i64 - frame.made_ms() as i64;
        assert!((-2..500).contains(&apart), "{apart}");
    }
}

#[test]
fn pictures_are_passed_on_as_they_are_and_stay_young() {
    passes(PLAIN, "");
}

#[test]
fn boundaries_of_every_kind_and_none_will_do() {
    let before = "----x\r\nContent-Type: image/jpeg\r\n\r\n";
    passes(Style { kind: "multipart/x-mixed-replace; boundary=--x", before, ..PLAIN }, "");
    passes(Style { before: "", ..PLAIN }, "");
    passes(Style { chunked: true, before: "\r\n", ..PLAIN }, "");
}

#[test]
fn pictures_without_huffman_tables_get_the_standard_ones() {
    // Encoders of JPEG with tables of their own would make other pictures of such a file.
    let whole = picture(false);
    let standard = whole.windows(4).any(|it| it == [0xFF, 0xC4, 0x00, 0x1F]);
    if standard {
        passes(Style { bare: true, ..PLAIN }, "");
    }
}

#[test]
fn a_login_is_answered() {
    passes(Style { login: true, ..PLAIN }, "user:pass word@");
}

/// A server that answers each request with `head` and then `again` without end; ended with the value.
struct Endless {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Endless {
    fn start(head: Vec<u8>, again: Vec<u8>) -> Endless {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let identity = framepress::base::threads::Identity {
            role: framepress::base::threads::Role::Camera,
            index: 1,
            core: None,
        };
        let flood = move || {
            for stream in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(mut stream) = stream else { continue };
                let mut going = stream.write_all(&head).is_ok();
                while going && !end.load(Ordering::Relaxed) {
                    going = stream.write_all(&again).is_ok();
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Ok(())
        };
        let stop = framepress::base::Stop::default();
        framepress::base::threads::spawn(identity, &stop, flood).unwrap().abandon();
        Endless { port, ended }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

#[test]
fn a_camera_that_never_stops_sending_is_held_to_its_time_and_to_a_stop() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n";
    let jpeg = picture(false);
    let scan = jpeg.windows(2).position(|it| it == [0xFF, 0xDA]).unwrap();
    let floods = [
        // A scan without end.
        ([head.as_bytes(), &jpeg[..scan + 14]].concat(), vec![0x55; 1 << 16]),
        // Segments without a picture.
        ([head.as_bytes(), &[0xFF, 0xD8]].concat(), [0xFF, 0xE1, 0, 2].repeat(8000)),
        // One picture, and then no other.
        ([head.as_bytes(), &jpeg].concat(), vec![0; 1 << 16]),
        // Not even an answer.
        (b"HTTP/1.1 200 OK\r\n".to_vec(), b"A: b\r\n".to_vec()),
    ];
    for (number, (head, again)) in floods.into_iter().enumerate() {
        let server = RedisServer::start();
        let camera = Endless::start(head, again);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cameras.yaml");
        let text = format!(
            "ingest: {{stats: {{addr: null}}}}\n\
             cameras: [{{id: cam, source: 'http://127.0.0.1:{}/x', open_timeout_ms: 1000, \
             no_frame_ms: 1000}}]\n",
            camera.port
        );
        std::fs::write(&file, text).unwrap();
        let url = server.url();
        let config = file.display().to_string();
        let mut ingest = FramepressProcess::start(
            &["ingest", "--config", &config, "--redis-url", &url, "--log-level", "info"],
            &[],
        );
        wait_until("it is given up", super::LONG, || ingest.said().contains("again in"));
        ingest.signal(Signal::TERM);
        let began = framepress::metrics::clock::Tick::now();
        let said = ingest.ends_with(0);
        assert!(began.elapsed() < Duration::from_secs(5), "{number}: {said}");
    }
}

#[test]
fn frames_go_on_when_the_clock_is_set_back() {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = folders.map(|it| it.path().join("faketime/libfaketimeMT.so.1"));
    let Some(library) = libraries.find(|path| path.exists()) else {
        return skip("faketime is not installed");
    };
    let server = RedisServer::start();
    let camera = Server::start(PLAIN);
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    std::fs::write(&clock, "+5h\n").unwrap();
    let (url, source) = (server.url(), format!("http://127.0.0.1:{}/x", camera.port));
    let arguments =
        ["ingest", "--redis-url", &url, "--camera", "cam", "--source", &source, "--fps", "10"];
    let ingest = FramepressProcess::start(
        &arguments,
        &[
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ],
    );
    wait_for_frames(&server, 5);
    std::fs::write(&clock, "+0\n").unwrap();
    let before = sent(&server).len();
    wait_for_frames(&server, before + 20);
    let last = sent(&server).pop().unwrap();
    let apart = last.captured_ms as i64 - last.made_ms() as i64;
    assert!((-5..2000).contains(&apart), "{apart}: {}", ingest.said());
}

#[test]
fn a_right_that_is_lost_is_waited_for_and_said() {
    let server = RedisServer::start();
    let camera = Server::start(PLAIN);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cameras.yaml");
    let address = format!("127.0.0.1:{}", free_port());
    let text = format!(
        "ingest: {{stats: {{addr: '{address}'}}}}\n\
         cameras: [{{id: cam, source: 'http://127.0.0.1:{}/x'}}]\n",
        camera.port
    );
    std::fs::write(&file, text).unwrap();
    let (url, config) = (server.url(), file.display().to_string());
    let mut ingest =
        FramepressProcess::start(&["ingest", "--config", &config, "--redis-url", &url], &[]);
    wait_for_frames(&server, 5);
    let readyz = || {
        let request = ureq::get(format!("http://{address}/readyz"));
        let answer = request.config().http_status_as_error(false).build().call();
        answer.map_or((0, String::new()), |mut it| {
            (it.status().as_u16(), it.body_mut().read_to_string().unwrap_or_default())
        })
    };
    assert_eq!(readyz().0, 200);
    for (loses, finds) in [("-xadd", "+xadd"), ("resetkeys", "~*")] {
        let _: redis::Value =
            server.ask(redis::cmd("ACL").arg("SETUSER").arg("default").arg(loses));
        wait_until("it says what is refused", super::LONG, || {
            let (status, why) = readyz();
            status == 503 && why.contains("refused XADD: NOPERM")
        });
        assert!(ingest.is_running(), "{}", ingest.said());
        let _: redis::Value =
            server.ask(redis::cmd("ACL").arg("SETUSER").arg("default").arg(finds));
        let before = sent(&server).len();
        wait_for_frames(&server, before + 5);
        wait_until("it is ready again", super::LONG, || readyz().0 == 200);
    }
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
}
