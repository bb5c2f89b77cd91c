//! The gate in front of the HTTP library limits what untrusted clients can make it do.
//!
//! tiny_http starts a thread for every connection, accepts heads of any length and duration, queues
//! pipelined requests without limit, and reads the rest of an unwanted body. So it only receives
//! requests that the gate's thread has let through: complete heads of bounded size, one per
//! connection, without a body, over a socket that other users cannot reach.
//!
//! The gate's thread blocks on no client. It bounds the number of connections, also by the file
//! descriptors that the rest of the process does not need, and the bytes held for them. If all
//! places are taken, the connection that has been idle for longest is closed, so that idle
//! connections do not keep browsers out. The server behind the gate answers one request after the
//! other, so the gate reads its output at once, even if a client reads slowly. If the buffers are
//! full, the connection that holds most is closed.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::inner::Inner;
use super::visit::{Visit, VisitNext};
use crate::base::{Fault, Stop};
use crate::metrics::clock::Tick;

/// How often the deadlines of visits are checked.
const TICK: Duration = Duration::from_millis(100);
/// The same without visits, if the stop signal can be polled.
const IDLE_TICK: Duration = Duration::from_secs(10);

/// Maximum connections at a time. Each has a thread in the library only while it is being answered.
pub(super) const VISITS_MAX: usize = 64;

/// File descriptors of a connection while it is answered: the client's, and both ends of the socket
/// to the server behind the gate.
const DESCRIPTORS_EACH: u64 = 3;

/// Maximum connections at a time if the process may have `limit` file descriptors and needs `kept`
/// of them for other purposes. At least one, so that the engine can always be queried.
pub(super) fn visits_max(limit: u64, kept: u64) -> usize {
    // One more for a connection that is accepted before another one is closed for it.
    let left = limit.saturating_sub(kept).saturating_sub(1) / DESCRIPTORS_EACH;
    usize::try_from(left).unwrap_or(VISITS_MAX).clamp(1, VISITS_MAX)
}

/// Maximum bytes of answers held for slow clients in total, and so for any single slow client.
const HELD_BYTES_MAX: usize = 16 << 20;

/// The gate, ready to run.
#[derive(Debug)]
pub(super) struct ClientGate {
    /// Must be non-blocking.
    pub(super) listener: TcpListener,
    /// The socket of the server behind the gate.
    pub(super) server: Inner,
    /// Maximum connections at a time; see [`visits_max`].
    pub(super) visits_max: usize,
}

impl ClientGate {
    /// Passes requests on until `end`.
    ///
    /// [`Fault::Io`] if polling fails.
    pub(super) fn run(self, end: &Stop) -> Result<(), Fault> {
        let mut visits: Vec<Visit> = Vec::with_capacity(VISITS_MAX);
        while !end.is_draining() {
            let (has_guests, ready) =
                self.wait(&visits, end).map_err(|errno| Fault::io("stats server", errno.into()))?;
            let now = Tick::now();
            let mut ready = ready.into_iter();
            visits.retain_mut(|visit| {
                let is_ready = ready.next().unwrap_or(false);
                let stepped = catch_unwind(AssertUnwindSafe(|| {
                    let stepped = if is_ready { visit.step(&self.server) } else { VisitNext::Wait };
                    stepped == VisitNext::Wait && visit.look_at_clock(now) == VisitNext::Wait
                }));
                // A panic affects only that connection; the panic hook has reported it.
                stepped.unwrap_or(false)
            });
            make_room(&mut visits);
            if has_guests && !self.admit(&mut visits) {
                // Out of file descriptors or memory: wait before the next attempt.
                end.sleep(TICK);
            }
        }
        Ok(())
    }

