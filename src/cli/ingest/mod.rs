//! `framepress ingest`: sends frames to the input stream.
//!
//! Recordings, folders, raw pixels and the synthetic camera are sent completely and in order
//! (`recorded`). A live camera is read without ever waiting for Redis (`live`): one, or all of the
//! configuration.

mod hidden;
mod live;
mod recorded;

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use super::common::Common;
use super::failure::Failure;
use crate::config::{Config, FeedConfig, FeedFormat, Retention, RingReuse, RtspTransport};
use crate::image::Format;
use crate::ingest::Form;
use crate::instruments::Size;
use crate::ring::{SLOTS_MAX, SLOTS_MIN};

/// Arguments of `ingest`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress ingest --config framepress.yaml\n  \
    framepress ingest --camera cam1 --source traffic.mp4\n  \
    framepress ingest --camera cam1 --source-file /run/secrets/cam1-url --fps 5\n  \
    framepress ingest --camera cam1 --source rtsp://camera.local/stream --once\n  \
    framepress ingest --camera cam1 --source synthetic --size 1280x720 --fps 10 --limit 100\n  \
    ffmpeg -i in.mkv -f rawvideo -pix_fmt rgb24 - | \\\n    \
      framepress ingest --camera cam1 --source - --size 640x480\n\n\
    Without --camera, ingest reads every enabled camera of the configuration that has a source,\n\
    until SIGTERM; at a SIGHUP it reads the configuration again. It reconnects to a live camera\n\
    that is lost, unless --once is given.")]
pub(super) struct IngestArgs {
    #[command(flatten)]
    common: Common,
    /// Name of the camera that the frames belong to [default: all cameras of the configuration]
    #[arg(long, value_name = "ID", requires = "where_it_is")]
    camera: Option<String>,
    /// A video file or RTSP/HTTP URL (through ffmpeg), a folder of images, `synthetic`, or `-` for
    /// raw RGB on standard input
    #[arg(long, value_name = "SRC", group = "where_it_is", requires = "camera")]
    source: Option<OsString>,
    /// File whose only line is the source, so that a password is not visible anywhere
    #[arg(long, value_name = "FILE", group = "where_it_is", requires = "camera")]
    source_file: Option<std::path::PathBuf>,
    /// Maximum frames per second of a live camera; for other sources the frame rate, 0 for as fast
    /// as Redis takes them [default: the source's own rate]
    #[arg(long, value_name = "F")]
    fps: Option<f64>,
    /// Start again at the end of a file or folder
    #[arg(long = "loop")]
    repeat: bool,
    /// Wait for new files at the end of a folder
    #[arg(long, conflicts_with = "repeat")]
    follow: bool,
    /// End with exit code 1 when a live camera is lost, instead of reconnecting
    #[arg(long)]
    once: bool,
    /// Stop after N frames
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Encoding of the sent pictures [default: image files and MJPEG unchanged, video as jpeg or,
    /// in a ring, as yuv420p, pixels as raw]
    #[arg(long, value_enum)]
    format: Option<SendFormat>,
    /// Size of the frames; required for raw input; video is scaled to fit into it
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// Transport protocol of an RTSP camera
    #[arg(long, value_enum)]
    transport: Option<SendTransport>,
    /// Capture time of the first frame of a file, in seconds since the Unix epoch [default: now]
    #[arg(long, value_name = "T")]
    start_time: Option<f64>,
    /// Trim the input stream to about N entries; 0 for never
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    max_length: u64,
    /// Trim the input stream to about this many bytes [default: 268435456]
    #[arg(long, value_name = "BYTES")]
    max_stream_bytes: Option<u64>,
    /// Leave pixels in a frame ring of this many slots for an engine on this machine; 0 sends them
    /// through Redis [default: the camera's, or 0]
    #[arg(long, value_name = "SLOTS", value_parser = slots)]
    ring: Option<u32>,
    /// When a slot of the ring is reused: `freshest` always reuses the oldest, `lossless` waits
    /// until its frame has ended [default: the camera's, or freshest]
    #[arg(long, value_enum, value_name = "HOW")]
    ring_reuse: Option<SendReuse>,
    /// Seed of the synthetic camera
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Formats frames can be sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SendFormat {
    Auto,
    Copy,
    Raw,
    Jpeg,
    Webp,
    Png,
    Yuv420p,
}

/// Transport protocols of an RTSP camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SendTransport {
    Tcp,
    Udp,
    Auto,
}

impl SendFormat {
    fn form(self) -> Form {
        match self {
            SendFormat::Auto => Form::FoundOrJpeg,
            SendFormat::Copy | SendFormat::Yuv420p => Form::AsFound,
            SendFormat::Raw => Form::Coded(Format::Raw),
            SendFormat::Jpeg => Form::Coded(Format::Jpeg),
            SendFormat::Webp => Form::Coded(Format::Webp),
            SendFormat::Png => Form::Coded(Format::Png),
        }
    }

