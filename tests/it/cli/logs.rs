//! Log lines: one per event, readable by people and programs, and rate-limited.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{DEAD_LETTERS, Fields, FramepressProcess, LONG, RedisServer, wait_until};

const FRAMES: usize = 300;

fn broken(camera: &str) -> Fields {
    vec![("data".into(), b"no frame".to_vec()), ("camera_id".into(), camera.as_bytes().to_vec())]
}

#[test]
fn a_fault_that_repeats_is_shown_once_per_camera_and_counted() {
    let server = RedisServer::start();
    let mut engine = FramepressProcess::run(&server, &[("LOG__FORMAT", "json")]);
    server.add_all(std::iter::repeat_n(&broken("north"), FRAMES));
    server.add_all(std::iter::repeat_n(&broken("south"), 2));
    server.wait_until_done();
    engine.signal(Signal::TERM);
    let said = engine.ends_with(0);
    let events: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let refused = |camera: &str| -> (Vec<&Value>, u64) {
        let of: Vec<&Value> = events
            .iter()
            .filter(|event| event["camera"] == camera)
            .filter(|event| event["message"].as_str().unwrap().contains("frame refused"))
            .collect();
        let held = of.iter().filter_map(|event| event["repeated"].as_u64()).sum();
        (of.into_iter().filter(|event| event["repeated"].is_null()).collect(), held)
    };
    for (camera, count) in [("north", FRAMES), ("south", 2)] {
        let (shown, held) = refused(camera);
        assert_eq!(shown.len() as u64 + held, count as u64, "{camera}: {said}");
        // A kind is shown again only after ten quiet seconds, which do not occur here.
        assert!(shown.len() < count.min(50), "{camera}: {said}");
        let first = shown[0];
        assert!(first["entry"].as_str().unwrap().contains('-'), "{first}");
        assert!(first["stage"].is_string() && first["reason"] == "undecodable", "{first}");
        assert_eq!(first["level"], "WARN");
    }
    assert_eq!(server.len(DEAD_LETTERS), FRAMES + 2);
}

#[test]
fn text_has_one_line_per_event_whatever_a_camera_is_called() {
    let server = RedisServer::start();
    let mut engine = FramepressProcess::run(&server, &[]);
    server.add(&broken("cam\n2020-01-01T00:00:00Z ERROR forged\u{1b}[2J"));
    server.wait_until_done();
    engine.signal(Signal::TERM);
    let said = engine.ends_with(0);
    for line in said.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "a time: {line}");
        let level = rest.trim_start().split(' ').next().unwrap();
        assert!(["INFO", "WARN", "ERROR"].contains(&level), "a level: {line}");
        assert!(!line.starts_with("2020") && !line.contains('\u{1b}'), "{line:?}");
    }
    assert!(said.contains("frame refused"), "{said}");
}

#[test]
fn a_summary_says_now_and_again_how_it_goes() {
    let server = RedisServer::start();
    let environment = [("LOG__SUMMARY_SECONDS", "1"), ("LOG__FORMAT", "json")];
    let mut engine = FramepressProcess::run(&server, &environment);
    let summaries = |said: String| -> Vec<Value> {
        let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| !event["fps_out"].is_null()).collect()
    };
    // The frames below are counted in a later summary.
    wait_until("a first summary", LONG, || !summaries(engine.said()).is_empty());
    server.add_frames("cam", 5);
    wait_until("a summary of these frames", LONG, || {
        summaries(engine.said()).iter().any(|one| one["fps_out"].as_f64() > Some(0.0))
    });
    engine.signal(Signal::TERM);
    let one = summaries(engine.ends_with(0)).remove(0);
    for key in ["fps_in", "latency_ms_p50", "latency_ms_p99", "in_flight", "dead_lettered", "shed"]
    {
        assert!(one[key].is_number(), "{key} of {one}");
    }
}

#[test]
fn no_summary_where_none_is_wanted() {
    let server = RedisServer::start();
    let quiet = FramepressProcess::run(&server, &[("LOG__SUMMARY_SECONDS", "0")]);
    let chatty = FramepressProcess::run(
        &server,
        &[("LOG__SUMMARY_SECONDS", "1"), ("REDIS_QUEUE__CONSUMER_NAME", "other")],
    );
    wait_until("the other's third summary", LONG, || chatty.said().matches("fps_out").count() >= 3);
    assert!(!quiet.said().contains("fps_out"), "{}", quiet.said());
}
