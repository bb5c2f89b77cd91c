//! Windows of requests instead of one request per round trip: throughput does not depend on the
//! round trip, and order does not depend on faults in the middle of a window.

use std::time::Duration;

use framepress::internals::metrics::clock::Tick;
use framepress::internals::metrics::{Counter, WindowStage};
use redis::cmd;

use super::Far;
use crate::support::{
    GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, parts, protobuf, wait_until,
};

const CAMERAS: [&str; 3] = ["one", "two", "three"];

/// Adds frames of all cameras alternately; returns how many.
fn add_frames(server: &RedisServer, of_each: usize) -> usize {
    for _ in 0..of_each {
        CAMERAS.iter().for_each(|camera| drop(server.add_frames(camera, 1)));
    }
    of_each * CAMERAS.len()
}

fn in_transit(engine: &RunningEngine, stage: WindowStage) -> u64 {
    engine.view().metrics.windows.read(stage).0
}

/// A server at this round trip, and an engine with many frames requested; returns also how many
/// frames were added.
fn with_open_window(round_trip_ms: u64, flags: &[(&str, &str)]) -> (Far, RunningEngine, usize) {
    let far = Far::new(round_trip_ms);
    let engine = far.engine(flags);
    // Only after the first frame: its size decides how many frames may be requested.
    let added = add_frames(&far.server, 2);
    wait_until("the window opens", LONG, || in_transit(&engine, WindowStage::Read) >= 20);
    (far, engine, added)
}

#[test]
fn requests_for_many_frames_are_in_transit_at_a_time() {
    let far = Far::new(200);
    let engine = far.engine(&[]);
    let added = add_frames(&far.server, 40);
    // Only after the first frame: its size decides how many frames may be requested.
    wait_until("the window opens", LONG, || in_transit(&engine, WindowStage::Read) >= 20);
    far.server.wait_for_outputs(added);
    assert_eq!(engine.stop().out, added as u64);
    far.assert_every_entry_once_in_order();
}

#[test]
fn a_server_beside_the_engine_is_asked_as_ever() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    server.add_frames("camera", 20);
    server.wait_for_outputs(20);
    wait_until("the reader waits for entries", LONG, || in_transit(&engine, WindowStage::Read) > 0);
    let (requests, limit) = engine.view().metrics.windows.read(WindowStage::Read);
    assert!(requests <= 4 && limit <= 4, "{requests} of {limit}");
}

#[test]
fn commits_follow_each_other_without_waiting_for_answers() {
    let far = Far::new(600);
    let engine = far.engine(&[("engine.workers", "1")]);
    let added = add_frames(&far.server, 60);
    // More than the slots of one worker, and more than one batch can hold.
    wait_until("commits are under way", LONG, || in_transit(&engine, WindowStage::Commit) > 32);
    far.server.wait_for_outputs(added);
    assert_eq!(engine.stop().out, added as u64);
    far.assert_every_entry_once_in_order();
}

#[test]
fn a_stop_ends_all_requests_that_wait_at_the_server() {
    let (far, engine, mut added) = with_open_window(300, &[("redis_queue.block_time_ms", "1000")]);
    added += add_frames(&far.server, 20);
    let account = engine.stop();
    // Frames that were read are finished, and results in flight are not forgotten.
    assert_eq!(far.server.pending(), 0, "{account:?}");
    assert_eq!(far.server.len(OUTPUT) as u64, account.out);
    assert!(account.out <= added as u64);
}

/// A server fault while the windows are full; frames wait until `end` undoes it.
struct Trouble {
    begin: fn(&Far),
    end: fn(&Far),
}

/// Causes the fault twice while all windows are full. Everything comes out once and in order.
#[track_caller]
fn in_the_middle(flags: &[(&str, &str)], trouble: Trouble) -> RunningEngine {
    let far = Far::new(100);
    let engine = far.engine(flags);
    let mut added = 0;
    for _ in 0..2 {
        added += add_frames(&far.server, 50);
        wait_until("the window is full", LONG, || in_transit(&engine, WindowStage::Commit) > 8);
        (trouble.begin)(&far);
        std::thread::sleep(Duration::from_millis(300));
        (trouble.end)(&far);
        added += add_frames(&far.server, 10);
    }
    far.server.wait_for_outputs(added);
    far.assert_every_entry_once_in_order();
    wait_until("all answers are here", LONG, || engine.account().in_flight == 0);
    let account = engine.account();
    assert_eq!((account.lost, account.dead_lettered), (0, 0), "{account:?}");
    assert_eq!(account.out + account.superseded, added as u64, "{account:?}");
    engine
}

#[test]
fn connections_cut_with_full_windows_cost_nothing() {
    let cut = Trouble { begin: |far| far.proxy.cut(), end: |far| far.proxy.cut() };
    let engine = in_the_middle(&[], cut);
    assert!(engine.count(Counter::Reconnects) >= 2);
}

#[test]
fn a_server_without_memory_reorders_nothing() {
    let out_of_memory = Trouble {
        begin: |far| far.server.configure("maxmemory", "1"),
        end: |far| far.server.configure("maxmemory", "0"),
    };
    let engine = in_the_middle(&[], out_of_memory);
    assert!(engine.count(Counter::OutOfMemoryWaits) >= 1);
}

