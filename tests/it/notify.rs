//! Notifications to systemd, through a real socket.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{FramepressProcess, LONG, RedisServer, free_port, wait_until};

/// The service manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        Manager { socket, folder }
    }

    fn path(&self) -> String {
        self.folder.path().join("notify").display().to_string()
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4096];
        let len = self.socket.recv(&mut bytes).expect("the engine goes on telling");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    /// Messages up to the first that contains `word`.
    fn until(&self, word: &str) -> Vec<String> {
        let mut messages = Vec::new();
        while !messages.last().is_some_and(|last: &String| last.contains(word)) {
            messages.push(self.next());
            assert!(messages.len() < 10_000, "no {word}: {:?}", messages.last());
        }
        messages
    }
}

const WATCHDOG: (&str, &str) = ("WATCHDOG_USEC", "900000");

#[test]
fn ready_is_told_once_it_is_and_stopping_when_it_stops() {
    let manager = Manager::new();
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}/0");
    let path = manager.path();
    let environment =
        [("NOTIFY_SOCKET", &*path), WATCHDOG, ("REDIS_QUEUE__URL", &*url), ("STATS__ADDR", "null")];
    let mut engine = FramepressProcess::start(&["run"], &environment);
    // No server listens there: the engine waits, and says so.
    for _ in 0..5 {
        let told = manager.next();
        assert!(!told.contains("READY=1") && told.contains("STATUS=not ready"), "{told}");
    }
    let server = RedisServer::on(port);
    let told = manager.until("READY=1");
    assert!(told.last().unwrap().contains("STATUS=ready"), "{:?}", told.last());
    server.add_frames("cam", 3);
    manager.until("3 out");
    engine.signal(Signal::TERM);
    let told = manager.until("STOPPING=1");
    assert!(told.iter().all(|message| !message.contains("READY=1")), "once only: {told:?}");
    engine.ends_with(0);
}

/// A hanging server is not a hang of the engine, as restarting the engine would not help.
#[test]
fn the_watchdog_is_answered_while_the_engine_waits() {
    let manager = Manager::new();
    let server = RedisServer::start();
    let path = manager.path();
    let environment = [("NOTIFY_SOCKET", &*path), WATCHDOG, ("REDIS_QUEUE__TIMEOUT", "1")];
    let mut engine = FramepressProcess::run(&server, &environment);
    manager.until("READY=1");
    server.signal(Signal::STOP);
    let told = manager.until("STATUS=not ready");
    let answered = |told: &[String]| told.iter().filter(|one| one.contains("WATCHDOG=1")).count();
    assert_eq!(answered(&told), told.len(), "{told:?}");
    for _ in 0..10 {
        let told = manager.next();
        assert!(told.contains("WATCHDOG=1"), "{told}");
    }
    server.signal(Signal::CONT);
    manager.until("STATUS=ready");
    engine.signal(Signal::TERM);
    manager.until("STOPPING=1");
    engine.ends_with(0);
}

#[test]
fn without_a_manager_nothing_is_told() {
    let server = RedisServer::start();
    let gone = ("NOTIFY_SOCKET", "/nonexistent/notify");
    let mut engine = FramepressProcess::run(&server, &[gone]);
    server.add_frames("cam", 3);
    server.wait_for_outputs(3);
    wait_until("the engine", Duration::from_secs(60), || engine.said().contains("running:"));
    engine.signal(Signal::TERM);
    engine.ends_with(0);
}
