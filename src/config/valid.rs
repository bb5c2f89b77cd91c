//! As valid: every key, asked for once, with its type and its range.
//!
//! Rules that need more than one key are in `check.rs`.

use super::choice::CompressionFormat;
use super::given::Given;
use super::model::{Analysis, Config, Engine, Limits, Log, RedisQueue, Ring, Stats, Tls};
use super::reader::Reader;
use super::secret::Secret;
use super::url::{HostPort, RedisUrl};
use super::{feed, kafka, lists};
use std::path::PathBuf;

/// Most threads of one kind.
const THREADS_MAX: u64 = 1_024;
/// Highest core number.
const CORE_MAX: u64 = 1_023;
/// Longest time-outs and ages, in milliseconds: a week.
const WEEK_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// Longest stream, in entries.
const ENTRIES_MAX: u64 = 1_000_000_000_000;
/// Largest entry body, in bytes: protobuf allows no larger message.
const PAYLOAD_BYTES_MAX: u64 = (1 << 31) - 1;
/// Most bytes in flight: 1 TiB.
const INFLIGHT_BYTES_MAX: u64 = 1 << 40;
/// Longest time between two summaries in the log: a day.
const SUMMARY_SECONDS_MAX: u64 = 86_400;
/// Most pixels of an image: 32768 x 32768.
const PIXELS_MAX: u64 = 1 << 30;
/// Most replicas waited for; real primaries have a handful.
const REPLICAS_MAX: u64 = 64;
/// Most shards: the hash slots of a Cluster.
const SHARDS_MAX: u64 = 16_384;

/// Reads every key there is; what is absent or faulty has its built-in value.
pub(super) fn config(r: &mut Reader) -> Config {
    let d = Config::builtin();
    let ingest = feed::ingest(r, d.ingest, address);
    let defaults = ingest.defaults.clone();
    Config {
        redis_queue: redis_queue(r, d.redis_queue),
        engine: engine(r, d.engine),
        limits: Limits {
            max_payload_bytes: r.whole(
                "limits.max_payload_bytes",
                d.limits.max_payload_bytes,
                1..=PAYLOAD_BYTES_MAX,
            ),
            max_pixels: r.whole("limits.max_pixels", d.limits.max_pixels, 1..=PIXELS_MAX),
            damaged_images: r.choice("limits.damaged_images", d.limits.damaged_images),
        },
        analysis: analysis(r, d.analysis),
        ingest,
        cameras: r.parsed("cameras", d.cameras, |given| lists::cameras(given, &defaults)),
        ring: Ring { dir: r.guarded("ring.dir", d.ring.dir, folder) },
        kafka: kafka::kafka(r, d.kafka),
        stats: Stats {
            addr: r.nullable("stats.addr", d.stats.addr, address),
            token: r.guarded("stats.token", d.stats.token, token),
            hosts: r.parsed("stats.hosts", d.stats.hosts, lists::hosts),
        },
        log: Log {
            level: r.choice("log.level", d.log.level),
            format: r.choice("log.format", d.log.format),
            summary_seconds: r.whole(
                "log.summary_seconds",
                d.log.summary_seconds,
                0..=SUMMARY_SECONDS_MAX,
            ),
        },
    }
}

