//! Camera passwords: any characters work, and the password is never shown.

use std::time::Duration;

use rustix::process::Signal;

use super::{Camera, children_of, ingest, wait_for_frames};
use crate::support::{RedisServer, wait_until};

/// The command line of a process, which every user can read.
fn arguments_of(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

#[test]
fn accounts_with_special_characters_work_and_show_nowhere() {
    for auth in ["basic", "digest"] {
        let account = "ad min:p@ss/w#r?d%:'x";
        let Some(camera) = Camera::start(&["--auth", auth, "--account", account]) else { return };
        let server = RedisServer::start();
        let url = format!("rtsp://{account}@127.0.0.1:{}/cam", camera.port);
        let mut ingest = ingest(&server, &url, &[]);
        wait_for_frames(&server, 3);
        let mut shown = arguments_of(ingest.pid());
        for (pid, _) in children_of(ingest.pid()) {
            shown.push_str(&arguments_of(pid));
        }
        assert!(shown.contains("ffmpeg") && shown.contains("ingest"), "{shown}");
        ingest.signal(Signal::TERM);
        shown.push_str(&ingest.ends_with(0));
        for secret in ["w#r", "p@ss", "p%40ss"] {
            assert!(!shown.contains(secret), "{auth}: {shown}");
        }
    }
}

#[test]
fn a_refused_account_waits_and_says_so_without_the_password() {
    let Some(camera) = Camera::start(&["--auth", "digest"]) else { return };
    let server = RedisServer::start();
    let url = format!("rtsp://user:hunter2@127.0.0.1:{}/cam", camera.port);
    let mut ingest = ingest(&server, &url, &[]);
    wait_until("it is refused", Duration::from_secs(20), || ingest.said().contains("401"));
    // At least half of the longest pause, so that retries do not lock an account.
    wait_until("it waits", Duration::from_secs(5), || ingest.said().contains("again in "));
    let said = ingest.said();
    let pause = said.split("again in ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(pause.parse::<f64>().unwrap() >= 15.0, "{said}");
    ingest.signal(Signal::TERM);
    assert!(!ingest.ends_with(0).contains("hunter2"));
}

#[test]
fn sources_that_cannot_be_opened_are_named_without_their_secrets() {
    let server = RedisServer::start();
    for source in [
        "rtsp://127.0.0.1:9/user=admin_password=hunter2_channel=1",
        "127.0.0.1/user=admin_password=hunter2",
        "admin:hunter2@127.0.0.1:9/live",
        "RTSP://admin:hunter2@127.0.0.1:9/live",
        "http://127.0.0.1:9/video?user=admin&pwd=hunter2",
    ] {
        let mut ingest = ingest(&server, source, &["--once"]);
        let said = ingest.ends_with(1);
        assert!(!said.contains("hunter2"), "{source}: {said}");
        assert!(said.contains("refused") || said.contains("No such file"), "{source}: {said}");
    }
}
