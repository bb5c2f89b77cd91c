//! One data-plane connection: a socket with a limit on every wait.
//!
//! The socket wakes up every [`limits::SOCKET_TICK`] to check its deadline, the stop signal, and
//! whether the Sentinels have named another primary. After any failure the connection is dropped
//! and never reused: a late reply could otherwise be taken for the answer to a later command.

mod handshake;

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::address::Endpoint;
use super::request::Request;
use super::resp::{RespHeader, RespReader, Trouble};
use super::transport::{Readable, Transport, is_pause};
use super::{Address, FaultPoint, Operation};
use crate::base::{Fault, Stop, limits};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Metrics, RoundTrip};

/// Errors with which a server closes a connection before reading from it: `maxclients` is reached,
/// or protected mode admits only clients on its own host. The text arrives in place of the answer
/// to the first command.
const CLOSING: [&str; 2] = ["ERR max number of clients", "DENIED "];

/// The transport with its time-out.
#[derive(Debug)]
pub(in crate::redis) struct Socket {
    transport: Transport,
    stop: Stop,
    /// Longest pause between two bytes.
    timeout: Duration,
    progress: Tick,
    fault_point: FaultPoint,
    /// Says whether the server has been replaced as primary.
    address: Address,
}

/// How waiting for a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The first bytes of the reply have arrived.
    Ready,
    /// No reply yet, but the descriptor watched beside the socket is readable.
    Beside,
    /// No reply yet, and the engine has begun to drain.
    Draining,
    /// No reply within the time.
    TimedOut,
}

impl Socket {
    fn open(address: &Address, timeout: Duration, stop: &Stop) -> io::Result<Socket> {
        let fault_point = address.fault_point().clone();
        fault_point.pass(Operation::Connect)?;
        let transport =
            Transport::open(address, timeout, || stop.is_now() || address.is_replaced())?;
        let (stop, address) = (stop.clone(), address.clone());
        Ok(Socket { transport, stop, timeout, progress: Tick::now(), fault_point, address })
    }

    /// Fails if another server has replaced this one as primary: this one may never answer.
    fn confirm_tenure(&self) -> io::Result<()> {
        match self.address.is_replaced() {
            true => Err(io::Error::other("it has been replaced as the primary")),
            false => Ok(()),
        }
    }

    /// Repeats `attempt` until it makes progress, times out, or the stop signal comes.
    fn patiently<T>(
        &mut self,
        operation: Operation,
        mut attempt: impl FnMut(&mut Transport) -> io::Result<T>,
    ) -> io::Result<T> {
        self.fault_point.pass(operation)?;
        self.progress = Tick::now();
        loop {
            match attempt(&mut self.transport) {
                Err(error) if is_pause(&error) => {
                    if self.stop.is_now() {
                        return Err(io::Error::other("stopped"));
                    }
                    self.confirm_tenure()?;
                    if self.progress.elapsed() >= self.timeout {
                        let text = format!("no progress for {:?}", self.timeout);
                        return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                    }
                }
                moved => return moved,
            }
        }
    }
}

