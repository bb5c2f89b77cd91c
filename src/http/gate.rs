//! The gate in front of the HTTP library: what strangers can make it do is decided here.
//!
//! tiny_http starts a thread for every connection, lets a head be as long and as slow as its
//! client likes, queues pipelined requests without end, and reads the rest of a body nobody wants.
//! So it only ever sees what one thread has let through: complete heads of bounded size, one per
//! connection and without a body, over a socket no stranger can reach. That thread never blocks on
//! anybody, the number of connections and the bytes held for them are bounded, and when all places
//! are taken the connection that has been idle for longest makes room: a thousand idle connections
//! keep nobody out.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::visit::{Next, Visit};
use crate::base::{Fault, Stop};
use crate::metrics::clock::Tick;

/// How often the end and the deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Most connections at a time. Each has a thread in the library only while it is being answered.
const VISITS_MAX: usize = 64;

/// Most bytes of answers held for slow clients, all together; beyond it each may still have
/// [`ROOM_MIN`].
const BUFFERED_BYTES_MAX: usize = 16 << 20;
const ROOM_MIN: usize = 64 << 10;

/// The gate, ready to run.
#[derive(Debug)]
pub(super) struct Gate {
    /// Non-blocking.
    pub(super) listener: TcpListener,
    /// Where the server behind it listens.
    pub(super) server: PathBuf,
}

impl Gate {
    /// Lets requests through until `end`.
    ///
    /// # Errors
    /// [`Fault::Io`] if the system no longer says what there is to do.
    pub(super) fn run(self, end: &Stop) -> Result<(), Fault> {
        let mut visits: Vec<Visit> = Vec::with_capacity(VISITS_MAX);
        while !end.is_draining() {
            let buffered: usize = visits.iter().map(Visit::buffered).sum();
            let room = BUFFERED_BYTES_MAX.saturating_sub(buffered).max(ROOM_MIN);
            let (has_guests, ready) = self
                .wait(&visits, room)
                .map_err(|errno| Fault::io("stats server", errno.into()))?;
            let now = Tick::now();
            let mut ready = ready.into_iter();
            visits.retain_mut(|visit| {
                let is_ready = ready.next().unwrap_or(false);
                let stepped = if is_ready { visit.step(&self.server, room) } else { Next::Wait };
                stepped == Next::Wait && visit.look_at_clock(now) == Next::Wait
            });
            if has_guests && !self.admit(&mut visits) {
                // Out of descriptors or memory: it passes, and until then there is no hurry.
                end.sleep(TICK);
            }
        }
        Ok(())
    }

    /// Waits until there is something to do: whether somebody is at the door, and for each visit
    /// whether it can go on.
    fn wait(&self, visits: &[Visit], room: usize) -> rustix::io::Result<(bool, Vec<bool>)> {
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        let mut owners = Vec::new();
        for (owner, visit) in visits.iter().enumerate() {
            for (fd, flags) in visit.waits_for(room).into_iter().flatten() {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                owners.push(owner);
            }
        }
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) };
        match poll(&mut fds, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut ready = vec![false; visits.len()];
        for (fd, owner) in fds[1..].iter().zip(owners) {
            ready[owner] |= !fd.revents().is_empty();
        }
        Ok((!fds[0].revents().is_empty(), ready))
    }

    /// Lets in who is at the door; says whether the system allowed it.
    fn admit(&self, visits: &mut Vec<Visit>) -> bool {
        for _ in 0..VISITS_MAX {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return true,
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => continue,
                    _ => {
                        tracing::debug!("the stats server cannot accept a connection: {error}");
                        return false;
                    }
                },
            };
            if visits.len() >= VISITS_MAX {
                let leaver = visits.iter().position(Visit::is_idle).unwrap_or(0);
                visits.remove(leaver);
            }
            // One whose socket cannot be set up is gone already.
            visits.extend(Visit::new(client));
        }
        true
    }
}
