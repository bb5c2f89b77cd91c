//! The writing half: creates a ring, and writes pixels into its slots.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::rand::GetRandomFlags;

use super::folder::{boot_id, why_no_place};
use super::layout::{PAGE, RingHeader, SlotHead, is_name};
use super::reference::Reference;
use crate::base::Fault;
use crate::metrics::clock::unix_nanos;

/// Mode of the folder, if it has to be created.
const FOLDER_MODE: Mode = Mode::from_bits_truncate(0o750);

/// Mode of a ring: its group may read.
const FILE_MODE: Mode = Mode::from_bits_truncate(0o640);

/// How often an attempt is repeated if a ring appears or vanishes meanwhile.
const ATTEMPTS: u32 = 8;

/// The properties of a new ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingOptions {
    /// Its folder on a tmpfs, which is the engine's `ring.dir`. Created if it does not exist.
    pub folder: PathBuf,
    /// Its name: at most 64 letters, digits, `.`, `_` and `-`, beginning with a letter or digit. One producer at a
    /// time has a ring.
    pub name: String,
    /// Number of slots, 2 to 65,536. The ring takes `slots * frame_bytes_max` bytes of memory.
    pub slots: u32,
    /// Bytes of the largest frame; rounded up to whole pages.
    pub frame_bytes_max: u64,
}

/// A ring that only this process writes while this value lives. Afterwards its file stays for
/// entries that have not been read, until the next producer with this name replaces it.
#[derive(Debug)]
pub struct Ring {
    name: String,
    header: RingHeader,
    file: File,
    generations: Vec<u64>,
}

impl Ring {
    /// Creates a ring, and allocates all memory that it will ever need.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for options that a ring cannot have, and if another producer writes it.
    /// [`Fault::Io`] otherwise; `ENOSPC` means that the tmpfs is full.
    pub fn create(options: &RingOptions) -> Result<Ring, Fault> {
        let RingOptions { folder, name, slots, frame_bytes_max } = options;
        let path = folder.join(format!("{name}.ring"));
        let failed = |what: &str, error: Errno| {
            Fault::io(format!("{what} the ring {}", path.display()), error.into())
        };
        if !is_name(name) {
            return Err(Fault::Unusable(format!(
                "{name:?} is not a name for a ring; valid: up to 64 letters, digits, \".\", \"_\" \
                 and \"-\", a letter or digit first"
            )));
        }
        let header = RingHeader {
            slots: *slots,
            room: frame_bytes_max.max(&1).saturating_add(PAGE - 1) / PAGE * PAGE,
            epoch: random().map_err(|error| failed("finding an epoch for", error))?,
            boot_id: boot_id()
                .map_err(|error| Fault::io("reading the boot id of this machine", error))?,
            made_at_micros: u64::try_from(unix_nanos() / 1000).unwrap_or(u64::MAX),
        };
        let len = header
            .file_len()
            .map_err(|bad| Fault::Unusable(format!("the ring {name} cannot be created: {bad}")))?;

        match rustix::fs::mkdir(folder, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("making the folder of", error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let at = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(|error| failed("opening the folder of", error))?;
        let of_folder = rustix::fs::fstat(&at).map_err(|error| failed("looking at", error))?;
        if let Some(why) = why_no_place(&of_folder) {
            return Err(Fault::Unusable(format!("no ring in {}: {why}", folder.display())));
        }
        // A file without a name vanishes with the process, even after a crash.
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&at, ".", flags, FILE_MODE)
            .map_err(|error| failed("making", error))?;
        rustix::fs::fchmod(&file, FILE_MODE).map_err(|error| failed("making", error))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed("locking", error))?;
        // Allocate here, so that a full tmpfs is an error here and not later.
        let take = || rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len);
        let mut taken = take();
        if taken == Err(Errno::NOSPC) {
            // The file left by the former producer is replaced anyway, and may be what fills the
            // tmpfs.
            remove_left(&at, &path)?;
            taken = take();
        }
        taken.map_err(|error| failed(&format!("taking {len} bytes for"), error))?;
        let file = File::from(file);
        file.write_all_at(&header.encode(), 0)
            .map_err(|error| Fault::io(format!("writing the ring {}", path.display()), error))?;
        put_in_place(&file, &at, &path)?;
        let generations = vec![0; *slots as usize];
        Ok(Ring { name: name.clone(), header, file, generations })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its properties.
    pub fn header(&self) -> &RingHeader {
        &self.header
    }

