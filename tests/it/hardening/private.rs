//! Folders and sockets of the program: no other user can enter them, and none is left behind.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use rustix::process::Signal;

use super::{Guest, inside, limited, run, said};
use crate::support::{LONG, skip, wait_until};

const EMBEDDED: [(&str, &str); 3] = [
    ("REDIS_QUEUE__URL", "embedded://"),
    ("STATS__ADDR", "127.0.0.1:0"),
    ("STATS__TOKEN", "open-sesame"),
];

/// An engine with an embedded server, whose folders are in `scratch`.
fn engine(scratch: &std::path::Path) -> Guest {
    let mut environment = EMBEDDED.to_vec();
    environment.push(("TMPDIR", scratch.to_str().unwrap()));
    let engine = Guest::start(limited("umask 000", &["run"], &environment));
    wait_until("the engine runs", LONG, || engine.said().contains("running: "));
    engine
}

fn redis_socket(scratch: &std::path::Path) -> std::path::PathBuf {
    let found = inside(scratch);
    found.into_iter().find(|path| path.ends_with("redis.sock")).expect("the socket of the server")
}

/// The only child of an engine.
fn server_of(engine: u32) -> rustix::process::Pid {
    let children = |task: std::path::PathBuf| std::fs::read_to_string(task.join("children"));
    let tasks = std::fs::read_dir(format!("/proc/{engine}/task")).unwrap();
    let found = tasks.filter_map(|task| children(task.unwrap().path()).ok()).collect::<String>();
    let pid = found.split_whitespace().next().expect("its server").parse().unwrap();
    rustix::process::Pid::from_raw(pid).unwrap()
}

#[test]
fn sockets_are_private_whatever_the_umask() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let _engine = engine(scratch.path());
    for path in inside(scratch.path()) {
        let mode = std::fs::symlink_metadata(&path).unwrap().mode();
        let is_within = path.parent() != Some(scratch.path());
        let is_file = path.is_file();
        // A plain file is protected by its folder; a folder and a socket need their own mode.
        assert!((is_within && is_file) || mode & 0o077 == 0, "{}: {mode:o}", path.display());
    }
    // The socket that carries the token has no file name, so no other process can take its place.
    let names: Vec<_> = inside(scratch.path());
    assert!(names.iter().all(|path| !path.ends_with("http")), "{names:?}");
    let socket = redis_socket(scratch.path());
    let asked = |user: &[&str]| {
        let mut command = Command::new(user.first().copied().unwrap_or("redis-cli"));
        command.args(user.get(1..).unwrap_or_default());
        if !user.is_empty() {
            command.arg("redis-cli");
        }
        let answer = command.arg("-s").arg(&socket).arg("PING").output();
        answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("PONG"))
    };
    if !asked(&[]) {
        return skip("no redis-cli");
    }
    if rustix::process::geteuid().is_root() {
        let other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        assert!(!asked(&other), "another user is answered");
    }
}

#[test]
fn nothing_is_left_after_a_kill_or_leaving_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let mut killed = engine(scratch.path());
    killed.kill();
    let left = inside(scratch.path());
    assert!(left.len() <= 3, "only what belongs to the killed server: {left:?}");

    // The next start removes folders that are provably dead, and touches nothing else.
    let others = scratch.path().join("framepress-redis-of-others");
    std::fs::create_dir(&others).unwrap();
    let running = engine(scratch.path());
    let socket = redis_socket(scratch.path());
    assert!(left.iter().all(|path| !path.exists()), "{:?}", inside(scratch.path()));
    let second = engine(scratch.path());
    assert!(socket.exists() && others.exists());

    // On the second signal the engine exits at once.
    drop(running);
    let mut second = second;
    second.signal(Signal::STOP);
    second.signal(Signal::TERM);
    second.signal(Signal::CONT);
    wait_until("it has heard", LONG, || second.said().contains("stopping; a second signal"));
    wait_until("it has ended", LONG, || {
        second.signal(Signal::TERM);
        !second.is_running()
    });
    std::fs::remove_dir(&others).unwrap();
    // This test killed the first engine; another start and end clean up after it.
    let output = run(
        &["check", "--redis-url", "embedded://"],
        &[("TMPDIR", scratch.path().to_str().unwrap())],
    );
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(inside(scratch.path()), Vec::<std::path::PathBuf>::new());
}

#[test]
fn leaving_at_once_leaves_nothing_by_itself() {
    let scratch = tempfile::tempdir().unwrap();
    let mut environment = EMBEDDED.to_vec();
    let folder = scratch.path().to_str().unwrap();
    environment.extend([("TMPDIR", folder), ("ENGINE__DRAIN_TIMEOUT_MS", "600000")]);
    environment.push(("REDIS_QUEUE__BLOCK_TIME_MS", "1000"));
    let mut engine = Guest::start(limited(":", &["run"], &environment));
    wait_until("the engine runs", LONG, || engine.said().contains("running: "));
    // A stopped server keeps the engine from ending as long as the engine waits for it.
    let url = format!("redis+unix://{}", redis_socket(scratch.path()).display());
    let mut asking = redis::Client::open(url).unwrap().get_connection().unwrap();
    wait_until("a read waits", LONG, || {
        let clients: String = redis::cmd("INFO").arg("clients").query(&mut asking).unwrap();
        clients.contains("blocked_clients:1")
    });
    let server = server_of(engine.child.id());
    rustix::process::kill_process(server, Signal::STOP).unwrap();
    // If that read was answered meanwhile, the engine reads again.
    std::thread::sleep(std::time::Duration::from_millis(200));
    engine.signal(Signal::TERM);
    wait_until("it has heard", LONG, || engine.said().contains("stopping; a second signal"));
    wait_until("it leaves at once", LONG, || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        engine.signal(Signal::TERM);
        !engine.is_running()
    });
    assert_eq!(engine.child.wait().unwrap().code(), Some(130), "{}", engine.said());
    assert_eq!(inside(scratch.path()), Vec::<std::path::PathBuf>::new());
}
