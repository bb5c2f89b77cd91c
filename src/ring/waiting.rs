//! How many slots of a ring hold a frame that this reader has not read.

use std::time::Duration;

use super::layout::{RingHeader, SlotHead};
use crate::metrics::clock::Tick;

/// Most slots that are looked at. Of a larger ring some are, evenly spaced.
const LOOKED_AT_MAX: u32 = 256;

/// Minimum time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The frames waiting in a ring, from a look at its slots now and then. What was written before the
/// first look does not count, because it may have been read by another process.
#[derive(Debug)]
pub(super) struct WaitingSlots {
    /// One slot in this many is looked at.
    every: u32,
    /// The generations that were read last, of the slots that are looked at.
    read: Vec<u64>,
    slots: u32,
    looked_at: Option<Tick>,
}

impl WaitingSlots {
    pub fn new(header: &RingHeader) -> WaitingSlots {
        let every = header.slots.div_ceil(LOOKED_AT_MAX).max(1);
        let looked_at = header.slots.div_ceil(every) as usize;
        WaitingSlots { every, read: vec![0; looked_at], slots: 0, looked_at: None }
    }

    /// Notes that a frame was read, or that it was too late for it.
    pub fn note(&mut self, slot: u32, generation: u64) {
        if slot.is_multiple_of(self.every)
            && let Some(read) = self.read.get_mut((slot / self.every) as usize)
        {
            *read = generation.max(*read);
        }
    }

    /// Slots with a frame that was not read; an estimate if not all slots are looked at.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Looks at the slots if the last look was long enough ago. `head` reads the head of a slot.
    pub fn look(&mut self, head: impl Fn(u32) -> Option<SlotHead>) {
        let is_first = self.looked_at.is_none();
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked_at = Some(Tick::now());
        let mut waiting = 0;
        for (slot, read) in (0..).step_by(self.every as usize).zip(&mut self.read) {
            // An odd generation is being written.
            let Some(SlotHead { generation, .. }) = head(slot) else { continue };
            if is_first {
                *read = generation;
            } else if generation.is_multiple_of(2) && generation > *read {
                waiting += self.every;
            }
        }
        self.slots = waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(slots: u32) -> WaitingSlots {
        WaitingSlots::new(&RingHeader {
            slots,
            room: 4096,
            epoch: 0,
            boot_id: 0,
            made_at_micros: 0,
        })
    }

    /// A look at slots of these generations, whenever the last one was.
    fn look(waiting: &mut WaitingSlots, generations: &[u64]) -> u32 {
        if waiting.looked_at.is_some() {
            let long_ago = Tick::now().before(LOOK_EVERY);
            waiting.looked_at = Some(long_ago);
        }
        let head = |slot: u32| {
            let generation = *generations.get(slot as usize)?;
            Some(SlotHead { generation, length: 1, hash: 0 })
        };
        waiting.look(head);
        waiting.slots()
    }

    #[test]
    fn a_slot_waits_from_its_frame_to_the_reader() {
        let mut waiting = waiting(4);
        assert_eq!(look(&mut waiting, &[4, 4, 2, 2]), 0, "from before the first look");
        assert_eq!(look(&mut waiting, &[4, 4, 4, 3]), 1, "one is being written");
        waiting.note(2, 4);
        assert_eq!(look(&mut waiting, &[6, 4, 4, 4]), 2);
        waiting.note(0, 6);
        waiting.note(3, 4);
        assert_eq!(look(&mut waiting, &[6, 4, 4, 4]), 0);
    }

    #[test]
    fn a_large_ring_is_looked_at_in_part() {
        let mut waiting = waiting(65_536);
        assert_eq!(waiting.read.len(), 256);
        let mut generations = vec![2; 65_536];
        look(&mut waiting, &generations);
        generations[..32_768].fill(4);
        assert_eq!(look(&mut waiting, &generations), 32_768);
    }
}
