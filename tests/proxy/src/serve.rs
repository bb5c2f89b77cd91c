//! The proxy thread: waits for sockets and for bytes that are due.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use framepress::internals::metrics::clock::Tick;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use crate::flow::{End, Flow, SEGMENT_BYTES, Spare};
use crate::{Admission, Direction, Link, ROUTER_BYTES, Shared};

/// Most connections; further ones wait.
const CONNECTIONS_MAX: usize = 1_000;
/// Time limit of a connection to the server.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The longest sleep.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// The duration of link capacity written at once to a narrow link.
const SLICE: Duration = Duration::from_millis(1);
/// Bounds of such a slice: a packet, and a read.
const SLICE_BYTES: (u64, u64) = (1_500, SEGMENT_BYTES as u64);
/// Receive buffer in front of a narrow link, which would otherwise hold megabytes.
const NARROW_BUFFER: usize = 64 << 10;

const DIRECTIONS: [Direction; 2] = [Direction::Request, Direction::Answer];

struct Pair {
    /// The client's socket and the server's.
    sockets: [TcpStream; 2],
    flows: [Flow; 2],
    /// The client's bytes are read only from this moment on, to simulate the handshake.
    opened: Tick,
    cuts: u64,
    broken: bool,
}

/// When the narrow link has sent its last slice, by direction.
type Sent = [Tick; 2];

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
enum Place {
    Wake,
    Listener,
    Read(usize, Direction),
    Write(usize, Direction),
}

pub(crate) fn serve(listener: &TcpListener, server: SocketAddr, shared: &Shared) -> io::Result<()> {
    let mut pairs: Vec<Pair> = Vec::new();
    let mut spare = Spare::default();
    let mut sent = [Tick::now(); 2];
    while !shared.stop.is_draining() {
        let link = *shared.link.lock();
        let cuts = shared.cuts.load(Ordering::SeqCst);
        pairs.retain(|pair| pair.cuts == cuts && !pair.broken);
        shared.open.store(pairs.len(), Ordering::SeqCst);
        let ready = wait(&pairs, &link, &sent, listener, shared)?;
        // Read the settings again, so that a change made during the wait applies to the new events.
        let link = *shared.link.lock();
        let cuts = shared.cuts.load(Ordering::SeqCst);
        for place in ready {
            match place {
                Place::Wake => {
                    let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
                }
                Place::Listener if link.admission == Admission::Hold => {}
                Place::Listener => {
                    if let Some(pair) = accept(listener, server, &link, cuts, shared)? {
                        pairs.push(pair);
                    }
                }
                Place::Read(..) if link.stalled => {}
                Place::Read(at, direction) => {
                    pairs[at].read(direction, &link, &mut sent, shared, &mut spare);
                }
                // Bytes that are due are written below.
                Place::Write(at, direction) => pairs[at].flows[direction as usize].blocked = false,
            }
        }
        if !link.stalled {
            for pair in &mut pairs {
                pair.write(shared, &mut spare);
            }
        }
    }
    Ok(())
}

