//! The valid configuration: a plain tree of structs whose fields bear the names of the file's keys.
//!
//! A value that came out of a [`Loader`](super::Loader) holds every rule of this room. There is no
//! `Default`: whoever wants the built-in values says [`Config::builtin`].

use super::choice::{
    Assignment, Begin, BelowThreshold, CompressionFormat, Count, DamagedImages, Delivery,
    FeedFormat, Hwaccel, JpegHuffman, KafkaProtocol, LogFormat, LogLevel, Ordering, Orientation,
    OutputFull, Pin, PngLevel, Reencode, ResultFormat, ResultImage, Retention, RingReuse,
    SaslMechanism, Transport, WebpMethod,
};
use super::secret::Secret;
use super::url::{HostPort, RedisUrl};
use crate::ring::default_folder;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything the engine can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Redis, the streams and the compression of what goes into them.
    pub redis_queue: RedisQueue,
    /// Threads, lanes and order.
    pub engine: Engine,
    /// Sizes above which a frame is refused.
    pub limits: Limits,
    /// What is computed about a frame, and the extra images.
    pub analysis: Analysis,
    /// How `ingest` reads cameras.
    pub ingest: Ingest,
    /// Cameras: what `ingest` reads, and what the engine does otherwise for them.
    pub cameras: Vec<Camera>,
    /// Frames whose pixels lie in shared memory.
    pub ring: Ring,
    /// The brokers of the system before, for `bridge`.
    pub kafka: Kafka,
    /// The HTTP server.
    pub stats: Stats,
    /// Log lines.
    pub log: Log,
}

/// Section `redis_queue`.
#[derive(Clone, Debug, PartialEq)]
pub struct RedisQueue {
    /// Where Redis is.
    pub url: RedisUrl,
    /// The file that `url` was read from, if it was.
    pub url_file: Option<PathBuf>,
    /// Most connections this process may open.
    pub pool_size: usize,
    /// Longest wait for a connection or a reply, in seconds.
    pub timeout: u64,
    /// False: exit on the first lost connection.
    pub retry_on_failure: bool,
    /// Name of the stream frames are read from.
    pub input_queue: String,
    /// Name of the stream results are written to.
    pub output_queue: String,
    /// Name of the consumer group on the input stream.
    pub consumer_group: String,
    /// Name of this consumer; `None` means the host name.
    pub consumer_name: Option<String>,
    /// Longest output stream, in entries; see `output_full`.
    pub max_queue_length: u64,
    /// What happens at that length.
    pub output_full: OutputFull,
    /// Most entries asked for in one read.
    pub batch_size: usize,
    /// Longest wait of one read for new entries, in milliseconds.
    pub block_time_ms: u64,
    /// Deliveries before an entry goes to the dead letters.
    pub retry_attempts: u32,
    /// False: refused frames are acknowledged and counted, not kept.
    pub dead_letter_queue: bool,
    /// Longest dead-letter stream, in entries.
    pub dead_letter_max_length: u64,
    /// Age at which another consumer's pending entry is taken over, in milliseconds.
    pub claim_idle_ms: u64,
    /// The promise of the hand-off.
    pub delivery: Delivery,
    /// What becomes of acknowledged input entries.
    pub retention: Retention,
    /// Age above which a frame is shed, in milliseconds; 0 means never.
    pub max_frame_age_ms: u64,
    /// Streams the cameras are spread over.
    pub shards: usize,
    /// Of those the ones this engine reads, ascending; `None` means all.
    pub shard_subset: Option<Vec<usize>>,
    /// Which engines read a stream at a time; see [`RedisQueue::is_exclusive`].
    pub assignment: Assignment,
    /// How long a lease lasts without renewal, in milliseconds.
    pub lease_ms: u64,
    /// Replicas that are to have a result, or a frame sent, before the next one is dealt with.
    pub wait_replicas: u32,
    /// False: raw pixels out.
    pub enable_compression: bool,
    /// Format of output images when compression is on.
    pub compression_format: CompressionFormat,
    /// JPEG or WebP quality, 1 to 100.
    pub compression_quality: u8,
    /// The Huffman tables of JPEG output.
    pub jpeg_huffman: JpegHuffman,
    /// WebP effort.
    pub webp_method: WebpMethod,
    /// PNG effort.
    pub png_level: PngLevel,
    /// Name of the primary that the Sentinels watch.
    pub sentinel_service_name: Option<String>,
    /// The Sentinels.
    pub sentinel_nodes: Vec<HostPort>,
    /// User name at the Sentinels; `None` for the default one.
    pub sentinel_username: Option<String>,
    /// Password at the Sentinels; `None` where they want none.
    pub sentinel_password: Option<Secret>,
    /// The file that `sentinel_password` was read from, if it was.
    pub sentinel_password_file: Option<PathBuf>,
    /// Files for TLS.
    pub tls: Tls,
}

