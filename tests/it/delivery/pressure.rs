//! Redis out of memory: backpressure, never a drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use framepress::internals::engine::Hooks;
use framepress::internals::image::Format;
use framepress::internals::metrics::Counter;

use crate::support::{
    GROUP, LONG, OUTPUT, RedisServer, RunningEngine, Sample, protobuf_of, wait_until,
};

#[test]
fn out_of_memory_is_waited_for() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    let image = Sample::colour(320, 240, 1).image(Format::Raw);
    let entries: Vec<_> =
        (0..60).map(|index| protobuf_of(&format!("{index}"), "cam", image.clone())).collect();
    server.add_all(&entries);
    server.configure("maxmemory", "1mb"); // far less than the frames take
    let engine = RunningEngine::launch(&server, &[], Hooks::default());
    wait_until("the engine waits", LONG, || engine.count(Counter::OutOfMemoryWaits) > 1);
    assert_eq!(server.len(OUTPUT), 0);
    let held = engine.account();
    assert!(held.in_flight > 0 && held.out == 0, "{held:?}");
    let pending = server.pending();
    assert!(pending as u64 >= held.in_flight, "nothing is acknowledged: {pending}, {held:?}");

    server.configure("maxmemory", "0");
    server.wait_for_outputs(60);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert!(server.dead_letters().is_empty());
    assert_eq!(engine.stop().out, 60);
}

#[test]
fn out_of_memory_that_comes_and_goes_under_load_costs_nothing() {
    let server = RedisServer::start();
    let closed = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&closed);
    let engine = RunningEngine::probed(&server, &[], move |_| {
        while gate.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    for round in 0..4 {
        let before = engine.count(Counter::OutOfMemoryWaits);
        closed.store(true, Ordering::SeqCst);
        server.add_frames(&format!("cam{round}"), 100);
        server.configure("maxmemory", "1000");
        closed.store(false, Ordering::SeqCst);
        wait_until("a commit meets it", LONG, || engine.count(Counter::OutOfMemoryWaits) > before);
        server.configure("maxmemory", "0");
    }
    server.wait_for_outputs(400);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.stop().out, 400);
}

#[test]
fn frames_that_hardly_fit_into_the_budget_all_come_through() {
    let server = RedisServer::start();
    let image = Sample::colour(640, 480, 1).image(Format::Raw);
    let entries: Vec<_> =
        (0..40).map(|index| protobuf_of(&format!("{index}"), "cam", image.clone())).collect();
    server.add_all(&entries);
    let payload = (entries[0][0].1.len() + 100).to_string();
    // Room for barely two frames: slow, but without loss.
    let bytes = (entries[0][0].1.len() * 2 + 200).to_string();
    let flags = [("engine.max_inflight_bytes", &*bytes), ("limits.max_payload_bytes", &*payload)];
    let engine = RunningEngine::start(&server, &flags);
    server.wait_for_outputs(40);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.stop().out, 40);
}