fn redis_queue(r: &mut Reader, d: RedisQueue) -> RedisQueue {
    let (url, url_file) = url(r, d.url);
    let (sentinel_password, sentinel_password_file) =
        secret(r, "redis_queue.sentinel_password", "redis_queue.sentinel_password_file");
    RedisQueue {
        url,
        url_file,
        pool_size: r.whole("redis_queue.pool_size", d.pool_size, 1..=10_000),
        timeout: r.whole("redis_queue.timeout", d.timeout, 1..=3_600),
        retry_on_failure: r.truth("redis_queue.retry_on_failure", d.retry_on_failure),
        input_queue: r.name("redis_queue.input_queue", d.input_queue),
        output_queue: r.name("redis_queue.output_queue", d.output_queue),
        consumer_group: r.name("redis_queue.consumer_group", d.consumer_group),
        consumer_name: r
            .nullable("redis_queue.consumer_name", d.consumer_name, |given| given.name()),
        max_queue_length: r.whole(
            "redis_queue.max_queue_length",
            d.max_queue_length,
            1..=ENTRIES_MAX,
        ),
        output_full: r.choice("redis_queue.output_full", d.output_full),
        batch_size: r.whole("redis_queue.batch_size", d.batch_size, 1..=10_000),
        block_time_ms: r.whole("redis_queue.block_time_ms", d.block_time_ms, 1..=1_000),
        retry_attempts: r.whole("redis_queue.retry_attempts", d.retry_attempts, 1..=10_000),
        dead_letter_queue: r.truth("redis_queue.dead_letter_queue", d.dead_letter_queue),
        dead_letter_max_length: r.whole(
            "redis_queue.dead_letter_max_length",
            d.dead_letter_max_length,
            1..=ENTRIES_MAX,
        ),
        claim_idle_ms: r.whole("redis_queue.claim_idle_ms", d.claim_idle_ms, 1_000..=WEEK_MS),
        delivery: r.choice("redis_queue.delivery", d.delivery),
        retention: r.choice("redis_queue.retention", d.retention),
        max_frame_age_ms: r.whole("redis_queue.max_frame_age_ms", d.max_frame_age_ms, 0..=WEEK_MS),
        shards: r.whole("redis_queue.shards", d.shards, 1..=SHARDS_MAX),
        shard_subset: r.parsed("redis_queue.shard_subset", d.shard_subset, lists::shards),
        assignment: r.choice("redis_queue.assignment", d.assignment),
        lease_ms: r.whole("redis_queue.lease_ms", d.lease_ms, 500..=60_000),
        wait_replicas: r.whole("redis_queue.wait_replicas", d.wait_replicas, 0..=REPLICAS_MAX),
        enable_compression: r.truth("redis_queue.enable_compression", d.enable_compression),
        compression_format: r.read(
            "redis_queue.compression_format",
            d.compression_format,
            compression_format,
        ),
        compression_quality: r.whole(
            "redis_queue.compression_quality",
            d.compression_quality,
            1..=100,
        ),
        jpeg_huffman: r.choice("redis_queue.jpeg_huffman", d.jpeg_huffman),
        webp_method: r.webp_method("redis_queue.webp_method", d.webp_method),
        png_level: r.choice("redis_queue.png_level", d.png_level),
        sentinel_service_name: r.nullable(
            "redis_queue.sentinel_service_name",
            d.sentinel_service_name,
            |given| given.name(),
        ),
        sentinel_nodes: r.parsed(
            "redis_queue.sentinel_nodes",
            d.sentinel_nodes,
            lists::sentinel_nodes,
        ),
        sentinel_username: r.guarded(
            "redis_queue.sentinel_username",
            d.sentinel_username,
            |given| given.name(),
        ),
        sentinel_password,
        sentinel_password_file,
        tls: Tls {
            ca: r.guarded("redis_queue.tls.ca", d.tls.ca, path),
            cert: r.guarded("redis_queue.tls.cert", d.tls.cert, path),
            key: r.guarded("redis_queue.tls.key", d.tls.key, path),
            server_name: r.guarded("redis_queue.tls.server_name", d.tls.server_name, server_name),
        },
    }
}

fn engine(r: &mut Reader, d: Engine) -> Engine {
    Engine {
        readers: r.count("engine.readers", d.readers, THREADS_MAX),
        workers: r.count("engine.workers", d.workers, THREADS_MAX),
        committers: r.count("engine.committers", d.committers, THREADS_MAX),
        pin: r.parsed("engine.pin", d.pin, |given| given.pin(CORE_MAX)),
        max_inflight_bytes: r.whole(
            "engine.max_inflight_bytes",
            d.max_inflight_bytes,
            1..=INFLIGHT_BYTES_MAX,
        ),
        ordering: r.choice("engine.ordering", d.ordering),
        reencode: r.choice("engine.reencode", d.reencode),
        orientation: r.choice("engine.orientation", d.orientation),
        drain_timeout_ms: r.whole("engine.drain_timeout_ms", d.drain_timeout_ms, 0..=WEEK_MS),
        latency_target_ms: r.whole("engine.latency_target_ms", d.latency_target_ms, 1..=WEEK_MS),
        max_concurrent_streams: r.whole(
            "engine.max_concurrent_streams",
            d.max_concurrent_streams,
            1..=1_000_000,
        ),
    }
}

