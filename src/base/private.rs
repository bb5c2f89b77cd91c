//! Folders that only this user can enter, for sockets. None is left behind permanently.
//!
//! The mode of a folder is given when it is created, so the umask does not matter. While a folder
//! is in use, its process holds a lock on it. The kernel releases the lock when the process ends,
//! even after a crash. So a folder that can be locked belongs to no running process, and the next
//! process that creates a folder removes it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::OFlags;
use tempfile::TempDir;

/// Mode of a private folder.
const MODE: u32 = 0o700;

/// How often creation is tried again because another process removed the folder as left behind.
const ATTEMPTS_MAX: u32 = 16;

/// The folders of this process.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A private folder; removed when the value is dropped.
#[derive(Debug)]
pub struct PrivateFolder {
    // Dropped first, so that the folder is removed before the lock is released.
    folder: TempDir,
    _lock: File,
}

impl PrivateFolder {
    /// Creates a folder in `parent` whose name begins with `prefix`. First removes those that
    /// processes of this user left there. The prefix must be used for private folders only.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make(parent: &Path, prefix: &'static str) -> io::Result<PrivateFolder> {
        remove_left(parent, prefix);
        for _ in 0..ATTEMPTS_MAX {
            let folder = tempfile::Builder::new()
                .prefix(prefix)
                .permissions(Permissions::from_mode(MODE))
                .tempdir_in(parent)?;
            let lock = match lock(folder.path()) {
                Ok(Some(lock)) => lock,
                Ok(None) => continue,
                // A file system without locks: no process removes a folder that it cannot lock.
                Err(_) => File::open(folder.path())?,
            };
            MADE.lock().push(folder.path().to_path_buf());
            return Ok(PrivateFolder { folder, _lock: lock });
        }
        Err(io::Error::other("another process removes each folder that is made"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        MADE.lock().retain(|path| path != self.folder.path());
    }
}

/// Removes the folders of this process. For an exit without destructors.
pub fn remove_all() {
    for path in MADE.lock().drain(..) {
        let _ = fs::remove_dir_all(path);
    }
}

/// Opens and locks the folder, if it is private, still exists, and is used by no other process.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
    let folder = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let about = folder.metadata()?;
    let is_own = about.uid() == rustix::process::geteuid().as_raw();
    if !is_own || about.mode() & 0o7777 != MODE {
        return Ok(None);
    }
    match folder.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    // Another process may have removed it between the two steps.
    let is_there = fs::symlink_metadata(path).is_ok_and(|now| now.ino() == about.ino());
    Ok(is_there.then_some(folder))
}

/// Removes the folders that processes of this user left when they were killed.
fn remove_left(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        if let Ok(Some(_lock)) = lock(&entry.path()) {
            // A folder that cannot be removed only takes space.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_without_a_process_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let make = |name: &str, mode: u32| {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), Permissions::from_mode(mode)).unwrap();
            fs::write(at(name).join("socket"), "").unwrap();
        };
        make("own-left", 0o700);
        make("own-open", 0o755);
        make("other", 0o700);
        make("outside", 0o700);
        std::os::unix::fs::symlink(at("outside"), at("own-link")).unwrap();
        fs::write(at("own-file"), "").unwrap();
        let first = PrivateFolder::make(parent.path(), "own-").unwrap();
        let second = PrivateFolder::make(parent.path(), "own-").unwrap();
        assert!(!at("own-left").exists());
        for kept in ["own-open", "other/socket", "outside/socket", "own-link", "own-file"] {
            assert!(at(kept).exists(), "{kept}");
        }
        assert!(first.path().exists() && first.path() != second.path());
        let path = first.path().to_path_buf();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        drop(first);
        assert!(!path.exists() && second.path().exists());
    }
}
