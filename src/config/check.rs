//! The rules that need more than one key.

use super::choice::{Count, Ordering};
use super::reader::KeyReader;
use super::table::{Config, RedisQueueConfig};
use super::url::Scheme;
use crate::redis::{Delivery, Retention, dead_letters_of, slot_of};

/// How much longer than a blocking read the reply time-out must be, in milliseconds: the time-out
/// must not strike while Redis is merely waiting for frames.
const TIMEOUT_MARGIN_MS: u64 = 500;

/// Connections beside those of readers and committers: the control plane, the reclaimer, the
/// lookout's to a Sentinel where there are any, and the one for leases where there are any.
pub fn connections_beside(queue: &RedisQueueConfig) -> usize {
    2 + usize::from(has_sentinels(queue)) + usize::from(queue.is_exclusive())
}

fn has_sentinels(queue: &RedisQueueConfig) -> bool {
    !queue.sentinel_nodes.is_empty() || queue.url.scheme() == Scheme::Sentinel
}

/// Reports every rule that `config` breaks.
pub(super) fn across(config: &Config, r: &mut KeyReader) {
    timing(config, r);
    threads(config, r);
    streams(config, r);
    shards(config, r);
    slots(config, r);
    rings(config, r);
    leases(config, r);
    topology(config, r);
    tls(config, r);
}

fn timing(config: &Config, r: &mut KeyReader) {
    let queue = &config.redis_queue;
    let least_ms = queue.block_time_ms + TIMEOUT_MARGIN_MS;
    r.rule(
        config,
        &["redis_queue.timeout", "redis_queue.block_time_ms"],
        queue.timeout * 1_000 >= least_ms,
        format!(
            "a read may wait block_time_ms = {} for frames and the time-out must be longer; \
             valid: timeout from {} seconds, or a shorter block_time_ms",
            queue.block_time_ms,
            least_ms.div_ceil(1_000),
        ),
    );
}

fn threads(config: &Config, r: &mut KeyReader) {
    let (queue, engine) = (&config.redis_queue, &config.engine);
    let (payload, inflight) = (config.limits.max_payload_bytes, engine.max_inflight_bytes);
    r.rule(
        config,
        &["engine.max_inflight_bytes", "limits.max_payload_bytes"],
        inflight >= payload,
        format!(
            "the largest frame must fit; valid: max_inflight_bytes from {payload}, or a smaller \
             limits.max_payload_bytes"
        ),
    );
    let streams = queue.shard_subset.as_ref().map_or(queue.shards, Vec::len);
    let readers = engine.readers.or(streams).max(streams);
    let beside = connections_beside(queue);
    let connections = readers + engine.committers.or(1) + beside;
    r.rule(
        config,
        &["redis_queue.pool_size", "engine.readers", "engine.committers"],
        queue.pool_size >= connections,
        format!(
            "each reader and committer holds a connection and {beside} are held \
             beside them; valid: pool_size from {connections}, or fewer readers and committers"
        ),
    );
    let too_many = match engine.readers {
        Count::Auto => false,
        Count::Fixed(readers) => engine.ordering == Ordering::PerCamera && readers > streams,
    };
    r.rule(
        config,
        &["engine.readers", "redis_queue.shards", "engine.ordering"],
        !too_many,
        format!(
            "one stream is read by one reader so that the order holds; valid: auto, 1 to {streams} \
             (redis_queue.shards), or ordering: none"
        ),
    );
}

fn streams(config: &Config, r: &mut KeyReader) {
    let queue = &config.redis_queue;
    r.rule(
        config,
        &["redis_queue.output_queue", "redis_queue.input_queue"],
        queue.input_queue != queue.output_queue,
        "results would be read as frames; valid: names that differ for input_queue and output_queue",
    );
    r.rule(
        config,
        &["redis_queue.output_queue", "redis_queue.input_queue"],
        queue.output_queue != dead_letters_of(&queue.input_queue),
        "that is the stream of the dead letters; valid: any other name",
    );
    for (key, name) in [
        ("redis_queue.input_queue", &queue.input_queue),
        ("redis_queue.output_queue", &queue.output_queue),
    ] {
        r.rule(
            config,
            &[key, "redis_queue.shards"],
            queue.shards == 1 || !name.contains(['{', '}']),
            "shards get a {number} of their own; valid: a name without braces, or shards: 1",
        );
    }
}

fn shards(config: &Config, r: &mut KeyReader) {
    let queue = &config.redis_queue;
    let highest = queue.shard_subset.iter().flatten().max();
    r.rule(
        config,
        &["redis_queue.shard_subset", "redis_queue.shards"],
        highest.is_none_or(|highest| *highest < queue.shards),
        format!("there are fewer shards; valid: numbers from 0 to {}", queue.shards - 1),
    );
}

fn rings(config: &Config, r: &mut KeyReader) {
    r.rule(
        config,
        &["ingest.defaults.ring_reuse", "redis_queue.retention"],
        !config.has_lossless_ring() || config.redis_queue.retention == Retention::Delete,
        "a slot of a lossless ring is free when the entry of its frame is deleted, and only \
         retention: delete deletes it at once; valid: ring_reuse: freshest, or retention: delete",
    );
}

