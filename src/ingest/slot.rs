//! Holds one waiting frame per camera: the newest one.

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::image::{Format, RawLayout};
use crate::metrics::clock::Tick;

/// A picture waiting to be sent.
#[derive(Clone, Debug)]
pub struct Shot {
    /// The picture.
    pub bytes: Vec<u8>,
    /// Its format.
    pub format: Format,
    /// Layout of raw bytes.
    pub layout: RawLayout,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 3 for colour, 1 for gray.
    pub channels: u32,
    /// Quality with which it was encoded; 0 if not known.
    pub quality: i32,
    /// Capture time in seconds since the Unix epoch.
    pub captured: f64,
    /// Arrival time on the monotonic clock.
    pub arrived: Tick,
}

/// Holds at most one frame, and wakes the sender.
#[derive(Debug)]
pub struct FrameSlot {
    waiting: Mutex<Option<Shot>>,
    spare: Mutex<Vec<u8>>,
    refusal: Mutex<Option<String>>,
    wake: Sender<()>,
}

/// Creates the wake-up channel shared by all slots.
pub fn bell() -> (Sender<()>, Receiver<()>) {
    // One pending wake-up suffices; further ones add nothing.
    bounded(1)
}

impl FrameSlot {
    /// An empty slot that notifies `wake`.
    pub fn new(wake: Sender<()>) -> FrameSlot {
        let (waiting, spare, refusal) = Default::default();
        FrameSlot { waiting, spare, refusal, wake }
    }

    /// Stores the reason why frames of this camera cannot be sent, for its reader.
    pub fn refuse(&self, why: String) {
        *self.refusal.lock() = Some(why);
    }

    /// Takes the reason stored by the sender.
    pub fn take_refusal(&self) -> Option<String> {
        self.refusal.lock().take()
    }

    /// An empty buffer to fill, reused if possible.
    pub fn buffer(&self) -> Vec<u8> {
        std::mem::take(&mut *self.spare.lock())
    }

    /// Stores a frame; returns whether it replaced another one.
    pub fn put(&self, shot: Shot) -> bool {
        let before = self.waiting.lock().replace(shot);
        let _ = self.wake.try_send(());
        let replaced = before.is_some();
        if let Some(before) = before {
            self.give_back(before.bytes);
        }
        replaced
    }

    /// Puts back a frame that could not be sent, unless a newer one is waiting. Returns whether the
    /// frame was dropped.
    pub fn put_back(&self, shot: Shot) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.is_none() {
            *waiting = Some(shot);
            return false;
        }
        drop(waiting);
        self.give_back(shot.bytes);
        true
    }

    /// Takes the waiting frame.
    pub fn take(&self) -> Option<Shot> {
        self.waiting.lock().take()
    }

    /// Returns the buffer of a sent frame for reuse.
    pub fn give_back(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        *self.spare.lock() = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shot(captured: f64) -> Shot {
        let (format, layout, arrived) = (Format::Jpeg, RawLayout::default(), Tick::now());
        let (width, height, channels, quality) = (1, 1, 3, 0);
        Shot { bytes: vec![1], format, layout, width, height, channels, quality, captured, arrived }
    }

    #[test]
    fn the_newest_frame_replaces_the_waiting_one() {
        let (wake, bell) = bell();
        let slot = FrameSlot::new(wake);
        assert!(!slot.put(shot(1.0)) && slot.put(shot(2.0)) && slot.put(shot(3.0)));
        assert_eq!((bell.len(), slot.take().map(|shot| shot.captured)), (1, Some(3.0)));
        assert!(slot.take().is_none() && !slot.put_back(shot(3.0)) && slot.put_back(shot(2.0)));
        assert_eq!(slot.take().map(|shot| shot.captured), Some(3.0));
    }
}
