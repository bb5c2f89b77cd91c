//! The rights of each account, one per line.

use super::{Right, When};

const fn right(
    rule: &'static str,
    when: When,
    purpose: &'static str,
    attempt: &'static str,
) -> Right {
    Right { rule, when, purpose, attempt }
}

/// Rights of `run`.
#[rustfmt::skip]
pub(super) const ENGINE: &[Right] = &[
    right("type", When::Always, "checking that its keys are streams, before the first frame", "TYPE {input}"),
    right("xgroup|create", When::Always, "creating the consumer group, also after a flush or a failover", "XGROUP CREATE {input} {group} x MKSTREAM"),
    right("xgroup|createconsumer", When::Always, "distinguishing a group that was created again from the one before", "XGROUP CREATECONSUMER {input} framepress-no-group x"),
    right("xinfo|groups", When::Always, "the lag, and finding its group", "XINFO GROUPS {input}"),
    right("xinfo|stream", When::Always, "finding the position to continue from when the group is gone", "XINFO STREAM {input}"),
    right("xinfo|consumers", When::Always, "distinguishing a group that was created again from the one before", "XINFO CONSUMERS {input} {group}"),
    right("xreadgroup", When::Always, "reading frames", "XREADGROUP GROUP {group} {consumer} STREAMS {input} x"),
    right("xpending", When::Always, "finding frames that were not finished, and the fence of each commit", "XPENDING {input} {group}"),
    right("xclaim", When::Always, "taking over the frames of an engine that died", "XCLAIM {input} {group} {consumer} 0 x"),
    right("xrange", When::Always, "reading frames that were not finished, and copying a refused one to the dead letters", "XRANGE {input} + - COUNT 1"),
    right("xadd", When::Always, "storing results and dead letters", "XADD {output} x x x"),
    right("xack", When::Always, "acknowledging frames", "XACK {input} {group} x"),
    right("script|load", When::Always, "loading the commit script", "SCRIPT LOAD {script}"),
    right("evalsha", When::Always, "committing, in one step", "EVALSHA {digest} 2 {input} {output}"),
    right("eval", When::Always, "finding or restoring the group, taking over frames and trimming, each in one step", "EVAL {script} 1 {input}"),
    right("time", When::Always, "the age of frames by the server's clock", "TIME"),
    right("xlen", When::Always, "the depth of the queues, and output_full: block", "XLEN {input}"),
    right("memory|usage", When::Always, "the memory of the queues", "MEMORY USAGE {input}"),
    right("xrevrange", When::Always, "showing the latest dead letters, and finding the result of a commit whose answer was lost", "XREVRANGE {dead} - + COUNT 1"),
    right("info", When::Always, "the memory of the server", "INFO server"),
    right("hgetall", When::Cameras, "showing the states of the cameras", "HGETALL {status}"),
    right("xdel", When::Delete, "deleting acknowledged frames", "XDEL {input} x"),
    right("xtrim", When::TrimAcked, "trimming frames that every group has acknowledged", "XTRIM {input} MINID x"),
    right("hmget", When::Exclusive, "the lease of each stream, which every commit looks at", "HMGET {lease} x"),
    right("hset", When::Exclusive, "taking, renewing and giving back leases", "HSET {lease} x x x"),
    right("del", When::Exclusive, "ending the reads of a former holder", "DEL {none}"),
    right("pexpire", When::Exclusive, "letting the stream of a tenure expire", "PEXPIRE {none} x"),
    right("zadd", When::Exclusive, "the list of engines", "ZADD {engines} x x"),
    right("zrem", When::Exclusive, "leaving the list of engines", "ZREM {engines} framepress-no-engine"),
    right("zremrangebyscore", When::Exclusive, "the list of engines", "ZREMRANGEBYSCORE {engines} x x"),
    right("zrangebyscore", When::Exclusive, "the list of engines", "ZRANGEBYSCORE {engines} x x"),
    right("xread", When::Exclusive, "waiting for changes of the list of engines", "XREAD STREAMS {engines} x"),
    right("wait", When::WaitReplicas, "waiting for replicas", "WAIT 0 1"),
];

