//! Clocks of programs under test.

use std::path::PathBuf;

use super::skip;

/// A clock that a test can set, for a program started with [`Clock::environment`]. It sets the time
/// of day, not the monotonic clock, as an operator or an NTP client does.
pub struct Clock {
    library: PathBuf,
    folder: tempfile::TempDir,
}

impl Clock {
    /// `None`, with a message, if Debian's `faketime` is not installed.
    pub fn new() -> Option<Clock> {
        let library = faketime()?;
        let folder = tempfile::Builder::new().prefix("framepress-test-").tempdir().unwrap();
        let clock = Clock { library, folder };
        clock.set("+0");
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Sets the clock ahead or back by `offset` seconds.
    pub fn set(&self, offset: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, offset).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            // The allocator of Debian's redis-server asks for the time before libfaketime is ready.
            // With the C library preloaded first, its allocator is used instead.
            ("LD_PRELOAD", format!("{} libc.so.6", self.library.display())),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

/// The library that fakes a clock; `None`, with a message, if Debian's `faketime` is not installed.
/// The program `faketime` would be an extra process between a test and its child.
pub fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let mut libraries = folders.map(|it| it.path().join("faketime/libfaketimeMT.so.1"));
    let found = libraries.find(|path| path.exists());
    if found.is_none() {
        skip("no libfaketime; on Debian: apt-get install faketime");
    }
    found
}
