//! The buffer pool: buffers are leased and return to the pool on drop.
//!
//! Invariants:
//! 1. Leased bytes stay within the budget, with two exceptions: [`Pool::lease_now`], whose callers
//!    are bounded by the slots they hold, and small buffers, of which each frame has at most two.
//! 2. A buffer's size is its class. Lengths are rounded up by at most a quarter, so buffers of
//!    slightly different frames are interchangeable, and nothing is allocated once every class in
//!    use has been seen.
//! 3. Leased and idle bytes together stay within the budget as long as leased bytes alone do.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::base::{Stop, limits};
use crate::metrics::clock::Tick;

/// Smallest buffer, for side fields and labels of a frame.
const SMALLEST: usize = 1 << 10;

/// Four classes per doubling.
const CLASSES_PER_OCTAVE: usize = 4;

/// Classes up to 1 KiB << 30, far above any payload limit.
const CLASSES: usize = 30 * CLASSES_PER_OCTAVE;

/// An idle buffer may serve a request up to this many classes smaller.
const CLASS_SLACK: usize = 3;

#[derive(Debug)]
struct Free {
    by_class: Vec<Vec<Box<[u8]>>>,
    idle_bytes: usize,
    leased_bytes: usize,
    leased_count: usize,
    /// Leased buffers above [`Pool::SMALL`].
    leased_large: usize,
    blocked: Duration,
}

#[derive(Debug)]
struct PoolShared {
    free: Mutex<Free>,
    returned: Condvar,
    budget: usize,
}

/// A pool of byte buffers with a budget. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Arc<PoolShared>,
}

/// How much a pool holds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// In use.
    pub leased_bytes: usize,
    /// Waiting to be used again.
    pub idle_bytes: usize,
    /// Buffers in use.
    pub leased_count: usize,
    /// Time for which callers waited for buffers to be returned.
    pub blocked: Duration,
}

impl Pool {
    /// Buffers up to this size hold the fields beside a frame. A reader that waits for a large
    /// buffer may hold a small one, and a holder of a large buffer may ask for a small one. So a
    /// request for a small buffer never waits, and no caller waits if only small ones are leased.
    pub const SMALL: usize = 32 << 10;

    /// A pool that hands out at most `budget` bytes at a time.
    pub fn new(budget: usize) -> Pool {
        let free = Free {
            by_class: (0..CLASSES).map(|_| Vec::with_capacity(16)).collect(),
            idle_bytes: 0,
            leased_bytes: 0,
            leased_count: 0,
            leased_large: 0,
            blocked: Duration::ZERO,
        };
        Pool {
            shared: Arc::new(PoolShared {
                free: Mutex::new(free),
                returned: Condvar::new(),
                budget,
            }),
        }
    }

    /// Leases `len` bytes; `None` once the engine stops at once. For a large buffer, the caller
    /// waits until the budget has room. A request above the whole budget is served when no other
    /// large buffer is leased. The caller must not hold a large buffer itself.
    pub fn lease(&self, len: usize, stop: &Stop) -> Option<Lease> {
        let (class, size) = class_of(len);
        let mut free = self.shared.free.lock();
        while size > Pool::SMALL
            && free.leased_bytes + size > self.shared.budget
            && free.leased_large > 0
        {
            if stop.is_now() {
                return None;
            }
            let began = Tick::now();
            self.shared.returned.wait_for(&mut free, limits::LANE_TICK);
            free.blocked += began.elapsed();
        }
        Some(self.take(&mut free, class, size, len))
    }

    /// Leases `len` bytes at once, above the budget if necessary. For holders of a slot, which must
    /// not wait and are few.
    pub fn lease_now(&self, len: usize) -> Lease {
        let (class, size) = class_of(len);
        let mut free = self.shared.free.lock();
        self.take(&mut free, class, size, len)
    }

    /// The current usage of the pool.
    pub fn usage(&self) -> PoolUsage {
        let free = self.shared.free.lock();
        PoolUsage {
            leased_bytes: free.leased_bytes,
            idle_bytes: free.idle_bytes,
            leased_count: free.leased_count,
            blocked: free.blocked,
        }
    }

    fn take(&self, free: &mut Free, class: usize, size: usize, len: usize) -> Lease {
        let last = (class + CLASS_SLACK).min(CLASSES - 1);
        let found = (class..=last).find_map(|class| free.by_class[class].pop());
        let storage = match found {
            Some(storage) => {
                free.idle_bytes -= storage.len();
                storage
            }
            None => {
                free.make_room(size, self.shared.budget);
                vec![0; size].into_boxed_slice()
            }
        };
        free.leased_bytes += storage.len();
        free.leased_count += 1;
        free.leased_large += usize::from(storage.len() > Pool::SMALL);
        Lease { storage, len, home: Arc::clone(&self.shared) }
    }
}

