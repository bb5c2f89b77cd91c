//! MJPEG over HTTP, as cameras send it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::internals::image::Format;
use framepress::internals::metrics::clock::unix_millis;
use rustix::process::Signal;

use super::{Camera, ingest, median, sent, wait_for_frames};
use crate::support::{Clock, FramepressProcess, RedisServer, Sample, wait_until};

/// How the server writes its response.
#[derive(Clone, Copy)]
struct Style {
    kind: &'static str,
    /// Bytes before each picture; the server replaces `LENGTH`.
    before: &'static str,
    chunked: bool,
    /// Pictures without Huffman tables.
    bare: bool,
    /// Requires basic authentication.
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

/// An HTTP server that answers one client after the other. Dropping the value ends it.
pub(super) struct Server {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// An MJPEG server that draws the time into its pictures.
    fn start(style: Style) -> Server {
        Server::answering(move |stream, end| serve(stream, style, end))
    }

    /// A server whose pictures pass through unchanged.
    pub(super) fn plain() -> Server {
        Server::start(PLAIN)
    }

    /// A server that sends `head` and then repeats `again` forever.
    fn flooding(head: Vec<u8>, again: Vec<u8>) -> Server {
        Server::answering(move |mut stream, end| {
            stream.write_all(&head)?;
            while !end.load(Ordering::Relaxed) {
                stream.write_all(&again)?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        })
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/x", self.port)
    }

    fn answering(
        mut answer: impl FnMut(TcpStream, &AtomicBool) -> std::io::Result<()> + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        framepress::internals::base::threads::spawn(
            framepress::internals::base::threads::Identity {
                role: framepress::internals::base::threads::Role::Camera,
                index: 0,
                core: None,
            },
            &framepress::internals::base::Stop::default(),
            move || {
                for stream in listener.incoming() {
                    if end.load(Ordering::Relaxed) {
                        break;
                    }
                    let _ = stream.map(|stream| answer(stream, &end));
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

/// A JPEG with the time drawn into it; with `bare`, without Huffman tables.
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
        // Not newer than the capture time, and not much older.
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
    // A JPEG encoder with its own tables would make different pictures of such a file.
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

#[test]
fn a_camera_that_never_stops_sending_is_held_to_its_time_and_to_a_stop() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n";
    let jpeg = picture(false);
    let scan = jpeg.windows(2).position(|it| it == [0xFF, 0xDA]).unwrap();
    let floods = [
        // An endless scan.
        ([head.as_bytes(), &jpeg[..scan + 14]].concat(), vec![0x55; 1 << 16]),
        // Segments without a picture.
        ([head.as_bytes(), &[0xFF, 0xD8]].concat(), [0xFF, 0xE1, 0, 2].repeat(8000)),
        // One picture, then only zeros.
        ([head.as_bytes(), &jpeg].concat(), vec![0; 1 << 16]),
        // Not even a complete response head.
        (b"HTTP/1.1 200 OK\r\n".to_vec(), b"A: b\r\n".to_vec()),
    ];
    for (head, again) in floods {
        let server = RedisServer::start();
        let camera = Server::flooding(head, again);
        let cameras = format!(
            "  - {{id: cam, source: '{}', open_timeout_ms: 1000, no_frame_ms: 1000}}\n",
            camera.url()
        );
        let mut boxed = super::supervisor::Box::start(&server, &cameras);
        wait_until("it is given up", super::LONG, || boxed.ingest.said().contains("again in"));
        boxed.ingest.signal(Signal::TERM);
        boxed.ingest.ends_with(0);
    }
}

/// Covers pictures that pass through unchanged and pictures to which a decoder gives its own times.
#[test]
fn frames_go_on_when_the_clock_is_set_back() {
    let Some(clock) = Clock::new() else { return };
    let web = Server::plain();
    let rtsp = Camera::start(&[]);
    for source in [Some(web.url()), rtsp.as_ref().map(Camera::url)].into_iter().flatten() {
        let server = RedisServer::start();
        clock.set("+18000");
        let faked = clock.environment();
        let environment: Vec<_> =
            faked.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let url = server.url();
        let arguments =
            ["ingest", "--redis-url", &url, "--camera", "cam", "--source", &source, "--fps", "10"];
        let ingest = FramepressProcess::start(&arguments, &environment);
        wait_for_frames(&server, 5);
        clock.set("+0");
        let before = sent(&server).len();
        wait_for_frames(&server, before + 20);
        let last = sent(&server).pop().unwrap();
        let apart = last.captured_ms as i64 - last.made_ms() as i64;
        assert!((-5..2000).contains(&apart), "{source}: {apart}: {}", ingest.said());
    }
}
