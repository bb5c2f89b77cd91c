//! Settable clocks: libfaketime, loaded into a process, reads its offset from a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// The file with the offset of one process or several.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

/// The library of Debian's package `faketime`; `None` if it is not installed.
fn library() -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let mut files = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.is_file())
}

/// Whether clocks can be set on this machine.
pub fn is_installed() -> bool {
    library().is_some()
}

impl Clock {
    /// A correct clock, with its file in `folder`.
    pub fn new(folder: &Path, name: &str) -> Outcome<Clock> {
        let library = library().ok_or("libfaketime is missing; apt-get install faketime")?;
        let clock = Clock { file: folder.join(format!("{name}.clock")), library };
        clock.step(0)?;
        Ok(clock)
    }

    /// Sets the clock's offset from the correct time, in seconds.
    pub fn step(&self, seconds: i64) -> Outcome<()> {
        // Renamed into place: a process that reads the file meanwhile finds the old or the new one.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}"))?;
        Ok(fs::rename(new, &self.file)?)
    }

    /// Makes a process that is about to start use this clock. Monotonic clocks stay correct.
    pub fn rule(&self, command: &mut Command, with_libc: bool) {
        // Debian's redis-server uses jemalloc, which asks for the time before libfaketime is ready.
        // With the C library preloaded first, its allocator is used instead.
        let libc = if with_libc { " libc.so.6" } else { "" };
        command
            .env("LD_PRELOAD", format!("{}{libc}", self.library.display()))
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }
}
