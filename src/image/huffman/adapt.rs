//! The tables of one camera, which follow what it shows.
//!
//! Several workers code frames of a camera at the same time. Each takes the tables in force without a
//! lock. The worker whose frame shows that they fit no longer learns new ones from that frame, after it
//! has handed the frame on, and puts them in force. A credit in frames bounds how often that happens, and
//! taking from it decides who does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwapOption;

use super::super::markers::{next_marker, segment};
use super::{Counts, Tables, count_symbols, start_tables};

/// Frames whose hundredth part is the price of learning: it takes about half the time that coding a frame
/// takes, so it stays within a hundredth of the time for coding.
const PRICE: u32 = 50;
/// Credit that a camera begins with, and the most it can have: at once after its first frame, and again
/// if that frame was not like the others.
const CREDIT_MAX: u32 = 2 * PRICE;
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
    /// Frames of credit in the lower half, frames to rest in the upper half.
    account: AtomicU32,
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

    /// Judges the tables by the file that was coded with them. True: the caller is to [`learn`] from it.
    ///
    /// [`learn`]: Adaptive::learn
    pub fn judge(&self, chosen: &Chosen, file: &[u8], blocks: usize, gray: bool) -> bool {
        let fits = chosen.promised().is_some_and(|promised| {
            let bits = 8 * file.len().saturating_sub(head_len(file));
            let found = bits as f32 / blocks.max(1) as f32;
            (found / promised - 1.0).abs() <= TOLERANCE
        });
        self.slots[usize::from(gray)].pay(!fits)
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
        Slot { learnt: ArcSwapOption::empty(), account: AtomicU32::new(CREDIT_MAX) }
    }
}

impl Slot {
    /// Counts a frame; if it `wants` to learn, takes the price unless there is too little credit.
    fn pay(&self, wants: bool) -> bool {
        let mut pays = false;
        let change = |account: u32| {
            let credit = ((account & 0xffff) + 1).min(CREDIT_MAX);
            let rest = (account >> 16).saturating_sub(1);
            pays = wants && rest == 0 && credit >= PRICE;
            Some(if pays { REST << 16 | (credit - PRICE) } else { rest << 16 | credit })
        };
        // The closure always gives a value.
        let _ = self.account.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        pays
    }
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