impl RedisQueue {
    /// Whether each stream is read by one engine at a time, under a lease.
    pub fn is_exclusive(&self) -> bool {
        match self.assignment {
            Assignment::Auto => self.shards > 1,
            Assignment::Shared => false,
            Assignment::Exclusive => true,
        }
    }
}

/// Section `redis_queue.tls`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Certificates to trust; `None` means the system's.
    pub ca: Option<PathBuf>,
    /// This client's certificate chain; comes with `key`.
    pub cert: Option<PathBuf>,
    /// The file of this client's private key; comes with `cert`.
    pub key: Option<PathBuf>,
    /// The name the server's certificate must have; `None` means the host of the URL.
    pub server_name: Option<String>,
}

/// Section `engine`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Reading threads.
    pub readers: Count,
    /// Processing threads.
    pub workers: Count,
    /// Committing threads.
    pub committers: Count,
    /// Which cores they are pinned to.
    pub pin: Pin,
    /// Most bytes of frames between reading and commit.
    pub max_inflight_bytes: usize,
    /// In which order results leave.
    pub ordering: Ordering,
    /// When JPEG input is encoded anew.
    pub reencode: Reencode,
    /// What becomes of an EXIF orientation.
    pub orientation: Orientation,
    /// Longest drain at a stop, in milliseconds; 0 drops what is in flight back to Redis.
    pub drain_timeout_ms: u64,
    /// What the 99th percentile of the time for a frame is to stay within, in milliseconds.
    pub latency_target_ms: u64,
    /// Cameras with state kept.
    pub max_concurrent_streams: usize,
}

/// Section `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest entry body accepted, in bytes.
    pub max_payload_bytes: usize,
    /// Largest image accepted, width times height.
    pub max_pixels: u64,
    /// What becomes of damaged images.
    pub damaged_images: DamagedImages,
}

/// Section `ring`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Where frame rings lie; `None` for the folder that systemd makes for the service, the user's
    /// own, or `/run/framepress`.
    pub dir: Option<PathBuf>,
}

impl Ring {
    /// Where frame rings lie.
    pub fn folder(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(default_folder)
    }
}

/// Section `kafka`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Brokers to begin with; none: there is no Kafka.
    pub bootstrap_servers: Vec<HostPort>,
    /// The topic of frames.
    pub input_topic: String,
    /// The topic of results.
    pub output_topic: String,
    /// The consumer group of the old processor.
    pub consumer_group: String,
    /// The consumer group of the bridge, in Kafka and in Redis.
    pub bridge_group: String,
    /// Where frames are read from while no place is stored.
    pub begin: Begin,
    /// What a result is written as.
    pub format: ResultFormat,
    /// Whether a result in JSON has the picture.
    pub image: ResultImage,
    /// Frames in the stream that are not done, above which no more are fetched.
    pub max_stream_length: u64,
    /// Encryption and authentication.
    pub security_protocol: KafkaProtocol,
    /// How it authenticates itself, where it does.
    pub sasl_mechanism: SaslMechanism,
    /// The user.
    pub sasl_username: Option<String>,
    /// The user's password.
    pub sasl_password: Option<Secret>,
    /// The file that `sasl_password` was read from, if it was.
    pub sasl_password_file: Option<PathBuf>,
    /// Certificates to trust; `None` means the system's.
    pub ssl_cafile: Option<PathBuf>,
    /// The bridge's certificate.
    pub ssl_certfile: Option<PathBuf>,
    /// The key of that certificate.
    pub ssl_keyfile: Option<PathBuf>,
    /// Any other property of librdkafka, by its name. Values may be secrets.
    pub properties: BTreeMap<String, Secret>,
    /// The HTTP servers of both directions.
    pub stats: KafkaStats,
}

/// Section `kafka.stats`; `None` means no server, port 0 any free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaStats {
    /// Of `bridge kafka-to-redis`.
    pub kafka_to_redis: Option<HostPort>,
    /// Of `bridge redis-to-kafka`.
    pub redis_to_kafka: Option<HostPort>,
}

/// Section `analysis`.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// Whether figures are computed at all.
    pub enabled: bool,
    /// Quality score, 0 to 1, below which `validation_passed` is false.
    pub quality_threshold: f64,
    /// What happens to a frame below it.
    pub below_threshold: BelowThreshold,
    /// Whether the letterboxed 640x640 image is made.
    pub ml_image: bool,
    /// Whether the 128x128 thumbnail is made.
    pub thumbnail: bool,
}

