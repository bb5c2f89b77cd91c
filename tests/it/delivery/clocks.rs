//! Clocks that are set while frames are in flight.

use std::time::Duration;

use framepress::internals::metrics::Counter;

use crate::support::{Clock, FramepressProcess, LONG, RedisServer, RunningEngine, wait_until};

#[test]
fn fresh_frames_are_not_shed_when_the_engines_clock_is_set() {
    let Some(clock) = Clock::new() else { return };
    let server = RedisServer::start();
    let faked = clock.environment();
    let mut environment = vec![("REDIS_QUEUE__MAX_FRAME_AGE_MS", "2000")];
    environment.extend(faked.iter().map(|(name, value)| (*name, &**value)));
    let mut engine = FramepressProcess::run(&server, &environment);
    server.add_frames("before", 5);
    server.wait_for_outputs(5);
    let mut stored = 5;
    for offset in ["+3600", "-3600", "+0", "+3600"] {
        clock.set(offset);
        for _ in 0..4 {
            server.add_frames("cam", 5);
            stored += 5;
            server.wait_until_done();
            assert_eq!(server.outputs().len(), stored, "none is shed at {offset}");
        }
    }
    engine.signal(rustix::process::Signal::TERM);
    assert!(engine.ends_with(0).contains(" 0 shed"));
}

#[test]
fn ids_ahead_of_the_servers_clock_are_counted_and_said() {
    let Some(clock) = Clock::new() else { return };
    let server = RedisServer::with_environment(&clock.environment());
    let flags = [("redis_queue.max_frame_age_ms", "2000"), ("redis_queue.claim_idle_ms", "1000")];
    let engine = RunningEngine::start(&server, &flags);
    server.add_frames("before", 5);
    server.wait_for_outputs(5);
    assert_eq!(engine.count(Counter::IdsAheadOfClock), 0);
    clock.set("-3600");
    wait_until("they are counted", LONG, || {
        server.add_frames("cam", 1);
        std::thread::sleep(Duration::from_millis(20));
        engine.count(Counter::IdsAheadOfClock) > 0
    });
    let mut process = FramepressProcess::run(&server, &[]);
    server.add_frames("cam", 5);
    wait_until("it says so", LONG, || {
        server.add_frames("cam", 1);
        std::thread::sleep(Duration::from_millis(20));
        process.said().contains("ahead of the clock")
    });
    process.signal(rustix::process::Signal::TERM);
    process.ends_with(0);
    engine.stop();
}
