//! The subcommands as a person uses them: demo, inspect, check, dlq.

use std::process::{Command, Output};

use crate::support::{FramepressProcess, OUTPUT, RedisServer};

fn framepress(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn the_demo_reports_every_frame_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.json");
    let scratch = folder.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let demo = framepress(
        &[
            "demo",
            "--seconds",
            "2",
            "--cameras",
            "2",
            "--size",
            "160x120",
            "--report",
            report.to_str().unwrap(),
        ],
        &[("TMPDIR", scratch.to_str().unwrap()), ("STATS__ADDR", "null")],
    );
    assert!(demo.status.success(), "{}", text(&demo));
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let frames_in = report["frames_in"].as_u64().unwrap();
    assert!(frames_in >= 2, "a frame of each camera: {frames_in}");
    assert_eq!(report["frames_out"], frames_in);
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
    assert!(text(&demo).contains("against JSON + base64"), "{}", text(&demo));
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0, "the folder of its server is gone");
}

#[test]
fn results_are_shown_and_saved_as_pictures() {
    let server = RedisServer::start();
    let mut engine = FramepressProcess::run(&server, &[]);
    server.add_frames("cam", 3);
    server.wait_for_outputs(3);
    engine.kill();
    let folder = tempfile::tempdir().unwrap();
    let url = server.url();
    let save = folder.path().to_str().unwrap();
    let shown = framepress(&["inspect", "--redis-url", &url, "--json", "--save", save], &[]);
    assert!(shown.status.success(), "{}", text(&shown));
    let lines: Vec<serde_json::Value> = String::from_utf8(shown.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line["camera_id"] == "cam"));
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(bytes.starts_with(&[0xff, 0xd8, 0xff]), "a JPEG file");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn a_check_says_what_is_broken() {
    let server = RedisServer::start();
    let url = server.url();
    let good = framepress(&["check", "--redis-url", &url], &[]);
    assert!(good.status.success() && text(&good).contains("0 errors"), "{}", text(&good));
    let mut connection = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    redis::cmd("SET").arg(OUTPUT).arg("text").exec(&mut connection).unwrap();
    let bad = framepress(&["check", "--redis-url", &url], &[]);
    assert_eq!(bad.status.code(), Some(1), "{}", text(&bad));
    assert!(text(&bad).contains("a string, not a stream"), "{}", text(&bad));
}
