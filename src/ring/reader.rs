//! The reading half: pixels out of rings that other processes write, and may write wrongly.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::folder::{boot_id, is_open_to_all};
use super::layout::{HEADER_BYTES, Header, PAGE, SLOT_HEAD_BYTES, SlotHead};
use super::reference::Reference;
use crate::frame::Running;
use crate::metrics::clock::Tick;

/// Most rings that are kept open.
const OPEN_MAX: usize = 64;

/// Pixels copied at a time: they are hashed while they are still in the cache.
const PIECE: usize = 128 << 10;

/// A file that has been removed is let go after so long without use: until then it takes memory.
const REMOVED_KEPT: Duration = Duration::from_secs(10);

/// Why the pixels of a reference were not read.
#[derive(Debug)]
pub enum Unread {
    /// The slot holds another frame by now, or is being written.
    Overwritten,
    /// There is no such ring; in words for a person.
    Gone(String),
    /// This process could not look, for it lacks descriptors or memory. Worth another try.
    Fault(io::Error),
}

/// The rings of a folder, as one thread reads them.
#[derive(Debug)]
pub struct Rings {
    folder: PathBuf,
    boot_id: Option<u128>,
    /// The one used last stands last.
    open: Vec<Open>,
    looked_at: Tick,
}

/// A ring that was found sound.
#[derive(Debug)]
struct Open {
    name: String,
    header: Header,
    file: File,
    used_at: Tick,
}

impl Rings {
    /// The rings of a folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> Rings {
        Rings { folder, boot_id: None, open: Vec::new(), looked_at: Tick::now() }
    }

    /// Copies the pixels of a reference into `pixels`, which are as many bytes as it says. Gives their
    /// XXH3-64. After an error, what is in `pixels` is of no use.
    ///
    /// # Errors
    /// [`Unread`]. Never waits for a producer.
    pub fn read(&mut self, reference: &Reference, pixels: &mut [u8]) -> Result<u64, Unread> {
        let ring = self.ring(reference)?;
        ring.used_at = Tick::now();
        let is_wanted = |head: SlotHead| {
            head.generation == reference.generation && head.length == reference.length
        };
        let at =
            ring.header.slot_at(reference.slot).filter(|_| reference.length <= ring.header.room);
        let at = at.ok_or_else(|| {
            let Header { slots, room, .. } = ring.header;
            Unread::Gone(format!(
                "the ring {} has {slots} slots for {room} bytes, not slot {} with {} bytes",
                reference.name, reference.slot, reference.length
            ))
        })?;
        let before = ring.slot_head(at)?;
        if !is_wanted(before) || reference.generation == 0 {
            return Err(Unread::Overwritten);
        }
        let hash = ring.copy(at + PAGE, pixels)?;
        let is_same = ring.slot_head(at)? == before;
        let fits = |given: u64| given == 0 || given == hash;
        if is_same && fits(reference.hash) && fits(before.hash) {
            Ok(hash)
        } else {
            Err(Unread::Overwritten)
        }
    }

    /// What a ring of that name is, if it is sound.
    ///
    /// # Errors
    /// [`Unread::Gone`], [`Unread::Fault`].
    pub fn look(&mut self, name: &str) -> Result<Header, Unread> {
        self.find(name).map(|ring| ring.header)
    }

    /// Lets files go that were removed and are not used any more. To be called now and then.
    pub fn tidy(&mut self) {
        if self.looked_at.elapsed() < REMOVED_KEPT {
            return;
        }
        self.looked_at = Tick::now();
        self.open.retain(|ring| {
            let is_removed = rustix::fs::fstat(&ring.file).is_ok_and(|about| about.st_nlink == 0);
            !is_removed || ring.used_at.elapsed() < REMOVED_KEPT
        });
    }

    /// The open ring of a reference. One of the same name and another epoch is replaced if the file
    /// of the right epoch is there by now.
    fn ring(&mut self, reference: &Reference) -> Result<&mut Open, Unread> {
        let is_it =
            |ring: &Open| ring.name == reference.name && ring.header.epoch == reference.epoch;
        let ring = match self.open.iter().position(is_it) {
            Some(at) => self.open.remove(at),
            None => {
                let found = self.find(&reference.name)?;
                if found.header.epoch != reference.epoch {
                    let detail = "the file of the frame has been replaced by another one";
                    return Err(Unread::Gone(format!("the ring {}: {detail}", reference.name)));
                }
                self.open.retain(|ring| ring.name != reference.name);
                if self.open.len() >= OPEN_MAX {
                    self.open.remove(0);
                }
                found
            }
        };
        self.open.push(ring);
        self.open.last_mut().ok_or(Unread::Overwritten)
    }

    /// Opens a ring and looks at all that can be known before a slot is read.
    fn find(&mut self, name: &str) -> Result<Open, Unread> {
        let path = self.folder.join(format!("{name}.ring"));
        let gone = |detail: String| Unread::Gone(format!("the ring {}: {detail}", path.display()));
        let failed = |error: Errno| match error {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Unread::Fault(error.into()),
            error => gone(io::Error::from(error).to_string()),
        };
        // The folder anew each time: a service that starts again makes another one.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.folder, flags, Mode::empty()).map_err(failed)?;
        let of_folder = rustix::fs::fstat(&folder).map_err(failed)?;
        if is_open_to_all(&of_folder) {
            return Err(gone("everybody may write to its folder".into()));
        }
        let file = open_below(&folder, &format!("{name}.ring")).map_err(failed)?;
        let about = rustix::fs::fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(gone("it is no regular file".into()));
        }
        if !is_trusted(&about, &of_folder) {
            return Err(gone("it belongs to another account than its folder".into()));
        }
        let file = File::from(file);
        let mut head = [0; HEADER_BYTES];
        file.read_exact_at(&mut head, 0).map_err(|error| gone(error.to_string()))?;
        let header = Header::decode(&head).map_err(|bad| gone(bad.to_string()))?;
        let (len, expected) = (about.st_size, header.file_len().unwrap_or(0));
        if u64::try_from(len) != Ok(expected) {
            return Err(gone(format!("it has {len} bytes, and {expected} by its header")));
        }
        // Not to be had in a service that may not look there. The epoch tells files apart all the same.
        self.boot_id = self.boot_id.or_else(|| boot_id().ok());
        if self.boot_id.is_some_and(|here| header.boot_id != here) {
            return Err(gone(
                "it was made on another machine, or before this one was started".into(),
            ));
        }
        Ok(Open { name: name.to_owned(), header, file, used_at: Tick::now() })
    }
}