/// In a Cluster, one script can do what concerns keys of one slot only. Shards have a tag of their
/// own and need no rule.
fn slots(config: &Config, r: &mut KeyReader) {
    let queue = &config.redis_queue;
    if queue.url.scheme() != Scheme::Cluster
        || queue.delivery != Delivery::ExactlyOnce
        || queue.shards > 1
    {
        return;
    }
    let dead_letters = dead_letters_of(&queue.input_queue);
    let mut keys = vec![queue.input_queue.as_str(), queue.output_queue.as_str()];
    if queue.dead_letter_queue {
        keys.push(&dead_letters);
    }
    let mut apart = keys.iter().map(|key| slot_of(key));
    let first = apart.next();
    let shown: Vec<String> =
        keys.iter().map(|key| format!("{key} in slot {}", slot_of(key))).collect();
    // Braces within the names would be hash tags of their own.
    let bare = |name: &str| name.replace(['{', '}'], "");
    let (input, output) = (bare(&queue.input_queue), bare(&queue.output_queue));
    r.rule(
        config,
        &["redis_queue.input_queue", "redis_queue.output_queue", "redis_queue.url"],
        apart.all(|slot| Some(slot) == first),
        format!(
            "exactly_once needs all keys in one slot of the Cluster, but there is {}; valid: \
             names with one hash tag, as in input_queue: \"{{{input}}}\" and output_queue: \
             \"{{{input}}}:{output}\", or shards from 2, or delivery: at_least_once",
            shown.join(", ")
        ),
    );
}

/// A stream under a lease has one reader, and its lease and results lie beside it.
fn leases(config: &Config, r: &mut KeyReader) {
    let queue = &config.redis_queue;
    if !queue.is_exclusive() {
        return;
    }
    let streams = queue.shard_subset.as_ref().map_or(queue.shards, Vec::len);
    r.rule(
        config,
        &["redis_queue.assignment", "engine.readers"],
        config.engine.readers.or(streams) <= streams,
        format!(
            "under a lease one stream has one reader; valid: engine.readers: auto, or 1 to \
             {streams}, or assignment: shared"
        ),
    );
    let keys = [
        queue.input_queue.clone(),
        queue.output_queue.clone(),
        dead_letters_of(&queue.input_queue),
        format!("{}:lease", queue.input_queue),
    ];
    let is_apart = keys.iter().any(|key| slot_of(key) != slot_of(&keys[0]));
    r.rule(
        config,
        &["redis_queue.assignment", "redis_queue.input_queue", "redis_queue.output_queue"],
        queue.url.scheme() != Scheme::Cluster || queue.shards > 1 || !is_apart,
        "the lease and the results must lie in the slot of the input; valid: names with one hash \
         tag, as in input_queue: \"{camera}\" and output_queue: \"{camera}:out\", or shards from 2, \
         or assignment: shared",
    );
}

fn topology(config: &Config, r: &mut KeyReader) {
    let queue = &config.redis_queue;
    let scheme = queue.url.scheme();
    let has_nodes = has_sentinels(queue);
    let has_name = queue.sentinel_service_name.is_some() || queue.url.service().is_some();
    r.rule(
        config,
        &["redis_queue.sentinel_nodes", "redis_queue.url", "redis_queue.sentinel_service_name"],
        has_name || !has_nodes,
        "Sentinels are asked for a primary by name; valid: with sentinel_service_name beside it",
    );
    r.rule(
        config,
        &["redis_queue.sentinel_service_name", "redis_queue.sentinel_nodes", "redis_queue.url"],
        has_nodes || !has_name,
        "there is no Sentinel to ask; valid: with sentinel_nodes, or a redis-sentinel:// URL",
    );
    let is_single = matches!(scheme, Scheme::Redis | Scheme::Rediss | Scheme::Sentinel);
    r.rule(
        config,
        &["redis_queue.sentinel_nodes", "redis_queue.url"],
        queue.sentinel_nodes.is_empty() || is_single,
        "Sentinels find a primary over TCP; valid: with a redis://, rediss:// or \
         redis-sentinel:// URL",
    );
}

fn tls(config: &Config, r: &mut KeyReader) {
    let tls = &config.redis_queue.tls;
    r.rule(
        config,
        &["redis_queue.tls.cert", "redis_queue.tls.key"],
        tls.cert.is_some() == tls.key.is_some(),
        "a certificate and its key belong together; valid: both cert and key, or neither",
    );
    let any =
        tls.ca.is_some() || tls.cert.is_some() || tls.key.is_some() || tls.server_name.is_some();
    let scheme = config.redis_queue.url.scheme();
    let is_plain = matches!(scheme, Scheme::Redis | Scheme::Unix | Scheme::Embedded);
    r.rule(
        config,
        &[
            "redis_queue.tls.ca",
            "redis_queue.tls.cert",
            "redis_queue.tls.key",
            "redis_queue.tls.server_name",
            "redis_queue.url",
        ],
        !(any && is_plain),
        "this URL is not encrypted, so that the section tls has no effect; valid: rediss:// (or \
         redis-sentinel://, redis-cluster://), or nothing below tls",
    );
}