    /// Overwrites a slot with pixels. A reader of the slot detects it.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if there is no such slot or the pixels do not fit; [`Fault::Io`] if
    /// writing fails. The slot then holds no frame.
    pub fn write(&mut self, slot: u32, pixels: &[u8]) -> Result<Reference, Fault> {
        let Ring { name, header, file, generations } = self;
        let length = pixels.len() as u64;
        let place = header.slot_at(slot).filter(|_| length <= header.room);
        let (Some(at), Some(generation)) = (place, generations.get_mut(slot as usize)) else {
            return Err(Fault::Unusable(format!(
                "the ring {name} has {} slots of {} bytes, so slot {slot} cannot take {length} \
                 bytes",
                header.slots, header.room
            )));
        };
        *generation |= 1;
        let writing = SlotHead { generation: *generation, length, hash: 0 };
        let written = SlotHead { generation: generation.wrapping_add(1), ..writing };
        let all = file
            .write_all_at(&writing.encode(), at)
            .and_then(|()| file.write_all_at(pixels, at + PAGE))
            .and_then(|()| file.write_all_at(&written.encode(), at));
        all.map_err(|error| Fault::io(format!("writing the ring {name}"), error))?;
        *generation = written.generation;
        Ok(Reference {
            name: name.clone(),
            epoch: header.epoch,
            slot,
            generation: written.generation,
            length,
            hash: 0,
        })
    }
}

/// Gives the file its name. A ring of this name without a producer is replaced.
fn put_in_place(file: &File, folder: &OwnedFd, path: &Path) -> Result<(), Fault> {
    let failed = |error: Errno| {
        Fault::io(format!("putting the ring {} in place", path.display()), error.into())
    };
    let name = path.file_name().unwrap_or_default();
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    for _ in 0..ATTEMPTS {
        remove_left(folder, path)?;
        match rustix::fs::linkat(CWD, &own, folder, name, AtFlags::SYMLINK_FOLLOW) {
            // Another producer was faster. The next attempt finds its lock, or finds it gone.
            Err(Errno::EXIST) => {}
            done => return done.map_err(failed),
        }
    }
    Err(failed(Errno::EXIST))
}

/// Further attempts to lock the file of a former producer. While this process starts a child, the child
/// holds copies of all descriptors until it executes its program, and with them the locks of producers
/// that have ended here.
const LOCK_ATTEMPTS: u32 = 20;
/// The pause before each of them.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Removes the file of a producer that has ended.
fn remove_left(folder: &OwnedFd, path: &Path) -> Result<(), Fault> {
    let failed =
        |error: Errno| Fault::io(format!("replacing the ring {}", path.display()), error.into());
    let name = path.file_name().unwrap_or_default();
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let left = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let about = rustix::fs::fstat(&left).map_err(failed)?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
        return Err(failed(Errno::EXIST));
    }
    let lock = || rustix::fs::flock(&left, FlockOperation::NonBlockingLockExclusive);
    let mut locked = lock();
    for _ in 0..LOCK_ATTEMPTS {
        if locked != Err(Errno::WOULDBLOCK) {
            break;
        }
        std::thread::sleep(LOCK_PAUSE);
        locked = lock();
    }
    match locked {
        Err(Errno::WOULDBLOCK) => {
            return Err(Fault::Unusable(format!(
                "the ring {} has a producer already; valid: another name for each",
                path.display()
            )));
        }
        locked => locked.map_err(failed)?,
    }
    // No other producer removes the file while the lock is held, but one may have done so before.
    let now = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    if now.is_ok_and(|now| (now.st_dev, now.st_ino) == (about.st_dev, about.st_ino)) {
        rustix::fs::unlinkat(folder, name, AtFlags::empty()).map_err(failed)?;
    }
    Ok(())
}

