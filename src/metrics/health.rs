//! Whether the engine can do its work: the source of `/livez` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::clock::Tick;

/// A part of the engine that needs Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A reader, by its number.
    Reader(usize),
    /// A committer, by its number.
    Committer(usize),
}

/// The state of all parts. A part that has not reported yet is not ready.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<BTreeMap<Part, Result<(), String>>>,
    /// Microseconds from `born` to the last sign of life of a part.
    beat_micros: AtomicU64,
    born: Mutex<Option<Tick>>,
}

impl Health {
    /// Registers a part that is not ready yet.
    pub fn expect(&self, part: Part) {
        self.parts.lock().insert(part, Err("starting".into()));
    }

    /// Notes that a part works. Cheap enough to be called at every loop iteration.
    pub fn works(&self, part: Part) {
        self.beat();
        if let Some(state @ Err(_)) = self.parts.lock().get_mut(&part) {
            *state = Ok(());
        }
    }

    /// Notes that a part cannot work, and why.
    pub fn fails(&self, part: Part, why: impl Into<String>) {
        self.beat(); // trying again is progress too
        self.parts.lock().insert(part, Err(why.into()));
    }

    /// Why the engine is not ready; `None` if it is.
    pub fn unready(&self) -> Option<String> {
        let parts = self.parts.lock();
        if parts.is_empty() {
            return Some("starting".into());
        }
        parts.iter().find_map(|(part, state)| {
            state.as_ref().err().map(|why| match part {
                Part::Reader(index) => format!("reader {index}: {why}"),
                Part::Committer(index) => format!("committer {index}: {why}"),
            })
        })
    }

    /// Time since a part last gave a sign of life.
    pub fn silence(&self) -> Duration {
        let born = *self.born.lock();
        born.map_or(Duration::ZERO, |born| {
            born.elapsed()
                .saturating_sub(Duration::from_micros(self.beat_micros.load(Ordering::Relaxed)))
        })
    }

    /// Notes that a part's loop runs, even if it is only waiting.
    pub fn beat(&self) {
        let born = *self.born.lock().get_or_insert_with(Tick::now);
        let micros = u64::try_from(born.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.beat_micros.store(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_to_work_for_the_engine_to_be_ready() {
        let health = Health::default();
        assert_eq!(health.unready().as_deref(), Some("starting"));
        health.expect(Part::Reader(0));
        health.expect(Part::Committer(0));
        health.works(Part::Reader(0));
        assert_eq!(health.unready().as_deref(), Some("committer 0: starting"));
        health.works(Part::Committer(0));
        assert_eq!(health.unready(), None);
        health.fails(Part::Reader(0), "no route");
        assert_eq!(health.unready().as_deref(), Some("reader 0: no route"));
    }
}