    /// Waits for events. Returns whether a connection is pending, and for each visit whether it is
    /// ready.
    fn wait(&self, visits: &[Visit], end: &Stop) -> rustix::io::Result<(bool, Vec<bool>)> {
        let bell = end.bell();
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        let mut owners = Vec::new();
        for (owner, visit) in visits.iter().enumerate() {
            for (fd, flags) in visit.waits_for().into_iter().flatten() {
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                owners.push(owner);
            }
        }
        let tick = if visits.is_empty() && bell.is_some() { IDLE_TICK } else { TICK };
        fds.extend(bell.map(|bell| PollFd::from_borrowed_fd(bell, PollFlags::IN)));
        match poll(&mut fds, Timespec::try_from(tick).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut ready = vec![false; visits.len()];
        for (fd, owner) in fds[1..].iter().zip(owners) {
            ready[owner] |= !fd.revents().is_empty();
        }
        Ok((!fds[0].revents().is_empty(), ready))
    }

    /// Accepts pending connections; returns false if the system refuses.
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
            if visits.len() >= self.visits_max {
                let leaver = visits.iter().position(Visit::is_idle).unwrap_or(0);
                visits.remove(leaver);
            }
            // If its socket cannot be set up, the client has already disconnected.
            visits.extend(Visit::new(client));
        }
        true
    }
}

/// Closes the connections that hold the most bytes until the total is within its limit.
fn make_room(visits: &mut Vec<Visit>) {
    let mut held: usize = visits.iter().map(Visit::held).sum();
    while held > HELD_BYTES_MAX {
        let most = visits.iter().enumerate().max_by_key(|(_, visit)| visit.held());
        let Some((index, _)) = most else { return };
        // Keep the order, because the oldest connection is first.
        held -= visits.remove(index).held();
        tracing::debug!(
            "the stats server closed a connection whose client did not read its answer"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::os::unix::net::UnixListener;

    use super::*;

    const SLOW: usize = 24;
    /// More than the socket buffers hold.
    const BIG: usize = 6 << 20;

    fn ask(addr: SocketAddr, path: &str) -> TcpStream {
        let mut client = TcpStream::connect(addr).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        client
    }

    fn len_of_answer(mut client: TcpStream) -> usize {
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer); // a reset shows as a short answer
        answer.len()
    }

    #[test]
    fn the_pipeline_keeps_its_descriptors() {
        assert_eq!(visits_max(1024, 44), VISITS_MAX);
        assert_eq!(visits_max(64, 44), 6);
        assert_eq!(visits_max(64, 200), 1);
        for (limit, kept) in [(64, 44), (100, 44), (256, 124)] {
            assert!(visits_max(limit, kept) as u64 * DESCRIPTORS_EACH + 1 + kept <= limit);
        }
    }

    /// The server behind the gate answers sequentially, as the real one does.
    #[test]
    fn clients_that_do_not_read_delay_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http");
        let server =
            tiny_http::Server::from_listener(UnixListener::bind(&path).unwrap(), None).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let gate = ClientGate { listener, server: Inner::at(path), visits_max: VISITS_MAX };
        let end = Stop::default();
        std::thread::scope(|scope| {
            scope.spawn(|| gate.run(&end).unwrap());
            scope.spawn(|| {
                while !end.is_draining() {
                    let Ok(Some(request)) = server.recv_timeout(TICK) else { continue };
                    let len = if request.url() == "/big" { BIG } else { 2 };
                    let answer = tiny_http::Response::from_data(vec![b'x'; len]);
                    let _ = request.respond(answer);
                }
            });
            // Ends the threads however the test ends.
            struct StopEnd<'a>(&'a Stop);
            impl Drop for StopEnd<'_> {
                fn drop(&mut self) {
                    self.0.drain();
                }
            }
            let _end = StopEnd(&end);

            let slow: Vec<_> = (0..SLOW).map(|_| ask(addr, "/big")).collect();
            assert!(len_of_answer(ask(addr, "/livez")) > 2, "it is answered");
            // No deadline has passed: slow clients for which there was room get their whole
            // answers.
            let whole = slow.into_iter().map(len_of_answer).filter(|len| *len > BIG).count();
            assert!(whole > 0 && whole < SLOW, "{whole} answers were whole");
        });
    }
}
