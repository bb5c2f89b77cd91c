//! Retention of input entries, and a full output stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use framepress::internals::base::threads::{LoopHook, Role};
use framepress::internals::engine::Hooks;
use framepress::internals::metrics::Counter;
use redis::cmd;

use crate::support::{GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, wait_until};

/// Redis trims whole nodes; nodes with few entries make trimming visible.
const SMALL_NODES: [&str; 4] = ["--stream-node-max-entries", "10", "--stream-node-max-bytes", "0"];

#[test]
fn entries_are_kept_unless_configured_otherwise() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    server.add_frames("cam", 30);
    server.wait_for_outputs(30);
    engine.stop();
    assert_eq!(server.len(INPUT), 30);
    server.assert_every_entry_once();
}

#[test]
fn acknowledged_entries_are_deleted_if_so_configured() {
    for delivery in ["exactly_once", "at_least_once"] {
        let server = RedisServer::start();
        let flags = [("redis_queue.retention", "delete"), ("redis_queue.delivery", delivery)];
        let engine = RunningEngine::start(&server, &flags);
        server.add_frames("cam", 30);
        server.add(&crate::support::data("{no frame"));
        server.wait_for_outputs(30);
        wait_until("an empty input stream", LONG, || server.len(INPUT) == 0);
        let account = engine.stop();
        assert_eq!((account.out, account.dead_lettered), (30, 1), "{delivery}");
        assert_eq!(server.dead_letters()[0].fields["data"], b"{no frame", "{delivery}");
    }
}

#[test]
fn acknowledged_entries_are_deleted_in_one_command_where_the_server_has_it() {
    let server = RedisServer::start();
    let about: Vec<redis::Value> = server.ask(cmd("COMMAND").arg("INFO").arg("XACKDEL"));
    let has_xackdel = about.iter().any(|command| *command != redis::Value::Nil);
    for delivery in ["exactly_once", "at_least_once"] {
        let flags = [("redis_queue.retention", "delete"), ("redis_queue.delivery", delivery)];
        let engine = RunningEngine::start(&server, &flags);
        let stored = server.len(OUTPUT);
        server.add_frames("cam", 30);
        server.wait_for_outputs(stored + 30);
        wait_until("an empty input stream", LONG, || server.len(INPUT) == 0);
        engine.stop();
    }
    let calls: String = server.ask(cmd("INFO").arg("commandstats"));
    assert_eq!(calls.contains("cmdstat_xackdel:"), has_xackdel, "{calls}");
    assert_eq!(calls.contains("cmdstat_xdel:"), !has_xackdel, "{calls}");
}

#[test]
fn what_every_group_has_acknowledged_is_trimmed() {
    let server = RedisServer::with(&SMALL_NODES);
    server.create_group("archive");
    let looks = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&looks);
    let loop_hook = LoopHook::new(move |role| {
        count.fetch_add(u64::from(role == Role::Watch), Ordering::SeqCst);
    });
    let hooks = Hooks { loop_hook, ..Hooks::default() };
    let flags = [("redis_queue.retention", "trim_acked")];
    let engine = RunningEngine::with_hooks(&server, &flags, hooks);
    // The watch pass in progress may have begun before the change, so wait for two.
    let has_looked_again = || {
        let before = looks.load(Ordering::SeqCst);
        wait_until("another look", LONG, || looks.load(Ordering::SeqCst) >= before + 2);
    };
    server.add_frames("cam", 100);
    server.wait_for_outputs(100);
    server.wait_until_done();
    has_looked_again();
    assert_eq!(server.len(INPUT), 100, "the other group has read nothing yet");

    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg("archive").arg("somebody").arg("COUNT").arg(60);
    let _: redis::Value = server.ask(read.arg("STREAMS").arg(INPUT).arg(">"));
    let ids: Vec<String> = server.range(INPUT).into_iter().map(|(id, _)| id).collect();
    let _: i64 = server.ask(cmd("XACK").arg(INPUT).arg("archive").arg(&ids[..30]));
    wait_until("the first thirty are gone", LONG, || server.len(INPUT) <= 70);
    has_looked_again();
    let left = server.range(INPUT);
    assert_eq!(left.len(), 70, "thirty to sixty are pending in the other group");
    assert_eq!(left[0].0, ids[30]);
    engine.stop();
}

