//! Section `redis_queue`.

use super::{FIRST, SECOND, section};
use crate::config::choice::{
    Assignment, CompressionFormat, JpegHuffman, OutputFull, PngLevelChoice, WebpMethod,
};
use crate::config::kind::{
    ENTRIES_MAX, EffortLevel, NAME, PASSWORD, PEM, SECRET_FILE, SERVER_NAME, SentinelNodes,
    ShardList, Truth, Url, WEEK_MS, Whole, Word, guarded, or_null,
};
use crate::config::secret::Secret;
use crate::config::url::{HostPort, RedisUrl};
use crate::redis::{Delivery, Retention};
use std::path::PathBuf;

/// Most replicas waited for; real primaries have a handful.
const REPLICAS_MAX: u64 = 64;
/// Most shards: the hash slots of a Cluster.
const SHARDS_MAX: u64 = 16_384;

section! {
    /// Section `redis_queue`: Redis, the streams, and the compression of what goes into them.
    RedisQueueConfig in "redis_queue." {
        /// The Redis server. `embedded://` starts a private redis-server.
        url: RedisUrl = RedisUrl::local() => Url, reload: no, since: FIRST;
        /// Instead of `url`: a file that holds the URL, with its password.
        url_file: Option<PathBuf> = None => guarded(SECRET_FILE), reload: no, since: FIRST;
        /// Most connections this process may open.
        pool_size: usize = 20 => Whole(1..=10_000), unit: "connections", reload: no, since: FIRST;
        /// Longest wait for a connection or a reply. Longer than `block_time_ms`.
        timeout: u64 = 30 => Whole(1..=3_600), unit: "s", reload: no, since: FIRST;
        /// With false, the program exits on the first lost connection.
        retry_on_failure: bool = true => Truth, reload: no, since: FIRST;
        /// The stream that frames are read from. Its dead letters go to the stream of this name with
        /// `:dlq` behind it.
        input_queue: String = "camera_frames".into() => NAME, reload: no, since: FIRST;
        /// The stream that results are written to.
        output_queue: String = "processed_frames".into() => NAME, reload: no, since: FIRST;
        /// The consumer group on the input stream.
        consumer_group: String = "stream_processor".into() => NAME, reload: no, since: FIRST;
        /// The name of this consumer. With null it is the host name; two engines on one host need a
        /// name each.
        consumer_name: Option<String> = None => or_null(NAME), reload: no, since: FIRST;
        /// Longest output stream.
        max_queue_length: u64 = 10_000 => Whole(1..=ENTRIES_MAX), unit: "entries", reload: no, since: FIRST;
        /// What happens when the output stream has reached `max_queue_length`.
        output_full: OutputFull = OutputFull::TrimOldest => Word, reload: no, since: FIRST;
        /// Most entries of one read.
        batch_size: usize = 20 => Whole(1..=10_000), unit: "entries", reload: no, since: FIRST;
        /// Longest wait of one read for new entries.
        block_time_ms: u64 = 1_000 => Whole(1..=1_000), unit: "ms", reload: no, since: FIRST;
        /// Failed deliveries after which an entry becomes a dead letter.
        retry_attempts: u32 = 3 => Whole(1..=10_000), unit: "deliveries", reload: yes, since: FIRST;
        /// With false, refused frames are acknowledged and counted, but not kept.
        dead_letter_queue: bool = true => Truth, reload: no, since: FIRST;
        /// Longest dead-letter stream.
        dead_letter_max_length: u64 = 10_000 => Whole(1..=ENTRIES_MAX), unit: "entries",
            reload: no, since: FIRST;
        /// Idle time after which the engine claims a pending entry of another consumer.
        claim_idle_ms: u64 = 30_000 => Whole(1_000..=WEEK_MS), unit: "ms", reload: no, since: FIRST;
        /// The delivery guarantee.
        delivery: Delivery = Delivery::ExactlyOnce => Word, reload: no, since: FIRST;
        /// What happens to acknowledged input entries: they stay, each is deleted, or the stream is
        /// trimmed up to what every consumer group has acknowledged.
        retention: Retention = Retention::Keep => Word, reload: no, since: FIRST;
        /// Age above which a frame is shed; 0 means never.
        max_frame_age_ms: u64 = 0 => Whole(0..=WEEK_MS), unit: "ms", reload: yes, since: FIRST;
        /// Streams that the cameras are spread over: `camera_frames:{0}`, `camera_frames:{1}` and so on.
        shards: usize = 1 => Whole(1..=SHARDS_MAX), unit: "streams", reload: no, since: FIRST;
        /// The shards that this engine reads; null means all.
        shard_subset: Option<Vec<usize>> = None => ShardList, reload: no, since: FIRST;
        /// How many engines read a stream at a time: `exclusive` means one under a lease, which keeps
        /// each camera in order; `shared` any number; `auto` is exclusive from two shards on.
        assignment: Assignment = Assignment::Auto => Word, reload: no, since: SECOND;
        /// How long a lease lasts without renewal before another engine takes the stream over.
        lease_ms: u64 = 2_000 => Whole(500..=60_000), unit: "ms", reload: no, since: SECOND;
        /// Replicas that must have a result, or a frame sent, before the next one is handled.
        wait_replicas: u32 = 0 => Whole(0..=REPLICAS_MAX), unit: "replicas", reload: no, since: FIRST;
        /// With false, results carry raw pixels.
        enable_compression: bool = true => Truth, reload: no, since: FIRST;
        /// The format of output images: baseline JPEG with chroma subsampling 4:2:0, lossless PNG, or
        /// lossy WebP.
        compression_format: CompressionFormat = CompressionFormat::Jpeg => Word, reload: no, since: FIRST;
        /// The quality of JPEG and WebP output.
        compression_quality: u8 = 85 => Whole(1..=100), reload: yes, since: FIRST;
        /// The Huffman tables of JPEG output: learnt per camera; the standard's, for RTP/JPEG and bare
        /// Motion JPEG; or the best for each picture, in two passes.
        jpeg_huffman: JpegHuffman = JpegHuffman::Adaptive => Word, reload: yes, since: SECOND;
        /// The effort of WebP, from 0 (fast) to 6 (small). With `auto` it is as high as idle cores and
        /// `engine.latency_target_ms` allow.
        webp_method: WebpMethod = WebpMethod::Fixed(2) => EffortLevel, reload: yes, since: FIRST;
        /// The effort of PNG. With `auto` it is as high as idle cores and `engine.latency_target_ms` allow.
        png_level: PngLevelChoice = PngLevelChoice::Fast => Word, reload: yes, since: SECOND;
        /// The name of the primary that the Sentinels watch.
        sentinel_service_name: Option<String> = None => or_null(NAME), reload: no, since: FIRST;
        /// The Sentinels.
        sentinel_nodes: Vec<HostPort> = Vec::new() => SentinelNodes, reload: no, since: FIRST;
        /// The user name at the Sentinels; null means their default user.
        sentinel_username: Option<String> = None => guarded(NAME), reload: no, since: FIRST;
        /// The password at the Sentinels; null means that they want none.
        sentinel_password: Option<Secret> = None => guarded(PASSWORD), reload: no, since: FIRST;
        /// Instead of `sentinel_password`: a file that holds it.
        sentinel_password_file: Option<PathBuf> = None => guarded(SECRET_FILE), reload: no, since: FIRST;
    }
    sections {
        /// Files for TLS.
        tls: TlsConfig;
    }
    beside {}
}

impl RedisQueueConfig {
    /// Whether each stream is read by one engine at a time, under a lease.
    pub fn is_exclusive(&self) -> bool {
        match self.assignment {
            Assignment::Auto => self.shards > 1,
            Assignment::Shared => false,
            Assignment::Exclusive => true,
        }
    }
}

section! {
    /// Section `redis_queue.tls`: files in PEM format.
    TlsConfig in "redis_queue.tls." {
        /// The certificates to trust; null means the system's.
        ca: Option<PathBuf> = None => guarded(PEM), reload: no, since: FIRST;
        /// This client's certificate chain; comes with `key`.
        cert: Option<PathBuf> = None => guarded(PEM), reload: no, since: FIRST;
        /// The file of this client's private key; comes with `cert`.
        key: Option<PathBuf> = None => guarded(PEM), reload: no, since: FIRST;
        /// The name the server's certificate must have; null means the host of the URL.
        server_name: Option<String> = None => guarded(SERVER_NAME), reload: no, since: FIRST;
    }
    sections {}
    beside {}
}
