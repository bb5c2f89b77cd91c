//! The reading half: copies pixels out of rings that other processes write, possibly wrongly.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::folder::{boot_id, is_open_to_all};
use super::layout::{HEADER_BYTES, PAGE, RingHeader, SLOT_HEAD_BYTES, SlotHead};
use super::reference::Reference;
use super::waiting::WaitingSlots;
use crate::frame::RunningDigest;
use crate::metrics::clock::Tick;

/// Most rings that are kept open.
const OPEN_MAX: usize = 64;

/// Bytes copied at a time, so that they are hashed while they are still in the cache.
const PIECE: usize = 128 << 10;

/// A removed file is closed after this time without use, because it occupies memory until then.
const REMOVED_KEPT: Duration = Duration::from_secs(10);

/// Why the pixels of a reference were not read.
#[derive(Debug)]
pub enum Unread {
    /// The slot already holds another frame, or is being written.
    Overwritten,
    /// There is no such ring; with the reason for a person.
    Gone(String),
    /// This process lacks descriptors or memory. Worth another try.
    Fault(io::Error),
}

/// The rings of a folder, as one thread reads them.
#[derive(Debug)]
pub struct Rings {
    folder: PathBuf,
    boot_id: Option<u128>,
    /// Open rings; the most recently used one comes last.
    open: Vec<OpenRing>,
    looked_at: Tick,
}

/// A ring that passed all checks.
#[derive(Debug)]
struct OpenRing {
    name: String,
    header: RingHeader,
    file: File,
    waiting: WaitingSlots,
    used_at: Tick,
}

impl Rings {
    /// The rings of a folder, which need not exist yet.
    pub fn new(folder: PathBuf) -> Rings {
        Rings { folder, boot_id: None, open: Vec::new(), looked_at: Tick::now() }
    }

    /// Copies the pixels of a reference into `pixels`, which must have the length in the reference.
    /// Returns their XXH3-64. After an error, the contents of `pixels` are useless.
    ///
    /// # Errors
    /// [`Unread`]. Never waits for a producer.
    pub fn read(&mut self, reference: &Reference, pixels: &mut [u8]) -> Result<u64, Unread> {
        let ring = self.ring(reference)?;
        ring.used_at = Tick::now();
        let outcome = ring.take(reference, pixels);
        if let Ok(_) | Err(Unread::Overwritten) = outcome {
            ring.waiting.note(reference.slot, reference.generation);
            let OpenRing { header, file, waiting, .. } = ring;
            waiting.look(|slot| slot_head(file, header.slot_at(slot)?).ok());
        }
        outcome
    }

    /// The header of the ring of this name, if the ring is valid.
    ///
    /// # Errors
    /// [`Unread::Gone`], [`Unread::Fault`].
    pub fn look(&mut self, name: &str) -> Result<RingHeader, Unread> {
        self.find(name).map(|ring| ring.header)
    }

    /// The header of the ring that was used last, and how many of its slots held a frame that was
    /// not read when they were last looked at.
    pub fn last_used(&self) -> Option<(&RingHeader, u32)> {
        self.open.last().map(|ring| (&ring.header, ring.waiting.slots()))
    }

    /// Closes files that were removed and are not used. To be called now and then.
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

