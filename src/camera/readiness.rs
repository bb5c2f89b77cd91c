//! Waiting for bytes without ever being deaf to the stop signal.

use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::base::{Fault, Stop};

/// Longest time between two looks at the stop signal.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Which of two descriptors can be read, or have ended; both `false` once the stop signal is raised.
pub(super) struct Ready {
    pub(super) first: bool,
    pub(super) second: bool,
}

/// Waits until a descriptor can be read without blocking, or until the stop signal is raised.
pub(super) fn readable(
    first: BorrowedFd<'_>,
    second: Option<BorrowedFd<'_>>,
    stop: &Stop,
) -> Result<Ready, Fault> {
    let mut watched = [PollFd::new(&first, PollFlags::IN), PollFd::new(&first, PollFlags::IN)];
    if let Some(second) = &second {
        watched[1] = PollFd::new(second, PollFlags::IN);
    }
    let watched = &mut watched[..1 + usize::from(second.is_some())];
    while !stop.is_draining() {
        match poll(watched, Some(&TICK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => {
                let ready = |at: usize| watched.get(at).is_some_and(|it| !it.revents().is_empty());
                return Ok(Ready { first: ready(0), second: ready(1) });
            }
            Err(error) => return Err(Fault::io("waiting for frames", error.into())),
        }
    }
    Ok(Ready { first: false, second: false })
}
