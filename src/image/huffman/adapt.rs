//! The tables of one camera, which follow what it shows.
//!
//! Several workers code frames of a camera at the same time. Each takes the tables in force without a
//! lock. The worker whose frame shows that they fit no longer learns new ones from that frame, after it
//! has handed the frame on, and puts them in force. A credit in frames bounds how often that happens, and
//! taking from it decides who does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use super::super::markers::{next_marker, segment};
use super::{CHEAP_PIXELS, Counts, SMALL_BYTES, Tables, count_symbols, is_small, start_tables};

/// What learning costs, in hundredths of coding a frame: counting takes half of the time that coding
/// takes, making tables as long as coding a thousand blocks. A frame pays one, so learning stays within a
/// hundredth of the time for coding.
const PRICE_OF_COUNTING: u32 = 50;
const PRICE_OF_TABLES: u32 = 100_000;
/// Learnings that a camera may owe for: one after its first frame, and another one if that frame was not
/// like the others.
const ADVANCE: u32 = 2;
/// Frames between two learnings at least: so many may be in work with the old tables.
const REST: u32 = 8;
/// By how much the bits per block may be off what the tables promised.
const TOLERANCE: f32 = 0.02;
/// Learnt tables kept for reuse by a worker.
const SPARE_MAX: usize = 4;

/// The tables of a camera's outputs, of colour and gray pictures each: about a kibibyte for each output.
///
/// Thumbnails have none: they are so small that two passes take fewer bytes.
#[derive(Debug, Default)]
pub struct CameraTables {
    /// Of the frame itself.
    pub picture: Adaptive,
    /// Of the ML image.
    pub ml_image: Adaptive,
}

/// The tables of one output of a camera.
#[derive(Debug, Default)]
pub struct Adaptive {
    /// Of colour, of gray.
    slots: [Slot; 2],
}

#[derive(Debug)]
struct Slot {
    learnt: ArcSwapOption<Learnt>,
    /// Frames that are still owed for learning in the lower half, frames to rest in the upper half.
    account: AtomicU32,
    /// Bytes of the last file.
    len: AtomicUsize,
}

/// What was learnt from a picture.
#[derive(Debug)]
struct Learnt {
    quality: u8,
    /// Bits per block of that picture with the tables.
    promised: f32,
    tables: Tables,
}

/// Tables in force, for as long as a picture is coded.
#[derive(Debug)]
pub struct Chosen(Inner);

#[derive(Debug)]
enum Inner {
    Built(&'static Tables),
    Learnt(Arc<Learnt>),
}

impl Chosen {
    /// The tables.
    pub fn tables(&self) -> &Tables {
        match &self.0 {
            Inner::Built(tables) => tables,
            Inner::Learnt(learnt) => &learnt.tables,
        }
    }

    /// Whether they were learnt from a frame of the camera.
    pub fn is_learnt(&self) -> bool {
        self.promised().is_some()
    }

    fn promised(&self) -> Option<f32> {
        match &self.0 {
            Inner::Built(_) => None,
            Inner::Learnt(learnt) => Some(learnt.promised),
        }
    }
}

/// Storage for learning, kept by a worker.
#[derive(Debug, Default)]
pub struct Learner {
    counts: Counts,
    spare: Vec<Arc<Learnt>>,
}

impl Adaptive {
    /// The tables for a picture of a quality from 1 to 100.
    pub fn choose(&self, quality: u8, gray: bool) -> Chosen {
        match self.slots[usize::from(gray)].learnt.load_full() {
            Some(learnt) if learnt.quality == quality => Chosen(Inner::Learnt(learnt)),
            _ => Chosen(Inner::Built(start_tables(quality))),
        }
    }

    /// Whether two passes serve the next picture of this size better: codes for symbols that can occur
    /// and do not are then more than a twentieth of the file.
    pub fn wants_two_passes(&self, width: usize, height: usize, gray: bool) -> bool {
        let len = self.slots[usize::from(gray)].len.load(Ordering::Relaxed);
        is_small(width, height) || len < SMALL_BYTES && width * height <= CHEAP_PIXELS
    }

    /// Notes the size of a file that was coded in two passes.
    pub fn note_len(&self, file: &[u8], gray: bool) {
        self.slots[usize::from(gray)].len.store(file.len(), Ordering::Relaxed);
    }

    /// Judges the tables by the file that was coded with them. True: the caller is to [`learn`] from it.
    ///
    /// [`learn`]: Adaptive::learn
    pub fn judge(&self, chosen: &Chosen, file: &[u8], blocks: usize, gray: bool) -> bool {
        let fits = chosen.promised().is_some_and(|promised| {
            let bits = 8 * file.len().saturating_sub(head_len(file));
            let found = bits as f32 / blocks.max(1) as f32;
            (found / promised - 1.0).abs() <= TOLERANCE
        });
        let slot = &self.slots[usize::from(gray)];
        slot.len.store(file.len(), Ordering::Relaxed);
        slot.pay(!fits, price(blocks))
    }

    /// Learns from a file of this quality; says whether the tables are new.
    pub fn learn(&self, learner: &mut Learner, quality: u8, file: &[u8], gray: bool) -> bool {
        let Some(counts) = count_symbols(file) else { return false };
        learner.counts = counts;
        let tables = learner.counts.tables(quality, start_tables(quality));
        let Some(bits) = learner.counts.bits_with(&tables) else { return false };
        let promised = bits as f32 / learner.counts.blocks.max(1) as f32;
        let new = Learnt { quality, promised, tables };
        let spare = learner.spare.iter_mut().position(|spare| Arc::get_mut(spare).is_some());
        let learnt = match spare.map(|at| learner.spare.swap_remove(at)) {
            Some(mut spare) => {
                if let Some(place) = Arc::get_mut(&mut spare) {
                    *place = new;
                }
                spare
            }
            None => Arc::new(new),
        };
        if let Some(old) = self.slots[usize::from(gray)].learnt.swap(Some(learnt))
            && learner.spare.len() < SPARE_MAX
        {
            learner.spare.push(old);
        }
        true
    }
}

impl Default for Slot {
    fn default() -> Self {
        Slot {
            learnt: ArcSwapOption::empty(),
            account: AtomicU32::new(0),
            len: AtomicUsize::new(usize::MAX),
        }
    }
}

impl Slot {
    /// Counts a frame; if it `wants` to learn, takes the price on credit unless too much is owed.
    fn pay(&self, wants: bool, price: u32) -> bool {
        let mut pays = false;
        let change = |account: u32| {
            let owed = (account & 0xffff).saturating_sub(1);
            let rest = (account >> 16).saturating_sub(1);
            pays = wants && rest == 0 && owed + price <= ADVANCE * price;
            Some(if pays { REST << 16 | (owed + price) } else { rest << 16 | owed })
        };
        // The closure always gives a value.
        let _ = self.account.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        pays
    }
}

/// In frames; [`ADVANCE`] of it fit the lower half of an account.
fn price(blocks: usize) -> u32 {
    let blocks = u32::try_from(blocks.max(1)).unwrap_or(u32::MAX);
    (PRICE_OF_COUNTING + PRICE_OF_TABLES / blocks).min(0xffff / ADVANCE)
}

/// Bytes of a file up to its coded data.
fn head_len(file: &[u8]) -> usize {
    let mut rest = file.get(2..).unwrap_or_default();
    while let Some((marker, after)) = next_marker(rest) {
        let Some((_, after)) = segment(after) else { break };
        if marker == 0xda {
            return file.len() - after.len();
        }
        rest = after;
    }
    0
}
