//! `ingest` far from its server: its rate, its counts, and how it stops.

use std::time::Duration;

use framepress_proxy::{Link, Proxy};
use rustix::process::Signal;

use crate::support::{FramepressProcess, INPUT, LONG, RedisServer, wait_until};

const TRIP: Duration = Duration::from_millis(100);

fn far(server: &RedisServer) -> Proxy {
    Proxy::before_port(server.port(), Link::with_round_trip(TRIP)).unwrap()
}

fn ingest(proxy: &Proxy, arguments: &[&str]) -> FramepressProcess {
    let url = format!("redis://127.0.0.1:{}/0", proxy.port());
    let common = ["ingest", "--redis-url", &url, "--camera", "cam", "--source", "synthetic"];
    let all = [&common[..], &["--size", "160x120"], arguments].concat();
    FramepressProcess::start(&all, &[("ENGINE__DRAIN_TIMEOUT_MS", "500")])
}

/// N and S of the line `N frames of cam sent in S s`.
fn sent(said: &str) -> (usize, f64) {
    let line = said.lines().find(|line| line.contains("frames of cam sent in")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    (words[0].parse().unwrap(), words[6].parse().unwrap())
}

#[test]
fn the_rate_is_kept_over_a_long_round_trip() {
    let server = RedisServer::start();
    let proxy = far(&server);
    let mut ingest = ingest(&proxy, &["--fps", "60", "--limit", "180"]);
    let said = ingest.ends_with(0);
    let (frames, seconds) = sent(&said);
    assert_eq!((frames, server.len(INPUT)), (180, 180), "{said}");
    // One frame per round trip would take 18 s.
    assert!(seconds < 8.0, "{said}");
    let ids = server.range(INPUT).into_iter().map(|(_, fields)| fields["frame_id"].clone());
    assert!(ids.collect::<Vec<_>>().is_sorted_by(|a, b| a < b), "in order");
}

#[test]
fn a_signal_waits_for_the_frames_in_transit() {
    let server = RedisServer::start();
    let proxy = far(&server);
    let mut ingest = ingest(&proxy, &["--fps", "60"]);
    wait_until("frames are sent", LONG, || server.len(INPUT) > 30);
    ingest.signal(Signal::TERM);
    let said = ingest.ends_with(0);
    assert_eq!(sent(&said).0, server.len(INPUT), "{said}");
}

#[test]
fn frames_that_are_not_confirmed_in_time_are_counted_and_no_success() {
    let server = RedisServer::start();
    let proxy = far(&server);
    let mut ingest = ingest(&proxy, &["--fps", "30"]);
    wait_until("frames are sent", LONG, || server.len(INPUT) > 10);
    proxy.stall(true);
    // Let the producer queue some more frames.
    std::thread::sleep(Duration::from_millis(200));
    ingest.signal(Signal::TERM);
    let said = ingest.ends_with(1);
    assert!(said.contains("frames were not confirmed within 500ms"), "{said}");
    assert!(sent(&said).0 <= server.len(INPUT), "{said}");
}

#[test]
fn an_account_without_the_right_to_add_ends_it_with_the_refusal() {
    let server = RedisServer::start();
    let proxy = far(&server);
    let mut ingest = ingest(&proxy, &["--fps", "30"]);
    wait_until("frames are sent", LONG, || server.len(INPUT) > 10);
    let mut command = redis::cmd("ACL");
    let _: () = server.ask(command.arg("SETUSER").arg("default").arg("-xadd"));
    let said = ingest.ends_with(1);
    assert!(said.contains("refused XADD: NOPERM"), "{said}");
}
