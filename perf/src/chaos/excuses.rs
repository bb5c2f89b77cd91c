//! The possible costs of an episode's faults, collected while they happen.

use std::collections::{HashMap, HashSet};

use super::archive::Archive;

/// What the checker excuses.
#[derive(Debug, Default)]
pub struct Excuses {
    /// Frames that need not come out.
    pub lost: HashSet<String>,
    /// How many extra results each frame may have.
    pub doubled: HashMap<String, u32>,
    /// Time spans, in milliseconds, in which commits may have gone unanswered; `at_least_once`
    /// repeats them.
    pub unanswered: Vec<(u64, u64)>,
    /// Time spans, in milliseconds, in which a failover may lose confirmed writes.
    pub unreplicated: Vec<(u64, u64)>,
    /// Whether the order within a camera may have changed with one engine.
    pub reordered: bool,
    /// Whether the engines may have counted lost results.
    pub miscounted: bool,
    /// Results whose engines cannot know that they were stored.
    pub untold: u64,
    /// How often the engine that had an entry in hand was killed, or stopped until another could
    /// claim it.
    pub hits: HashMap<String, u32>,
}

impl Excuses {
    /// Excuses the loss of these frames, if they have no result yet.
    pub fn may_lose<'a>(&mut self, frames: impl Iterator<Item = &'a String>, archive: &Archive) {
        let results = archive.lock();
        let mut new = 0;
        for frame in frames {
            if !results.has(frame) && self.lost.insert(frame.clone()) {
                new += 1;
            }
        }
        drop(results);
        archive.settle(new);
    }

    /// Excuses one more result of each of these frames.
    pub fn may_double<'a>(&mut self, frames: impl Iterator<Item = &'a String>) {
        for frame in frames {
            *self.doubled.entry(frame.clone()).or_default() += 1;
        }
    }
}
