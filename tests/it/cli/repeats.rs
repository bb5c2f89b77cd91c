//! Repeated faults in commands other than `run`: the first is logged at once, repetitions as a
//! count, and all lines appear above a progress display.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::{FramepressProcess, INPUT, LONG, RedisServer, skip, wait_until};

#[test]
fn a_producer_that_waits_says_so_at_once_and_then_how_often_it_tried() {
    let mut server = RedisServer::start();
    let url = server.url();
    let arguments = ["ingest", "--redis-url", &url, "--camera", "cam", "--source", "synthetic"];
    let mut ingest = FramepressProcess::start(&arguments, &[]);
    wait_until("frames are sent", LONG, || server.len(INPUT) > 0);
    server.kill();
    wait_until("the first is shown", LONG, || ingest.said().contains("trying again in"));
    wait_until("the others are counted", LONG, || ingest.said().contains(" more in "));
    let said = ingest.said();
    let each =
        said.lines().filter(|line| line.contains("trying again") && !line.contains(" more in "));
    assert_eq!(each.count(), 1, "{said}");
    server.restart();
    wait_until("it goes on", LONG, || server.len(INPUT) > 0);
    ingest.signal(Signal::TERM);
    let said = ingest.ends_with(0);
    assert!(said.contains("frames of cam sent"), "{said}");
}

#[test]
fn on_a_terminal_the_log_stands_above_the_bar() {
    let mut server = RedisServer::start();
    // Far more frames than time allows: a signal ends the program. `exec`, so that no shell gets
    // it.
    let command = format!(
        "exec {} ingest --redis-url {} --camera cam --source synthetic --fps 50 --limit 1000000",
        env!("CARGO_BIN_EXE_framepress"),
        server.url()
    );
    let shown = tempfile::NamedTempFile::new().unwrap();
    let script = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .envs([("TERM", "xterm"), ("NO_COLOR", "1")])
        .stdin(Stdio::piped())
        .stdout(shown.reopen().unwrap())
        .spawn();
    let Ok(mut script) = script else {
        return skip("no `script` to have a terminal; on Debian: apt-get install bsdutils");
    };
    let text = || String::from_utf8_lossy(&std::fs::read(shown.path()).unwrap()).into_owned();
    wait_until("the bar moves", LONG, || text().contains("/1000000 frames"));
    server.kill();
    wait_until("a line of the log", LONG, || text().contains("trying again in"));
    server.restart();
    wait_until("it goes on", LONG, || server.len(INPUT) > 0);
    script.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert!(script.wait().unwrap().success(), "{}", text());
    let text = text();
    let line = text.split('\n').find(|line| line.contains("trying again in")).unwrap();
    // The previous content of the line has been erased.
    let wiped = line.rsplit("\x1b[2K").next().unwrap().trim_start_matches('\r');
    let (time, rest) = wiped.split_once(' ').unwrap();
    assert!(time.ends_with('Z') && time.len() == 27, "{line:?}");
    assert!(rest.trim_start().starts_with("WARN") && !rest.contains("/1000000 frames"), "{line:?}");
    assert!(text.contains(" frames of cam sent"), "{text}");
}
