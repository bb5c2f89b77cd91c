//! Other consumers of the group: dead ones, fast ones, and this engine's own earlier process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::internals::engine::Hooks;
use framepress::internals::metrics::Counter;
use framepress::internals::redis::{FaultPoint, Operation};
use redis::cmd;

use crate::support::{
    FramepressProcess, GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, wait_until,
};

/// The shortest claim time that the configuration allows.
const CLAIM: (&str, &str) = ("redis_queue.claim_idle_ms", "1000");

#[test]
fn a_restart_finds_what_the_engine_was_given_before() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    server.add_frames("cam", 12);
    // The name of the first reader of the consumer "engine".
    server.read_as("engine-0", 5);
    assert_eq!(server.pending(), 5);
    let engine = RunningEngine::start(&server, &[("redis_queue.claim_idle_ms", "600000")]);
    // The claim time is ten minutes, so only the owner can have taken them sooner.
    server.wait_for_outputs(12);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.count(Counter::Recovered), 5);
    let frames: Vec<_> = server.outputs().into_iter().map(|out| out.frame.frame_id).collect();
    let wanted: Vec<_> = (0..12).map(|index| format!("cam-{index}")).collect();
    assert_eq!(frames, wanted, "its own pending entries come first, so the order holds");
    assert_eq!(engine.stop().out, 12);
}

#[test]
fn entries_of_a_dead_consumer_are_taken_over() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    server.add_frames("cam", 40);
    server.read_as("dead", 25);
    let engine = RunningEngine::start(&server, &[CLAIM]);
    server.wait_for_outputs(40);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.count(Counter::Claimed), 25);
    assert_eq!(engine.stop().out, 40);
}

#[test]
fn an_entry_delivered_too_often_becomes_a_dead_letter() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    let ids = server.add_frames("cam", 3);
    server.read_as("dead", 3);
    let mut claim = cmd("XCLAIM");
    claim.arg(INPUT).arg(GROUP).arg("dead").arg(0).arg(&ids[1]).arg("RETRYCOUNT").arg(7);
    let _: redis::Value = server.ask(&claim);
    let engine = RunningEngine::start(&server, &[CLAIM]);
    server.wait_for_outputs(2);
    server.wait_until_done();
    let letters = server.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].text("original_id"), ids[1]);
    assert_eq!(letters[0].text("reason"), "max_deliveries");
    assert_eq!(letters[0].text("deliveries"), "8", "seven before, and ours");
    assert_eq!(letters[0].text("stage"), "read");
    assert!(letters[0].fields.contains_key("data"), "with its body");
    let account = engine.stop();
    assert_eq!((account.out, account.dead_lettered), (2, 1));
}

#[test]
fn the_same_cap_holds_for_entries_of_the_engines_own() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    let ids = server.add_frames("cam", 2);
    server.read_as("engine-0", 2);
    let mut claim = cmd("XCLAIM");
    claim.arg(INPUT).arg(GROUP).arg("engine-0").arg(0).arg(&ids[0]).arg("RETRYCOUNT").arg(3);
    let _: redis::Value = server.ask(&claim);
    let engine = RunningEngine::start(&server, &[("redis_queue.retry_attempts", "3")]);
    server.wait_for_outputs(1);
    server.wait_until_done();
    let letters = server.dead_letters();
    assert_eq!((letters.len(), letters[0].text("reason")), (1, "max_deliveries".to_owned()));
    assert_eq!(letters[0].text("deliveries"), "4");
    engine.stop();
}

#[test]
fn a_pending_entry_without_body_is_counted_and_not_stuck() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    let ids = server.add_frames("cam", 9);
    server.read_as("engine-0", 3);
    server.read_as("dead", 3);
    for id in [&ids[0], &ids[4]] {
        let _: () = server.ask(cmd("XDEL").arg(INPUT).arg(id));
    }
    let engine = RunningEngine::start(&server, &[CLAIM]);
    server.wait_for_outputs(7);
    server.wait_until_done();
    wait_until("two bodies missed", LONG, || engine.account().lost_to_trim == 2);
    server.assert_every_entry_once();
    let account = engine.stop();
    assert_eq!((account.out, account.lost_to_trim, account.dead_lettered), (7, 2, 0));
    assert_eq!(server.pending(), 0);
}

