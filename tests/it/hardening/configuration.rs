//! Configuration files made to exhaust memory, and empty environment variables.

use rustix::process::Signal;

use super::{Guest, limited, run, said};
use crate::support::{LONG, Output, RedisServer, protobuf, wait_until};

/// A few hundred bytes that expand to nine to the power of twelve words.
fn bomb() -> String {
    let mut text = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let inner = vec![format!("*a{}", level - 1); 9].join(",");
        text += &format!("a{level}: &a{level} [{inner}]\n");
    }
    assert!(text.len() < 600, "{}", text.len());
    text
}

/// Address space of the whole program, in KiB: a hundredth of what the bomb needs when expanded.
const ROOM: &str = "ulimit -v 2000000";

#[test]
fn a_bomb_of_aliases_is_refused_in_bounded_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb.yaml");
    let texts = [
        bomb(),
        "[".repeat(1 << 20),
        "? ".repeat(1 << 19),
        "- ".repeat(1 << 19),
        format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(60_000), "*a,".repeat(200_000)),
        format!("a: [{}]", "[],".repeat(300_000)),
    ];
    for text in texts {
        std::fs::write(&path, &text).unwrap();
        let arguments = ["check", "--config", path.to_str().unwrap()];
        let output = limited(ROOM, &arguments, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{:.40}: {}", text, said(&output));
        assert!(said(&output).contains("bomb.yaml: "), "{}", said(&output));
    }
    std::fs::write(&path, bomb()).unwrap();
    let output = run(&["check", "--config", path.to_str().unwrap()], &[]);
    assert!(said(&output).contains("its aliases expand to too much data"), "{}", said(&output));
    let output = run(&["migrate-config", path.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}

#[test]
fn a_bomb_does_not_end_a_running_engine() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("framepress.yaml");
    let good = format!("redis_url: {}\nblock_time_ms: 100\nstats: {{addr: null}}\n", server.url());
    std::fs::write(&path, &good).unwrap();
    let arguments = ["run", "--config", path.to_str().unwrap()];
    let mut engine = Guest::start(limited(":", &arguments, &[]));
    wait_until("the engine runs", LONG, || engine.said().contains("running: "));
    std::fs::write(&path, bomb()).unwrap();
    engine.signal(Signal::HUP);
    wait_until("it is refused", LONG, || {
        engine.said().contains("the engine keeps its configuration")
    });
    server.add(&protobuf("frame", "cam"));
    server.wait_for_outputs(1);
    let output: Output = server.outputs().pop().unwrap();
    assert_eq!(output.text("camera_id"), "cam");
    assert!(engine.is_running());
}

#[test]
fn an_empty_token_in_the_environment_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("framepress.yaml");
    std::fs::write(&path, "stats: {token: hunter2, addr: '127.0.0.1:0'}\n").unwrap();
    for command in ["run", "check"] {
        let arguments = [command, "--config", path.to_str().unwrap()];
        let output = run(&arguments, &[("STATS__TOKEN", "")]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("stats.token"), "{}", said(&output));
        assert!(!said(&output).contains("hunter2"), "{}", said(&output));
    }
}
