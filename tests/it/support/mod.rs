//! What every test needs: a Redis of its own, an engine, frames, and a way to wait.

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
pub use process::{FramepressProcess, program};
pub use redis::{RedisServer, free_port, parts};
pub use results::{DeadLetter, Output};

use std::path::PathBuf;
use std::time::Duration;

use framepress::metrics::clock::Tick;

/// What nothing in a healthy test takes; generous, for machines that do other things as well.
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

/// Says loudly that a test could not be run, and why.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
    // The test runner keeps what a passing test prints; this line reaches the terminal.
    if let Ok(mut terminal) = std::fs::OpenOptions::new().append(true).open("/dev/stderr") {
        use std::io::Write;
        let _ = writeln!(terminal, "skipped: {why}");
    }
}

/// Raises a flag when it goes, however its scope ends.
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

/// The folder of recordings beside the repository; `FRAMEPRESS_DATA` names another.
pub fn data_folder() -> PathBuf {
    match std::env::var_os("FRAMEPRESS_DATA") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
    }
}

/// An entry of one field.
pub fn data(bytes: impl Into<Vec<u8>>) -> Fields {
    vec![("data".to_owned(), bytes.into())]
}

/// The folder of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
