//! Redis disturbed under load: lost groups, lost connections, restarts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::internals::engine::Hooks;
use framepress::internals::metrics::Counter;
use framepress::internals::redis::Operation;
use redis::cmd;

use crate::support::{
    FramepressProcess, GROUP, HeldCommits, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, data,
    protobuf, wait_until,
};

/// Adds frames of three cameras and calls `disturb` between batches.
fn under_load(server: &RedisServer, rounds: usize, mut disturb: impl FnMut(usize)) {
    for round in 0..rounds {
        for camera in ["a", "b", "c"] {
            server.add_frames(camera, 40);
        }
        std::thread::sleep(Duration::from_millis(20));
        disturb(round);
    }
}

#[test]
fn a_group_destroyed_under_load_is_made_again_and_no_frame_is_lost() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    under_load(&server, 4, |_| {
        let _: i64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
        wait_until("the group is there again", LONG, || has_group(&server));
    });
    server.wait_for_outputs(480);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert!(engine.count(Counter::GroupRecreated) >= 1);
    engine.stop();
}

#[test]
fn a_frame_in_work_while_its_group_is_lost_is_stored_once_all_the_same() {
    let server = RedisServer::start();
    let go_on = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&go_on);
    let engine = RunningEngine::probed(&server, &[], move |frame_id| {
        while frame_id == "slow-0" && !gate.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    server.add_frames("before", 5);
    server.add_frames("slow", 1);
    server.add_frames("quick", 20);
    server.wait_for_outputs(25);
    let _: i64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
    wait_until("the group is there again", LONG, || has_group(&server));
    server.add_frames("after", 5);
    server.wait_for_outputs(30);
    go_on.store(true, Ordering::SeqCst);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.stop().out, 31);
}

#[test]
fn a_group_lost_while_a_commit_is_in_transit_doubles_nothing() {
    let server = RedisServer::start();
    let commits = HeldCommits::default();
    let fault_point = commits.fault_point(Operation::Read);
    let flags = [("redis_queue.claim_idle_ms", "1000"), ("redis_queue.retry_attempts", "100")];
    let engine = RunningEngine::launch(&server, &flags, Hooks { fault_point, ..Hooks::default() });
    wait_until("the engine is ready", LONG, || engine.is_ready());
    server.add_frames("before", 5);
    server.wait_for_outputs(5);
    server.wait_until_done();

    engine.wait_until_heard();
    commits.hold();
    server.add_frames("cam", 10); // fewer than stop the reader
    server.wait_for_outputs(6); // stored, but the engine has no reply
    let _: i64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!has_group(&server), "it is not restored while an answer is on its way");
    commits.release();
    server.wait_for_outputs(15);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.stop().out, 15);
}

#[test]
fn a_commit_that_was_stored_before_its_group_was_lost_and_never_answered_is_not_doubled() {
    for delivery in ["exactly_once", "at_least_once"] {
        let server = RedisServer::start();
        let commits = HeldCommits::default();
        let fault_point = commits.fault_point(Operation::Read);
        let flags = [("redis_queue.delivery", delivery)];
        let engine =
            RunningEngine::launch(&server, &flags, Hooks { fault_point, ..Hooks::default() });
        wait_until("the engine is ready", LONG, || engine.is_ready());
        server.add_frames("before", 5);
        server.add(&data("{no frame"));
        server.wait_for_outputs(5);
        server.wait_until_done();

        engine.wait_until_heard();
        commits.hold();
        server.add_frames("cam", 7); // with one more, fewer than stop the reader
        server.add(&data("{no frame"));
        // Some are stored, but the engine has no reply.
        wait_until("a result", LONG, || server.len(OUTPUT) > 5);
        std::thread::sleep(Duration::from_millis(200));
        let _: i64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
        commits.cut();
        commits.release();
        server.wait_for_outputs(12);
        server.wait_until_done();
        let account = engine.stop();
        assert_eq!((account.out, account.dead_lettered), (12, 2), "{delivery}: {account:?}");
        assert_eq!((server.len(OUTPUT), server.dead_letters().len()), (12, 2), "{delivery}");
    }
}

