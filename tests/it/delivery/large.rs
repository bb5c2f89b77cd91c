//! Entries and replies of any size: nothing that a server can store or send stops the reader.

use std::time::Duration;

use framepress::internals::engine::Hooks;
use framepress::internals::image::Format;
use framepress::internals::metrics::Gauge;
use framepress::internals::redis::Operation;
use redis::cmd;

use crate::support::{
    GROUP, HeldCommits, INPUT, LONG, RedisServer, RunningEngine, Sample, is_older_than_7, protobuf,
    protobuf_of, wait_until,
};

#[test]
fn an_entry_with_more_than_a_million_parts_is_a_dead_letter_like_any_other() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    server.add_frames("before", 3);
    let mut command = cmd("XADD");
    command.arg(INPUT).arg("*");
    // Redis 6.2 takes a request of at most 1,048,576 words.
    let fields = if is_older_than_7() { 520_000 } else { 530_000_u32 };
    for index in 0..fields {
        command.arg(index).arg("x");
    }
    let id: String = server.ask(&command);
    // An entry with a frame is a frame; other fields are ignored.
    command.arg("data").arg(&protobuf("wide-0", "wide")[0].1[..]);
    let _: String = server.ask(&command);
    server.add_frames("after", 3);
    server.wait_for_outputs(7);
    server.wait_until_done();
    let letters = server.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].text("original_id"), id);
    assert_eq!(letters[0].text("reason"), "undecodable");
    let account = engine.stop();
    assert_eq!((account.out, account.dead_lettered), (7, 1), "{account:?}");
}

#[test]
fn a_value_above_the_servers_usual_limit_is_a_dead_letter_like_any_other() {
    // Half a gigabyte is stored and sent once, so this test needs a server with enough memory.
    let server =
        RedisServer::with(&["--proto-max-bulk-len", "1gb", "--client-query-buffer-limit", "2gb"]);
    let engine = RunningEngine::start(&server, &[("redis_queue.timeout", "60")]);
    let mut command = cmd("XADD");
    command.arg(INPUT).arg("*").arg("data").arg(vec![b'x'; (512 << 20) + 1]);
    let id: String = server.ask(&command);
    drop(command);
    server.add_frames("after", 3);
    server.wait_for_outputs(3);
    server.wait_until_done();
    let mut length = cmd("XLEN");
    assert_eq!(server.ask::<usize>(length.arg("camera_frames:dlq")), 1);
    let mut tail = cmd("EVAL");
    let script = "local parts = redis.call('XRANGE', KEYS[1], '-', '+')[1][2]
        return { parts[4], parts[8], #parts[2] }";
    let (original, reason, kept): (String, String, usize) =
        server.ask(tail.arg(script).arg(1).arg("camera_frames:dlq"));
    assert_eq!((original, &*reason, kept), (id, "too_large", (512 << 20) + 1));
    assert_eq!(engine.stop().dead_lettered, 1);
}

/// Adds raw frames of 1920x1080: nineteen are 118 MB.
fn add_large_frames(server: &RedisServer, count: usize) {
    let picture = Sample::colour(1920, 1080, 1);
    for index in 0..count {
        server.add(&protobuf_of(&format!("cam-{index}"), "cam", picture.image(Format::Raw)));
    }
}

const LIMIT: [&str; 2] = ["--client-output-buffer-limit", "normal 64mb 0 0"];

#[test]
fn own_pending_frames_are_read_within_the_servers_output_limit() {
    let server = RedisServer::with(&LIMIT);
    server.create_group(GROUP);
    add_large_frames(&server, 19);
    deliver_to(&server, "engine-0");
    let engine = RunningEngine::start(&server, &[]);
    server.wait_for_outputs(19);
    server.wait_until_done();
    assert!(server.dead_letters().is_empty());
    assert_eq!(engine.stop().out, 19);
}

#[test]
fn frames_of_a_dead_engine_are_read_within_the_servers_output_limit() {
    let server = RedisServer::with(&LIMIT);
    server.create_group(GROUP);
    add_large_frames(&server, 19);
    deliver_to(&server, "dead");
    std::thread::sleep(Duration::from_millis(1100));
    let engine = RunningEngine::start(&server, &[("redis_queue.claim_idle_ms", "1000")]);
    server.wait_for_outputs(19);
    server.wait_until_done();
    assert!(server.dead_letters().is_empty());
    assert_eq!(engine.stop().out, 19);
}

#[test]
fn new_frames_are_read_within_the_servers_output_limit() {
    let server = RedisServer::with(&["--client-output-buffer-limit", "normal 20mb 0 0"]);
    server.create_group(GROUP);
    // Small frames first: the later replies are larger than the reader expects.
    server.add_frames("small", 20);
    add_large_frames(&server, 12);
    let engine = RunningEngine::start(&server, &[]);
    server.wait_for_outputs(32);
    server.wait_until_done();
    assert_eq!(engine.stop().out, 32);
    assert_eq!(server.outputs().len(), 32);
}

/// Makes all entries pending without reading them, as that reply would be cut off too.
fn deliver_to(server: &RedisServer, consumer: &str) {
    let script = "redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'STREAMS', KEYS[1], '>')";
    let mut command = cmd("EVAL");
    let _: redis::Value =
        server.ask(command.arg(script).arg(1).arg(INPUT).arg(GROUP).arg(consumer));
    assert!(server.pending() > 0, "they are pending");
}

#[test]
fn a_full_commit_leaves_the_next_frame_in_its_lane() {
    let server = RedisServer::start();
    let commits = HeldCommits::default();
    let fault_point = commits.fault_point(Operation::Write);
    let flags = [("redis_queue.enable_compression", "false"), ("analysis.enabled", "false")];
    let engine =
        RunningEngine::with_hooks(&server, &flags, Hooks { fault_point, ..Hooks::default() });
    engine.wait_until_heard();
    commits.hold();
    // 8.4 MB each as raw pixels: two fill a commit. While one is sent, the others queue up.
    let image = Sample::colour(2000, 1400, 1).image(Format::Jpeg);
    for index in 0..7 {
        server.add(&protobuf_of(&format!("f-{index}"), "cam", image.clone()));
    }
    let metrics = &engine.view().metrics;
    wait_until("frames in the lane", LONG, || metrics.level(Gauge::CommitLanes) > 3);
    commits.release();
    server.wait_for_outputs(7);
    let account = engine.stop();
    assert_eq!((account.read, account.out, account.abandoned), (7, 7, 0), "{account:?}");
}
