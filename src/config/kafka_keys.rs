//! The keys of a section `kafka` as other programs wrote it, and what each of them means here.

/// What becomes of a key of the section `kafka`, as this and other programs wrote it.
pub(super) struct OldKafkaKey {
    /// The names by which it goes.
    names: &'static [&'static str],
    /// The key of the section for `bridge`, by which it goes on talking to Kafka.
    pub bridge: Option<&'static str>,
    /// What the engine makes of it.
    pub successor: Successor,
}

/// What the engine makes of a key.
pub(super) enum Successor {
    /// The key here that does the same.
    Becomes(&'static str),
    /// Why there is none.
    LeftOut(&'static str),
}

use Successor::{Becomes, LeftOut};

const fn old(
    names: &'static [&'static str],
    bridge: Option<&'static str>,
    successor: Successor,
) -> OldKafkaKey {
    OldKafkaKey { names, bridge, successor }
}

/// Why a key that only `bridge` has a use for is none of the engine.
const ONLY_BRIDGE: &str = "only framepress bridge talks to Kafka";

#[rustfmt::skip]
const KAFKA: &[OldKafkaKey] = &[
    old(&["input_topic", "topic", "topics.input", "consumer.topic"], Some("input_topic"), Becomes("redis_queue.input_queue")),
    old(&["output_topic", "topics.output", "producer.topic"], Some("output_topic"), Becomes("redis_queue.output_queue")),
    old(&["consumer_group", "group_id", "consumer_group_id", "consumer.group_id"], Some("consumer_group"), Becomes("redis_queue.consumer_group")),
    old(&["bootstrap_servers", "brokers"], Some("bootstrap_servers"), LeftOut(ONLY_BRIDGE)),
    old(&["security_protocol"], Some("security_protocol"), LeftOut(ONLY_BRIDGE)),
    old(&["sasl_mechanism"], Some("sasl_mechanism"), LeftOut(ONLY_BRIDGE)),
    old(&["sasl_username", "sasl_plain_username"], Some("sasl_username"), LeftOut(ONLY_BRIDGE)),
    old(&["sasl_password", "sasl_plain_password"], Some("sasl_password"), LeftOut(ONLY_BRIDGE)),
    old(&["ssl_cafile"], Some("ssl_cafile"), LeftOut(ONLY_BRIDGE)),
    old(&["ssl_certfile"], Some("ssl_certfile"), LeftOut(ONLY_BRIDGE)),
    old(&["ssl_keyfile"], Some("ssl_keyfile"), LeftOut(ONLY_BRIDGE)),
    old(&["client_id", "consumer.client_id"], None, Becomes("redis_queue.consumer_name")),
    old(&["max_poll_records", "batch_size", "consumer.max_poll_records"], None, Becomes("redis_queue.batch_size")),
    old(&["fetch_max_wait_ms", "poll_timeout_ms", "consumer.fetch_max_wait_ms"], None, Becomes("redis_queue.block_time_ms")),
    old(&["session_timeout_ms", "consumer.session_timeout_ms"], None, Becomes("redis_queue.claim_idle_ms")),
    old(&["max_request_size", "message_max_bytes", "max_partition_fetch_bytes", "fetch_max_bytes"], None, Becomes("limits.max_payload_bytes")),
    old(&["max_retries", "retry_attempts"], None, Becomes("redis_queue.retry_attempts")),
    old(&["auto_offset_reset", "consumer.auto_offset_reset"], None, LeftOut("a new group begins at the first entry of the stream; for the bridge see kafka.begin")),
    old(&["enable_auto_commit", "auto_commit_interval_ms", "consumer.enable_auto_commit"], None, LeftOut("an entry is acknowledged together with its result, never by time")),
    old(&["acks", "enable_idempotence", "transactional_id", "isolation_level"], None, LeftOut("see redis_queue.delivery: exactly_once is built in, and so it is in the bridge")),
    old(&["compression_type", "producer.compression_type"], None, LeftOut("pictures are compressed, not batches; see redis_queue.compression_format")),
    old(&["linger_ms", "buffer_memory", "producer.linger_ms"], None, LeftOut("nothing waits to fill a batch")),
    old(&["partitions", "num_partitions", "replication_factor"], None, LeftOut("one stream keeps the order of each camera; see redis_queue.shards for Cluster")),
    old(&["ssl_check_hostname"], None, LeftOut("host names in certificates are verified unless kafka.properties sets ssl.endpoint.identification.algorithm to none")),
    old(&["dead_letter_topic", "dlq_topic", "error_topic"], None, LeftOut("dead letters go to the stream <input_queue>:dlq")),
    old(&["schema_registry_url", "value_serializer", "value_deserializer", "key_serializer"], None, LeftOut("entries are protobuf by the schema of proto/processed_frame.proto")),
];

/// The old key that goes by `name`, without the section.
pub(super) fn old_kafka_key(name: &str) -> Option<&'static OldKafkaKey> {
    KAFKA.iter().find(|old| old.names.contains(&name))
}

/// What a key of the section `kafka` of an old file means when the file is read as it is.
pub(super) enum KafkaKey {
    /// A key of the section, by its one name.
    Key(String),
    /// Nothing; it is accepted.
    WithoutEffect,
}

/// The meaning of a key of the section `kafka`, by its name without the section. What is not known is
/// a key like any other, and refused as unknown.
pub(super) fn current_name(name: &str) -> KafkaKey {
    match old_kafka_key(name) {
        Some(OldKafkaKey { bridge: Some(bridge), .. }) => KafkaKey::Key((*bridge).to_owned()),
        Some(_) => KafkaKey::WithoutEffect,
        None => KafkaKey::Key(name.to_owned()),
    }
}
