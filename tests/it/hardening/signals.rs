//! Rates at which a frame never ends, and commands that are busy when a signal comes.

use std::time::Duration;

use framepress::internals::metrics::clock::Tick;
use rustix::process::Signal;

use super::{Guest, limited, run, said};
use crate::support::{LONG, RedisServer, wait_until};

#[test]
fn a_rate_of_next_to_nothing_is_refused() {
    let server = RedisServer::start();
    let url = server.url();
    for fps in ["1e-300", "5e-324", "0.0009", "-1", "NaN", "inf", "1e300"] {
        let fps = format!("--fps={fps}");
        let ingest =
            ["ingest", "--redis-url", &url, "--camera", "a", "--source", "synthetic", &fps];
        for arguments in [&ingest[..], &["demo", "--seconds", "1", &fps]] {
            let output = run(arguments, &[]);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
            assert!(said(&output).contains("--fps"), "{}", said(&output));
        }
    }
}

#[test]
fn every_command_hears_a_signal_within_a_second() {
    let server = RedisServer::start();
    let stopped = RedisServer::start();
    stopped.signal(Signal::STOP);
    let (url, mute) = (server.url(), stopped.url());
    let slow = ["ingest", "--redis-url", &url, "--camera", "a", "--source", "synthetic"];
    let cases: Vec<Vec<&str>> = vec![
        [&slow[..], &["--fps", "0.001", "--size", "64x48"]].concat(),
        [&slow[..], &["--size", "2000x1500"]].concat(),
        vec!["bench", "--size", "8000x6000", "--frames", "10"],
        vec!["bench", "--size", "64x48", "--rate", "0.001"],
        vec!["tune", "--size", "8000x6000", "--seconds", "60"],
        vec!["demo", "--size", "1000x800", "--cameras", "64"],
        vec!["check", "--redis-url", &mute],
        vec!["dlq", "list", "--redis-url", &mute],
        vec!["dlq", "replay", "--all", "--redis-url", &mute],
        vec!["inspect", "--redis-url", &mute],
        vec!["inspect", "--redis-url", &url, "--follow"],
        vec!["run", "--redis-url", &mute, "--stats-addr", "null"],
        vec!["ingest", "--redis-url", &mute, "--camera", "a", "--source", "synthetic"],
    ];
    for arguments in cases {
        let mut guest = Guest::start(limited(":", &arguments, &[("STATS__ADDR", "null")]));
        let pid = guest.child.id();
        wait_until("it heeds signals", LONG, || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << 14) != 0
        });
        std::thread::sleep(Duration::from_millis(300));
        guest.signal(Signal::TERM);
        let began = Tick::now();
        // While it only paints, there is nothing to finish.
        let is_painting = arguments.contains(&"8000x6000");
        let has_heard = |guest: &mut Guest| {
            let told = guest.said().contains("a second signal ends it at once");
            !guest.is_running() || (told && !is_painting)
        };
        while !has_heard(&mut guest) {
            // Twice the promised second, for a busy machine.
            assert!(began.elapsed() < Duration::from_secs(2), "{arguments:?} is deaf");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
