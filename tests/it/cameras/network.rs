//! Networks and servers between camera and producer that do not answer.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use framepress_proxy::{Link, Proxy};
use rustix::process::Signal;

use super::{Camera, ingest, sent, wait_for_frames, wait_for_news};
use crate::support::{RedisServer, wait_until};

/// `ingest` with short timeouts.
fn hasty(server: &RedisServer, source: &str) -> crate::support::FramepressProcess {
    let folder = tempfile::tempdir().unwrap().keep();
    let config = folder.join("c.yaml");
    let text = "ingest: {defaults: {open_timeout_ms: 3000, no_frame_ms: 2000}}";
    std::fs::write(&config, text).unwrap();
    let started = ingest(server, source, &["--config", config.to_str().unwrap()]);
    wait_until("it has begun", Duration::from_secs(20), || !started.said().is_empty());
    std::fs::remove_dir_all(folder).unwrap();
    started
}

#[test]
fn half_open_tcp_is_noticed_and_the_camera_read_again() {
    let Some(camera) = Camera::start(&["--fps", "10"]) else { return };
    let server = RedisServer::start();
    let proxy = Proxy::before_port(camera.port, Link::default()).unwrap();
    let mut ingest = hasty(&server, &format!("rtsp://127.0.0.1:{}/cam", proxy.port()));
    wait_for_frames(&server, 10);
    proxy.stall(true);
    wait_until("the stall is noticed", Duration::from_secs(10), || {
        ingest.said().contains("no picture for 2000 ms")
    });
    proxy.stall(false);
    let after = wait_for_news(&server);
    assert!(after < Duration::from_secs(15), "{after:?}: {}", ingest.said());
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
}

#[test]
fn a_listener_that_never_answers_and_a_name_that_is_none_are_tried_again() {
    let server = RedisServer::start();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
    let accepted = std::thread::scope(|scope| {
        let accept = scope.spawn(|| {
            // Held open until the peer closes the connection.
            let (mut stream, _) = mute.accept().unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut ingest = hasty(&server, &format!("rtsp://127.0.0.1:{port}/cam"));
        wait_until("it is given up for now", Duration::from_secs(15), || {
            ingest.said().contains("no picture arrived in time")
        });
        ingest.signal(Signal::TERM);
        ingest.ends_with(0);
        accept.join()
    });
    assert!(accepted.is_ok());
    let mut ingest = hasty(&server, "rtsp://no-such-camera.invalid/cam");
    wait_until("it says why", Duration::from_secs(30), || ingest.said().contains("again in"));
    assert!(ingest.said().contains("resolve"), "{}", ingest.said());
    assert!(ingest.is_running());
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
}

#[test]
fn a_signal_is_heard_while_a_camera_is_opened() {
    let server = RedisServer::start();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for scheme in ["rtsp", "http"] {
        let url = format!("{scheme}://127.0.0.1:{}/cam", mute.local_addr().unwrap().port());
        let mut ingest = ingest(&server, &url, &[]);
        std::thread::sleep(Duration::from_millis(800));
        ingest.signal(Signal::TERM);
        ingest.ends_with(0);
    }
}

#[test]
fn a_camera_that_has_only_udp_is_read_by_udp() {
    let Some(camera) = Camera::start(&["--fps", "10", "--transport", "udp"]) else { return };
    let server = RedisServer::start();
    let mut ingest = ingest(&server, &camera.url(), &[]);
    wait_for_frames(&server, 20);
    assert!(ingest.said().contains("ingest reads it over UDP"), "{}", ingest.said());
    ingest.signal(Signal::TERM);
    ingest.ends_with(0);
    assert!(sent(&server).iter().skip(10).all(|frame| frame.age_ms() < 3000));
}
