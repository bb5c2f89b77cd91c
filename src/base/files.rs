//! Files that the program writes for a person. They are written whole or not at all, and never
//! through a link.
//!
//! In a folder that others can write to, a link with the expected name could lead to a file that
//! only this user may write.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

/// Most names that are tried for one new file.
const NAMES_MAX: u32 = 1_000;

/// Mode of a new file before the umask.
const MODE: u32 = 0o666;

/// Replaces or creates the file at `path`. At every moment the old or the new file is there, even
/// if the disk is full or a file-size limit is reached. If `path` is a link, the link itself is
/// replaced. A pipe or a device is written to directly.
///
/// # Errors
/// Those of the file system.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_stream(path) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let mut file = beside(path)?;
    file.write_all(bytes)?;
    if let Some(about) = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file) {
        file.as_file().set_permissions(about.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|failed| failed.error)?;
    Ok(())
}

/// Checks whether [`replace`] would work, without leaving a trace. A pipe or a device always
/// passes, because trying would write to it.
///
/// # Errors
/// Those of the file system.
pub fn can_be_replaced(path: &Path) -> io::Result<()> {
    if is_stream(path) { Ok(()) } else { beside(path).map(drop) }
}

/// Writes a new file named `stem` and `extension`, with a number after `stem` if the name is taken.
/// If a file with the same contents exists, returns that one.
///
/// # Errors
/// Those of the file system. A partly written file is removed.
pub fn add(folder: &Path, stem: &str, extension: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    for number in 0..NAMES_MAX {
        let name = match number {
            0 => format!("{stem}.{extension}"),
            _ => format!("{stem}-{number}.{extension}"),
        };
        let path = folder.join(name);
        // Creates a file or fails; a link of this name is not followed.
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                if let Err(error) = file.write_all(bytes) {
                    let _ = fs::remove_file(&path);
                    return Err(error);
                }
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if holds(&path, bytes) {
                    return Ok(path);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many files of that name"))
}

/// Whether a path leads to a pipe or a device, which does not keep what is written.
fn is_stream(path: &Path) -> bool {
    // /dev/stdout and the pipes of a shell are links to what the shell has opened.
    let is_own = path.starts_with("/dev") || path.starts_with("/proc");
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_symlink() => is_own && fs::metadata(path).is_ok(),
        Ok(about) => !about.is_file() && !about.is_dir(),
        Err(_) => false,
    }
}

/// A new file in the folder of `path`. It is removed unless it replaces `path`.
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    if fs::symlink_metadata(path).is_ok_and(|about| about.is_dir()) {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    tempfile::Builder::new()
        .prefix(".framepress-")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
}

/// Whether `path` is a regular file, not a link, with exactly these bytes.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else {
        return false;
    };
    let is_same_len =
        file.metadata().is_ok_and(|it| it.is_file() && it.len() == bytes.len() as u64);
    let mut found = Vec::new();
    is_same_len
        && io::Read::read_to_end(&mut io::Read::take(file, bytes.len() as u64), &mut found).is_ok()
        && found == bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_replaced_and_its_target_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("target"), "precious").unwrap();
        symlink(at("target"), at("link")).unwrap();
        can_be_replaced(&at("link")).unwrap();
        assert!(at("link").is_symlink(), "asking changes nothing");
        replace(&at("link"), b"new").unwrap();
        assert_eq!(fs::read(at("target")).unwrap(), b"precious");
        assert!(!at("link").is_symlink());
        assert_eq!(fs::read(at("link")).unwrap(), b"new");
        fs::set_permissions(at("link"), Permissions::from_mode(0o640)).unwrap();
        replace(&at("link"), b"newer").unwrap();
        assert_eq!(fs::metadata(at("link")).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(replace(folder.path(), b"x").is_err() && can_be_replaced(folder.path()).is_err());
        assert!(can_be_replaced(&at("none/x")).is_err());
        replace(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::symlink_metadata("/dev/null").unwrap().is_file());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_new_file_takes_no_name_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("target"), "precious").unwrap();
        symlink(at("target"), at("cam.jpg")).unwrap();
        symlink(at("nowhere"), at("cam-1.jpg")).unwrap();
        assert_eq!(add(folder.path(), "cam", "jpg", b"one").unwrap(), at("cam-2.jpg"));
        assert_eq!(add(folder.path(), "cam", "jpg", b"one").unwrap(), at("cam-2.jpg"), "the same");
        assert_eq!(add(folder.path(), "cam", "jpg", b"two").unwrap(), at("cam-3.jpg"));
        assert_eq!(fs::read(at("target")).unwrap(), b"precious");
        assert!(!at("nowhere").exists());
    }
}
