//! The jars that `tests/kafka/fetch.sh` fetches, and the JVM that runs them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{has_program, skip};

/// Small and quick to start; the throughput of a test does not matter.
const FLAGS: [&str; 6] = [
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
];

/// Whether a broker can be started. The first caller prints why not.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let available = folder().join("complete").exists() && has_program("java");
        if !available {
            skip("no Kafka (make setup-test fetches it)");
        }
        available
    })
}

/// A class of the jars as a program, with its temporary files in `folder`, as a killed JVM leaves
/// the libraries that it has unpacked.
pub fn java(class: &str, folder: &Path) -> Command {
    let mut classes = OsString::from(self::folder().join("libs"));
    classes.push("/*");
    let mut temporary = OsString::from("-Djava.io.tmpdir=");
    temporary.push(folder);
    let mut command = Command::new("java");
    command.args(FLAGS).arg(temporary).arg("-cp").arg(classes).arg(class);
    command
}

/// The folder of `fetch.sh`, in cargo's target folder.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kafka")
}
