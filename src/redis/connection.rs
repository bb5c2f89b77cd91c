//! One data-plane connection: a socket on which nothing is waited for without limit.
//!
//! The socket wakes up every [`limits::SOCKET_TICK`] to look at its deadline and at the stop
//! signal. After any failure the connection is dropped, never used again: a late reply could
//! otherwise be taken for the answer to a later question.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use redis::ConnectionAddr;

use super::Address;
use super::request::Request;
use super::resp::{Header, Limits, Reader, Trouble};
use super::{Operation, Seam};
use crate::base::{Fault, Stop, limits};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Metrics};

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The transport, with its patience.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    stop: Stop,
    /// Longest pause between two bytes.
    timeout: Duration,
    progress: Tick,
    seam: Seam,
}

/// How waiting for a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Its first bytes are here.
    Ready,
    /// No reply yet, and the engine has begun to drain.
    Draining,
    /// No reply within the time.
    TimedOut,
}

impl Socket {
    fn open(address: &Address, timeout: Duration, stop: &Stop) -> io::Result<Socket> {
        let seam = address.seam().clone();
        seam.pass(Operation::Connect)?;
        let stream = match address.target() {
            ConnectionAddr::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            ConnectionAddr::Tcp(host, port) => {
                let tcp = connect_tcp(host, *port, timeout)?;
                tcp.set_nodelay(true)?;
                Stream::Tcp(tcp)
            }
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let tick = Some(limits::SOCKET_TICK);
        match &stream {
            Stream::Tcp(tcp) => tcp.set_read_timeout(tick).and(tcp.set_write_timeout(tick))?,
            Stream::Unix(unix) => unix.set_read_timeout(tick).and(unix.set_write_timeout(tick))?,
        }
        Ok(Socket { stream, stop: stop.clone(), timeout, progress: Tick::now(), seam })
    }

    /// Repeats `attempt` until it moves, its time is over, or everybody is to leave.
    fn patiently(
        &mut self,
        operation: Operation,
        mut attempt: impl FnMut(&mut Stream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.seam.pass(operation)?;
        self.progress = Tick::now();
        loop {
            match attempt(&mut self.stream) {
                Err(error) if is_pause(&error) => {
                    if self.stop.is_now() {
                        return Err(io::Error::other("stopped"));
                    }
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

impl Read for Socket {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.patiently(Operation::Read, |stream| match stream {
            Stream::Tcp(tcp) => tcp.read(target),
            Stream::Unix(unix) => unix.read(target),
        })
    }

    /// For the bodies of bulk strings: asks for all of it at once, which takes fewer wake-ups and
    /// calls. The socket's own time-out, a tick, still ends each wait.
    fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        use rustix::net::{RecvFlags, recv};
        let mut filled = 0;
        while filled < target.len() {
            let rest = &mut target[filled..];
            let read = self.patiently(Operation::Read, |stream| {
                let (read, _) = match stream {
                    Stream::Tcp(tcp) => recv(tcp, &mut *rest, RecvFlags::WAITALL)?,
                    Stream::Unix(unix) => recv(unix, &mut *rest, RecvFlags::WAITALL)?,
                };
                Ok(read)
            })?;
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
        self.patiently(Operation::Write, |stream| match stream {
            Stream::Tcp(tcp) => tcp.write(bytes),
            Stream::Unix(unix) => unix.write(bytes),
        })
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.patiently(Operation::Write, |stream| match stream {
            Stream::Tcp(tcp) => tcp.write_vectored(slices),
            Stream::Unix(unix) => unix.write_vectored(slices),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection that has said who it is.
#[derive(Debug)]
pub struct Connection {
    pub(super) socket: Socket,
    pub(super) reader: Reader,
    endpoint: String,
    client_id: i64,
    metrics: Arc<Metrics>,
}

impl Connection {
    /// Connects, authenticates, selects the database and takes the client name `name`.
    ///
    /// # Errors
    /// [`Fault::Connection`] if the server cannot be reached in time, [`Fault::Refused`] with its
    /// own words if it does not let us in.
    pub fn open(
        address: &Address,
        name: &str,
        timeout: Duration,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Result<Connection, Fault> {
        let socket = Socket::open(address, timeout, stop)
            .map_err(|error| Fault::connection(address, error))?;
        metrics.add(Counter::ConnectionsOpened, 1);
        let mut connection = Connection {
            socket,
            reader: Reader::new(Limits::REDIS),
            endpoint: address.to_string(),
            client_id: 0,
            metrics: Arc::clone(metrics),
        };
        if let Some((user, password)) = address.credentials() {
            match user {
                Some(user) => connection.call("AUTH", &[user.as_bytes(), password.as_bytes()])?,
                None => connection.call("AUTH", &[password.as_bytes()])?,
            };
        }
        if address.database() != 0 {
            connection.call("SELECT", &[address.database().to_string().as_bytes()])?;
        }
        // Convenient, not necessary: an account may be forbidden to say either.
        let name: Vec<u8> =
            name.bytes().map(|byte| if byte.is_ascii_graphic() { byte } else { b'_' }).collect();
        unless_refused(connection.call("CLIENT", &[b"SETNAME", &name]))?;
        connection.client_id = unless_refused(connection.call("CLIENT", &[b"ID"]))?;
        Ok(connection)
    }

    /// The server's number for this connection, by which another one can unblock it.
    pub fn client_id(&self) -> i64 {
        self.client_id
    }

    /// Address without credentials.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sends a small command and reads its answer; the number, if it is one.
    pub(super) fn call(&mut self, name: &'static str, args: &[&[u8]]) -> Result<i64, Fault> {
        let mut request = Request::default();
        request.command(1 + args.len()).arg(name);
        for arg in args {
            request.arg(arg);
        }
        self.send(&request, &[])?;
        let answer = match self.reader.header(&mut self.socket) {
            Ok(Header::Int(number)) => Ok(number),
            Ok(Header::Bulk(len)) => {
                return match self.reader.bulk_discard(&mut self.socket, len) {
                    Ok(()) => Ok(0),
                    Err(trouble) => Err(self.fault(trouble)),
                };
            }
            Ok(Header::Error(message)) => Err(Ok(text(message))),
            Ok(_) => Ok(0),
            Err(trouble) => Err(Err(trouble)),
        };
        answer.map_err(|error| match error {
            Ok(message) => self.refused(name, message),
            Err(trouble) => self.fault(trouble),
        })
    }

    pub(super) fn send(&mut self, request: &Request, payloads: &[&[u8]]) -> Result<(), Fault> {
        let sent = if payloads.is_empty() {
            self.socket.write_all(request.text())
        } else {
            request.write_to(&mut self.socket, payloads)
        };
        sent.map_err(|error| self.fault(error.into()))
    }

    /// Waits for the first bytes of a reply, with the stop signal in view.
    pub(super) fn wait(
        &mut self,
        limit: Duration,
        leave_when_draining: bool,
    ) -> Result<Waited, Fault> {
        if self.reader.has_buffered() {
            return Ok(Waited::Ready);
        }
        let began = Tick::now();
        loop {
            match self.readable() {
                Ok(true) => return Ok(Waited::Ready),
                Ok(false) => {}
                Err(error) => return Err(self.fault(error.into())),
            }
            if self.socket.stop.is_now() || (leave_when_draining && self.socket.stop.is_draining())
            {
                return Ok(Waited::Draining);
            }
            if began.elapsed() >= limit {
                return Ok(Waited::TimedOut);
            }
            self.metrics.health.beat(); // waiting within a limit is a sign of life
        }
    }

    /// Whether there is something to read (or the end of it) within one tick.
    fn readable(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use std::os::fd::AsFd;
        let fd = match &self.socket.stream {
            Stream::Tcp(tcp) => tcp.as_fd(),
            Stream::Unix(unix) => unix.as_fd(),
        };
        let tick = Timespec { tv_sec: 0, tv_nsec: limits::SOCKET_TICK.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&tick)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn fault(&self, trouble: Trouble) -> Fault {
        Fault::connection(&self.endpoint, trouble)
    }

    pub(super) fn refused(&self, command: &'static str, message: String) -> Fault {
        Fault::Refused { endpoint: self.endpoint.clone(), command, message }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.add(Counter::ConnectionsClosed, 1);
    }
}

fn unless_refused(answer: Result<i64, Fault>) -> Result<i64, Fault> {
    match answer {
        Err(Fault::Refused { .. }) => Ok(0),
        other => other,
    }
}

/// Bytes of an answer as text for a message.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