/// One entry of `cameras`.
#[derive(Clone, Debug, PartialEq)]
pub struct Camera {
    /// The camera id producers send.
    pub id: String,
    /// Regions to analyse apart.
    pub roi_boxes: Vec<RoiBox>,
    /// This camera's threshold in place of `analysis.quality_threshold`, 0 to 1.
    pub quality_threshold: Option<f64>,
    /// Where `ingest` reads it; it may hold a password.
    pub source: Option<Secret>,
    /// The file that holds the source.
    pub source_file: Option<PathBuf>,
    /// A file of mode 0600 that holds `user:password`.
    pub credentials_file: Option<PathBuf>,
    /// Another source after three failures.
    pub fallback: Option<Secret>,
    /// Options of `ffmpeg` before its input.
    pub input_args: Vec<InputArg>,
    /// False: `ingest` leaves it out.
    pub enabled: bool,
    /// How it is read, the defaults included.
    pub feed: Feed,
    /// Of that, what the camera says itself.
    pub feed_given: Map<String, Value>,
}

impl Camera {
    /// A camera of which nothing but its id is known.
    pub fn named(id: impl Into<String>) -> Camera {
        Camera {
            id: id.into(),
            roi_boxes: Vec::new(),
            quality_threshold: None,
            source: None,
            source_file: None,
            credentials_file: None,
            fallback: None,
            input_args: Vec::new(),
            enabled: true,
            feed: Feed::builtin(),
            feed_given: Map::new(),
        }
    }

    /// Whether `ingest` has a source for it.
    pub fn has_source(&self) -> bool {
        self.source.is_some() || self.source_file.is_some()
    }
}

/// An option of `ffmpeg` with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputArg {
    /// The name without `-`.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Section `ingest`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingest {
    /// The HTTP server of `ingest`.
    pub stats: IngestStats,
    /// What holds for every camera that does not say otherwise.
    pub defaults: Feed,
}

/// Section `ingest.stats`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestStats {
    /// Where it listens; `None` means no server, port 0 any free port.
    pub addr: Option<HostPort>,
}

/// How a camera is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Feed {
    /// Most frames a second that are sent; `None` means all.
    pub fps: Option<f64>,
    /// Width and height, letterboxed; `None` means the camera's own.
    pub size: Option<(u32, u32)>,
    /// The form in which pictures are sent.
    pub format: FeedFormat,
    /// How an RTSP camera sends.
    pub transport: Transport,
    /// Threads of the decoder.
    pub threads: u32,
    /// Hardware that decodes.
    pub hwaccel: Option<Hwaccel>,
    /// Only key frames are decoded.
    pub keyframes_only: bool,
    /// Longest wait for the first frame, in milliseconds.
    pub open_timeout_ms: u64,
    /// Longest wait for each further frame, in milliseconds.
    pub no_frame_ms: u64,
    /// Longest time without a changed picture, in milliseconds; 0 means no limit.
    pub same_frame_ms: u64,
    /// First and longest pause before it is tried again, in milliseconds.
    pub backoff_ms: (u64, u64),
    /// Slots of the frame ring; 0 sends frames through Redis.
    pub ring: u32,
    /// When a slot is written again.
    pub ring_reuse: RingReuse,
    /// Most bytes that wait in the input stream through this process.
    pub max_stream_bytes: u64,
}

/// One region of interest, in pixels of the frame as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoiBox {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width, at least 1; the right edge fits an `i32`.
    pub width: u32,
    /// Height, at least 1; the lower edge fits an `i32`.
    pub height: u32,
    /// What the region is called in results; empty if the file gives no label.
    pub label: String,
}

/// Section `stats`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Where the HTTP server listens; `None` means no server, port 0 any free port.
    pub addr: Option<HostPort>,
    /// Bearer token for everything but `/livez` and `/readyz`.
    pub token: Option<Secret>,
    /// Names by which browsers may ask, beside addresses and `localhost`.
    pub hosts: Vec<String>,
}

/// Section `log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe lines written.
    pub level: LogLevel,
    /// How they are written.
    pub format: LogFormat,
    /// How often the engine sums up how it goes, in seconds; 0 means never.
    pub summary_seconds: u64,
}

impl Config {
    /// Whether a camera has a frame ring whose slots wait for their frames to end.
    pub fn has_lossless_ring(&self) -> bool {
        let feeds = self.cameras.iter().map(|camera| &camera.feed).chain([&self.ingest.defaults]);
        feeds.into_iter().any(|feed| feed.ring > 0 && feed.ring_reuse == RingReuse::Lossless)
    }
}
