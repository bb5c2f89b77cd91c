//! A TCP proxy that behaves like a long, narrow or broken network, for tests and measurements.
//!
//! It forwards connections from a loopback port to an address. It reads bytes at once, queues them
//! until they are due, and writes them in order: a delay adds to the round trip and does not limit
//! the throughput. A connection's first bytes wait one round trip longer, for the handshake that a
//! real connection would need. The settings of the [`Link`] can be changed while connections are
//! open.
//!
//! One thread serves all connections. It sleeps until a socket is ready or bytes are due. Dropping
//! the [`Proxy`] ends it.

mod flow;
mod serve;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use framepress::internals::base::threads::{self, Identity, Role, Running};
use framepress::internals::base::{Fault, Stop};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

/// How the network between client and server behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Delay of each direction: half of a round trip.
    pub delay: Duration,
    /// Bytes per second of each direction, over all connections together. In front of the link is a
    /// router queue of [`ROUTER_BYTES`]; when it is full, the proxy stops reading. The socket
    /// buffers of the sender's kernel come on top of it.
    pub bytes_per_second: Option<u64>,
    /// Stops reading and writing. Bytes already read are delivered when the stall ends.
    pub stalled: bool,
    /// What happens to new connections.
    pub admission: Admission,
}

impl Link {
    /// A link with this round trip and no other limit.
    pub fn with_round_trip(round_trip: Duration) -> Link {
        Link { delay: round_trip / 2, ..Link::default() }
    }
}

/// What happens to new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// They are accepted and connected to the server.
    #[default]
    Open,
    /// They are closed at once.
    Refuse,
    /// They wait: to the client they seem open, and there is no answer.
    Hold,
}

/// Bytes queued in front of a narrow link.
pub const ROUTER_BYTES: u64 = 256 << 10;

/// Direction of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Answer,
}

/// Counters of the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were accepted and connected to the server.
    pub connections: u64,
    /// Of those, connections that are open.
    pub open: usize,
    /// Connections closed at once: refused, or no server was available.
    pub refused: u64,
    /// Connections that were reset inside a piece; see [`Proxy::reset_inside`].
    pub resets: u64,
    /// Bytes written to the server.
    pub request_bytes: u64,
    /// Bytes written to clients.
    pub answer_bytes: u64,
}

#[derive(Debug)]
struct Shared {
    link: Mutex<Link>,
    /// Number of cuts; connections made before the last cut are closed.
    cuts: AtomicU64,
    /// By direction, the minimum size of a piece to break off in its middle; 0 for none.
    reset_inside: [AtomicUsize; 2],
    connections: AtomicU64,
    open: AtomicUsize,
    refused: AtomicU64,
    resets: AtomicU64,
    bytes: [AtomicU64; 2],
    /// Written to when the thread must read these settings again.
    wake: OwnedFd,
    stop: Stop,
}

/// The proxy. Dropping the value ends it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    /// Joined on drop, after the stop signal was raised.
    _thread: Running,
}

impl Proxy {
    /// A proxy in front of `server`, on a free loopback port.
    ///
    /// # Errors
    /// If no port or no thread is available.
    pub fn start(server: SocketAddr, link: Link) -> io::Result<Proxy> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            link: Mutex::new(link),
            cuts: AtomicU64::new(0),
            reset_inside: Default::default(),
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            bytes: Default::default(),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
            stop: Stop::default(),
        });
        let here = Arc::clone(&shared);
        let identity = Identity { role: Role::Signal, index: 0, core: None };
        let serve = move || {
            serve::serve(&listener, server, &here).map_err(|error| Fault::io("the proxy", error))
        };
        let thread = threads::spawn(identity, &shared.stop, serve).map_err(io::Error::other)?;
        Ok(Proxy { port, shared, _thread: thread })
    }

    /// A proxy in front of a loopback port.
    ///
    /// # Errors
    /// Like [`Proxy::start`].
    pub fn before_port(server_port: u16, link: Link) -> io::Result<Proxy> {
        Proxy::start((Ipv4Addr::LOCALHOST, server_port).into(), link)
    }

    /// Its port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes the link's behaviour from this call on. Bytes already read keep their due time.
    pub fn change(&self, change: impl FnOnce(&mut Link)) {
        change(&mut self.shared.link.lock());
        self.wake();
    }

    /// Stops forwarding, or resumes it.
    pub fn stall(&self, stalled: bool) {
        self.change(|link| link.stalled = stalled);
    }

    /// Closes all connections at once. Bytes that were not delivered are lost.
    pub fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Resets the connection that carries the next piece of at least `bytes` bytes in this
    /// direction, in the middle of it; 0 cancels the order.
    pub fn reset_inside(&self, direction: Direction, bytes: usize) {
        self.shared.reset_inside[direction as usize].store(bytes, Ordering::SeqCst);
    }

    /// The counters so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        let bytes = |direction: Direction| shared.bytes[direction as usize].load(Ordering::SeqCst);
        Counts {
            connections: shared.connections.load(Ordering::SeqCst),
            open: shared.open.load(Ordering::SeqCst),
            refused: shared.refused.load(Ordering::SeqCst),
            resets: shared.resets.load(Ordering::SeqCst),
            request_bytes: bytes(Direction::Request),
            answer_bytes: bytes(Direction::Answer),
        }
    }

    fn wake(&self) {
        // Only a full counter refuses, and then the thread is awake.
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.drain();
        self.wake();
    }
}