#[test]
fn a_full_output_stream_blocks_if_so_configured() {
    let server = RedisServer::start();
    let flags = [("redis_queue.output_full", "block"), ("redis_queue.max_queue_length", "10")];
    let engine = RunningEngine::start(&server, &flags);
    server.add_frames("cam", 200);
    wait_until("the engine waits", LONG, || engine.count(Counter::OutputFullWaits) > 2);
    let mut seen: Vec<_> = server.outputs().into_iter().map(|output| output.source_id()).collect();
    // The stream may exceed the limit by one batch; a batch has at most the frames in work.
    assert!((10..=40).contains(&seen.len()), "{} results", seen.len());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(server.len(OUTPUT), seen.len(), "nothing more while it is full");
    assert!(server.pending() <= 40, "the backlog stays in Redis: {}", server.pending());

    // A slow consumer makes room.
    wait_until("all results", LONG, || {
        for output in server.outputs() {
            if !seen.contains(&output.source_id()) {
                seen.push(output.source_id());
            }
            let _: i64 = server.ask(cmd("XDEL").arg(OUTPUT).arg(&output.id));
        }
        seen.len() == 200
    });
    let entries: Vec<_> = server.range(INPUT).into_iter().map(|(id, _)| id).collect();
    assert_eq!(seen, entries, "all of them, in order");
    assert_eq!(engine.stop().out, 200);
}

#[test]
fn a_full_output_stream_loses_its_oldest_otherwise() {
    let server = RedisServer::with(&SMALL_NODES);
    let engine = RunningEngine::start(&server, &[("redis_queue.max_queue_length", "50")]);
    let ids = server.add_frames("cam", 300);
    wait_until("all results", LONG, || engine.account().out == 300);
    engine.stop();
    let left = server.outputs();
    assert!((50..=70).contains(&left.len()), "{} results", left.len());
    assert_eq!(left.last().unwrap().source_id(), ids[299]);
}

#[test]
fn at_least_once_stores_and_acknowledges_all() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[("redis_queue.delivery", "at_least_once")]);
    server.add_frames("a", 40);
    server.add_frames("b", 40);
    server.wait_for_outputs(80);
    server.wait_until_done();
    server.assert_every_entry_once(); // without disturbance each entry has one result
    assert_eq!(engine.stop().out, 80);
}

#[test]
fn frames_that_are_too_old_are_shed_and_counted() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    for index in 1..=20 {
        let (_, frame) = crate::support::protobuf(&format!("old-{index}"), "cam").remove(0);
        let id = format!("{index}-1"); // 1970
        let _: String = server.ask(cmd("XADD").arg(INPUT).arg(id).arg("data").arg(frame));
    }
    let fresh = server.add_frames("cam", 5);
    let engine = RunningEngine::start(&server, &[("redis_queue.max_frame_age_ms", "30000")]);
    server.wait_for_outputs(5);
    server.wait_until_done();
    let results: Vec<_> = server.outputs().into_iter().map(|output| output.source_id()).collect();
    assert_eq!(results, fresh);
    assert_eq!(engine.count(Counter::ShedAtRead), 20);
    let cameras = engine.cameras();
    let account = engine.stop();
    assert_eq!((account.shed, account.out, account.dead_lettered), (20, 5, 0));
    assert_eq!(server.pending(), 0);
    let camera = cameras.status("cam").unwrap();
    assert_eq!((camera.frames_shed_at_read, camera.frames_dropped), (20, 20));
    assert_eq!(camera.frames_processed, 5);
}

#[test]
fn frames_that_grow_old_in_work_are_shed_before_they_are_encoded() {
    let server = RedisServer::start();
    let flags = [("redis_queue.max_frame_age_ms", "2000")];
    let engine = RunningEngine::probed(&server, &flags, |_| {
        std::thread::sleep(Duration::from_secs(5));
    });
    // If the machine stalls for two seconds, a frame is already too old when it is read.
    let mut added = 0;
    wait_until("a frame is shed just before it is encoded", LONG, || {
        if engine.account().shed == added && engine.count(Counter::ShedAtEncode) == 0 {
            server.add_frames("cam", 1);
            added += 1;
        }
        engine.count(Counter::ShedAtEncode) > 0
    });
    server.wait_until_done();
    let camera = engine.cameras().status("cam").unwrap();
    assert!(camera.frames_shed_at_encode > 0);
    assert_eq!(camera.frames_shed_at_encode + camera.frames_shed_at_read, added);
    assert_eq!((server.len(OUTPUT), engine.stop().shed), (0, added));
}