impl Open {
    fn slot_head(&self, at: u64) -> Result<SlotHead, Unread> {
        let mut bytes = [0; SLOT_HEAD_BYTES];
        self.file.read_exact_at(&mut bytes, at).map_err(|error| self.cut(&error))?;
        Ok(SlotHead::decode(&bytes))
    }

    fn copy(&self, at: u64, pixels: &mut [u8]) -> Result<u64, Unread> {
        let mut hash = Running::default();
        let mut at = at;
        for piece in pixels.chunks_mut(PIECE) {
            self.file.read_exact_at(piece, at).map_err(|error| self.cut(&error))?;
            hash.add(piece);
            at += piece.len() as u64;
        }
        Ok(hash.finish())
    }

    /// The file was sound when it was opened.
    fn cut(&self, error: &io::Error) -> Unread {
        Unread::Gone(format!("the ring {} has been cut short: {error}", self.name))
    }
}

/// Opens a file of a folder for reading, and nothing that a link leads to. A pipe is opened at once
/// as well, so that it can be refused.
fn open_below(folder: impl AsFd, name: &str) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&folder, name, flags, Mode::empty(), within) {
        // Containers may not allow it. A name without a slash leads nowhere else either.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&folder, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// Whether a file is of an account that may write to its folder: the owner of the folder, the
/// superuser, or, where the group may write too, one that is let in by it.
fn is_trusted(file: &Stat, folder: &Stat) -> bool {
    file.st_uid == folder.st_uid
        || file.st_uid == 0
        || file.st_uid == rustix::process::geteuid().as_raw()
        || Mode::from_raw_mode(folder.st_mode).contains(Mode::WGRP)
}
