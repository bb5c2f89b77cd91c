//! What an engine has read from each frame ring.

use parking_lot::Mutex;

/// Most rings whose figures are kept. The one that was used the longest time ago goes first.
const RINGS_MAX: usize = 256;

/// The figures of one frame ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RingFigures {
    /// Its name.
    pub name: String,
    /// Number of its slots.
    pub slots: u32,
    /// Bytes for pixels in each slot.
    pub slot_bytes: u64,
    /// Slots with a frame that was written since the first read and not read yet, by a look at most
    /// once a second.
    pub waiting: u32,
    /// Frames read from it.
    pub frames: u64,
    /// Frames that were overwritten before they were read.
    pub overwritten: u64,
}

/// The figures of all rings, shared by the readers.
#[derive(Debug, Default)]
pub struct RingTable {
    /// The most recently used one comes last.
    rings: Mutex<Vec<RingFigures>>,
}

impl RingTable {
    /// Changes the figures of a ring.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut RingFigures)) {
        let mut rings = self.rings.lock();
        let known = rings.iter().rposition(|ring| ring.name == name);
        let mut ring = match known {
            Some(at) => rings.remove(at),
            None => RingFigures { name: name.to_owned(), ..RingFigures::default() },
        };
        change(&mut ring);
        if rings.len() >= RINGS_MAX {
            rings.remove(0);
        }
        rings.push(ring);
    }

    /// The figures of all rings, by name.
    pub fn all(&self) -> Vec<RingFigures> {
        let mut all = self.rings.lock().clone();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_counted_by_name_and_the_oldest_are_forgotten() {
        let table = RingTable::default();
        for number in 0..RINGS_MAX {
            table.update(&format!("ring-{number}"), |ring| ring.frames += 1);
        }
        table.update("ring-0", |ring| (ring.slots, ring.overwritten) = (8, 1));
        table.update("new", |_| {});
        let all = table.all();
        assert_eq!(all.len(), RINGS_MAX);
        assert!(all.is_sorted_by(|one, other| one.name < other.name));
        let of = |name: &str| all.iter().find(|ring| ring.name == name);
        let first = of("ring-0").unwrap();
        assert_eq!((first.slots, first.frames, first.overwritten), (8, 1, 1));
        assert!(of("ring-1").is_none() && of("new").is_some());
    }
}
