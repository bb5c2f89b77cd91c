//! Lists the rings of a folder for a person.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::layout::{RingHeader, is_name};
use super::reader::{Rings, Unread};

/// The file in which the kernel lists locks.
const LOCKS: &str = "/proc/locks";

/// A file with the name of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name of the ring.
    pub name: String,
    /// Its header, or why it is not a valid ring.
    pub header: Result<RingHeader, String>,
    /// Whether a producer holds it; `None` if the kernel does not tell.
    pub has_producer: Option<bool>,
}

/// The rings of a folder, by name.
///
/// # Errors
/// Those of reading the folder.
pub fn list(folder: &Path) -> io::Result<Vec<Listed>> {
    let locks = fs::read_to_string(LOCKS).ok();
    let mut rings = Rings::new(folder.to_owned());
    let mut listed = Vec::new();
    for entry in fs::read_dir(folder)? {
        let file = entry?.file_name().into_string().unwrap_or_default();
        let Some(name) = file.strip_suffix(".ring").filter(|name| is_name(name)) else { continue };
        let header = rings.look(name).map_err(|unread| match unread {
            Unread::Gone(detail) => detail,
            Unread::Overwritten => "it is being written".into(),
            Unread::Fault(error) => error.to_string(),
        });
        let inode = fs::symlink_metadata(folder.join(&file))?.ino();
        let has_producer = locks.as_ref().map(|locks| is_locked(locks, inode));
        listed.push(Listed { name: name.to_owned(), header, has_producer });
    }
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(listed)
}

/// Whether a file has an exclusive lock as a whole: `1: FLOCK  ADVISORY  WRITE 7341 00:1a:5 0 EOF`.
fn is_locked(locks: &str, inode: u64) -> bool {
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_exclusive = words.next() == Some("FLOCK") && words.nth(1) == Some("WRITE");
        let place = words.nth(1).and_then(|place| place.rsplit(':').next()?.parse().ok());
        is_exclusive && place == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Ring, RingOptions};
    use super::*;

    #[test]
    fn rings_are_listed_with_their_producers() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let folder = folder.path().to_owned();
            Ring::create(&RingOptions { folder, name: name.into(), slots: 4, frame_bytes_max: 1 })
                .unwrap()
        };
        let _alive = make("b");
        drop(make("a"));
        fs::write(folder.path().join("c.ring"), "no ring").unwrap();
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        let listed = list(folder.path()).unwrap();
        let named: Vec<_> = listed.iter().map(|ring| (&*ring.name, ring.has_producer)).collect();
        assert_eq!(named, [("a", Some(false)), ("b", Some(true)), ("c", Some(false))]);
        assert_eq!(listed[1].header.as_ref().unwrap().slots, 4);
        assert!(listed[2].header.as_ref().unwrap_err().contains("c.ring"));
        assert!(list(&folder.path().join("nowhere")).is_err());
    }
}