impl Socket {
    /// Makes one `attempt`; `None` if it did not end within a tick.
    fn briefly<T>(
        &mut self,
        operation: Operation,
        attempt: impl FnOnce(&mut Transport) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        self.fault_point.pass(operation)?;
        match attempt(&mut self.transport) {
            Err(error) if is_pause(&error) => {
                if self.stop.is_now() {
                    return Err(io::Error::other("stopped"));
                }
                self.confirm_tenure().map(|()| None)
            }
            ended => ended.map(Some),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.patiently(Operation::Read, |transport| transport.read(target))
    }

    /// Reads the body of a bulk string. Asks for all of it at once, which takes fewer wake-ups and
    /// system calls. The socket's own time-out of one tick still ends each wait.
    fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < target.len() {
            let rest = &mut target[filled..];
            let read = self.patiently(Operation::Read, |transport| transport.read_all(rest))?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the server"));
            }
            filled += read;
        }
        Ok(())
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(Operation::Write, |transport| transport.write(bytes))
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.patiently(Operation::Write, |transport| transport.write_vectored(slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.transport.is_encrypted() {
            self.patiently(Operation::Write, Transport::flush)?;
        }
        Ok(())
    }
}

/// An authenticated connection.
#[derive(Debug)]
pub struct Connection {
    pub(in crate::redis) socket: Socket,
    pub(in crate::redis) reader: RespReader,
    address: Address,
    endpoint: String,
    /// Whether the server has answered at least once.
    pub(super) answered: bool,
    /// Where events are counted, if anywhere.
    metrics: Option<Arc<Metrics>>,
    round_trip: Arc<RoundTrip>,
}

impl Connection {
    /// Connects, authenticates, selects the database and takes the client name `name`.
    ///
    /// # Errors
    /// [`Fault::Connection`] if the server cannot be reached in time; [`Fault::Refused`] with the
    /// server's message if it rejects the login, or if it is a replica where a primary is wanted.
    pub fn open(
        address: &Address,
        name: &str,
        timeout: Duration,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Result<Connection, Fault> {
        Connection::connect_as(Some(name), false, address, timeout, Some(metrics), stop)
    }

    /// The same, and reads the server's clock.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(in crate::redis) fn open_with_clock(
        address: &Address,
        name: &str,
        timeout: Duration,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Result<Connection, Fault> {
        Connection::connect_as(Some(name), true, address, timeout, Some(metrics), stop)
    }

    /// Connects, authenticates and selects the database.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(in crate::redis) fn connect(
        address: &Address,
        timeout: Duration,
        metrics: Option<&Arc<Metrics>>,
        stop: &Stop,
    ) -> Result<Connection, Fault> {
        Connection::connect_as(None, false, address, timeout, metrics, stop)
    }

    pub(super) fn count(&self, counter: Counter) {
        if let Some(metrics) = &self.metrics {
            metrics.add(counter, 1);
        }
    }

    /// The server.
    pub(in crate::redis) fn address(&self) -> &Address {
        &self.address
    }

    /// An empty request, with ASKING before each command if the address needs it.
    pub(in crate::redis) fn request(&self) -> Request {
        Request::new(self.address.is_asking())
    }

    /// Measured round trips to this server.
    pub fn round_trip(&self) -> &Arc<RoundTrip> {
        &self.round_trip
    }

    /// Address without credentials.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Reads a small answer. Returns the number, or 0 if the answer is not a number.
    pub(in crate::redis) fn number(&mut self, name: &'static str) -> Result<i64, Fault> {
        let answer = match self.reader.header(&mut self.socket) {
            Ok(RespHeader::Int(number)) => Ok(number),
            Ok(RespHeader::Bulk(len)) => {
                return match self.reader.bulk_discard(&mut self.socket, len) {
                    Ok(()) => Ok(0),
                    Err(trouble) => Err(self.fault(trouble)),
                };
            }
            Ok(RespHeader::Error(message)) => Err(Ok(text(message))),
            Ok(_) => Ok(0),
            Err(trouble) => Err(Err(trouble)),
        };
        answer.map_err(|error| match error {
            Ok(message) => self.refused(name, message),
            Err(trouble) => self.fault(trouble),
        })
    }

    pub(in crate::redis) fn send(
        &mut self,
        request: &Request,
        payloads: &[&[u8]],
    ) -> Result<(), Fault> {
        let sent = if payloads.is_empty() {
            self.socket.write_all(request.text())
        } else {
            request.write_to(&mut self.socket, payloads)
        };
        let sent = sent.and_then(|()| self.socket.flush());
        sent.map_err(|error| self.not_sent(error))
    }

    /// Continues sending a request from byte `written`, and waits at most one tick if the socket
    /// accepts nothing. Returns whether all of it is sent.
    pub(in crate::redis) fn send_on(
        &mut self,
        request: &Request,
        payloads: &[&[u8]],
        written: &mut usize,
    ) -> Result<bool, Fault> {
        let sent = self.socket.briefly(Operation::Write, |transport| {
            request.write_on(payloads, written, |slices| transport.write_vectored(slices))?;
            transport.flush()
        });
        sent.map(|sent| sent.is_some()).map_err(|error| self.not_sent(error))
    }

    fn not_sent(&mut self, error: io::Error) -> Fault {
        match self.last_words(&error) {
            Some(words) => self.closed(&words),
            None => self.fault(error.into()),
        }
    }

    /// The error with which the server closed the connection before it read any command. It can be
    /// read although nothing can be sent any more.
    fn last_words(&mut self, error: &io::Error) -> Option<String> {
        let left = !self.answered && is_hang_up(error);
        if !left
            || !matches!(
                self.socket.transport.readable(limits::SOCKET_TICK, [None; 2]),
                Ok(Readable::Yes)
            )
        {
            return None;
        }
        match self.reader.header(&mut self.socket) {
            Ok(RespHeader::Error(words)) => Some(text(words)),
            _ => None,
        }
    }

