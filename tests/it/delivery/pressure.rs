//! Redis out of memory: back-pressure, never a drop.

use framepress::engine::Hooks;
use framepress::image::Format;
use framepress::metrics::Counter;
use redis::cmd;

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
    let engine = RunningEngine::start(&server, &[("redis_queue.delivery", "exactly_once")]);
    for round in 0..4 {
        server.configure("maxmemory", "0");
        server.add_frames(&format!("cam{round}"), 100);
        let used: String = server.ask(cmd("INFO").arg("memory"));
        assert!(used.contains("used_memory"), "{used}");
        server.configure("maxmemory", "1000");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    server.configure("maxmemory", "0");
    server.wait_for_outputs(400);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.stop().out, 400);
}

#[test]
fn memory_for_frames_is_bounded() {
    let server = RedisServer::start();
    let image = Sample::colour(640, 480, 1).image(Format::Raw);
    let entries: Vec<_> =
        (0..40).map(|index| protobuf_of(&format!("{index}"), "cam", image.clone())).collect();
    server.add_all(&entries);
    let payload = (entries[0][0].1.len() + 100).to_string();
    // Room for hardly two frames: slow, and none lost.
    let bytes = (entries[0][0].1.len() * 2 + 200).to_string();
    let flags = [("engine.max_inflight_bytes", &*bytes), ("limits.max_payload_bytes", &*payload)];
    let engine = RunningEngine::start(&server, &flags);
    server.wait_for_outputs(40);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(engine.stop().out, 40);
}