/// Rights of `ingest` and of any other producer.
#[rustfmt::skip]
pub(super) const PRODUCER: &[Right] = &[
    right("xadd", When::Always, "sending frames", "XADD {input} x x x"),
    right("hset", When::Cameras, "publishing the states of the cameras", "HSET {status} x x x"),
    right("hdel", When::Cameras, "removing the state of a camera that is gone", "HDEL {status} x"),
    right("expire", When::Cameras, "letting the published states expire", "EXPIRE {status} x"),
    right("xrange", When::LosslessRing, "finding the frames of a lossless ring that have ended", "XRANGE {input} + - COUNT 1"),
    right("wait", When::WaitReplicas, "waiting for replicas", "WAIT 0 1"),
];

/// Rights of `inspect`.
#[rustfmt::skip]
pub(super) const INSPECT: &[Right] = &[
    right("xrevrange", When::Always, "showing the latest frames", "XREVRANGE {output} - + COUNT 1"),
    right("xread", When::Always, "--follow, and --count where it is many megabytes", "XREAD STREAMS {output} x"),
];

/// Rights of `dlq`.
#[rustfmt::skip]
pub(super) const DEAD_LETTERS: &[Right] = &[
    right("xlen", When::Always, "dlq list", "XLEN {dead}"),
    right("xrevrange", When::Always, "dlq list, and --all", "XREVRANGE {dead} - + COUNT 1"),
    right("xrange", When::Always, "dlq show, dlq replay, and --all", "XRANGE {dead} + - COUNT 1"),
    right("xadd", When::Always, "dlq replay", "XADD {input} x x x"),
    right("xdel", When::Always, "dlq replay and dlq purge", "XDEL {dead} x"),
    right("eval", When::Always, "dlq list and --all without the frames; dlq replay, in one step", "EVAL {script} 1 {dead}"),
];

/// Rights of `bridge`.
#[rustfmt::skip]
pub(super) const BRIDGE: &[Right] = &[
    right("eval", When::Always, "adding frames with the position of their partition, and examining streams, each in one step", "EVAL {script} 1 {input}"),
    right("hget", When::Always, "the stored position of each partition", "HGET {places} x"),
    right("hmget", When::Always, "the stored positions of all partitions, at the start", "HMGET {places} x"),
    right("hset", When::Always, "the stored position of each partition", "HSET {places} x x x"),
    right("xadd", When::Always, "adding frames, and dead letters of both directions", "XADD {input} x x x"),
    right("xlen", When::Always, "how many frames wait", "XLEN {input}"),
    right("xinfo|groups", When::Always, "how many frames wait, and the position of its group", "XINFO GROUPS {input}"),
    right("xpending", When::Always, "which frames are done, before they are trimmed", "XPENDING {input} {group}"),
    right("xtrim", When::Always, "trimming frames that are done, where the engine keeps them", "XTRIM {input} MINID x"),
    right("xread", When::Always, "reading results", "XREAD STREAMS {output} x"),
    right("xinfo|stream", When::Always, "how many results there were", "XINFO STREAM {output}"),
    right("xgroup|create", When::Always, "creating its group on the results, so that no result is trimmed before it is in Kafka", "XGROUP CREATE {output} {group} x MKSTREAM"),
    right("xgroup|setid", When::Always, "moving that group", "XGROUP SETID {output} {group} x"),
    right("xsetid", When::Always, "raising ids above the stored position, if the stream was created again or has lost its latest entries", "XSETID {output} x"),
    right("wait", When::WaitReplicas, "waiting for replicas", "WAIT 0 1"),
];

/// Rights of every account.
#[rustfmt::skip]
pub(super) const COMMON: &[Right] = &[
    right("role", When::Sentinel, "checking that the server is the primary", "ROLE"),
    right("cluster|slots", When::Cluster, "finding the node of each key", "CLUSTER SLOTS"),
    right("client|reply", When::Cluster, "following a slot that moves", "CLIENT REPLY ON"),
    right("asking", When::Cluster, "following a slot that moves", "ASKING"),
    right("select", When::Database, "using a database other than 0", "SELECT {database}"),
];
