//! Frames that wait: an attempt that did not fail is not counted, and no reader waits for its own
//! frames.

use std::time::Duration;

use redis::cmd;
use rustix::process::Signal;

use crate::support::{
    FramepressProcess, GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, data, wait_until,
};

/// The output stream is full with one entry, and a stop gives up soon.
const FULL: [(&str, &str); 3] = [
    ("REDIS_QUEUE__OUTPUT_FULL", "block"),
    ("REDIS_QUEUE__MAX_QUEUE_LENGTH", "1"),
    ("ENGINE__DRAIN_TIMEOUT_MS", "500"),
];

fn fill_output(server: &RedisServer) {
    let _: String = server.ask(cmd("XADD").arg(OUTPUT).arg("*").arg("not").arg("a result"));
}

fn make_room(server: &RedisServer) {
    let _: u64 = server.ask(cmd("DEL").arg(OUTPUT));
}

/// Delivery counts of all pending entries.
fn deliveries(server: &RedisServer) -> Vec<u64> {
    let mut command = cmd("XPENDING");
    command.arg(INPUT).arg(GROUP).arg("-").arg("+").arg(1000);
    let rows: Vec<(String, String, u64, u64)> = server.ask(&command);
    rows.into_iter().map(|row| row.3).collect()
}

/// Starts an engine that cannot commit, waits until it has every frame, and ends it with `end`.
fn wait_in_vain(server: &RedisServer, mut end: impl FnMut(&mut FramepressProcess)) {
    let mut engine = FramepressProcess::run(server, &FULL);
    wait_until("the output is found full", LONG, || engine.said().contains("is full"));
    wait_until("all frames are in hand", LONG, || server.pending() == 10);
    std::thread::sleep(Duration::from_millis(300));
    end(&mut engine);
}

/// After the wait every frame comes out, in order, and none is a dead letter.
fn come_out(server: &RedisServer) {
    make_room(server);
    let _engine = FramepressProcess::run(server, &[]);
    server.wait_for_outputs(10);
    server.wait_until_done();
    assert!(server.dead_letters().is_empty(), "none of them has ever failed");
    let frames: Vec<_> = server.outputs().into_iter().map(|out| out.frame.frame_id).collect();
    assert_eq!(frames, (0..10).map(|index| format!("cam-{index}")).collect::<Vec<_>>());
}

#[test]
fn frames_that_waited_through_orderly_restarts_are_no_dead_letters() {
    let server = RedisServer::start();
    fill_output(&server);
    server.add_frames("cam", 10);
    for _ in 0..5 {
        wait_in_vain(&server, |engine| {
            engine.signal(Signal::TERM);
            engine.ends_with(0);
        });
    }
    assert!(deliveries(&server).iter().all(|&times| times <= 1), "{:?}", deliveries(&server));
    come_out(&server);
}

#[test]
fn frames_that_waited_while_their_engine_was_killed_are_no_dead_letters() {
    let server = RedisServer::start();
    fill_output(&server);
    server.add_frames("cam", 10);
    for _ in 0..5 {
        wait_in_vain(&server, FramepressProcess::kill);
    }
    come_out(&server);
}

#[test]
fn frames_that_waited_through_lost_connections_are_no_dead_letters() {
    let server = RedisServer::start();
    fill_output(&server);
    server.add_frames("cam", 10);
    wait_in_vain(&server, |engine| {
        for _ in 0..6 {
            let mut kill = cmd("CLIENT");
            let _: i64 =
                server.ask(kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes"));
            std::thread::sleep(Duration::from_millis(300));
        }
        engine.signal(Signal::TERM);
        engine.ends_with(0);
    });
    come_out(&server);
}

#[test]
fn frames_that_waited_between_claims_of_others_count_the_claims_alone() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    server.add_frames("cam", 4);
    server.read_as("dead", 4);
    fill_output(&server);
    let mut environment = FULL.to_vec();
    environment.push(("REDIS_QUEUE__CLAIM_IDLE_MS", "1000"));
    let mut engine = FramepressProcess::run(&server, &environment);
    wait_until("the output is found full", LONG, || engine.said().contains("is full"));
    std::thread::sleep(Duration::from_millis(1500));
    engine.signal(Signal::TERM);
    engine.ends_with(0);
    make_room(&server);
    let _engine = FramepressProcess::run(&server, &[]);
    server.wait_for_outputs(4);
    server.wait_until_done();
    assert!(server.dead_letters().is_empty());
}

/// Passes the server's port to the process that must die.
const POISONED: &str = "FRAMEPRESS_TEST_POISONED_PORT";

/// Not a test by itself: the process that [`poison_is_capped_and_its_neighbours_are_not_blamed`]
/// starts. It dies, as of a decoder fault, when it processes the frame `poison-0`.
#[test]
fn the_process_that_dies_of_poison() {
    let Ok(port) = std::env::var(POISONED) else { return };
    let flags = [("redis_queue.url", &*format!("redis://127.0.0.1:{port}/0"))];
    let server = RedisServer::elsewhere(port.parse().unwrap());
    let _engine = RunningEngine::probed(&server, &flags, |frame_id| {
        if frame_id == "poison-0" {
            std::process::abort();
        }
        // Long enough for its neighbours to be in work at the same time.
        std::thread::sleep(Duration::from_millis(20));
    });
    std::thread::sleep(LONG);
}

struct Dying(std::process::Child);

impl Dying {
    fn start(server: &RedisServer) -> Dying {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "delivery::waiting::the_process_that_dies_of_poison"]);
        command.env(POISONED, server.port().to_string());
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Dying(command.spawn().unwrap())
    }

    fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Dying {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn poison_is_capped_and_its_neighbours_are_not_blamed() {
    let server = RedisServer::start();
    server.add_frames("good", 6);
    server.add_frames("poison", 1);
    server.add_frames("fine", 6);
    let mut died = 0;
    let last = loop {
        let mut engine = Dying::start(&server);
        wait_until("the engine dies or is done", LONG, || {
            !engine.is_running() || server.dead_letters().len() == 1
        });
        if engine.is_running() {
            break engine;
        }
        died += 1;
        assert!(died < 10, "the poison is not capped");
    };
    assert_eq!(died, 3, "as often as retry_attempts allows");
    server.wait_for_outputs(12);
    server.wait_until_done();
    let letters = server.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].text("reason"), "max_deliveries");
    assert_eq!(letters[0].text("deliveries"), "4");
    drop(last);
}

#[test]
fn a_reader_that_holds_the_whole_budget_does_not_wait_for_itself() {
    let server = RedisServer::start();
    let flags = [("limits.max_payload_bytes", "1048576"), ("engine.max_inflight_bytes", "1048576")];
    let engine = RunningEngine::start(&server, &flags);
    let mut entry = data(vec![b'x'; 983_000]);
    for name in ["frame_id", "camera_id", "timestamp", "traceparent"] {
        entry.push((name.to_owned(), vec![b'1'; 256]));
    }
    for _ in 0..3 {
        server.add(&entry);
    }
    server.add_frames("cam", 3);
    server.wait_for_outputs(3);
    server.wait_until_done();
    assert_eq!(engine.stop().dead_lettered, 3);
}