    fn feed(self) -> FeedFormat {
        match self {
            SendFormat::Auto => FeedFormat::Auto,
            SendFormat::Copy => FeedFormat::Copy,
            SendFormat::Raw => FeedFormat::Raw,
            SendFormat::Jpeg => FeedFormat::Jpeg,
            SendFormat::Webp => FeedFormat::Webp,
            SendFormat::Png => FeedFormat::Png,
            SendFormat::Yuv420p => FeedFormat::Yuv420p,
        }
    }
}

/// When a slot of a frame ring is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SendReuse {
    Freshest,
    Lossless,
}

/// The settings of a camera in the configuration, or the defaults.
fn feed_of(config: &Config, camera: &str) -> FeedConfig {
    let known = config.cameras.iter().find(|known| known.id == camera);
    known.map_or_else(|| config.ingest.defaults.clone(), |known| known.feed.clone())
}

/// Parses the number of slots of a ring; 0 for no ring.
fn slots(text: &str) -> Result<u32, String> {
    let slots = text.parse().ok();
    slots.filter(|slots| *slots == 0 || (SLOTS_MIN..=SLOTS_MAX).contains(slots)).ok_or_else(|| {
        format!("valid: 0, for frames through Redis, or {SLOTS_MIN} to {SLOTS_MAX} slots")
    })
}

impl IngestArgs {
    /// Applies the command-line options for a frame ring.
    fn with_ring(&self, feed: &mut FeedConfig, retention: Retention) -> Result<(), Failure> {
        feed.ring = self.ring.unwrap_or(feed.ring);
        feed.ring_reuse = match self.ring_reuse {
            Some(SendReuse::Freshest) => RingReuse::Freshest,
            Some(SendReuse::Lossless) => RingReuse::Lossless,
            None => feed.ring_reuse,
        };
        let is_lossless = feed.ring > 0 && feed.ring_reuse == RingReuse::Lossless;
        if is_lossless && retention != Retention::Delete {
            return Err(Failure::Usage(
                "--ring-reuse lossless: a slot is free when the entry of its frame is deleted, \
                 and only retention: delete deletes it at once; valid: freshest, or \
                 redis_queue.retention: delete, for the engine too"
                    .into(),
            ));
        }
        Ok(())
    }
}

impl From<SendTransport> for RtspTransport {
    fn from(transport: SendTransport) -> RtspTransport {
        match transport {
            SendTransport::Tcp => RtspTransport::Tcp,
            SendTransport::Udp => RtspTransport::Udp,
            SendTransport::Auto => RtspTransport::Auto,
        }
    }
}

pub(super) fn run(args: &IngestArgs) -> Result<(), Failure> {
    let Some(camera) = &args.camera else { return live::all(args) };
    if camera.is_empty() {
        return Err(Failure::Usage("--camera needs a name".into()));
    }
    let source = hidden::source(args)?;
    if args.fps.is_some_and(|fps| fps != 0.0 && !(0.001..=10_000.0).contains(&fps)) {
        let text = "--fps: valid: 0, or 0.001 to 10000 frames per second";
        return Err(Failure::Usage(text.into()));
    }
    let is_time = |time: f64| (0.0..1e11).contains(&time);
    if args.start_time.is_some_and(|time| !is_time(time)) {
        let text = "--start-time: valid: seconds since the Unix epoch";
        return Err(Failure::Usage(text.into()));
    }
    if args.max_stream_bytes == Some(0) {
        return Err(Failure::Usage("--max-stream-bytes: valid: from 1".into()));
    }
    match source.to_str().filter(|text| text.contains("://")) {
        Some(url) => live::one(args, camera, url),
        None => recorded::run(args, camera, &source),
    }
}