#[test]
fn a_group_lost_with_full_windows_costs_nothing() {
    let destroy = Trouble {
        begin: |far| {
            let mut command = cmd("XGROUP");
            let _: i64 = far.server.ask(command.arg("DESTROY").arg(INPUT).arg(GROUP));
        },
        end: |_| {},
    };
    let engine = in_the_middle(&[], destroy);
    assert!(engine.count(Counter::GroupRecreated) >= 1);
}

#[test]
fn a_script_forgotten_with_full_windows_costs_nothing() {
    let flush = Trouble {
        begin: |far| {
            let _: () = far.server.ask(cmd("SCRIPT").arg("FLUSH"));
        },
        end: |_| {},
    };
    in_the_middle(&[("redis_queue.delivery", "at_least_once")], flush);
}

#[test]
fn an_output_that_is_full_holds_frames_back_in_order() {
    let far = Far::new(100);
    let flags = [("redis_queue.output_full", "block"), ("redis_queue.max_queue_length", "20")];
    let engine = far.engine(&flags);
    let added = add_frames(&far.server, 20);
    wait_until("the output is full", LONG, || engine.count(Counter::OutputFullWaits) > 0);
    // The server itself enforces the limit, however many commits are in flight.
    assert_eq!(far.server.len(OUTPUT), 20);
    let mut seen = Vec::new();
    wait_until("all results taken away", LONG, || {
        for output in far.server.outputs() {
            let took: i64 = far.server.ask(cmd("XDEL").arg(OUTPUT).arg(&output.id));
            assert_eq!(took, 1);
            seen.push((output.text("camera_id"), output.source_id()));
        }
        seen.len() == added
    });
    for camera in CAMERAS {
        let of_camera = seen.iter().filter(|(name, _)| name == camera);
        let ids: Vec<_> = of_camera.map(|(_, id)| parts(id)).collect();
        assert!(ids.is_sorted_by(|a, b| a < b), "{camera}: {ids:?}");
    }
    assert_eq!(engine.stop().out, added as u64);
}

#[test]
fn the_window_opens_again_after_a_cut() {
    let (far, engine, mut added) = with_open_window(200, &[]);
    // The second time no frame has been read since, so the frame size is unknown.
    for _ in 0..2 {
        wait_until("entries are asked for", LONG, || in_transit(&engine, WindowStage::Read) > 0);
        far.proxy.cut();
        // The engine has noticed the cut and counts none of the requests.
        wait_until("it closes", LONG, || in_transit(&engine, WindowStage::Read) == 0);
    }
    added += add_frames(&far.server, 2);
    wait_until("it opens again", LONG, || in_transit(&engine, WindowStage::Read) >= 20);
    far.server.wait_for_outputs(added);
    far.assert_every_entry_once_in_order();
    engine.stop();
}

#[test]
fn frames_of_a_dead_engine_are_taken_over_from_far_away() {
    let far = Far::new(300);
    far.server.create_group(GROUP);
    far.server.add_frames("camera", 10);
    far.server.read_as("dead", 10);
    let engine = far.engine(&[("redis_queue.claim_idle_ms", "3000")]);
    far.server.wait_for_outputs(10);
    far.assert_every_entry_once_in_order();
    assert_eq!(engine.count(Counter::Claimed), 10);
    assert_eq!(engine.stop().out, 10);
}

#[test]
fn the_distance_is_measured_and_shown() {
    let far = Far::new(100);
    let engine = far.engine(&[]);
    let trip = || engine.view().metrics.round_trips.longest().unwrap_or_default();
    wait_until("it has been measured", LONG, || trip() >= Duration::from_millis(100));
    // The engine adopts a longer round trip after a while, a shorter one at once.
    far.proxy.change(|link| link.delay = Duration::ZERO);
    wait_until("the shorter way", LONG, || trip() < Duration::from_millis(100));
}

#[test]
fn a_start_takes_few_round_trips() {
    let trip = Duration::from_secs(1);
    for shards in ["1", "6"] {
        let far = Far::new(1000);
        let stream = if shards == "1" { INPUT.to_owned() } else { format!("{INPUT}:{{5}}") };
        let mut add = cmd("XADD");
        add.arg(stream).arg("*");
        for (name, value) in protobuf("frame", "camera") {
            add.arg(name).arg(value);
        }
        let _: String = far.server.ask(&add);
        let began = Tick::now();
        let engine = far.engine(&[("redis_queue.shards", shards)]);
        wait_until("the first result", LONG, || engine.account().out == 1);
        let trips = began.elapsed().as_secs_f64() / trip.as_secs_f64();
        assert!(trips < 10.5, "{shards} shards: {trips:.1} round trips to the first result");
        println!("{shards} shards: {trips:.1} round trips");
        engine.stop();
    }
}

#[test]
fn frames_swallowed_by_a_cut_are_not_doubled_by_a_lost_group() {
    let (far, engine, mut added) = with_open_window(200, &[]);
    // The requests reach the server; it delivers frames, and the replies are cut off.
    std::thread::sleep(Duration::from_millis(400));
    added += add_frames(&far.server, 10);
    far.proxy.cut();
    far.server.wait_for_outputs(added);
    wait_until("all answers are here", LONG, || engine.account().in_flight == 0);
    assert!(engine.count(Counter::Recovered) > 0, "some were under way");
    let _: i64 = far.server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
    added += add_frames(&far.server, 1);
    far.server.wait_for_outputs(added);
    far.assert_every_entry_once_in_order();
    assert!(engine.count(Counter::GroupRecreated) > 0);
    engine.stop();
}