#[test]
fn what_another_consumer_has_acknowledged_is_not_stored_again() {
    let server = RedisServer::start();
    let (reached, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (there, gate) = (Arc::clone(&reached), Arc::clone(&go_on));
    let engine = RunningEngine::probed(&server, &[], move |frame_id| {
        if frame_id == "cam-2" {
            there.store(true, Ordering::SeqCst);
            while !gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    let ids = server.add_frames("cam", 6);
    wait_until("the frame is in work", LONG, || reached.load(Ordering::SeqCst));
    let acknowledged: i64 = server.ask(cmd("XACK").arg(INPUT).arg(GROUP).arg(&ids[2]));
    assert_eq!(acknowledged, 1);
    go_on.store(true, Ordering::SeqCst);
    server.wait_for_outputs(5);
    server.wait_until_done();
    let account = engine.stop();
    assert_eq!((account.out, account.superseded), (5, 1), "{account:?}");
    assert!(server.outputs().iter().all(|output| output.source_id() != ids[2]));
}

/// The other engine stores and acknowledges while a commit of this engine is cut off before it is
/// sent.
#[test]
fn what_another_engine_has_stored_is_not_counted_after_a_lost_connection() {
    let server = RedisServer::start();
    let [armed, reached, go_on] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
    let (is_armed, there, gate) = (Arc::clone(&armed), Arc::clone(&reached), Arc::clone(&go_on));
    let fault_point = FaultPoint::new(move |operation| {
        let thread = std::thread::current();
        let commits = thread.name().is_some_and(|name| name.starts_with("fp-commit"));
        if !commits || operation != Operation::Write || !is_armed.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        there.store(true, Ordering::SeqCst);
        while !gate.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(std::io::Error::other("cut"))
    });
    let engine = RunningEngine::with_hooks(&server, &[], Hooks { fault_point, ..Hooks::default() });
    server.add_frames("before", 1);
    server.wait_for_outputs(1);
    server.wait_until_done();
    armed.store(true, Ordering::SeqCst);
    let ids = server.add_frames("cam", 1);
    wait_until("the commit is held", LONG, || reached.load(Ordering::SeqCst));
    let mut store = cmd("XADD");
    store.arg(OUTPUT).arg("*").arg("data").arg("theirs").arg("source_id").arg(&ids[0]);
    let _: String = server.ask(&store);
    let _: i64 = server.ask(cmd("XACK").arg(INPUT).arg(GROUP).arg(&ids[0]));
    go_on.store(true, Ordering::SeqCst);
    wait_until("the frame has ended", LONG, || engine.account().in_flight == 0);
    let account = engine.stop();
    assert_eq!((account.out, account.superseded), (1, 1), "{account:?}");
    assert_eq!(server.len(OUTPUT), 2, "one of each engine");
}

#[test]
fn two_engines_in_one_group_store_each_frame_once() {
    let server = RedisServer::start();
    let slowly = |frame_id: &str| {
        // Some frames take longer than the claim time: they are renewed, or fenced.
        let long = frame_id.ends_with('7');
        std::thread::sleep(Duration::from_millis(if long { 1200 } else { 2 }));
    };
    let one = [CLAIM, ("redis_queue.consumer_name", "one"), ("redis_queue.retry_attempts", "50")];
    let two = [CLAIM, ("redis_queue.consumer_name", "two"), ("redis_queue.retry_attempts", "50")];
    let one = RunningEngine::probed(&server, &one, slowly);
    let two = RunningEngine::probed(&server, &two, slowly);
    for camera in ["a", "b", "c"] {
        server.add_frames(camera, 50);
    }
    server.wait_for_outputs(150);
    server.wait_until_done();
    server.assert_every_entry_once();
    let (one, two) = (one.stop(), two.stop());
    assert_eq!(one.out + two.out, 150, "{one:?} {two:?}");
    assert!(one.out > 0 && two.out > 0, "both had a share");
    assert_eq!(server.pending(), 0);
}

#[test]
fn an_engine_killed_again_and_again_stores_each_frame_once() {
    let server = RedisServer::start();
    // Each kill counts as a delivery of the frames in work, which is not the frames' fault.
    let environment = [("REDIS_QUEUE__RETRY_ATTEMPTS", "100")];
    const ROUNDS: usize = 5;
    const FRAMES: usize = 150;
    let mut stored = 0;
    for round in 0..ROUNDS {
        server.add_frames(&format!("cam{round}"), FRAMES);
        let mut engine = FramepressProcess::run(&server, &environment);
        // Kill the engine while it works: some of the frames are stored, most are not.
        let goal = stored + FRAMES / 3;
        wait_until("some results of this round", LONG, || server.outputs().len() >= goal);
        engine.kill();
        stored = server.outputs().len();
        let acknowledged = (round + 1) * FRAMES - unfinished(&server);
        assert_eq!(acknowledged, stored, "acknowledged in the same step as stored");
    }
    let mut engine = FramepressProcess::run(&server, &environment);
    server.wait_for_outputs(ROUNDS * FRAMES);
    server.wait_until_done();
    engine.signal(rustix::process::Signal::TERM);
    engine.ends_with(0);
    server.assert_every_entry_once();
    assert!(server.dead_letters().is_empty());
}

/// Number of entries that are pending or not delivered yet.
fn unfinished(server: &RedisServer) -> usize {
    let groups: redis::streams::StreamInfoGroupsReply =
        server.ask(cmd("XINFO").arg("GROUPS").arg(INPUT));
    let group = groups.groups.into_iter().find(|group| group.name == GROUP).unwrap();
    let undelivered = || {
        let after = format!("({}", group.last_delivered_id);
        server.ask::<Vec<redis::Value>>(cmd("XRANGE").arg(INPUT).arg(after).arg("+")).len()
    };
    group.pending + group.lag.unwrap_or_else(undelivered)
}
