//! Nothing hangs: a panic in any thread, a full output, a dead or silent server. The engine ends
//! within a bound and with the true cause, or it recovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use framepress::internals::base::threads::{self, LoopHook, Role};
use framepress::internals::base::{Fault, limits};
use framepress::internals::engine::Hooks;
use framepress::internals::image::Format;
use framepress::internals::metrics::clock::Tick;
use redis::cmd;
use rustix::process::Signal;

use crate::support::{
    LONG, OUTPUT, ProgramUnderTest, RunningEngine, Server, frame, picture, wait_until,
};

/// Allowed time for an end beyond the drain time. These engines cannot drain: if they end at all,
/// they do not wait for something that never comes. The length allows for slow machines.
const GRACE: Duration = Duration::from_secs(60);

/// Allowed time for an end that the test did not request.
const LIMIT: Duration = LONG;

/// The drain time of the engines below.
const DRAIN: (&str, &str) = ("engine.drain_timeout_ms", "1000");
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Commits nothing once there is a result.
const FULL: [(&str, &str); 2] =
    [("redis_queue.output_full", "block"), ("redis_queue.max_queue_length", "1")];

/// A frame takes at least five milliseconds, so that some are always in work.
fn slow_frames() -> Hooks {
    let probe = |_: &str| std::thread::sleep(Duration::from_millis(5));
    Hooks { probe: Some(Arc::new(probe)), ..Hooks::default() }
}

/// The thread with the role `culprit` panics in loop iteration number `iteration`.
fn panics(culprit: Role, iteration: u64) -> Hooks {
    let iterations = AtomicU64::new(0);
    let body = move |role: Role| {
        if role == culprit && iterations.fetch_add(1, Ordering::SeqCst) + 1 == iteration {
            panic!("the wheel came off");
        }
    };
    Hooks { loop_hook: LoopHook::new(body), ..slow_frames() }
}

fn finish(server: &Server) {
    let engine = RunningEngine::start(&server.url(), &[], Hooks::default());
    server.wait_until_done(LONG);
    engine.stop();
    server.assert_every_frame_once();
}

#[test]
fn a_panic_in_any_thread_ends_the_engine_with_the_true_cause() {
    let threads = [
        (Role::Read, "fp-read-0"),
        (Role::Dispatch, "fp-dispatch-0"),
        (Role::Work, "fp-work-"), // of the engine itself, outside the panic guard around a frame
        (Role::Commit, "fp-commit-0"),
        (Role::Watch, "fp-watch-0"),
    ];
    for (role, name) in threads {
        for iteration in [1, 3] {
            let mut server = Server::start();
            server.add(60);
            let flags = [("redis_queue.batch_size", "4")];
            let engine = RunningEngine::start(&server.url(), &flags, panics(role, iteration));
            let (result, took) = engine.wait(LIMIT);
            match result {
                Err(Fault::ThreadPanicked { thread, message }) => {
                    assert!(thread.starts_with(name), "{thread}, not {name}");
                    assert_eq!(message, "the wheel came off");
                }
                other => {
                    panic!("a panic of {name} at iteration {iteration} is the cause, not {other:?}")
                }
            }
            eprintln!("{name}, iteration {iteration}: ended after {took:?}");
            server.assert_nothing_acknowledged_without_result();
            finish(&server);
        }
    }
}

#[test]
fn a_panic_in_the_builder_leaves_no_thread_behind() {
    // Before the engine creates anything, before any thread runs, and between two thread starts.
    for step in 1..=5 {
        let mut server = Server::start();
        server.add(30);
        let panicked = std::panic::catch_unwind(|| {
            RunningEngine::start(&server.url(), &[], panics(Role::Build, step))
        });
        let message = panicked.err().map(|payload| threads::panic_message(&*payload));
        assert_eq!(message.as_deref(), Some("the wheel came off"), "step {step}");
        // The caller sees the panic only after the last thread has ended.
        wait_until("no connection is left", LONG, || {
            let clients: String = server.ask(cmd("CLIENT").arg("LIST"));
            !clients.contains("name=framepress")
        });
        if step > 1 {
            server.assert_nothing_acknowledged_without_result(); // before that there is no group
        }
        finish(&server);
    }
}

#[test]
fn a_panic_in_a_job_costs_one_frame_and_nothing_else() {
    let mut server = Server::start();
    server.add(30);
    let probe = |frame: &str| assert!(frame != "frame-7", "this frame is cursed");
    let hooks = Hooks { probe: Some(Arc::new(probe)), ..Hooks::default() };
    let engine = RunningEngine::start(&server.url(), &[], hooks);
    wait_until("all frames are ended", LONG, || {
        let account = engine.account();
        account.out + account.dead_lettered == 30
    });
    let account = engine.stop();
    assert_eq!((account.out, account.dead_lettered), (29, 1), "{account:?}");
    assert!(server.outputs().iter().all(|output| output.frame_id != "frame-7"));
}

#[test]
fn a_frame_as_large_as_all_buffers_together_is_read() {
    let mut server = Server::start();
    let large = picture(Format::Raw, 640, 480);
    server.add_pictures(3, &large);
    let bytes = frame("frame-0", "camera-0", &large).len().to_string();
    let flags =
        [("engine.max_inflight_bytes", &*bytes), ("limits.max_payload_bytes", &*bytes), DRAIN];
    let engine = RunningEngine::start(&server.url(), &flags, Hooks::default());
    server.wait_until_done(LIMIT);
    engine.stop();
    server.assert_every_frame_once();
}

