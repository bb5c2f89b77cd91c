//! Shared by all tests: a Redis server, an engine, frames, and waiting for a condition.

mod clock;
mod engine;
mod frames;
mod held;
mod process;
mod redis;
mod results;

pub use clock::{Clock, faketime};
pub use engine::RunningEngine;
pub use frames::{
    Sample, decoded, gray_array, json_array, json_base64, mean_difference, protobuf, protobuf_of,
    rgb_array,
};
pub use held::HeldCommits;
pub use process::{FramepressProcess, program, status_of};
pub use redis::{RedisServer, free_port, is_older_than_7, parts};
pub use results::{DeadLetter, Output};

use std::path::PathBuf;
use std::time::Duration;

use framepress::internals::metrics::clock::Tick;

/// Longer than any wait in a healthy test, also on a busy machine.
pub const LONG: Duration = Duration::from_secs(180);

/// The streams and the group of every test.
pub const INPUT: &str = "camera_frames";
pub const OUTPUT: &str = "processed_frames";
pub const DEAD_LETTERS: &str = "camera_frames:dlq";
pub const GROUP: &str = "stream_processor";

/// The fields of one entry, in order.
pub type Fields = Vec<(String, Vec<u8>)>;

/// Waits until `condition` holds; fails with `what` after `limit`.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let began = Tick::now();
    while !condition() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Reports that a test was skipped, and why.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
    // The test runner captures what a passing test prints; this line reaches the terminal.
    if let Ok(mut terminal) = std::fs::OpenOptions::new().append(true).open("/dev/stderr") {
        use std::io::Write;
        let _ = writeln!(terminal, "skipped: {why}");
    }
}

/// Sets a flag when dropped, however its scope ends.
pub struct RaisedAtEnd<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for RaisedAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Whether a program can be started.
pub fn has_program(name: &str) -> bool {
    let mut command = std::process::Command::new(name);
    command.arg("-version").stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.status().is_ok()
}

/// The folder of recordings beside the repository, or `FRAMEPRESS_DATA`.
pub fn data_folder() -> PathBuf {
    match std::env::var_os("FRAMEPRESS_DATA") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    }
}

/// An entry with only the field `data`.
pub fn data(bytes: impl Into<Vec<u8>>) -> Fields {
    vec![("data".to_owned(), bytes.into())]
}

/// The folder of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
