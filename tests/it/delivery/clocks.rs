//! Clocks that are set while frames are on their way.

use std::path::{Path, PathBuf};
use std::time::Duration;

use framepress::metrics::Counter;

use crate::support::{FramepressProcess, LONG, RedisServer, RunningEngine, skip, wait_until};

/// A clock that a test can set, for a program that is started with [`Clock::environment`]: its
/// time of day, not its monotonic clock, as an operator or an NTP client sets it.
struct Clock {
    library: &'static Path,
    folder: tempfile::TempDir,
}

impl Clock {
    /// `None`, said loudly, where Debian's `faketime` is not installed.
    fn new() -> Option<Clock> {
        let places = ["x86_64", "aarch64"]
            .map(|machine| format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"));
        let Some(library) = places.into_iter().find(|place| Path::new(place).exists()) else {
            skip("no libfaketime; on Debian: apt-get install faketime");
            return None;
        };
        let library: &Path = Path::new(Box::leak(library.into_boxed_str()));
        let folder = tempfile::Builder::new().prefix("framepress-test-").tempdir().unwrap();
        let clock = Clock { library, folder };
        clock.set("+0");
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Sets it ahead or back by so many seconds.
    fn set(&self, offset: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            // Debian's redis-server has an allocator that asks for the time before libfaketime is
            // ready; with the C library in front, that one's is used.
            ("LD_PRELOAD", format!("{} libc.so.6", self.library.display())),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

#[test]
fn fresh_frames_are_not_shed_when_the_engines_clock_is_set() {
    let Some(clock) = Clock::new() else { return };
    let server = RedisServer::start();
    let faked = clock.environment();
    let mut environment = vec![("REDIS_QUEUE__MAX_FRAME_AGE_MS", "2000")];
    environment.extend(faked.iter().map(|(name, value)| (*name, &**value)));
    let mut engine = FramepressProcess::run(&server, &environment);
    server.add_frames("before", 5);
    server.wait_for_outputs(5);
    let mut stored = 5;
    for offset in ["+3600", "-3600", "+0", "+3600"] {
        clock.set(offset);
        for _ in 0..4 {
            server.add_frames("cam", 5);
            stored += 5;
            server.wait_until_done();
            assert_eq!(server.outputs().len(), stored, "none is shed at {offset}");
        }
    }
    engine.signal(rustix::process::Signal::TERM);
    assert!(engine.ends_with(0).contains(" 0 shed"));
}

#[test]
fn ids_ahead_of_the_servers_clock_are_counted_and_said() {
    let Some(clock) = Clock::new() else { return };
    let server = RedisServer::with_environment(&clock.environment());
    let flags = [("redis_queue.max_frame_age_ms", "2000"), ("redis_queue.claim_idle_ms", "1000")];
    let engine = RunningEngine::start(&server, &flags);
    server.add_frames("before", 5);
    server.wait_for_outputs(5);
    assert_eq!(engine.count(Counter::IdsAheadOfClock), 0);
    clock.set("-3600");
    wait_until("they are counted", LONG, || {
        server.add_frames("cam", 1);
        std::thread::sleep(Duration::from_millis(20));
        engine.count(Counter::IdsAheadOfClock) > 0
    });
    let mut process = FramepressProcess::run(&server, &[]);
    server.add_frames("cam", 5);
    wait_until("it says so", LONG, || {
        server.add_frames("cam", 1);
        std::thread::sleep(Duration::from_millis(20));
        process.said().contains("ahead of the clock")
    });
    process.signal(rustix::process::Signal::TERM);
    process.ends_with(0);
    engine.stop();
}
