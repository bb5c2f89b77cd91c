//! Waits for bytes, but never without checking the stop signal.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::base::{Fault, Stop};
use crate::metrics::clock::Tick;

/// Longest time between two checks of the stop signal.
const TICK: Duration = Duration::from_millis(100);

/// Which of two descriptors are readable or at their end. Both are `false` once the stop signal is
/// raised or the time is over.
pub(super) struct Readiness {
    pub(super) first: bool,
    pub(super) second: bool,
}

/// Whether a descriptor is readable or at its end now.
pub(super) fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
    poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Waits until a descriptor is readable without blocking, the stop signal is raised, or `until` has
/// passed.
pub(super) fn readable(
    first: BorrowedFd<'_>,
    second: Option<BorrowedFd<'_>>,
    stop: &Stop,
    until: Option<Tick>,
) -> Result<Readiness, Fault> {
    let mut watched = [PollFd::new(&first, PollFlags::IN), PollFd::new(&first, PollFlags::IN)];
    if let Some(second) = &second {
        watched[1] = PollFd::new(second, PollFlags::IN);
    }
    let watched = &mut watched[..1 + usize::from(second.is_some())];
    while !stop.is_draining() && until.is_none_or(|until| !until.remaining().is_zero()) {
        let tick = until.map_or(TICK, |until| until.remaining().min(TICK));
        let tick = Timespec::try_from(tick).ok();
        match poll(watched, tick.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => {
                let ready = |at: usize| watched.get(at).is_some_and(|it| !it.revents().is_empty());
                return Ok(Readiness { first: ready(0), second: ready(1) });
            }
            Err(error) => return Err(Fault::io("waiting for frames", error.into())),
        }
    }
    Ok(Readiness { first: false, second: false })
}