impl Free {
    /// Drops idle buffers, the largest first, until `size` more bytes fit into the budget.
    fn make_room(&mut self, size: usize, budget: usize) {
        for class in (0..CLASSES).rev() {
            while self.leased_bytes + self.idle_bytes + size > budget {
                let Some(storage) = self.by_class[class].pop() else { break };
                self.idle_bytes -= storage.len();
            }
        }
    }
}

/// The class for a length, and the size of its buffers.
fn class_of(len: usize) -> (usize, usize) {
    let len = len.max(SMALLEST);
    // Position of the highest bit, and the two bits below it rounded up.
    let octave = (len.ilog2() - SMALLEST.ilog2()) as usize;
    let base = SMALLEST << octave;
    let step = base / CLASSES_PER_OCTAVE;
    let quarter = (len - base).div_ceil(step);
    let class = octave * CLASSES_PER_OCTAVE + quarter;
    (class.min(CLASSES - 1), base + quarter * step)
}

/// A leased buffer. Its contents are those of the last holder.
#[derive(Debug)]
pub struct Lease {
    storage: Box<[u8]>,
    len: usize,
    home: Arc<PoolShared>,
}

impl Lease {
    /// Shortens the buffer to its first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[..self.len]
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[..self.len]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let storage = std::mem::take(&mut self.storage);
        let size = storage.len();
        let mut free = self.home.free.lock();
        free.leased_bytes -= size;
        free.leased_count -= 1;
        free.leased_large -= usize::from(size > Pool::SMALL);
        // A buffer is not kept above the budget or if its size is no class's.
        if free.leased_bytes + free.idle_bytes + size <= self.home.budget {
            let (class, rounded) = class_of(size);
            if rounded == size {
                free.by_class[class].push(storage);
                free.idle_bytes += size;
            }
        }
        drop(free);
        self.home.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn classes_waste_at_most_a_quarter_and_are_stable(len in 1_usize..(1 << 27)) {
            let (class, size) = class_of(len);
            prop_assert!(size >= len);
            prop_assert!(size <= len.max(SMALLEST) + len.max(SMALLEST) / 4 + 1);
            prop_assert_eq!(class_of(size), (class, size));
            if len > SMALLEST { prop_assert!(class_of(len - 1).0 <= class); }
        }
    }

    #[test]
    fn the_budget_holds_and_a_return_wakes_the_waiter() {
        let pool = Pool::new(100 << 10);
        let stop = Stop::default();
        let first = pool.lease(80 << 10, &stop).unwrap();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| pool.lease(40 << 10, &stop).map(|lease| lease.len()));
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert_eq!(pool.usage().leased_bytes, 80 << 10, "the waiter has to wait");
            drop(first);
            assert_eq!(waiter.join().unwrap(), Some(40 << 10));
        });
        assert!(!pool.usage().blocked.is_zero(), "the wait is on the account");
        assert_eq!(pool.usage().leased_count, 0);
        assert!(pool.usage().idle_bytes <= 100 << 10);
    }

    #[test]
    fn a_request_above_the_budget_is_served_alone_and_not_kept() {
        let pool = Pool::new(4 << 10);
        let _side = pool.lease_now(1 << 10);
        let lease = pool.lease(1 << 20, &Stop::default()).unwrap();
        assert_eq!(lease.len(), 1 << 20);
        drop(lease);
        assert_eq!(pool.usage().idle_bytes, 0, "it is not kept");
    }

    #[test]
    fn no_caller_waits_for_a_buffer_when_the_engine_leaves_at_once() {
        let pool = Pool::new(64 << 10);
        let _held = pool.lease_now(64 << 10);
        let stop = Stop::default();
        stop.now();
        assert!(pool.lease(40 << 10, &stop).is_none());
    }

    #[test]
    fn a_holder_of_the_whole_budget_can_lease_a_small_buffer_as_well() {
        let pool = Pool::new(64 << 10);
        let stop = Stop::default();
        let _data = pool.lease(64 << 10, &stop).unwrap();
        assert_eq!(pool.lease(Pool::SMALL, &stop).unwrap().len(), Pool::SMALL);
    }

    #[test]
    fn the_same_sizes_again_allocate_nothing_new() {
        let pool = Pool::new(1 << 20);
        let address = pool.lease_now(100_000).as_ptr();
        assert_eq!(pool.lease_now(99_000).as_ptr(), address);
    }
}