fn analysis(r: &mut Reader, d: Analysis) -> Analysis {
    Analysis {
        enabled: r.truth("analysis.enabled", d.enabled),
        quality_threshold: r
            .read("analysis.quality_threshold", d.quality_threshold, |given| given.share()),
        below_threshold: r.choice("analysis.below_threshold", d.below_threshold),
        ml_image: r.truth("analysis.ml_image", d.ml_image),
        thumbnail: r.truth("analysis.thumbnail", d.thumbnail),
    }
}

fn redis_url(given: Given) -> Result<RedisUrl, String> {
    let valid = |message| format!("valid: {message}");
    match given.value.as_str() {
        Some(text) => RedisUrl::parse(text.trim()).map_err(valid),
        None => Err(valid("a URL, as in redis://localhost:6379/0".into())),
    }
}

/// The URL, typed or in a file that holds nothing else.
fn url(r: &mut Reader, default: RedisUrl) -> (RedisUrl, Option<PathBuf>) {
    let typed = r.read("redis_queue.url", None, |given| redis_url(given).map(Some));
    let read = r.guarded("redis_queue.url_file", None, |given| {
        let (path, text) = secret_file(given)?;
        let url = RedisUrl::parse(&text).map_err(|valid| format!("in the file: valid: {valid}"))?;
        Ok((url, path))
    });
    if r.both_are_set("redis_queue.url", "redis_queue.url_file") {
        r.conflict("redis_queue.url_file", "redis_queue.url");
    }
    match (typed, read) {
        (Some(url), _) => (url, None),
        (None, Some((url, path))) => (url, Some(path)),
        (None, None) => (default, None),
    }
}

/// A secret, typed or in a file that holds nothing else.
pub(super) fn secret(
    r: &mut Reader,
    key: &'static str,
    file: &'static str,
) -> (Option<Secret>, Option<PathBuf>) {
    let typed = r.guarded(key, None, password);
    let read = r.guarded(file, None, secret_file);
    if r.both_are_set(key, file) {
        r.conflict(file, key);
    }
    match (typed, read) {
        (Some(password), _) => (Some(password), None),
        (None, Some((path, text))) => (Some(Secret::new(text)), Some(path)),
        (None, None) => (None, None),
    }
}

/// The path and the only line of a small file, without the white space around it.
fn secret_file(given: Given) -> Result<(PathBuf, String), String> {
    const VALID: &str = "valid: the path of a readable file that holds one line of text";
    let path = PathBuf::from(given.text().map_err(|_| VALID)?);
    let text = super::file::read_text(&path).map_err(|error| format!("{error}; {VALID}"))?;
    let line = text.trim();
    if line.is_empty() || line.chars().any(char::is_control) {
        return Err(VALID.into());
    }
    Ok((path, line.to_owned()))
}

fn password(given: Given) -> Result<Secret, String> {
    given.text().map(Secret::new)
}

fn server_name(given: Given) -> Result<String, String> {
    let name = given.text().map_err(|_| "valid: a host name or address")?;
    super::url::is_host(name).map_err(|_| "valid: a host name or address")?;
    Ok(name.to_owned())
}

/// `jpg` is how many write the format of JPEG.
fn compression_format(given: Given) -> Result<CompressionFormat, String> {
    match given.value.as_str() {
        Some(word) if word.eq_ignore_ascii_case("jpg") => Ok(CompressionFormat::Jpeg),
        _ => given.choice(),
    }
}

pub(super) fn address(given: Given) -> Result<HostPort, String> {
    let valid = |message| format!("valid: {message}");
    HostPort::parse(given.text()?.trim(), None).map_err(valid)
}

fn token(given: Given) -> Result<Secret, String> {
    match given.text() {
        Ok(text) if text.chars().all(|c| c.is_ascii_graphic()) => Ok(Secret::new(text)),
        _ => Err("valid: text of visible ASCII characters without spaces".into()),
    }
}

fn folder(given: Given) -> Result<PathBuf, String> {
    const VALID: &str = "valid: the absolute path of a folder, or null";
    let path = given.text().map(PathBuf::from).map_err(|_| VALID)?;
    if path.is_absolute() { Ok(path) } else { Err(VALID.into()) }
}

pub(super) fn path(given: Given) -> Result<PathBuf, String> {
    given.text().map(PathBuf::from).map_err(|_| "valid: the path of a PEM file".into())
}
