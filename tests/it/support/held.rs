//! Committers held up as if the network had stopped for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::internals::redis::{FaultPoint, Operation};

use super::{LONG, wait_until};

/// Holds up the committers of an engine, each at its next operation of one kind.
#[derive(Default)]
pub struct HeldCommits {
    is_held: Arc<AtomicBool>,
    is_cut: Arc<AtomicBool>,
}

impl HeldCommits {
    /// The fault-injection point to start an engine with; it holds committers at `operation`.
    pub fn fault_point(&self, operation: Operation) -> FaultPoint {
        let (is_held, is_cut) = (Arc::clone(&self.is_held), Arc::clone(&self.is_cut));
        FaultPoint::new(move |now| {
            let thread = std::thread::current();
            let commits = thread.name().is_some_and(|name| name.starts_with("fp-commit"));
            while commits && now == operation && is_held.load(Ordering::SeqCst) {
                if is_cut.swap(false, Ordering::SeqCst) {
                    return Err(std::io::Error::other("cut"));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
    }

    pub fn hold(&self) {
        self.is_held.store(true, Ordering::SeqCst);
    }

    /// Makes the held operation fail once, as if its connection were lost.
    #[track_caller]
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        wait_until("an operation is cut off", LONG, || !self.is_cut.load(Ordering::SeqCst));
    }

    pub fn release(&self) {
        self.is_held.store(false, Ordering::SeqCst);
    }
}
