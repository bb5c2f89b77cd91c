//! The feeder: a process that adds frames to the input stream, at a fixed rate regardless of the
//! results (open loop), or as many as keep a backlog full (closed loop). It ends by itself.

use std::io::BufRead as _;
use std::path::PathBuf;
use std::time::Duration;

use base64_simd::STANDARD;
use clap::Args;
use framepress::internals::base::Stop;
use framepress::internals::camera::{Full, Outbound, Producer, ProducerOptions, Reuse, RingUse};
use framepress::internals::image::{Format, InputImage, PixelLayout, RawLayout};
use framepress::internals::instruments::Size;
use framepress::internals::metrics::Metrics;
use framepress::internals::redis::{Address, Feed};
use framepress::internals::ring::RingOptions;
use serde::{Deserialize, Serialize};

use super::files::{self, Kind};
use super::group::Progress;
use super::{INPUT, now, sleep_until, streams};
use crate::Outcome;
use crate::server::Plain;

/// How often a closed loop checks the backlog.
const LOOK: Duration = Duration::from_millis(4);
/// Most bytes of frames kept in the input stream; beyond that the oldest are trimmed.
const STREAM_BYTES: u64 = 1 << 30;
/// Longest life of a feeder, in seconds, in any case.
const LIFE_MAX: f64 = 4.0 * 3600.0;
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct FeedArgs {
    #[arg(long)]
    socket: PathBuf,
    #[arg(long)]
    frames: PathBuf,
    #[arg(long)]
    size: Size,
    #[arg(long)]
    kind: Kind,
    #[arg(long)]
    cameras: u64,
    /// Shards that the frames are spread over, by camera
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Frames per second; without it, as many as keep `backlog` frames waiting or in work
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 48)]
    backlog: u64,
    /// Leave the pixels in a ring in this folder
    #[arg(long)]
    ring: Option<PathBuf>,
}

/// Figures of the feeder.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Fed {
    pub sent: u64,
    /// Of those, frames that were due within the measured time.
    pub sent_measured: u64,
    pub bytes: u64,
    /// Longest delay of a frame's sending in an open loop, in milliseconds. It is part of the
    /// latency, not excluded from it.
    pub late_ms_max: f64,
}

/// Waits for one line `begin from until` (seconds since the epoch) on standard input, feeds from
/// `begin` to `until` and prints its figures. Frames due from `from` on are measured.
pub fn run(args: &FeedArgs) -> Outcome<bool> {
    let address = Address::unix(&args.socket);
    let mut sender = Sender::open(args, &address)?;
    let mut plain = Plain::connect(&address)?;
    let inputs: Vec<String> = streams(args.shards).into_iter().map(|[input, _]| input).collect();
    println!("ready");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let times = line.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let [begin, from, until] = times[..] else {
        return Err("expected three moments on standard input".into());
    };
    let until = until.min(now() + LIFE_MAX);
    sleep_until(begin);
    let mut fed = Fed { sent: 0, sent_measured: 0, bytes: 0, late_ms_max: 0.0 };
    loop {
        let due = match args.rate {
            Some(rate) => {
                let due = begin + fed.sent as f64 / rate;
                if due >= until {
                    break;
                }
                sleep_until(due);
                fed.late_ms_max = fed.late_ms_max.max((now() - due) * 1000.0);
                due
            }
            None => {
                // Check only once for several frames, which keeps the check cheap.
                if fed.sent.is_multiple_of((args.backlog / 4).max(1)) {
                    while Progress::of(&mut plain, &inputs)?.waiting >= args.backlog
                        && now() < until
                    {
                        std::thread::sleep(LOOK);
                    }
                }
                let due = now();
                if due >= until {
                    break;
                }
                due
            }
        };
        fed.bytes += sender.send(fed.sent, due)?;
        fed.sent += 1;
        fed.sent_measured += u64::from(due >= from);
    }
    println!("{}", serde_json::to_string(&fed)?);
    Ok(true)
}

/// Frames and the connection they go through.
struct Sender {
    frames: Vec<Vec<u8>>,
    size: Size,
    kind: Kind,
    cameras: u64,
    length_max: u64,
    protobuf: Producer,
    json: Feed,
    text: Vec<u8>,
}

impl Sender {
    fn open(args: &FeedArgs, address: &Address) -> Outcome<Sender> {
        if args.kind == Kind::Json && args.shards > 1 {
            return Err("legacy producers know one stream; valid: --shards 1".into());
        }
        let mut frames = files::load(&args.frames)?;
        if args.kind == Kind::Json {
            frames.iter_mut().for_each(|frame| {
                *frame = STANDARD.encode_to_string(&frame).into_bytes();
            });
        }
        let largest = frames.iter().map(Vec::len).max().unwrap_or(1).max(1) as u64;
        // Far more than any backlog, so that nothing is trimmed before it is read.
        let length_max = (STREAM_BYTES / largest).clamp(4 * args.backlog, 20_000);
        let options = ProducerOptions {
            topology: address.clone().into(),
            wait_replicas: 0,
            streams: streams(args.shards).into_iter().map(|[input, _]| input).collect(),
            length_max,
            timeout: TIMEOUT,
            retry: false,
            full: Full::Block,
            // Twice the backlog, so that nothing is overwritten before it is read.
            ring: args.ring.as_ref().map(|folder| RingUse {
                ring: RingOptions {
                    folder: folder.clone(),
                    name: "feed".into(),
                    slots: 2 * u32::try_from(args.backlog).unwrap_or(u32::MAX / 2),
                    frame_bytes_max: largest,
                },
                reuse: Reuse::Freshest,
            }),
        };
        let stop = Stop::default();
        Ok(Sender {
            frames,
            size: args.size,
            kind: args.kind,
            cameras: args.cameras.max(1),
            length_max,
            protobuf: Producer::connect(options, &stop)?,
            json: Feed::open(address, "framepress-perf-feed", TIMEOUT, &Metrics::new(), &stop)?,
            text: Vec::new(),
        })
    }

    /// Sends frame `number`, which was due at `due`; returns the approximate bytes of its `data`.
    fn send(&mut self, number: u64, due: f64) -> Outcome<u64> {
        let camera = format!("camera-{}", number % self.cameras);
        let frame = format!("frame-{number:08}");
        // Each camera shows the same road, a moment later than the one before.
        let at = (number / self.cameras + number % self.cameras) as usize % self.frames.len();
        let bytes = &self.frames[at];
        if self.kind == Kind::Json {
            self.text.clear();
            let head = format!(
                r#"{{"frame_id":"{frame}","camera_id":"{camera}","timestamp":{due:.6},"image_base64":""#
            );
            self.text.extend_from_slice(head.as_bytes());
            self.text.extend_from_slice(bytes);
            self.text.extend_from_slice(b"\"}");
            let beside = [("frame_id", frame.as_bytes()), ("camera_id", camera.as_bytes())];
            self.json.add(INPUT, &self.text, &beside, self.length_max)?;
            return Ok(self.text.len() as u64);
        }
        let format = if self.kind == Kind::Jpeg { Format::Jpeg } else { Format::Raw };
        let pixels = (self.kind == Kind::Planes).then_some(PixelLayout::Yuv420p);
        let Size { width, height } = self.size;
        self.protobuf.send(&Outbound {
            frame_id: &frame,
            camera_id: &camera,
            timestamp: due,
            picture: InputImage {
                format,
                width,
                height,
                channels: 3,
                layout: RawLayout { pixels, ..RawLayout::default() },
                bytes,
            },
            quality: 0,
        })?;
        Ok(bytes.len() as u64)
    }
}
