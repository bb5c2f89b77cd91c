//! `framepress ingest`: frames into the input stream.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::signals::SignalWatch;
use super::size::Size;
use super::{Common, Failure, logging, out, progress};
use crate::base::{Fault, Reject, Stop};
use crate::camera::{
    self, Coding, Full, OpenOptions, Outbound, Pace, Producer, ProducerOptions, Sendings, Still,
};
use crate::config::Config;
use crate::engine;
use crate::image::{Bounds, Decoder, Encoder, Format, Needs, Picture, Source, Target};
use crate::metrics::clock::{Tick, unix_millis, unix_seconds};

/// How often the stop signal is looked at while the last frames are waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Arguments of `ingest`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress ingest --camera cam1 --source traffic.mp4\n  \
    framepress ingest --camera cam1 --source rtsp://camera.local/stream --format jpeg\n  \
    framepress ingest --camera cam1 --source synthetic --size 1280x720 --fps 10 --limit 100\n  \
    ffmpeg -i in.mkv -f rawvideo -pix_fmt rgb24 - | \\\n    \
      framepress ingest --camera cam1 --source - --size 640x480")]
pub(super) struct IngestArgs {
    #[command(flatten)]
    common: Common,
    /// Name of the camera the frames belong to
    #[arg(long, value_name = "ID")]
    camera: String,
    /// A video file or RTSP/HTTP URL (through ffmpeg), a folder of images, `synthetic`, or `-` for
    /// raw RGB on standard input
    #[arg(long, value_name = "SRC")]
    source: String,
    /// Frames per second; 0 for as fast as Redis takes them [default: the source's own rate]
    #[arg(long, value_name = "F")]
    fps: Option<f64>,
    /// Begin anew at the end of a file or folder
    #[arg(long = "loop")]
    repeat: bool,
    /// Stop after so many frames
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// How pictures are sent [default: raw, and image files as they are]
    #[arg(long, value_enum)]
    format: Option<SendFormat>,
    /// Size of the frames: needed for raw input; scales a video
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// Trim the input stream to about so many entries; 0 for never
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_length: u64,
    /// Seed of the synthetic camera
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Formats frames can be sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SendFormat {
    Raw,
    Jpeg,
    Webp,
    Png,
}

impl SendFormat {
    fn format(self) -> Format {
        match self {
            SendFormat::Raw => Format::Raw,
            SendFormat::Jpeg => Format::Jpeg,
            SendFormat::Webp => Format::Webp,
            SendFormat::Png => Format::Png,
        }
    }
}

pub(super) fn run(args: &IngestArgs) -> Result<(), Failure> {
    if args.camera.is_empty() {
        return Err(Failure::Usage("--camera needs a name".into()));
    }
    if args.fps.is_some_and(|fps| fps != 0.0 && !(0.001..=10_000.0).contains(&fps)) {
        let text = "--fps: valid: 0, or 0.001 to 10000 frames per second";
        return Err(Failure::Usage(text.into()));
    }
    if args.source == "-" && args.size.is_none() {
        let text = "raw RGB on standard input needs the size of its frames: --size 640x480";
        return Err(Failure::Usage(text.into()));
    }
    let config = args.common.load(args.common.quiet(args.common.loader()))?.config;
    let stop = Stop::default();
    let _signals = SignalWatch::start(&stop)?;
    let _reporter = logging::Reporter::start()?;

    let options = OpenOptions {
        size: args.size.map(|size| (size.width, size.height)),
        fps: args.fps.filter(|fps| *fps > 0.0),
        seed: args.seed,
        camera: 0,
        loop_: args.repeat,
        stop: stop.clone(),
    };
    let mut source = camera::open(&args.source, &options)?;
    let rate = args.fps.or(source.fps()).unwrap_or(0.0);
    let pace = Pace::new(rate);
    let (topology, _embedded) = engine::find_server(&config.redis_queue, &stop)?;
    let streams = engine::input_streams(&config);
    let producer_options = ProducerOptions {
        topology,
        streams,
        length_max: args.max_length,
        wait_replicas: config.redis_queue.wait_replicas,
        timeout: Duration::from_secs(config.redis_queue.timeout),
        retry: config.redis_queue.retry_on_failure,
        full: Full::Block,
        ring: None,
    };
    let mut producer = Producer::connect(producer_options, &stop)?;
    let mut coder = Coder::new(&config, args.format.map(SendFormat::format))?;

    let total = match (args.limit, source.frames()) {
        (Some(limit), Some(frames)) if !args.repeat => Some(limit.min(frames)),
        (Some(limit), _) => Some(limit),
        (None, frames) => frames.filter(|_| !args.repeat),
    };
    let bar = progress::bar(total, "frames");
    let run_id = unix_millis();
    let began = Tick::now();
    let mut still = Still::default();
    let mut sent = 0_u64;
    let mut skipped = Skipped::default();
    while args.limit.is_none_or(|limit| sent < limit) && !stop.is_draining() {
        if !source.next(&mut still)? {
            break;
        }
        if pace.as_ref().is_some_and(|pace| stop.sleep(pace.wait(sent, began.elapsed()))) {
            break;
        }
        let unread = still.unread.take().map_or(Ok(()), Err);
        let coded = unread.and_then(|()| coder.code(&still).map_err(|reject| reject.to_string()));
        let (picture, quality) = match coded {
            Ok(coded) => coded,
            Err(why) if still.name.is_empty() => {
                return Err(Fault::Unusable(format!("frame {sent} of the source: {why}")).into());
            }
            Err(why) => {
                bar.suspend(|| skipped.note(&still.name, &why));
                if skipped.is_every_file(sent) {
                    break;
                }
                continue;
            }
        };
        let frame_id = format!("{}-{run_id}-{sent:06}", args.camera);
        let frame = Outbound {
            frame_id: &frame_id,
            camera_id: &args.camera,
            timestamp: unix_seconds(),
            picture,
            quality,
        };
        if producer.enqueue(&frame)?.is_none() {
            break; // a stop was asked for while the window was full
        }
        producer.settle()?;
        sent += 1;
        bar.set_position(sent);
    }
    let drain = Duration::from_millis(config.engine.drain_timeout_ms);
    let end = finish(&mut producer, &stop, drain);
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let Sendings { confirmed, superseded, .. } = producer.counts().sendings;
    out::line(format!("{confirmed} frames of {} sent in {seconds:.1} s", args.camera))?;
    if superseded > 0 {
        out::line(format!(
            "{superseded} frames were refused and left out: later ones had been added"
        ))?;
    }
    end.and(skipped.end())
}

/// Waits until every frame is confirmed, as long as a server that is away may take; once a stop is
/// asked for, `drain` at most.
fn finish(producer: &mut Producer, stop: &Stop, drain: Duration) -> Result<(), Failure> {
    while !stop.is_draining() && producer.flush(LOOK) > 0 {
        producer.settle()?;
    }
    let unconfirmed = producer.flush(drain);
    producer.settle()?;
    if unconfirmed == 0 {
        return Ok(());
    }
    let text = format!("{unconfirmed} frames were not confirmed within {drain:?}");
    Err(Fault::Unusable(text).into())
}

/// Files that could not be sent.
#[derive(Default)]
struct Skipped {
    names: BTreeSet<String>,
    /// How many frames were sent when the latest was noted, and how often one was since.
    sent: u64,
    in_a_row: usize,
}

impl Skipped {
    /// Names a file, once however often it comes round.
    fn note(&mut self, name: &str, why: &str) {
        if self.names.insert(name.to_owned()) {
            out::remark(format!("skipped {name}: {why}"));
        }
    }

