//! One connection at the gate: bounded head, answer, orderly close.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::PollFlags;

use super::head;
use super::inner::Inner;
use crate::metrics::clock::Tick;

/// Longest request line and headers, in bytes. Those of a browser take under 2 KiB.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Time limit for the whole head to arrive.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// Time limit for the client to read the whole answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Time and bytes, after the answer, for the client to finish sending. Closing a socket with unread
/// bytes resets it, and the client may lose the answer.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 << 10;

/// Maximum bytes of an answer read from the server in one step. They are passed on between steps,
/// so that only bytes that the client is too slow for accumulate.
const STEP_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Receiving the request.
    Head,
    /// Sending the answer.
    Answer,
    /// Waiting for the client to close.
    Linger,
}

/// One connection. Never blocks; see [`Visit::step`].
#[derive(Debug)]
pub(super) struct Visit {
    client: TcpStream,
    phase: Phase,
    deadline: Tick,
    head: Vec<u8>,
    /// Connection to the server behind the gate, until its answer is complete.
    inner: Option<UnixStream>,
    /// Whether the server has sent anything.
    heard: bool,
    /// The buffered answer, of which `sent` bytes are written to the client.
    answer: Vec<u8>,
    sent: usize,
    lingered: usize,
}

/// Whether a visit continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VisitNext {
    Wait,
    Gone,
}

impl Visit {
    pub(super) fn new(client: TcpStream) -> Result<Visit> {
        client.set_nonblocking(true)?;
        client.set_nodelay(true)?;
        Ok(Visit {
            client,
            phase: Phase::Head,
            deadline: Tick::now().after(HEAD_LIMIT),
            head: Vec::new(),
            inner: None,
            heard: false,
            answer: Vec::new(),
            sent: 0,
            lingered: 0,
        })
    }

    /// Whether its place may be given to another client: its request is incomplete, or its answer
    /// is sent.
    pub(super) fn is_idle(&self) -> bool {
        self.phase != Phase::Answer
    }

    /// Bytes of the answer held in memory.
    pub(super) fn held(&self) -> usize {
        self.answer.len()
    }