    /// The open ring of a reference. An open ring with the same name and another epoch is replaced
    /// if the file with the right epoch exists.
    fn ring(&mut self, reference: &Reference) -> Result<&mut OpenRing, Unread> {
        let is_it =
            |ring: &OpenRing| ring.name == reference.name && ring.header.epoch == reference.epoch;
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

    /// Opens a ring, and checks everything that can be checked before a slot is read.
    fn find(&mut self, name: &str) -> Result<OpenRing, Unread> {
        let path = self.folder.join(format!("{name}.ring"));
        let gone = |detail: String| Unread::Gone(format!("the ring {}: {detail}", path.display()));
        let failed = |error: Errno| match error {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Unread::Fault(error.into()),
            error => gone(io::Error::from(error).to_string()),
        };
        // Open the folder again each time: a restarted service creates another one.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.folder, flags, Mode::empty()).map_err(failed)?;
        let of_folder = rustix::fs::fstat(&folder).map_err(failed)?;
        if is_open_to_all(&of_folder) {
            return Err(gone("everybody may write to its folder".into()));
        }
        let file = open_below(&folder, &format!("{name}.ring")).map_err(failed)?;
        let about = rustix::fs::fstat(&file).map_err(failed)?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err(gone("it is not a regular file".into()));
        }
        if !is_trusted(&about, &of_folder) {
            return Err(gone("it belongs to another account than its folder".into()));
        }
        let file = File::from(file);
        let mut head = [0; HEADER_BYTES];
        file.read_exact_at(&mut head, 0).map_err(|error| gone(error.to_string()))?;
        let header = RingHeader::decode(&head).map_err(|bad| gone(bad.to_string()))?;
        let (len, expected) = (about.st_size, header.file_len().unwrap_or(0));
        if u64::try_from(len) != Ok(expected) {
            return Err(gone(format!("it has {len} bytes, but its header declares {expected}")));
        }
        // A sandboxed service may not see the boot id. The epoch still tells files apart.
        self.boot_id = self.boot_id.or_else(|| boot_id().ok());
        if self.boot_id.is_some_and(|here| header.boot_id != here) {
            return Err(gone(
                "it was made on another machine, or before this one was started".into(),
            ));
        }
        let waiting = WaitingSlots::new(&header);
        Ok(OpenRing { name: name.to_owned(), header, file, waiting, used_at: Tick::now() })
    }
}

impl OpenRing {
    /// Copies the pixels of a reference out of its slot.
    fn take(&self, reference: &Reference, pixels: &mut [u8]) -> Result<u64, Unread> {
        let is_wanted = |head: SlotHead| {
            head.generation == reference.generation && head.length == reference.length
        };
        let at =
            self.header.slot_at(reference.slot).filter(|_| reference.length <= self.header.room);
        let at = at.ok_or_else(|| {
            let RingHeader { slots, room, .. } = self.header;
            Unread::Gone(format!(
                "the ring {} has {slots} slots for {room} bytes, not slot {} with {} bytes",
                reference.name, reference.slot, reference.length
            ))
        })?;
        let before = self.slot_head(at)?;
        if !is_wanted(before) || reference.generation == 0 {
            return Err(Unread::Overwritten);
        }
        let hash = self.copy(at + PAGE, pixels)?;
        let is_same = self.slot_head(at)? == before;
        let fits = |given: u64| given == 0 || given == hash;
        if is_same && fits(reference.hash) && fits(before.hash) {
            Ok(hash)
        } else {
            Err(Unread::Overwritten)
        }
    }

    fn slot_head(&self, at: u64) -> Result<SlotHead, Unread> {
        slot_head(&self.file, at).map_err(|error| self.cut(&error))
    }

    fn copy(&self, at: u64, pixels: &mut [u8]) -> Result<u64, Unread> {
        let mut hash = RunningDigest::default();
        let mut at = at;
        for piece in pixels.chunks_mut(PIECE) {
            self.file.read_exact_at(piece, at).map_err(|error| self.cut(&error))?;
            hash.add(piece);
            at += piece.len() as u64;
        }
        Ok(hash.finish())
    }

    /// The fault of a file that was truncated after it was opened.
    fn cut(&self, error: &io::Error) -> Unread {
        Unread::Gone(format!("the file of the ring {} was truncated: {error}", self.name))
    }
}

fn slot_head(file: &File, at: u64) -> io::Result<SlotHead> {
    let mut bytes = [0; SLOT_HEAD_BYTES];
    file.read_exact_at(&mut bytes, at)?;
    Ok(SlotHead::decode(&bytes))
}

/// Opens a file of a folder for reading, without following links. Opening a pipe does not block, so
/// that it can be refused.
fn open_below(folder: impl AsFd, name: &str) -> Result<std::os::fd::OwnedFd, Errno> {
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&folder, name, flags, Mode::empty(), within) {
        // Containers may forbid openat2. A name without a slash cannot lead elsewhere anyway.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&folder, name, flags, Mode::empty()),
        opened => opened,
    }
}

/// Whether the owner of a file may write to its folder: the owner of the folder, the superuser, the
/// account of this process, or any account if the folder is writable to its group.
fn is_trusted(file: &Stat, folder: &Stat) -> bool {
    file.st_uid == folder.st_uid
        || file.st_uid == 0
        || file.st_uid == rustix::process::geteuid().as_raw()
        || Mode::from_raw_mode(folder.st_mode).contains(Mode::WGRP)
}
