//! Slots: they bound the number of frames between the dispatcher and the end of their commit.
//!
//! A slot carries reusable storage for the frame that holds it. A lane towards the committer has
//! room for every slot, so a worker that holds one never waits to hand its frame on.

use std::ops::{Deref, DerefMut};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::base::{Stop, limits};

/// A fixed set of slots.
#[derive(Debug)]
pub struct Slots<T> {
    idle: Receiver<Box<T>>,
    home: Sender<Box<T>>,
    count: usize,
}

impl<T> Slots<T> {
    /// `count` slots, each with separate storage.
    pub fn new(count: usize, mut storage: impl FnMut() -> T) -> Slots<T> {
        let (home, idle) = bounded(count);
        for _ in 0..count {
            // The channel has room for exactly these.
            let _ = home.try_send(Box::new(storage()));
        }
        Slots { idle, home, count }
    }

    /// How many slots there are, idle or not.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many are in use.
    pub fn in_use(&self) -> usize {
        self.count - self.idle.len().min(self.count)
    }

    /// Waits for a slot; `None` once the engine stops at once.
    pub fn acquire(&self, stop: &Stop) -> Option<Slot<T>> {
        loop {
            match self.idle.recv_timeout(limits::LANE_TICK) {
                Ok(storage) => {
                    return Some(Slot { storage: Some(storage), home: self.home.clone() });
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if stop.is_now() => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// The right of a frame to be in work, with storage for the work. Dropping it gives both back.
#[derive(Debug)]
pub struct Slot<T> {
    storage: Option<Box<T>>,
    home: Sender<Box<T>>,
}

impl<T> Deref for Slot<T> {
    type Target = T;

    #[allow(clippy::expect_used)] // taken in Drop only
    fn deref(&self) -> &T {
        self.storage.as_ref().expect("storage stays until the slot is dropped")
    }
}

impl<T> DerefMut for Slot<T> {
    #[allow(clippy::expect_used)] // taken in Drop only
    fn deref_mut(&mut self) -> &mut T {
        self.storage.as_mut().expect("storage stays until the slot is dropped")
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(storage) = self.storage.take() {
            // The channel has room for every slot. If the engine is gone, the storage may be freed.
            let _ = self.home.try_send(storage);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_as_many_as_were_made_and_keep_their_storage() {
        let slots = Slots::new(2, Vec::<u8>::new);
        let stop = Stop::default();
        let mut first = slots.acquire(&stop).unwrap();
        first.push(7);
        let second = slots.acquire(&stop).unwrap();
        assert_eq!(slots.in_use(), 2);
        drop(first);
        drop(second);
        let kept: usize = (0..2).map(|_| slots.acquire(&stop).unwrap().len()).sum();
        assert_eq!(kept, 1 + usize::from(kept == 2), "the storage came back with the slot");
        let held = (slots.acquire(&stop).unwrap(), slots.acquire(&stop).unwrap());
        stop.now();
        assert!(slots.acquire(&stop).is_none(), "no thread waits once all are to leave");
        drop(held);
    }
}
