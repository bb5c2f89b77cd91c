//! The transports: TCP, a Unix socket, TLS over TCP.
//!
//! Each of them wakes up every [`limits::SOCKET_TICK`] with `WouldBlock`; the caller decides how
//! long to continue. TLS buffers decrypted bytes that no poll of the socket can see, so waiting
//! must go through [`Transport::readable`].

use std::io::{self, BufReader, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::net::{connect, recv, socket_with, sockopt};
use rustls::ClientConnection;

use super::Address;
use super::address::Endpoint;
use super::tls::{self, Tls};
use crate::base::limits;
use crate::metrics::clock::Tick;

/// Bytes read from the socket of a TLS connection at a time: a few records.
const TLS_READ_BYTES: usize = 64 << 10;

/// Maximum duration of a handshake, in addition to the caller's own limit. A plain port that
/// receives a TLS greeting may not answer at all.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Pause between attempts to connect to a Unix socket whose backlog is full. The operating system
/// offers no wait with a limit for this. A server that accepts empties its backlog at once.
const BACKLOG_PAUSE: Duration = Duration::from_millis(10);

/// An open connection to a server.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Encrypted>),
}

impl Transport {
    /// Connects. `gone` is called repeatedly; once it returns true, the attempt ends.
    pub(super) fn open(
        address: &Address,
        timeout: Duration,
        gone: impl Fn() -> bool,
    ) -> io::Result<Transport> {
        let tick = Some(limits::SOCKET_TICK);
        match address.place() {
            Endpoint::Unix(path) => {
                let unix = connect_unix(path, timeout, gone)?;
                unix.set_read_timeout(tick).and(unix.set_write_timeout(tick))?;
                Ok(Transport::Unix(unix))
            }
            Endpoint::Tcp { host, port } => {
                let tcp = connect_tcp(host, *port, timeout)?;
                tcp.set_nodelay(true)?;
                if let Err(error) = notice_silence(&tcp) {
                    // Not fatal: the time-out of answers still detects a silent server.
                    tracing::debug!("{address}: no TCP keepalive: {error}");
                }
                tcp.set_read_timeout(tick).and(tcp.set_write_timeout(tick))?;
                match address.tls() {
                    None => Ok(Transport::Tcp(tcp)),
                    Some(tls) => {
                        let limit = timeout.min(HANDSHAKE_LIMIT);
                        Encrypted::open(tcp, tls, host, limit, gone)
                            .map(Box::new)
                            .map(Transport::Tls)
                    }
                }
            }
        }
    }

    pub(super) fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(tcp) => tcp.read(target),
            Transport::Unix(unix) => unix.read(target),
            Transport::Tls(tls) => tls.read(target),
        }
    }

    /// As [`Transport::read`], but waits until `target` is full if the system can do so in one
    /// call.
    pub(super) fn read_all(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let (read, _) = match self {
            Transport::Tcp(tcp) => recv(tcp, target, RecvFlags::WAITALL)?,
            Transport::Unix(unix) => recv(unix, target, RecvFlags::WAITALL)?,
            Transport::Tls(tls) => return tls.read(target),
        };
        Ok(read)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Tcp(tcp) => tcp.write(bytes),
            Transport::Unix(unix) => unix.write(bytes),
            Transport::Tls(tls) => tls.write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Transport::Tcp(tcp) => tcp.write_vectored(slices),
            Transport::Unix(unix) => unix.write_vectored(slices),
            Transport::Tls(tls) => tls.write_vectored(slices),
        }
    }

    /// Sends what is still buffered. After an error the next call continues.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Tcp(_) | Transport::Unix(_) => Ok(()),
            Transport::Tls(tls) => tls.drain(),
        }
    }

    /// Waits up to `limit` for bytes to read or the end of the stream; zero does not wait. The wait
    /// also ends when one of the two descriptors `beside` becomes readable.
    pub(super) fn readable(
        &mut self,
        limit: Duration,
        beside: [Option<BorrowedFd<'_>>; 2],
    ) -> io::Result<Readable> {
        match self {
            Transport::Tcp(tcp) => poll_once(tcp, limit, beside),
            Transport::Unix(unix) => poll_once(unix, limit, beside),
            Transport::Tls(tls) => tls.readable(limit, beside),
        }
    }

    /// Whether this is a TLS connection.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }
}

