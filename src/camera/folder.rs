//! A folder of images: one frame per file, files unchanged.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Coding, FrameSource, Still};
use crate::base::{Fault, Stop};

/// Extensions of image files, in lower case.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Maximum size of an image file, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// How long a file must keep its size before it counts as complete.
const SETTLES: Duration = Duration::from_millis(200);

/// The images of a folder in natural order.
#[derive(Debug)]
pub struct Folder {
    files: Vec<PathBuf>,
    next: usize,
    loop_: bool,
    followed: Option<Followed>,
}

/// A folder that is watched for new files.
#[derive(Debug)]
struct Followed {
    folder: PathBuf,
    /// Names already yielded, and sizes of files that may still grow.
    seen: HashSet<OsString>,
    growing: HashMap<OsString, u64>,
    stop: Stop,
}

impl Folder {
    /// Opens a folder of JPEG, PNG and WebP files, recognised by extension, in natural order:
    /// `frame2` comes before `frame10`. Other files, names that begin with a dot, and subfolders
    /// are skipped. A file that cannot be read has its reason in [`Still::unread`]. With `loop_`,
    /// the first file follows the last.
    ///
    /// [`Fault::Io`] if the folder cannot be listed; [`Fault::Unusable`] if it holds no image.
    pub fn open(path: impl AsRef<Path>, loop_: bool) -> Result<Folder, Fault> {
        let path = path.as_ref();
        let failed = |error| Fault::io(format!("listing folder {}", path.display()), error);
        let mut files = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if is_image(&file) && file.is_file() {
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(Fault::Unusable(format!(
                "folder {} contains no image; valid: files named *.jpg, *.jpeg, *.png or *.webp",
                path.display()
            )));
        }
        files.sort_by(|a, b| natural(name(a), name(b)));
        Ok(Folder { files, next: 0, loop_, followed: None })
    }

    /// As [`Folder::open`], but waits for further files; the folder may be empty. A file is taken
    /// once its size stays the same for 200 ms, so that half-written files are skipped. Ends when
    /// `stop` is raised.
    ///
    /// # Errors
    /// [`Fault::Io`] if the folder cannot be listed.
    pub fn follow(path: impl AsRef<Path>, stop: &Stop) -> Result<Folder, Fault> {
        let folder = path.as_ref().to_owned();
        fs::read_dir(&folder).map_err(|error| listing(&folder, error))?;
        let (seen, growing) = (HashSet::new(), HashMap::new());
        let followed = Some(Followed { folder, seen, growing, stop: stop.clone() });
        Ok(Folder { files: Vec::new(), next: 0, loop_: false, followed })
    }
}

impl FrameSource for Folder {
    fn next(&mut self, still: &mut Still) -> Result<bool, Fault> {
        if let Some(followed) = &mut self.followed
            && self.next == self.files.len()
        {
            self.next = 0;
            self.files = followed.wait()?;
        }
        if self.next == self.files.len() && self.loop_ {
            self.next = 0;
        }
        let Some(path) = self.files.get(self.next) else { return Ok(false) };
        self.next += 1;
        still.name.clear();
        still.name.push_str(&path.file_name().unwrap_or_default().to_string_lossy());
        // An unreadable file must not stop the others.
        still.unread = read(path, &mut still.bytes).err();
        (still.width, still.height, still.channels) = (0, 0, 0);
        (still.coding, still.vehicle_share) = (Coding::File, None);
        Ok(true)
    }

    fn fps(&self) -> Option<f64> {
        None
    }

    fn frames(&self) -> Option<u64> {
        (!self.loop_ && self.followed.is_none()).then_some(self.files.len() as u64)
    }
}

impl Followed {
    /// Waits for new files, in natural order; none once the stop signal is raised.
    fn wait(&mut self) -> Result<Vec<PathBuf>, Fault> {
        loop {
            let mut found = Vec::new();
            for entry in fs::read_dir(&self.folder).map_err(|error| listing(&self.folder, error))? {
                let file = entry.map_err(|error| listing(&self.folder, error))?.path();
                let name = file.file_name().unwrap_or_default().to_owned();
                if !is_image(&file) || self.seen.contains(&name) {
                    continue;
                }
                let Ok(about) = fs::metadata(&file) else { continue };
                let length = about.len();
                if about.is_file() && self.growing.insert(name.clone(), length) == Some(length) {
                    self.growing.remove(&name);
                    self.seen.insert(name);
                    found.push(file);
                }
            }
            found.sort_by(|a, b| natural(name(a), name(b)));
            if !found.is_empty() {
                return Ok(found);
            }
            if self.stop.sleep(SETTLES) {
                return Ok(found);
            }
        }
    }
}

fn listing(folder: &Path, error: std::io::Error) -> Fault {
    Fault::io(format!("listing folder {}", folder.display()), error)
}