/// Sleeps until a socket is ready, bytes are due or the settings have changed.
fn wait(
    pairs: &[Pair],
    link: &Link,
    sent: &Sent,
    listener: &TcpListener,
    shared: &Shared,
) -> io::Result<Vec<Place>> {
    let now = Tick::now();
    let mut until = now.after(SLEEP_MAX);
    let mut places = vec![Place::Wake];
    let mut fds = vec![PollFd::new(&shared.wake, PollFlags::IN)];
    if link.admission != Admission::Hold && pairs.len() < CONNECTIONS_MAX {
        places.push(Place::Listener);
        fds.push(PollFd::new(listener, PollFlags::IN));
    }
    for (at, pair) in pairs.iter().enumerate().filter(|_| !link.stalled) {
        for direction in DIRECTIONS {
            let flow = &pair.flows[direction as usize];
            let [from, to] = pair.ends(direction);
            let reads_at = pair.reads_at(direction, link, sent);
            if flow.has_room() && reads_at <= now {
                places.push(Place::Read(at, direction));
                fds.push(PollFd::new(from, PollFlags::IN));
            } else if flow.has_room() {
                until = until.min(reads_at);
            }
            if flow.blocked {
                places.push(Place::Write(at, direction));
                fds.push(PollFd::new(to, PollFlags::OUT));
            }
            until = flow.next_due().map_or(until, |due| until.min(due));
        }
    }
    let left = until.since(now);
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    match poll(&mut fds, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let ready = fds.iter().zip(places).filter(|(fd, _)| !fd.revents().is_empty());
    Ok(ready.map(|(_, place)| place).collect())
}

fn accept(
    listener: &TcpListener,
    server: SocketAddr,
    link: &Link,
    cuts: u64,
    shared: &Shared,
) -> io::Result<Option<Pair>> {
    let client = match listener.accept() {
        Ok((client, _)) => client,
        // The client has closed the connection already.
        Err(_) => return Ok(None),
    };
    let joined = (link.admission == Admission::Open)
        .then(|| TcpStream::connect_timeout(&server, CONNECT_LIMIT).ok());
    let Some(server) = joined.flatten() else {
        shared.refused.fetch_add(1, Ordering::SeqCst);
        return Ok(None);
    };
    for end in [&client, &server] {
        end.set_nodelay(true)?;
        end.set_nonblocking(true)?;
        if link.bytes_per_second.is_some() {
            sockopt::set_socket_recv_buffer_size(end, NARROW_BUFFER)?;
        }
    }
    shared.connections.fetch_add(1, Ordering::SeqCst);
    Ok(Some(Pair {
        sockets: [client, server],
        flows: Default::default(),
        opened: Tick::now().after(link.delay * 2),
        cuts,
        broken: false,
    }))
}

impl Pair {
    /// Source and destination of this direction.
    fn ends(&self, direction: Direction) -> [&TcpStream; 2] {
        let [client, server] = &self.sockets;
        match direction {
            Direction::Request => [client, server],
            Direction::Answer => [server, client],
        }
    }

    /// The moment from which bytes of this direction may be read.
    fn reads_at(&self, direction: Direction, link: &Link, sent: &Sent) -> Tick {
        let narrow = link.bytes_per_second.map(|rate| {
            let queue = time_of(ROUTER_BYTES, rate).saturating_sub(time_of(slice(rate), rate));
            sent[direction as usize].before(queue)
        });
        match narrow {
            Some(at) => at.max(self.opened),
            None => self.opened,
        }
    }

    fn read(
        &mut self,
        direction: Direction,
        link: &Link,
        sent: &mut Sent,
        shared: &Shared,
        spare: &mut Spare,
    ) {
        if self.reads_at(direction, link, sent) > Tick::now() {
            return; // another connection has filled the queue
        }
        let limit = link.bytes_per_second.map_or(SEGMENT_BYTES as u64, slice);
        let flow = &mut self.flows[direction as usize];
        let mut from = match direction {
            Direction::Request => &self.sockets[0],
            Direction::Answer => &self.sockets[1],
        };
        let read = flow.read(&mut from, usize::try_from(limit).unwrap_or(SEGMENT_BYTES), spare);
        let mut due = Tick::now();
        if let (Some(rate), Ok(bytes)) = (link.bytes_per_second, &read) {
            let free = &mut sent[direction as usize];
            *free = due.max(*free).after(time_of(*bytes as u64, rate));
            due = *free;
        }
        let due = due.after(link.delay);
        match read {
            Ok(0) => {}
            Ok(bytes) => {
                let armed = &shared.reset_inside[direction as usize];
                let size = armed.load(Ordering::SeqCst);
                if size == 0 || bytes < size {
                    return flow.note(due, bytes);
                }
                armed.store(0, Ordering::SeqCst);
                shared.resets.fetch_add(1, Ordering::SeqCst);
                flow.take_back(bytes / 2);
                flow.note(due, bytes - bytes / 2);
                flow.finish(due, End::Reset);
            }
            Err(_) => flow.finish(due, End::Closed),
        }
    }

    fn write(&mut self, shared: &Shared, spare: &mut Spare) {
        for direction in DIRECTIONS {
            let now = Tick::now();
            let flow = &mut self.flows[direction as usize];
            if flow.next_due().is_none_or(|due| due > now) {
                continue;
            }
            let mut to = match direction {
                Direction::Request => &self.sockets[1],
                Direction::Answer => &self.sockets[0],
            };
            match flow.write(&mut to, now, spare) {
                Ok(bytes) => {
                    shared.bytes[direction as usize].fetch_add(bytes as u64, Ordering::SeqCst);
                }
                // The other direction may still have data.
                Err(_) => flow.give_up(spare),
            }
            match flow.ending(now) {
                Some(End::Closed) => {
                    flow.over = true;
                    let _ = to.shutdown(Shutdown::Write);
                }
                Some(End::Reset) => {
                    // With a linger time of zero, closing sends a reset.
                    for socket in &self.sockets {
                        let _ = sockopt::set_socket_linger(socket.as_fd(), Some(Duration::ZERO));
                    }
                    self.broken = true;
                    return;
                }
                None => {}
            }
        }
        self.broken |= self.flows.iter().all(|flow| flow.over);
    }
}

/// Bytes of one slice of a narrow link.
fn slice(bytes_per_second: u64) -> u64 {
    let bytes = bytes_per_second.saturating_mul(SLICE.as_millis() as u64) / 1_000;
    bytes.clamp(SLICE_BYTES.0, SLICE_BYTES.1)
}

/// How long a narrow link takes for this many bytes.
fn time_of(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64)
}
