//! What the faults of an episode may have cost, collected while they happen.

use std::collections::{HashMap, HashSet};

use super::archive::Archive;

/// What the checker lets pass.
#[derive(Debug, Default)]
pub struct Excuses {
    /// Frames that need not come out.
    pub lost: HashSet<String>,
    /// How often each frame may come out beyond once.
    pub doubled: HashMap<String, u32>,
    /// Times, in milliseconds, in which commits may have gone unanswered; `at_least_once` repeats
    /// them.
    pub unanswered: Vec<(u64, u64)>,
    /// Times, in milliseconds, in which what was confirmed may be lost by a failover.
    pub unreplicated: Vec<(u64, u64)>,
    /// Whether the order within a camera may have changed with one engine.
    pub reordered: bool,
    /// Whether the engines may have counted results that are lost.
    pub miscounted: bool,
    /// Results whose engines cannot know that they were stored.
    pub untold: u64,
    /// How often the engine that had an entry in hand was killed, or stopped until another could
    /// claim it.
    pub hits: HashMap<String, u32>,
}

impl Excuses {
    /// The frames may be lost, if they have no result yet.
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

    /// The frames may come out once more.
    pub fn may_double<'a>(&mut self, frames: impl Iterator<Item = &'a String>) {
        for frame in frames {
            *self.doubled.entry(frame.clone()).or_default() += 1;
        }
    }
}
