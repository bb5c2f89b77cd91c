//! The Huffman tables of one camera, adapted to its pictures.
//!
//! Several workers encode frames of a camera at the same time. Each reads the tables in force
//! without a lock. If a frame shows that the tables fit badly, its worker first passes the frame
//! on, then learns new tables from it and puts them in force. An account of credit, counted in
//! frames, limits how often this happens. Taking credit also decides which worker learns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use super::super::markers::{next_marker, segment};
use super::{CHEAP_PIXELS, Counts, SMALL_BYTES, Tables, count_symbols, is_small, start_tables};

/// Cost of learning, in hundredths of the time to encode a frame. Counting takes half of the
/// encoding time. Building tables takes as long as encoding a thousand blocks. Each frame pays back
/// one hundredth, so learning takes at most a hundredth of the encoding time.
const PRICE_OF_COUNTING: u32 = 50;
const PRICE_OF_TABLES: u32 = 100_000;
/// Number of learnings on credit: one after a camera's first frame, and another one if that frame
/// was not typical.
const ADVANCE: u32 = 2;
/// Minimum number of frames between two learnings: as many may still be encoding with the old
/// tables.
const REST: u32 = 8;
/// Tolerated relative deviation of the bits per block from the promised value.
const TOLERANCE: f32 = 0.02;
/// Maximum number of replaced tables that a worker keeps for reuse.
const SPARE_MAX: usize = 4;

/// The tables of a camera's outputs, for colour and for gray pictures: about a kibibyte for each
/// output.
///
/// Thumbnails have none: they are so small that two passes give smaller files.
#[derive(Debug, Default)]
pub struct CameraTables {
    /// Tables for the frame itself.
    pub picture: Adaptive,
    /// Tables for the ML image.
    pub ml_image: Adaptive,
}

/// The tables of one output of a camera.
#[derive(Debug, Default)]
pub struct Adaptive {
    /// For colour, for gray.
    slots: [TableSlot; 2],
}

#[derive(Debug)]
struct TableSlot {
    learnt: ArcSwapOption<Learnt>,
    /// Lower half: debt from learning, in frames. Upper half: frames until learning is allowed
    /// again.
    account: AtomicU32,
    /// Bytes of the last file.
    len: AtomicUsize,
}

/// Tables learnt from a picture.
#[derive(Debug)]
struct Learnt {
    quality: u8,
    /// Bits per block of that picture with these tables.
    promised: f32,
    tables: Tables,
}

/// Handle of the tables in force while a picture is encoded.
#[derive(Debug)]
pub struct Chosen(AdaptiveInner);

#[derive(Debug)]
enum AdaptiveInner {
    Built(&'static Tables),
    Learnt(Arc<Learnt>),
}

impl Chosen {
    /// The tables.
    pub fn tables(&self) -> &Tables {
        match &self.0 {
            AdaptiveInner::Built(tables) => tables,
            AdaptiveInner::Learnt(learnt) => &learnt.tables,
        }
    }

    /// Whether they were learnt from a frame of the camera.
    pub fn is_learnt(&self) -> bool {
        self.promised().is_some()
    }

    fn promised(&self) -> Option<f32> {
        match &self.0 {
            AdaptiveInner::Built(_) => None,
            AdaptiveInner::Learnt(learnt) => Some(learnt.promised),
        }
    }
}

/// Scratch storage of a worker for learning.
#[derive(Debug, Default)]
pub struct Learner {
    counts: Counts,
    spare: Vec<Arc<Learnt>>,
}

impl Adaptive {
    /// The tables for a picture of a quality from 1 to 100.
    pub fn choose(&self, quality: u8, gray: bool) -> Chosen {
        match self.slots[usize::from(gray)].learnt.load_full() {
            Some(learnt) if learnt.quality == quality => Chosen(AdaptiveInner::Learnt(learnt)),
            _ => Chosen(AdaptiveInner::Built(start_tables(quality))),
        }
    }

    /// Whether two passes make the next picture of this size smaller: codes for symbols that can
    /// occur but do not are then more than a twentieth of the file.
    pub fn wants_two_passes(&self, width: usize, height: usize, gray: bool) -> bool {
        let len = self.slots[usize::from(gray)].len.load(Ordering::Relaxed);
        is_small(width, height) || len < SMALL_BYTES && width * height <= CHEAP_PIXELS
    }

    /// Notes the size of a file that was coded in two passes.
    pub fn note_len(&self, file: &[u8], gray: bool) {
        self.slots[usize::from(gray)].len.store(file.len(), Ordering::Relaxed);
    }

    /// Compares the tables with the file that was encoded with them. If true, the caller must
    /// [`learn`] from the file.
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

    /// Learns tables from a file of this quality. Returns whether new tables are in force.
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

impl Default for TableSlot {
    fn default() -> Self {
        TableSlot {
            learnt: ArcSwapOption::empty(),
            account: AtomicU32::new(0),
            len: AtomicUsize::new(usize::MAX),
        }
    }
}

impl TableSlot {
    /// Counts a frame, which pays back one frame of debt. If it `wants` to learn, adds `price` to
    /// the debt unless that exceeds the credit or the last learning is too recent. Returns whether
    /// the caller learns.
    fn pay(&self, wants: bool, price: u32) -> bool {
        let mut pays = false;
        let change = |account: u32| {
            let debt = (account & 0xffff).saturating_sub(1);
            let rest = (account >> 16).saturating_sub(1);
            pays = wants && rest == 0 && debt + price <= ADVANCE * price;
            Some(if pays { REST << 16 | (debt + price) } else { rest << 16 | debt })
        };
        // The closure always returns `Some`, so the update cannot fail.
        let _ = self.account.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        pays
    }
}

/// Price of one learning, in frames; [`ADVANCE`] times the price fits the lower half of an account.
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
