//! The commands other than the engine, far from Redis.

use std::process::Command;
use std::time::Duration;

use framepress_proxy::{Link, Proxy};

use super::Far;
use crate::support::{
    DEAD_LETTERS, FramepressProcess, GROUP, INPUT, LONG, OUTPUT, RedisServer, free_port, wait_until,
};

/// Round trip of a satellite link or a bad mobile link, in milliseconds.
const ROUND_TRIP_MS: u64 = 300;

impl Far {
    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.proxy.port())
    }

    /// Runs the program through the proxy; it must succeed.
    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_framepress"));
        let output = command.args(arguments).args(["--redis-url", &self.url()]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}{complaint}");
        said + &complaint
    }
}

#[test]
fn frames_are_put_in_and_results_read() {
    let far = Far::new(ROUND_TRIP_MS);
    let camera = ["ingest", "--camera", "far", "--source", "synthetic", "--size", "64x48"];
    far.says(&[&camera[..], &["--fps", "0", "--limit", "300"]].concat());
    assert_eq!(far.server.len(INPUT), 300);
    let engine = far.engine(&[]);
    wait_until("all are processed", LONG, || far.server.len(OUTPUT) == 300);
    assert_eq!(engine.stop().out, 300);
    let said = far.says(&["inspect", "--count", "250", "--json"]);
    assert_eq!(said.lines().filter(|line| line.starts_with('{')).count(), 250, "{said}");
}

#[test]
fn dead_letters_are_listed_put_back_and_removed() {
    let far = Far::new(ROUND_TRIP_MS);
    far.server.create_group(GROUP);
    let broken = vec![("data".into(), b"no frame at all".to_vec())];
    far.server.add_all(std::iter::repeat_n(&broken, 40));
    let engine = far.engine(&[]);
    wait_until("all are refused", LONG, || far.server.len(DEAD_LETTERS) == 40);
    engine.stop();
    let said = far.says(&["dlq", "list", "--count", "40"]);
    assert_eq!(said.matches("undecodable").count(), 40, "{said}");
    let (first, _) = far.server.range(DEAD_LETTERS).swap_remove(0);
    assert!(far.says(&["dlq", "show", &first]).contains("undecodable"));
    assert!(far.says(&["dlq", "replay", &first]).contains("1 replayed"));
    assert!(far.says(&["dlq", "replay", "--all"]).contains("39 replayed"));
    assert_eq!(far.server.len(DEAD_LETTERS), 0);
    let engine = far.engine(&[]);
    wait_until("all are refused again", LONG, || far.server.len(DEAD_LETTERS) == 40);
    engine.stop();
    assert!(far.says(&["dlq", "purge", "--all", "--yes"]).contains("40 purged"));
}

#[test]
fn check_finds_everything_in_order_and_says_how_far_it_is() {
    let far = Far::new(ROUND_TRIP_MS);
    let said = far.says(&["check"]);
    assert!(said.contains("a request and its reply take 30"), "{said}");
}

/// The engine measures its queues beside its work.
#[test]
fn queues_are_looked_at() {
    let far = Far::new(ROUND_TRIP_MS);
    let engine = far.engine(&[]);
    far.server.add_frames("camera", 10);
    far.server.wait_for_outputs(10);
    let view = engine.view();
    wait_until("the queues have been looked at", LONG, || {
        let input = view.queues.lock().input;
        input.lag == Some(0) && input.depth == 10
    });
    assert!(engine.is_ready());
    engine.stop();
}

/// `top` connects to the engine, not to Redis.
#[test]
fn an_engine_far_away_is_watched() {
    let server = RedisServer::start();
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let _engine = FramepressProcess::run(&server, &[("STATS__ADDR", &address)]);
    server.add_frames("camera", 7);
    server.wait_for_outputs(7);
    let link = Link::with_round_trip(Duration::from_millis(ROUND_TRIP_MS));
    let proxy = Proxy::before_port(port, link).unwrap();
    wait_until("it shows the figures", LONG, || {
        let mut top = Command::new(env!("CARGO_BIN_EXE_framepress"));
        top.args(["top", "--once", "--url", &format!("127.0.0.1:{}", proxy.port())]);
        let output = top.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said.contains("read 7 = out 7")
    });
}