#[test]
fn an_engine_before_a_full_output_stops_in_time() {
    let mut server = Server::start();
    server.add(100);
    let mut flags = vec![DRAIN];
    flags.extend(FULL);
    let engine = RunningEngine::start(&server.url(), &flags, slow_frames());
    // Lane, slots, dispatcher and reader each hold frames and wait. See `back_pressure`.
    let full = limits::READ_LANE_FRAMES + engine.view.plan.slots + 2;
    wait_until("the engine is full", LONG, || engine.account().in_flight >= full as u64);
    engine.signal().drain();
    let (result, took) = engine.wait(LIMIT);
    assert!(result.is_ok(), "as asked for: {result:?}");
    assert!(took < DRAIN_TIME + GRACE, "{took:?}");
    server.assert_nothing_acknowledged_without_result();
    finish(&server);
}

#[test]
fn an_engine_that_waits_for_buffers_stops_in_time() {
    let mut server = Server::start();
    server.add_pictures(30, &picture(Format::Raw, 640, 480));
    let mut flags = vec![
        DRAIN,
        ("engine.max_inflight_bytes", "2000000"),
        ("limits.max_payload_bytes", "1000000"),
    ];
    flags.extend(FULL);
    let engine = RunningEngine::start(&server.url(), &flags, Hooks::default());
    let mut before = 0;
    wait_until("reading has stopped", LONG, || {
        std::thread::sleep(Duration::from_millis(500));
        let read = engine.account().read;
        std::mem::replace(&mut before, read) == read && read > 0
    });
    engine.signal().drain();
    let (result, took) = engine.wait(LIMIT);
    assert!(result.is_ok(), "as asked for: {result:?}");
    assert!(took < DRAIN_TIME + GRACE, "{took:?}");
    server.assert_nothing_acknowledged_without_result();
    finish(&server);
}

#[test]
fn the_program_before_a_full_output_stops_in_time() {
    let mut server = Server::start();
    server.add(100);
    let mut flags = vec![DRAIN];
    flags.extend(FULL);
    let mut program = ProgramUnderTest::run(&server.url(), &flags);
    wait_until("the output is full", LONG, || server.output_length() > 0 && server.pending() > 10);
    std::thread::sleep(Duration::from_millis(700)); // until all threads wait for each other
    program.signal(Signal::TERM);
    let took = program.ends_well(LIMIT);
    assert!(took < DRAIN_TIME + GRACE, "{took:?}");
    server.assert_nothing_acknowledged_without_result();
    finish(&server);
}

#[test]
fn an_engine_whose_server_is_gone_or_silent_stops_in_time() {
    for silent in [false, true] {
        let mut server = Server::durable();
        server.add(300);
        let engine = RunningEngine::start(&server.url(), &[DRAIN], slow_frames());
        wait_until("frames are in work", LONG, || engine.account().out > 10);
        if silent {
            server.signal(Signal::STOP);
        } else {
            server.kill();
        }
        engine.signal().drain();
        let (result, took) = engine.wait(LIMIT);
        eprintln!("silent: {silent}: ended after {took:?}");
        assert!(result.is_ok(), "as asked for: {result:?}");
        assert!(took < DRAIN_TIME + GRACE, "silent: {silent}: {took:?}");
        if silent {
            server.signal(Signal::CONT);
        } else {
            server.restart();
        }
        server.assert_nothing_acknowledged_without_result();
        finish(&server);
    }
}

#[test]
fn without_retry_a_server_that_is_gone_ends_the_engine_at_once() {
    let mut server = Server::durable();
    server.add(300);
    // A killed server closes its connections, which the engine notices at once.
    let flags = [DRAIN, ("redis_queue.retry_on_failure", "false"), ("redis_queue.timeout", "30")];
    let engine = RunningEngine::start(&server.url(), &flags, slow_frames());
    wait_until("frames are in work", LONG, || engine.account().out > 10);
    server.kill();
    let (result, took) = engine.wait(LIMIT);
    assert!(matches!(result, Err(Fault::Connection { .. })), "{result:?}");
    assert!(took < DRAIN_TIME + GRACE, "{took:?}");
    server.restart();
    finish(&server);
}

#[test]
fn an_engine_goes_on_when_its_server_comes_back() {
    let mut server = Server::durable();
    let engine = RunningEngine::start(&server.url(), &[], slow_frames());
    for silent in [false, true, false] {
        let before = engine.account().out;
        server.add(150);
        wait_until("frames are in work", LONG, || engine.account().out > before + 10);
        if silent {
            // Longer than the timeout and the watch on a blocked read.
            server.signal(Signal::STOP);
            std::thread::sleep(Duration::from_millis(2500));
            server.signal(Signal::CONT);
        } else {
            server.kill();
            std::thread::sleep(Duration::from_millis(700));
            server.restart();
        }
        let began = Tick::now();
        wait_until("working again", LONG, || engine.is_ready());
        eprintln!("silent: {silent}: ready after {:?}", began.elapsed());
        server.wait_until_done(LONG);
        server.assert_every_frame_once();
    }
    // Two kinds of frames are read twice: those being read when the connection was lost (given up),
    // and those whose commit was confirmed while the pending entries list with them was in flight
    // (fenced off).
    let account = engine.stop();
    let twice = account.abandoned + account.superseded;
    assert_eq!(account.read - twice, 450, "{account:?}");
    assert_eq!(account.out, 450, "{account:?}");
    let results: usize = server.ask(cmd("XLEN").arg(OUTPUT));
    assert_eq!(results, 450);
}