    /// Whether a folder that is gone through again and again holds nothing else: as many files were
    /// skipped in a row as there are skipped ones, and one of them for the second time.
    fn is_every_file(&mut self, sent: u64) -> bool {
        self.in_a_row = if self.sent == sent { self.in_a_row + 1 } else { 1 };
        self.sent = sent;
        self.in_a_row > self.names.len()
    }

    fn end(self) -> Result<(), Failure> {
        match self.names.len() {
            0 => Ok(()),
            1 => Err(Fault::Unusable("1 file was skipped; its name is above".into()).into()),
            count => {
                Err(Fault::Unusable(format!("{count} files were skipped; their names are above"))
                    .into())
            }
        }
    }
}

/// Brings pictures into the form they are sent in.
struct Coder {
    format: Option<Format>,
    quality: u8,
    webp_method: u8,
    decoder: Decoder,
    encoder: Encoder,
    picture: Picture,
    coded: Vec<u8>,
}

impl Coder {
    fn new(config: &Config, format: Option<Format>) -> Result<Coder, Fault> {
        Ok(Coder {
            format,
            quality: config.redis_queue.compression_quality,
            webp_method: config.redis_queue.webp_method.or(2),
            decoder: Decoder::new(Bounds { pixels_max: config.limits.max_pixels })?,
            encoder: Encoder::new()?,
            picture: Picture::default(),
            coded: Vec::new(),
        })
    }

    fn code<'a>(&'a mut self, still: &'a Still) -> Result<(Source<'a>, i32), Reject> {
        let format = match still.coding {
            Coding::Rgb | Coding::Gray | Coding::Planes => Format::Raw,
            Coding::File => Format::sniff(&still.bytes)
                .ok_or_else(|| Reject::undecodable("not a JPEG, PNG or WebP file"))?,
        };
        let found = Source {
            format,
            width: still.width,
            height: still.height,
            channels: still.channels,
            layout: Default::default(),
            bytes: &still.bytes,
        };
        let wanted = self.format.unwrap_or(format);
        if wanted == format {
            return Ok((found, 0));
        }
        let needs = Needs { planes: false, interleaved: true };
        let view = self.decoder.decode(&found, needs, &mut self.picture)?;
        let side = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let (width, height, channels) = (side(view.width), side(view.height), side(view.channels));
        let target =
            Target { format: wanted, quality: self.quality, webp_method: self.webp_method };
        self.encoder.encode(&view, &target, &mut self.coded)?;
        let quality = match wanted {
            Format::Jpeg | Format::Webp => self.quality.into(),
            Format::Png | Format::Raw => 0,
        };
        Ok((
            Source {
                format: wanted,
                width,
                height,
                channels,
                layout: Default::default(),
                bytes: &self.coded,
            },
            quality,
        ))
    }
}