fn has_group(server: &RedisServer) -> bool {
    let groups: redis::streams::StreamInfoGroupsReply =
        server.ask(cmd("XINFO").arg("GROUPS").arg(INPUT));
    groups.groups.iter().any(|group| group.name == GROUP)
}

#[test]
fn a_flush_under_load_is_recovered_from() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    under_load(&server, 3, |_| {
        let _: () = server.ask(&cmd("FLUSHALL"));
    });
    wait_until("the group is there again", LONG, || {
        let keys: i64 = server.ask(cmd("EXISTS").arg(INPUT));
        keys == 1 && has_group(&server)
    });
    // Flushed frames are lost; later frames are not.
    let ids = server.add_frames("after", 30);
    server.wait_until_done();
    let results: Vec<_> = server.outputs().into_iter().map(|output| output.source_id()).collect();
    for id in &ids {
        assert_eq!(results.iter().filter(|result| *result == id).count(), 1, "{id}");
    }
    wait_until("the engine is ready", LONG, || engine.is_ready());
    engine.stop();
}

#[test]
fn a_forgotten_script_is_loaded_again() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    under_load(&server, 3, |_| {
        let _: () = server.ask(cmd("SCRIPT").arg("FLUSH"));
    });
    server.wait_for_outputs(360);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.stop().out, 360);
}

#[test]
fn connections_cut_under_load_cost_nothing() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    under_load(&server, 6, |_| {
        let before = engine.count(Counter::Reconnects);
        for _ in 0..3 {
            let mut kill = cmd("CLIENT");
            kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
            let _: i64 = server.ask(&kill);
            std::thread::sleep(Duration::from_millis(30));
        }
        wait_until("connected again", LONG, || engine.count(Counter::Reconnects) > before);
    });
    server.wait_for_outputs(720);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert!(server.dead_letters().is_empty(), "a lost connection is not the frames' fault");
    let account = engine.stop();
    // Two kinds of frames are read twice: those being read when the connection was cut (given up),
    // and those whose commit was in flight (the second result is fenced off).
    let twice = account.abandoned + account.superseded;
    assert_eq!(
        (account.out, account.read - twice, account.lost_to_trim),
        (720, 720, 0),
        "{account:?}"
    );
}

#[test]
fn a_restart_of_redis_under_load_costs_nothing() {
    let mut server = RedisServer::durable();
    let engine = RunningEngine::start(&server, &[("redis_queue.retry_attempts", "50")]);
    for round in 0..3 {
        for camera in ["a", "b", "c"] {
            server.add_frames(&format!("{camera}{round}"), 60);
        }
        let goal = round * 180 + 20;
        wait_until("some results", LONG, || server.len(OUTPUT) >= goal);
        server.kill();
        wait_until("the engine notices", LONG, || !engine.is_ready());
        server.restart();
    }
    server.wait_for_outputs(540);
    server.wait_until_done();
    server.assert_every_entry_once();
    wait_until("the engine is ready", LONG, || engine.is_ready());
    engine.stop();
}

#[test]
fn both_ends_killed_under_load_cost_nothing() {
    let mut server = RedisServer::durable();
    let environment = [("REDIS_QUEUE__RETRY_ATTEMPTS", "100")];
    let mut engine = FramepressProcess::run(&server, &environment);
    for round in 0..3 {
        server.add_frames(&format!("cam{round}"), 120);
        let goal = round * 120 + 20;
        wait_until("some results", LONG, || server.len(OUTPUT) >= goal);
        server.kill();
        if round == 1 {
            engine.kill();
        }
        server.restart();
        if round == 1 {
            engine = FramepressProcess::run(&server, &environment);
        }
    }
    server.wait_for_outputs(360);
    server.wait_until_done();
    server.assert_every_entry_once();
    drop(engine);
}

#[test]
fn an_engine_that_starts_before_redis_waits_for_it() {
    let mut server = RedisServer::durable();
    server.kill();
    let engine = FramepressProcess::run(&server, &[]);
    wait_until("it says so", LONG, || engine.said().contains("127.0.0.1"));
    server.restart();
    server.add(&protobuf("f", "cam"));
    server.wait_for_outputs(1);
    drop(engine);
}