fn random() -> Result<u128, Errno> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::{Rings, Unread};
    use super::*;

    fn options(folder: &Path) -> RingOptions {
        RingOptions {
            folder: folder.to_owned(),
            name: "cam".into(),
            slots: 2,
            frame_bytes_max: 5000,
        }
    }

    fn read(rings: &mut Rings, reference: &Reference) -> Result<Vec<u8>, Unread> {
        let mut pixels = vec![0; usize::try_from(reference.length).unwrap()];
        let hash = rings.read(reference, &mut pixels)?;
        assert_eq!(hash, crate::frame::hash_of(&pixels));
        Ok(pixels)
    }

    #[test]
    fn what_is_written_is_read_until_it_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let mut ring = Ring::create(&options(folder.path())).unwrap();
        let mut rings = Rings::new(folder.path().to_owned());
        let first = ring.write(0, &[1; 5000]).unwrap();
        let second = ring.write(1, &[2; 17]).unwrap();
        assert_eq!(read(&mut rings, &first).unwrap(), [1; 5000]);
        assert_eq!(read(&mut rings, &second).unwrap(), [2; 17]);
        let third = ring.write(0, &[3; 5000]).unwrap();
        assert!(matches!(read(&mut rings, &first), Err(Unread::Overwritten)));
        assert_eq!(read(&mut rings, &third).unwrap(), [3; 5000]);
        let path = folder.path().join("cam.ring");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), ring.header().file_len().unwrap());
    }

    #[test]
    fn a_child_that_is_being_started_does_not_keep_a_ring() {
        let parent = tempfile::tempdir().unwrap();
        let options = options(&parent.path().join("framepress"));
        drop(Ring::create(&options).unwrap());
        // A child that has not executed its program yet has a copy of the descriptor, as this one.
        let held = File::open(parent.path().join("framepress/cam.ring")).unwrap();
        rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                drop(held);
            });
            Ring::create(&options).unwrap();
        });
    }

    #[test]
    fn a_ring_has_one_producer_and_is_replaced_when_that_is_gone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("framepress");
        let options = options(&folder);
        let mut ring = Ring::create(&options).unwrap();
        let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
        let refused = Ring::create(&options).unwrap_err().to_string();
        assert!(refused.contains("has a producer already"), "{refused}");
        let reference = ring.write(0, &[1; 9]).unwrap();
        drop(ring);
        let mut rings = Rings::new(folder.clone());
        assert_eq!(read(&mut rings, &reference).unwrap(), [1; 9], "it outlives its producer");
        let mut next = Ring::create(&options).unwrap();
        let other = next.write(0, &[2; 9]).unwrap();
        assert_eq!(read(&mut rings, &other).unwrap(), [2; 9]);
        let gone = read(&mut rings, &reference);
        assert!(matches!(gone, Err(Unread::Gone(_))), "{gone:?}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_no_ring_can_be_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |change: fn(&mut RingOptions)| {
            let mut options = options(folder.path());
            change(&mut options);
            Ring::create(&options).unwrap_err().to_string()
        };
        assert!(refused(|it| it.name = "../cam".into()).contains("not a name for a ring"));
        assert!(refused(|it| it.slots = 1).contains("1 slots"));
        assert!(refused(|it| it.frame_bytes_max = u64::MAX).contains("room for"));
        let full = refused(|it| it.frame_bytes_max = 1 << 55);
        assert!(full.contains("taking"), "{full}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
        let mut ring = Ring::create(&options(folder.path())).unwrap();
        assert!(ring.write(0, &[0; 8193]).unwrap_err().to_string().contains("8193"));
        assert!(ring.write(2, &[0; 1]).unwrap_err().to_string().contains("slot 2"));
    }
}