    /// The server closed the connection and said why. Not [`Fault::Refused`], which would be an
    /// answer to a command: the next attempt to connect may succeed.
    fn closed(&self, words: &str) -> Fault {
        Fault::connection(&self.endpoint, format!("the server closed the connection: {words}"))
    }

    /// Waits for the first bytes of a reply and watches the stop signal.
    pub(in crate::redis) fn wait(
        &mut self,
        limit: Duration,
        leave_when_draining: bool,
    ) -> Result<Waited, Fault> {
        self.wait_beside(limit, leave_when_draining, None)
    }

    /// The same; the wait also ends when `beside` becomes readable.
    pub(in crate::redis) fn wait_beside(
        &mut self,
        limit: Duration,
        leave_when_draining: bool,
        beside: Option<BorrowedFd<'_>>,
    ) -> Result<Waited, Fault> {
        if self.reader.has_buffered() {
            return Ok(Waited::Ready);
        }
        let began = Tick::now();
        loop {
            let Socket { transport, stop, address, .. } = &mut self.socket;
            // Once the bell has rung it stays readable and would end every wait.
            let bell = if stop.is_draining() { None } else { stop.bell() };
            let tick = match bell {
                Some(_) if !address.must_be_primary() => limits::QUIET_TICK,
                _ => limits::SOCKET_TICK,
            };
            let tick = tick.min(limit.saturating_sub(began.elapsed()));
            match transport.readable(tick, [beside, bell]) {
                Ok(Readable::Yes) => return Ok(Waited::Ready),
                Ok(Readable::Beside) if bell.is_none() || !stop.is_draining() => {
                    return Ok(Waited::Beside);
                }
                Ok(Readable::Beside | Readable::No) => {}
                Err(error) => return Err(self.fault(error.into())),
            }
            if self.socket.stop.is_now() || (leave_when_draining && self.socket.stop.is_draining())
            {
                return Ok(Waited::Draining);
            }
            self.socket.confirm_tenure().map_err(|error| self.fault(error.into()))?;
            if began.elapsed() >= limit {
                return Ok(Waited::TimedOut);
            }
            if let Some(metrics) = &self.metrics {
                metrics.health.beat(); // waiting within a limit is a sign of life
            }
        }
    }

    /// Whether the first bytes of a reply are here or arrive within `limit`, which is capped at one
    /// tick. Zero does not wait.
    ///
    /// # Errors
    /// [`Fault::Connection`] if the connection is lost, the server is replaced, or the stop signal
    /// says to leave at once.
    pub(in crate::redis) fn ready(&mut self, limit: Duration) -> Result<bool, Fault> {
        if self.reader.has_buffered() {
            return Ok(true);
        }
        match self.socket.transport.readable(limit.min(limits::SOCKET_TICK), [None; 2]) {
            Ok(Readable::Yes) => Ok(true),
            Ok(_) if self.socket.stop.is_now() => {
                Err(self.fault(io::Error::other("stopped").into()))
            }
            Ok(_) => {
                let tenure = self.socket.confirm_tenure().map(|()| false);
                tenure.map_err(|error| self.fault(error.into()))
            }
            Err(error) => Err(self.fault(error.into())),
        }
    }

    pub(in crate::redis) fn fault(&self, trouble: Trouble) -> Fault {
        let plain =
            matches!(self.address.place(), Endpoint::Tcp { .. }) && self.address.tls().is_none();
        let hung_up = matches!(&trouble, Trouble::Io(error) if is_hang_up(error));
        if plain && hung_up && !self.answered {
            let detail =
                format!("{trouble}, before any answer; if this is a TLS port, use rediss://");
            return Fault::connection(&self.endpoint, detail);
        }
        Fault::connection(&self.endpoint, trouble)
    }

    pub(in crate::redis) fn refused(&self, command: &'static str, message: String) -> Fault {
        if CLOSING.iter().any(|words| message.starts_with(words)) {
            return self.closed(&message);
        }
        Fault::Refused { endpoint: self.endpoint.clone(), command, message }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.count(Counter::ConnectionsClosed);
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Bytes of an answer as text for a message.
pub(in crate::redis) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