fn read(path: &Path, into: &mut Vec<u8>) -> Result<(), String> {
    into.clear();
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let mut file = File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1);
    let length = file.read_to_end(into).map_err(failed)?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(format!("is larger than {} MiB", FILE_BYTES_MAX >> 20));
    }
    Ok(())
}

/// Hidden files are skipped: macOS writes one beside each image.
fn is_image(path: &Path) -> bool {
    if name(path).starts_with(b".") {
        return false;
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

fn name(path: &Path) -> &[u8] {
    path.file_name().map_or(&[], |name| name.as_encoded_bytes())
}

/// Compares names, with runs of digits compared as numbers of any length.
fn natural(left: &[u8], right: &[u8]) -> Ordering {
    let (mut a, mut b) = (left, right);
    while let (Some(&x), Some(&y)) = (a.first(), b.first()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (take_number(&mut a), take_number(&mut b));
            m.len().cmp(&n.len()).then_with(|| m.cmp(n))
        } else {
            (a, b) = (&a[1..], &b[1..]);
            x.cmp(&y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    // The shorter name is a prefix; `01` and `1` are ordered by the whole names.
    a.len().cmp(&b.len()).then_with(|| left.cmp(right))
}

/// Removes the digits at the beginning of `text` and returns them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_of(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), name).unwrap();
        }
        folder
    }

    #[test]
    fn images_come_in_natural_order_as_they_are() {
        let folder = folder_of(&[
            "frame10.png",
            "frame2.JPG",
            "frame1.webp",
            "note.txt",
            "a9.jpeg",
            "frame03.png",
        ]);
        fs::create_dir(folder.path().join("sub.png")).unwrap();
        let mut source = Folder::open(folder.path(), false).unwrap();
        assert_eq!(source.frames(), Some(5));
        let mut still = Still { width: 9, vehicle_share: Some(0.5), ..Still::default() };
        for name in ["a9.jpeg", "frame1.webp", "frame2.JPG", "frame03.png", "frame10.png"] {
            assert!(source.next(&mut still).unwrap());
            assert_eq!(still.bytes, name.as_bytes());
            assert_eq!((still.coding, still.width, still.vehicle_share), (Coding::File, 0, None));
        }
        assert!(!source.next(&mut still).unwrap() && !source.next(&mut still).unwrap());
    }

    #[test]
    fn a_looped_folder_begins_anew() {
        let folder = folder_of(&["1.png", "2.png"]);
        let mut source = Folder::open(folder.path(), true).unwrap();
        let mut still = Still::default();
        for name in ["1.png", "2.png", "1.png", "2.png", "1.png"] {
            assert!(source.next(&mut still).unwrap());
            assert_eq!(still.bytes, name.as_bytes());
        }
        assert_eq!(source.frames(), None);
    }

    #[test]
    fn a_followed_folder_yields_new_files_when_they_are_whole_and_ends_with_the_stop() {
        let (folder, stop) = (folder_of(&["2.png"]), Stop::default());
        let mut source = Folder::follow(folder.path(), &stop).unwrap();
        let mut still = Still::default();
        assert!(source.next(&mut still).unwrap() && still.name == "2.png");
        assert_eq!(source.frames(), None);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                for name in ["10.jpg", "9.jpg"] {
                    fs::write(folder.path().join(name), name).unwrap();
                }
            });
            for name in ["9.jpg", "10.jpg"] {
                assert!(source.next(&mut still).unwrap());
                assert_eq!((still.name.as_str(), &still.bytes[..]), (name, name.as_bytes()));
            }
            stop.drain();
            assert!(!source.next(&mut still).unwrap());
        });
    }

    #[test]
    fn names_that_are_not_utf8_are_read() {
        use std::os::unix::ffi::OsStrExt;
        let folder = folder_of(&[]);
        let name = std::ffi::OsStr::from_bytes(b"a\xFF.png");
        fs::write(folder.path().join(name), b"png").unwrap();
        let mut still = Still::default();
        assert!(Folder::open(folder.path(), false).unwrap().next(&mut still).unwrap());
        assert_eq!(still.bytes, b"png");
    }

    #[test]
    fn a_folder_without_images_and_one_that_is_not_there_are_faults() {
        let folder = folder_of(&["note.txt"]);
        assert!(matches!(Folder::open(folder.path(), false), Err(Fault::Unusable(_))));
        let missing = folder.path().join("none");
        assert!(matches!(Folder::open(missing, false), Err(Fault::Io { .. })));
    }

    #[test]
    fn numbers_too_long_for_any_integer_are_still_numbers() {
        let (short, long) = ("9".repeat(40), format!("1{}", "0".repeat(40)));
        assert_eq!(natural(short.as_bytes(), long.as_bytes()), Ordering::Less);
        assert_eq!(natural(b"x", b"x1"), Ordering::Less);
        assert_eq!(natural(b"07", b"7"), Ordering::Less);
        assert_eq!(natural(b"7", b"7"), Ordering::Equal);
    }
}