/// How a wait for bytes ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    /// There is something to read.
    Yes,
    /// Nothing yet, but a descriptor beside the socket is readable.
    Beside,
    /// Nothing within the limit.
    No,
}

fn poll_once(
    fd: &impl AsFd,
    limit: Duration,
    beside: [Option<BorrowedFd<'_>>; 2],
) -> io::Result<Readable> {
    let limit = Timespec::try_from(limit).ok();
    let [one, other] = beside.map(|beside| beside.unwrap_or(fd.as_fd()));
    let mut fds = [fd.as_fd(), one, other].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    match poll(&mut fds, limit.as_ref()) {
        Ok(0) | Err(Errno::INTR) => Ok(Readable::No),
        Ok(_) if fds[0].revents().is_empty() => Ok(Readable::Beside),
        Ok(_) => Ok(Readable::Yes),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether an error only means that nothing moved within a tick. `TimedOut` is not one of these:
/// with it the operating system reports that the remote host is gone.
pub(super) fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Enables TCP keepalive. A host without power or behind a cut cable resets nothing, and a waiting
/// reader would not notice. A server that is merely slow is not affected, as long as its host
/// answers.
///
/// The operating system probes only while none of our data is in flight. Data that is not
/// acknowledged, or not accepted because the server does not read, is bounded by the caller's own
/// time-out. `TCP_USER_TIMEOUT` would bound that as well, but it disconnects a server whose window
/// is closed, and it overrides the number of probes set here.
fn notice_silence(tcp: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, limits::HOST_ASKED_EVERY)?;
    sockopt::set_tcp_keepintvl(tcp, limits::HOST_ASKED_EVERY)?;
    sockopt::set_tcp_keepcnt(tcp, limits::HOST_ASKED_TIMES)?;
    Ok(())
}

fn connect_tcp(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let addresses = (host, port).to_socket_addrs()?;
    // The limit starts after name resolution: a slow resolver must leave time for the servers.
    let until = Tick::now().after(timeout.min(limits::CONNECT_LIMIT));
    for address in addresses {
        let left = until.since(Tick::now());
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects without blocking. A blocking connect waits without limit for room in the listener's
/// backlog, and a stopped or hanging server accepts nothing.
fn connect_unix(path: &Path, timeout: Duration, gone: impl Fn() -> bool) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let limit = timeout.min(limits::CONNECT_LIMIT);
    let began = Tick::now();
    loop {
        match connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if gone() {
            return Err(io::Error::other("stopped"));
        }
        if began.elapsed() >= limit {
            let text = format!("the server has accepted no connection for {limit:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::sleep(BACKLOG_PAUSE);
    }
    let unix = UnixStream::from(socket);
    unix.set_nonblocking(false)?;
    Ok(unix)
}

/// TLS over TCP.
///
/// A pause never loses what rustls has accepted: it stays in its buffer until the next write or
/// flush sends it.
#[derive(Debug)]
pub(super) struct Encrypted {
    session: ClientConnection,
    /// rustls reads 4 KiB at a time; the buffer saves a system call for each.
    tcp: BufReader<TcpStream>,
}

impl Encrypted {
    fn open(
        tcp: TcpStream,
        tls: &Tls,
        host: &str,
        limit: Duration,
        gone: impl Fn() -> bool,
    ) -> io::Result<Encrypted> {
        let name = tls.server_name(host)?;
        let session = ClientConnection::new(tls.config(), name).map_err(tls::explain)?;
        let tcp = BufReader::with_capacity(TLS_READ_BYTES, tcp);
        let mut encrypted = Encrypted { session, tcp };
        let began = Tick::now();
        while encrypted.session.is_handshaking() {
            match encrypted.drain().and_then(|()| encrypted.take_records()) {
                Ok(0) => {
                    let text =
                        "TLS: the server hung up during the handshake; is this its TLS port?";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                }
                Ok(_) => {}
                Err(error) if is_pause(&error) => {
                    if gone() {
                        return Err(io::Error::other("stopped"));
                    }
                    if began.elapsed() >= limit {
                        let text = format!(
                            "TLS: no answer to the handshake within {limit:?}; if this is a plain \
                             port, use a URL without TLS (redis://)"
                        );
                        return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(encrypted)
    }

    /// Sends what rustls has buffered.
    fn drain(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            let sent = self.session.write_tls(self.tcp.get_mut());
            if let Err(error) = sent {
                if is_pause(&error) {
                    return Err(error);
                }
                // A server that rejects us sends the reason before it hangs up.
                return Err(match self.take_records() {
                    Err(reason) if reason.kind() == io::ErrorKind::InvalidData => reason,
                    _ => error,
                });
            }
        }
        Ok(())
    }

    /// Reads from the socket and decrypts. Returns the number of bytes read, 0 at the end of the
    /// stream.
    fn take_records(&mut self) -> io::Result<usize> {
        let taken = self.session.read_tls(&mut self.tcp)?;
        if let Err(error) = self.session.process_new_packets() {
            // Sends the alert that tells the server the reason.
            let _ = self.session.write_tls(self.tcp.get_mut());
            return Err(tls::explain(error));
        }
        Ok(taken)
    }

    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(target) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.take_records()?;
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.drain()?;
        let taken = self.session.writer().write_vectored(slices)?;
        match self.drain() {
            Err(error) if !is_pause(&error) => Err(error),
            _ => Ok(taken),
        }
    }

    fn readable(
        &mut self,
        limit: Duration,
        beside: [Option<BorrowedFd<'_>>; 2],
    ) -> io::Result<Readable> {
        loop {
            let state = self.session.process_new_packets().map_err(tls::explain)?;
            if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
                return Ok(Readable::Yes);
            }
            if self.tcp.buffer().is_empty() {
                match poll_once(self.tcp.get_ref(), limit, beside)? {
                    Readable::Yes => {}
                    other => return Ok(other),
                }
            }
            // Records without data (session tickets, key updates) do not wake the caller.
            match self.take_records() {
                Ok(0) => return Ok(Readable::Yes),
                Ok(_) => {}
                Err(error) if is_pause(&error) => return Ok(Readable::No),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_host_that_falls_silent_is_noticed_and_a_server_that_does_not_read_is_not_cut_off() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = Address::tcp("127.0.0.1", listener.local_addr().unwrap().port());
        let timeout = Duration::from_secs(30);
        let Transport::Tcp(tcp) = Transport::open(&address, timeout, || false).unwrap() else {
            panic!("it is TCP")
        };
        assert!(sockopt::socket_keepalive(&tcp).unwrap());
        let idle = sockopt::tcp_keepidle(&tcp).unwrap();
        let times = sockopt::tcp_keepcnt(&tcp).unwrap();
        let interval = sockopt::tcp_keepintvl(&tcp).unwrap();
        assert_eq!(idle + interval * times, limits::HOST_SILENCE_LIMIT);
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&tcp).unwrap(), 0, "it would overrule the number");
    }

    #[test]
    fn a_host_that_the_system_gives_up_is_not_taken_for_a_pause() {
        let given_up = io::Error::from(Errno::TIMEDOUT);
        let nothing_moved = io::Error::from(Errno::AGAIN);
        assert!(!is_pause(&given_up) && is_pause(&nothing_moved));
    }

    /// A listener that accepts nothing; the returned connections fill its backlog.
    fn full_listener(path: &Path) -> (UnixListener, Vec<UnixStream>) {
        let listener = UnixListener::bind(path).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(unix) = connect_unix(path, Duration::from_millis(50), || false) {
            waiting.push(unix);
        }
        assert!(!waiting.is_empty());
        (listener, waiting)
    }

    #[test]
    fn a_unix_socket_that_accepts_nothing_is_given_up_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (_listener, _waiting) = full_listener(&path);
        let open = |timeout, gone: &dyn Fn() -> bool| {
            let began = Tick::now();
            let opened = Transport::open(&Address::unix(&path), timeout, gone);
            (opened.unwrap_err(), began.elapsed())
        };
        let (error, took) = open(Duration::from_millis(200), &|| false);
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
        let (error, took) = open(Duration::from_secs(600), &|| true);
        assert_eq!(error.to_string(), "stopped");
        assert!(took < Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn a_unix_socket_that_accepts_again_is_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (listener, _waiting) = full_listener(&path);
        let accepted = std::cell::Cell::new(None);
        let accepts = || {
            accepted.set(Some(listener.accept().unwrap()));
            false
        };
        let timeout = Duration::from_secs(60);
        let opened = Transport::open(&Address::unix(&path), timeout, accepts).unwrap();
        assert!(matches!(opened, Transport::Unix(_)), "{opened:?}");
    }
}
