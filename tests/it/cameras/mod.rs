//! Live cameras that draw the time into each picture, so that tests can measure the age of each
//! frame.

mod faults;
mod network;
mod rings;
mod secrets;
mod streams;
mod supervisor;
mod web;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use framepress::internals::metrics::clock::{Tick, unix_millis};
use framepress::internals::wire::proto::ProcessedFrame;
use prost::Message;

use crate::support::{FramepressProcess, INPUT, RedisServer, Sample, decoded, skip, wait_until};

/// Longer than any wait here, also on a busy machine.
const LONG: Duration = Duration::from_secs(40);

/// A camera: an RTSP server played by another program. Dropping the value ends it.
pub struct Camera {
    child: Child,
    input: ChildStdin,
    pub port: u16,
}

impl Camera {
    /// A camera with these options; `None`, with a message, if GStreamer is not installed.
    pub fn start(options: &[&str]) -> Option<Camera> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cameras/camera.py");
        // Only Debian's own Python finds Debian's modules.
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let input = child.stdin.take().unwrap();
        let mut line = String::new();
        let _ = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
        let Some(port) = line.trim().strip_prefix("ready ").and_then(|port| port.parse().ok())
        else {
            let _ = child.kill();
            let _ = child.wait();
            skip("no cameras: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi and plugins");
            return None;
        };
        Some(Camera { child, input, port })
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    /// Sends a command to the camera: `stall`, `resume`, `fps N` or `size WxH`.
    pub fn tell(&mut self, what: &str) {
        writeln!(self.input, "{what}").unwrap();
    }

    /// Kills the camera, as a power cut would.
    pub fn vanish(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.vanish();
    }
}

/// `ingest` for one camera.
pub fn ingest(server: &RedisServer, source: &str, options: &[&str]) -> FramepressProcess {
    let url = server.url();
    let common = ["ingest", "--redis-url", &url, "--camera", "cam", "--source", source];
    let all = [&common[..], &["--log-level", "info"], options].concat();
    FramepressProcess::start(&all, &[])
}

/// A frame as stored in the stream.
pub struct Sent {
    /// Milliseconds of the entry id: when Redis stored the frame.
    pub added_ms: u64,
    /// Capture time.
    pub captured_ms: u64,
    pub frame: ProcessedFrame,
}

impl Sent {
    /// When the picture was made, by the clock drawn into it.
    pub fn made_ms(&self) -> u64 {
        let near = self.added_ms;
        let image = decoded(self.frame.original_image.as_ref().unwrap());
        let stamp = u64::from(stamp_of(&image));
        // The picture holds the lower 32 bits of the time.
        let high = near & !0xFFFF_FFFF;
        let made = high | stamp;
        if made > near + 0x8000_0000 { made - 0x1_0000_0000 } else { made }
    }

    /// Age of the picture when Redis stored it.
    pub fn age_ms(&self) -> i64 {
        self.added_ms as i64 - self.made_ms() as i64
    }
}

/// The timestamp drawn into a picture.
fn stamp_of(image: &Sample) -> u32 {
    let block = image.width / 16;
    let white = |bit: usize| {
        let (row, column) = (bit / 16, bit % 16);
        let (x, y) = (column * block + block / 2, row * block + block / 2);
        image.pixels[(y * image.width + x) * image.channels] > 127
    };
    (0..32).fold(0, |stamp, bit| stamp << 1 | u32::from(white(bit)))
}

/// All frames in the stream.
pub fn sent(server: &RedisServer) -> Vec<Sent> {
    let entries = server.range(INPUT).into_iter();
    entries
        .map(|(id, fields)| {
            let frame = ProcessedFrame::decode(&*fields["data"]).unwrap();
            Sent {
                added_ms: crate::support::parts(&id).0,
                captured_ms: (frame.timestamp * 1000.0) as u64,
                frame,
            }
        })
        .collect()
}

/// Waits until `count` frames have been sent.
#[track_caller]
pub fn wait_for_frames(server: &RedisServer, count: usize) {
    wait_until(&format!("{count} frames"), LONG, || server.len(INPUT) >= count);
}

/// Waits for a frame made after this call and returns how long that took.
#[track_caller]
pub fn wait_for_news(server: &RedisServer) -> Duration {
    let (began, now) = (Tick::now(), unix_millis());
    wait_until("a picture that was made just now", LONG, || {
        sent(server).last().is_some_and(|frame| frame.made_ms() >= now)
    });
    began.elapsed()
}

pub fn median(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().expect("there are some")
}

/// Children of the process `parent`, from `/proc`: process id and state.
pub fn children_of(parent: u32) -> Vec<(u32, char)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let state = fields.next().and_then(|state| state.chars().next()).unwrap_or('?');
        if fields.next().and_then(|field| field.parse().ok()) == Some(parent) {
            found.push((pid, state));
        }
    }
    found
}
