//! Section `ingest`, the keys of a camera, and the keys that both have.

use super::{FIRST, SECOND, Section, section};
use crate::config::choice::{FeedFormat, Hwaccel, RingReuse, RtspTransport};
use crate::config::kind::{
    Backoff, CAMERA_ID, CAMERA_SOURCE, DAY_MS, FILE, HostPortText, InputArg, InputArgs,
    MappingFields, RATE, Required, RoiBox, RoiBoxes, SHARE, SizeText, SlotCount, Truth, Whole,
    Word, or_null,
};
use crate::config::secret::Secret;
use crate::config::url::HostPort;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Most bytes of a stream: 1 TiB.
const STREAM_BYTES_MAX: u64 = 1 << 40;

section! {
    /// Section `ingest`: how `framepress ingest` reads cameras.
    IngestConfig in "ingest." {}
    sections {
        /// The HTTP server of `ingest`.
        stats: IngestStatsConfig;
        /// The values for every camera that has none of its own.
        defaults: FeedConfig;
    }
    beside {}
}

section! {
    /// Section `ingest.stats`.
    IngestStatsConfig in "ingest.stats." {
        /// The address of the HTTP server of `ingest`; null means no server, port 0 any free port.
        addr: Option<HostPort> = Some(HostPort::local(8081)) => or_null(HostPortText), reload: no, since: SECOND;
    }
    sections {}
    beside {}
}

section! {
    /// Section `ingest.defaults`: how a camera is read. A camera may have each of these keys itself.
    FeedConfig in "ingest.defaults." {
        /// Most frames that are sent; null means all.
        fps: Option<f64> = None => or_null(RATE), unit: "frames/s", reload: no, since: SECOND;
        /// Width and height of the pictures, letterboxed; null means the camera's own.
        size: Option<(u32, u32)> = None => or_null(SizeText), unit: "pixels", reload: no, since: SECOND;
        /// The form in which pictures are sent. With `auto` Motion JPEG is sent as it is, other video as
        /// yuv420p in a frame ring and as JPEG through Redis.
        format: FeedFormat = FeedFormat::Auto => Word, reload: no, since: SECOND;
        /// The transport of RTSP. With `auto` TCP and UDP are tried alternately.
        transport: RtspTransport = RtspTransport::Tcp => Word, reload: no, since: SECOND;
        /// Threads of the decoder.
        threads: u32 = 1 => Whole(1..=64), unit: "threads", reload: no, since: SECOND;
        /// The hardware that decodes. After it failed, software does.
        hwaccel: Option<Hwaccel> = None => or_null(Word), reload: no, since: SECOND;
        /// Whether only key frames are decoded: for an `fps` below one.
        keyframes_only: bool = false => Truth, reload: no, since: SECOND;
        /// Longest wait for the first frame.
        open_timeout_ms: u64 = 10_000 => Whole(100..=DAY_MS), unit: "ms", reload: no, since: SECOND;
        /// Longest wait for each further frame.
        no_frame_ms: u64 = 10_000 => Whole(100..=DAY_MS), unit: "ms", reload: no, since: SECOND;
        /// Longest time without a changed picture; 0 means no limit.
        same_frame_ms: u64 = 0 => Whole(0..=DAY_MS), unit: "ms", reload: no, since: SECOND;
        /// The first and the longest pause before a camera is tried again.
        backoff_ms: (u64, u64) = (500, 30_000) => Backoff, unit: "ms", reload: no, since: SECOND;
        /// Slots of the camera's frame ring (docs/ring.md); 0 sends frames through Redis.
        ring: u32 = 0 => SlotCount, unit: "slots", reload: no, since: SECOND;
        /// When a slot of the frame ring is written again. `lossless` needs `retention: delete`.
        ring_reuse: RingReuse = RingReuse::Freshest => Word, reload: no, since: SECOND;
        /// Most bytes that wait in an input stream through this process.
        max_stream_bytes: u64 = 256 << 20 => Whole(1..=STREAM_BYTES_MAX), unit: "bytes",
            reload: no, since: SECOND;
    }
    sections {}
    beside {}
}

section! {
    /// One entry of `cameras`.
    CameraConfig in "cameras[]." {
        /// The camera id that producers send.
        id: String = String::new() => Required(CAMERA_ID), reload: yes, since: FIRST;
        /// Regions that are analysed separately.
        roi_boxes: Vec<RoiBox> = Vec::new() => RoiBoxes, reload: yes, since: FIRST;
        /// The camera's own value in place of `analysis.quality_threshold`.
        quality_threshold: Option<f64> = None => or_null(SHARE), reload: yes, since: FIRST;
        /// Where `framepress ingest` reads the camera; see docs/cameras.md. It may hold a password.
        source: Option<Secret> = None => or_null(CAMERA_SOURCE), reload: yes, since: SECOND;
        /// Instead of `source`: a file that holds it.
        source_file: Option<PathBuf> = None => or_null(FILE), reload: yes, since: SECOND;
        /// A file of mode 0600 that holds `user:password`.
        credentials_file: Option<PathBuf> = None => or_null(FILE), reload: yes, since: SECOND;
        /// Another source after three failures.
        fallback: Option<Secret> = None => or_null(CAMERA_SOURCE), reload: yes, since: SECOND;
        /// Options of `ffmpeg` before its input.
        input_args: Vec<InputArg> = Vec::new() => InputArgs, reload: yes, since: SECOND;
        /// With false, `framepress ingest` leaves the camera out.
        enabled: bool = true => Truth, reload: yes, since: SECOND;
    }
    sections {}
    beside {
        /// How the camera is read: its own keys over `ingest.defaults`.
        feed: FeedConfig = FeedConfig::builtin();
        /// The keys of `feed` that the camera has itself, as typed.
        feed_given: Map<String, Value> = Map::new();
    }
}

impl CameraConfig {
    /// A camera of which only the id is known.
    pub fn named(id: impl Into<String>) -> CameraConfig {
        CameraConfig { id: id.into(), ..CameraConfig::builtin() }
    }

    /// Whether `ingest` has a source for it.
    pub fn has_source(&self) -> bool {
        self.source.is_some() || self.source_file.is_some()
    }

    /// Lays the camera's own keys over `defaults`.
    pub(in crate::config) fn inherit(&mut self, defaults: &FeedConfig) {
        // The values were checked when the camera was read.
        let mut problems = Vec::new();
        let mut fields = MappingFields::of(&self.feed_given, &mut problems);
        self.feed = FeedConfig::read(&mut fields, defaults.clone());
    }
}
