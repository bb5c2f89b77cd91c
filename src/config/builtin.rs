//! The built-in defaults: the lowest layer, and the values of CONTRACT.md.

use super::choice::{
    Assignment, BelowThreshold, CompressionFormat, Count, DamagedImages, Delivery, JpegHuffman,
    LogFormat, LogLevel, Ordering, Orientation, OutputFull, Pin, PngLevel, Reencode, Retention,
    WebpMethod,
};
use super::model::{
    Analysis, Config, Engine, Feed, Ingest, IngestStats, Kafka, Limits, Log, RedisQueue, Ring,
    Stats, Tls,
};
use super::url::{HostPort, RedisUrl};

impl Config {
    /// The configuration of a program that was told nothing.
    pub fn builtin() -> Config {
        Config {
            redis_queue: redis_queue(),
            engine: Engine {
                readers: Count::Auto,
                workers: Count::Auto,
                committers: Count::Auto,
                pin: Pin::Auto,
                max_inflight_bytes: 256 << 20,
                ordering: Ordering::PerCamera,
                reencode: Reencode::Always,
                orientation: Orientation::Apply,
                drain_timeout_ms: 5_000,
                latency_target_ms: 100,
                max_concurrent_streams: 1_000,
            },
            limits: Limits {
                max_payload_bytes: 64 << 20,
                max_pixels: 7_680 * 4_320,
                damaged_images: DamagedImages::Refuse,
            },
            analysis: Analysis {
                enabled: true,
                quality_threshold: 0.0,
                below_threshold: BelowThreshold::Emit,
                ml_image: false,
                thumbnail: false,
            },
            ingest: Ingest {
                stats: IngestStats {
                    addr: Some(HostPort { host: "127.0.0.1".into(), port: 8081 }),
                },
                defaults: Feed::builtin(),
            },
            cameras: Vec::new(),
            ring: Ring { dir: None },
            kafka: Kafka::builtin(),
            stats: Stats {
                addr: Some(HostPort { host: "127.0.0.1".into(), port: 8080 }),
                token: None,
                hosts: Vec::new(),
            },
            log: Log { level: LogLevel::Info, format: LogFormat::Text, summary_seconds: 60 },
        }
    }
}

fn redis_queue() -> RedisQueue {
    RedisQueue {
        url: RedisUrl::local(),
        url_file: None,
        pool_size: 20,
        timeout: 30,
        retry_on_failure: true,
        input_queue: "camera_frames".into(),
        output_queue: "processed_frames".into(),
        consumer_group: "stream_processor".into(),
        consumer_name: None,
        max_queue_length: 10_000,
        output_full: OutputFull::TrimOldest,
        batch_size: 20,
        block_time_ms: 1_000,
        retry_attempts: 3,
        dead_letter_queue: true,
        dead_letter_max_length: 10_000,
        claim_idle_ms: 30_000,
        delivery: Delivery::ExactlyOnce,
        retention: Retention::Keep,
        max_frame_age_ms: 0,
        shards: 1,
        shard_subset: None,
        assignment: Assignment::Auto,
        lease_ms: 2_000,
        wait_replicas: 0,
        enable_compression: true,
        compression_format: CompressionFormat::Jpeg,
        compression_quality: 85,
        jpeg_huffman: JpegHuffman::Adaptive,
        webp_method: WebpMethod::Fixed(2),
        png_level: PngLevel::Fast,
        sentinel_service_name: None,
        sentinel_nodes: Vec::new(),
        sentinel_username: None,
        sentinel_password: None,
        sentinel_password_file: None,
        tls: Tls { ca: None, cert: None, key: None, server_name: None },
    }
}
