//! A TCP proxy between one engine and its server, which fails on command.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Outcome;

/// How often a waiting thread looks whether it is to go on.
const TICK: Duration = Duration::from_millis(5);
/// A piece of this size is inside a frame or a result.
const INSIDE_A_BULK: usize = 2_000;

#[derive(Default)]
struct Shared {
    stalled: AtomicBool,
    /// Connections made before the last cut are closed.
    cuts: AtomicU64,
    /// The next large answer is broken off in its middle.
    answer_armed: AtomicBool,
    /// The next large request is broken off in its middle.
    request_armed: AtomicBool,
    resets: AtomicU64,
    over: AtomicBool,
}

/// The proxy; ended with the value.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy in front of a loopback port.
    pub fn start(server_port: u16) -> Outcome<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let here = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || accept(&listener, server_port, &here));
        Ok(Proxy { port, shared, acceptor: Some(acceptor) })
    }

    /// Passes nothing on, or does so again.
    pub fn stall(&self, stalled: bool) {
        self.shared.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Resets the next connection with a large answer on its way, in the middle of it.
    pub fn cut_in_answer(&self) {
        self.shared.answer_armed.store(true, Ordering::SeqCst);
    }

    /// The same for a large request.
    pub fn cut_in_request(&self) {
        self.shared.request_armed.store(true, Ordering::SeqCst);
    }

    /// Passes everything on, and breaks nothing off.
    pub fn heal(&self) {
        self.shared.answer_armed.store(false, Ordering::SeqCst);
        self.shared.request_armed.store(false, Ordering::SeqCst);
        self.stall(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, server_port: u16, shared: &Arc<Shared>) {
    let mut pumps: Vec<JoinHandle<()>> = Vec::new();
    while !shared.over.load(Ordering::SeqCst) {
        pumps.retain(|pump| !pump.is_finished());
        while let Ok((client, _)) = listener.accept() {
            // Without a server, the client is hung up on.
            if let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) {
                pumps.extend(join(&client, &server, shared).unwrap_or_default());
            }
        }
        std::thread::sleep(TICK);
    }
    for pump in pumps {
        let _ = pump.join();
    }
}

/// One connection: a pump for each direction.
fn join(
    client: &TcpStream,
    server: &TcpStream,
    shared: &Arc<Shared>,
) -> io::Result<Vec<JoinHandle<()>>> {
    for end in [client, server] {
        end.set_nodelay(true)?;
        end.set_nonblocking(false)?;
        end.set_read_timeout(Some(TICK))?;
        end.set_write_timeout(Some(Duration::from_secs(10)))?;
    }
    let closed = Arc::new(AtomicBool::new(false));
    let born = shared.cuts.load(Ordering::SeqCst);
    let pump = |from: &TcpStream, to: &TcpStream, is_answer| -> io::Result<JoinHandle<()>> {
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        let (shared, closed) = (Arc::clone(shared), Arc::clone(&closed));
        let pump = Pump { from, to, is_answer, born, closed, shared };
        Ok(std::thread::spawn(move || pump.run()))
    };
    Ok(vec![pump(client, server, false)?, pump(server, client, true)?])
}

struct Pump {
    from: TcpStream,
    to: TcpStream,
    /// From the server to the client.
    is_answer: bool,
    born: u64,
    closed: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Pump {
    fn run(mut self) {
        let mut buffer = vec![0; 16 << 10];
        while !self.is_over() {
            if self.shared.stalled.load(Ordering::SeqCst) {
                std::thread::sleep(TICK);
                continue;
            }
            match self.from.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    if self.forward(&buffer[..len]).is_err() {
                        break;
                    }
                }
                Err(error) if is_pause(&error) => {}
                Err(_) => break,
            }
        }
        self.closed.store(true, Ordering::SeqCst);
        // After a reset there is nothing left to shut down.
        let _ = self.to.shutdown(Shutdown::Both);
        let _ = self.from.shutdown(Shutdown::Both);
    }

    fn is_over(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
            || self.shared.over.load(Ordering::SeqCst)
            || self.shared.cuts.load(Ordering::SeqCst) != self.born
    }

    fn forward(&mut self, bytes: &[u8]) -> io::Result<()> {
        let armed =
            if self.is_answer { &self.shared.answer_armed } else { &self.shared.request_armed };
        if bytes.len() >= INSIDE_A_BULK && armed.swap(false, Ordering::SeqCst) {
            self.shared.resets.fetch_add(1, Ordering::SeqCst);
            self.to.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        // What was read before the stall waits for its end, as in a full buffer of the network.
        while self.shared.stalled.load(Ordering::SeqCst) {
            if self.is_over() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            std::thread::sleep(TICK);
        }
        self.to.write_all(bytes)
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