    /// Events it waits for, from the client and from the server behind the gate.
    pub(super) fn waits_for(&self) -> [Option<(BorrowedFd<'_>, PollFlags)>; 2] {
        let of_client = match self.phase {
            Phase::Head | Phase::Linger => Some(PollFlags::IN),
            Phase::Answer if self.sent < self.answer.len() => Some(PollFlags::OUT),
            // A disconnected client is not polled for either: it would wake the gate continuously.
            Phase::Answer => None,
        };
        [
            of_client.map(|flags| (self.client.as_fd(), flags)),
            self.inner.as_ref().map(|inner| (inner.as_fd(), PollFlags::IN)),
        ]
    }

    /// Continues without blocking. One call adds at most [`STEP_BYTES_MAX`] and a chunk to the held
    /// bytes.
    pub(super) fn step(&mut self, server: &Inner) -> VisitNext {
        let stepped = match self.phase {
            Phase::Head => self.take_head(server),
            Phase::Answer => Ok(VisitNext::Wait),
            Phase::Linger => self.linger(),
        };
        let stepped = match (stepped, self.phase) {
            (Ok(VisitNext::Wait), Phase::Answer) => self.pass_on(),
            (stepped, _) => stepped,
        };
        // A client that disconnected is not an error.
        stepped.unwrap_or(VisitNext::Gone)
    }

    /// Enforces the deadline; called in every iteration of the gate's loop.
    pub(super) fn look_at_clock(&mut self, now: Tick) -> VisitNext {
        if now < self.deadline {
            return VisitNext::Wait;
        }
        if self.phase == Phase::Head && !self.head.is_empty() {
            self.refuse("408 Request Timeout");
            return VisitNext::Wait;
        }
        VisitNext::Gone
    }

    fn take_head(&mut self, server: &Inner) -> Result<VisitNext> {
        let mut chunk = [0; 2048];
        loop {
            let count = match self.client.read(&mut chunk) {
                Ok(0) => return Ok(VisitNext::Gone),
                Ok(count) => count,
                Err(error) => return waits(error),
            };
            // The end of the head may span two chunks.
            let searched = self.head.len().saturating_sub(3);
            self.head.extend_from_slice(&chunk[..count]);
            let end = memchr::memmem::find(&self.head[searched..], b"\r\n\r\n");
            self.head.truncate(end.map_or(self.head.len(), |end| searched + end + 4));
            if self.head.len() > HEAD_BYTES_MAX {
                self.refuse("431 Request Header Fields Too Large");
                return Ok(VisitNext::Wait);
            }
            if end.is_some() {
                self.ask(server);
                return Ok(VisitNext::Wait);
            }
        }
    }

    /// Sends the request to the server, without a body.
    fn ask(&mut self, server: &Inner) {
        let Some(request) = head::rewritten(&self.head) else {
            return self.refuse("400 Bad Request");
        };
        self.head = Vec::new();
        let asked = server.connect().and_then(|mut inner| {
            // The request fits the socket's buffer, so this does not block.
            inner.write_all(&request)?;
            inner.shutdown(Shutdown::Write)?;
            inner.set_nonblocking(true)?;
            Ok(inner)
        });
        match asked {
            Ok(inner) => {
                self.phase = Phase::Answer;
                self.deadline = Tick::now().after(ANSWER_LIMIT);
                self.inner = Some(inner);
            }
            Err(error) => {
                tracing::debug!("the stats server does not answer: {error}");
                self.refuse("503 Service Unavailable");
            }
        }
    }

    /// Answers with an error, without asking the server.
    fn refuse(&mut self, status: &str) {
        self.phase = Phase::Answer;
        self.deadline = Tick::now().after(LINGER_LIMIT);
        self.inner = None;
        self.head = Vec::new();
        self.answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .into_bytes();
        self.sent = 0;
    }

    fn pass_on(&mut self) -> Result<VisitNext> {
        self.hear();
        while self.sent < self.answer.len() {
            match self.client.write(&self.answer[self.sent..]) {
                Ok(0) => return Ok(VisitNext::Gone),
                Ok(count) => self.sent += count,
                Err(error) => {
                    // Discard the sent bytes, but not every time, because the rest has to be moved.
                    if self.sent > self.answer.len() / 2 {
                        self.answer.drain(..self.sent);
                        self.sent = 0;
                    }
                    return waits(error);
                }
            }
        }
        self.answer.clear();
        self.sent = 0;
        if self.inner.is_none() {
            self.client.shutdown(Shutdown::Write)?;
            self.phase = Phase::Linger;
            self.deadline = Tick::now().after(LINGER_LIMIT);
            return self.linger();
        }
        Ok(VisitNext::Wait)
    }

    /// Reads the server's answer.
    fn hear(&mut self) {
        let mut chunk = [0; 16 << 10];
        let enough = self.answer.len() + STEP_BYTES_MAX;
        while self.answer.len() < enough {
            let Some(inner) = &mut self.inner else { return };
            match inner.read(&mut chunk) {
                Ok(0) => self.inner = None,
                Ok(count) => {
                    self.answer.extend_from_slice(&chunk[..count]);
                    if !std::mem::replace(&mut self.heard, true) {
                        say_close(&mut self.answer);
                    }
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.inner = None,
            }
            if !self.heard {
                self.refuse("400 Bad Request");
            }
        }
    }

    fn linger(&mut self) -> Result<VisitNext> {
        let mut chunk = [0; 16 << 10];
        while self.lingered < LINGER_BYTES_MAX {
            match self.client.read(&mut chunk) {
                Ok(0) => return Ok(VisitNext::Gone),
                Ok(count) => self.lingered += count,
                Err(error) => return waits(error),
            }
        }
        Ok(VisitNext::Gone)
    }
}

fn waits(error: std::io::Error) -> Result<VisitNext> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(VisitNext::Wait),
        _ => Err(error),
    }
}

/// Inserts `Connection: close` after the status line.
fn say_close(answer: &mut Vec<u8>) {
    if let Some(end) = memchr::memmem::find(answer, b"\r\n") {
        answer.splice(end + 2..end + 2, *b"Connection: close\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_that_it_is_the_last() {
        let mut answer = b"HTTP/1.1 200 OK\r\nServer: s\r\n\r\nbody\r\n".to_vec();
        say_close(&mut answer);
        let expected = b"HTTP/1.1 200 OK\r\nConnection: close\r\nServer: s\r\n\r\nbody\r\n";
        assert_eq!(answer, expected);
    }
}
