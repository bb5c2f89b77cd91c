//! A TCP proxy that behaves like a bad network, on command.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use framepress::internals::base::threads::{self, Identity, Role, Running};
use framepress::internals::base::{Fault, Stop};
use parking_lot::Mutex;

/// How often a waiting pump checks the weather.
const TICK: Duration = Duration::from_millis(5);

/// An answer of this size, in bytes, holds at least half a frame.
const INSIDE_A_BULK: usize = 600;

/// How the proxy treats bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// They pass.
    Clear,
    /// Each piece is delayed by this much.
    Slow(Duration),
    /// They pass one by one.
    Trickle,
    /// They are held back and delivered when the weather clears. New connections are accepted.
    BlackHole,
}

#[derive(Debug)]
struct Shared {
    weather: Mutex<Weather>,
    /// Number of cuts; connections made before the last cut are closed.
    cuts: AtomicU64,
    /// The connection breaks in the middle of the next answer with a large body.
    reset_armed: AtomicBool,
    resets: AtomicU64,
    stop: Stop,
}

/// The proxy. Dropping the value ends it, after all its connections have ended.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _acceptor: Running,
}

impl Proxy {
    /// A proxy in front of a loopback port, in clear weather.
    pub fn start(server_port: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            weather: Mutex::new(Weather::Clear),
            cuts: AtomicU64::new(0),
            reset_armed: AtomicBool::new(false),
            resets: AtomicU64::new(0),
            stop: Stop::default(),
        });
        let (here, stop) = (Arc::clone(&shared), shared.stop.clone());
        let acceptor = spawn(&stop, move || accept(&listener, server_port, &here));
        Proxy { port, shared, _acceptor: acceptor }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn set(&self, weather: Weather) {
        *self.shared.weather.lock() = weather;
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::SeqCst);
    }

    /// Resets the next connection that carries a large answer, in the middle of that answer.
    pub fn reset_inside_a_bulk(&self) {
        self.shared.reset_armed.store(true, Ordering::SeqCst);
    }

    /// Connections that were reset so far.
    pub fn resets(&self) -> u64 {
        self.shared.resets.load(Ordering::SeqCst)
    }

    /// Clear weather, and no pending reset.
    pub fn heal(&self) {
        self.shared.reset_armed.store(false, Ordering::SeqCst);
        self.set(Weather::Clear);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.drain();
    }
}

fn spawn(stop: &Stop, body: impl FnOnce() -> Result<(), Fault> + Send + 'static) -> Running {
    let identity = Identity { role: Role::Signal, index: 0, core: None };
    threads::spawn(identity, stop, body).unwrap()
}

fn accept(listener: &TcpListener, server_port: u16, shared: &Arc<Shared>) -> Result<(), Fault> {
    let mut pumps: Vec<Running> = Vec::new();
    while !shared.stop.sleep(TICK) {
        pumps.retain(|pump| !pump.is_finished());
        while let Ok((client, _)) = listener.accept() {
            // Without a server, the proxy closes the client's connection.
            if let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)) {
                pumps.extend(join(client, server, shared));
            }
        }
    }
    Ok(())
}

/// One connection: a pump for each direction.
fn join(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> [Running; 2] {
    for end in [&client, &server] {
        end.set_nodelay(true).unwrap();
        end.set_nonblocking(false).unwrap();
        end.set_read_timeout(Some(TICK)).unwrap();
        end.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    let closed = Arc::new(AtomicBool::new(false));
    let born = shared.cuts.load(Ordering::SeqCst);
    let clones = (client.try_clone().unwrap(), server.try_clone().unwrap());
    [(client, server, false), (clones.1, clones.0, true)].map(|(from, to, is_answer)| {
        let (shared, closed, stop) = (Arc::clone(shared), Arc::clone(&closed), &shared.stop);
        spawn(stop, move || {
            let pump = Pump { from, to, is_answer, born, closed, shared };
            pump.run();
            Ok(())
        })
    })
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
            if *self.shared.weather.lock() == Weather::BlackHole {
                self.shared.stop.sleep(TICK);
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
            || self.shared.stop.is_draining()
            || self.shared.cuts.load(Ordering::SeqCst) != self.born
    }

    fn forward(&mut self, bytes: &[u8]) -> io::Result<()> {
        let is_bulk = self.is_answer && bytes.len() >= INSIDE_A_BULK;
        if is_bulk && self.shared.reset_armed.swap(false, Ordering::SeqCst) {
            self.shared.resets.fetch_add(1, Ordering::SeqCst);
            self.to.write_all(&bytes[..bytes.len() / 2])?;
            // With a linger time of zero, closing sends a reset. Bytes already written may be lost
            // too.
            let _ = rustix::net::sockopt::set_socket_linger(&self.to, Some(Duration::ZERO));
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let mut left = bytes;
        while !left.is_empty() {
            let weather = *self.shared.weather.lock();
            let now = match weather {
                Weather::Clear => left.len(),
                Weather::Slow(pause) => {
                    self.shared.stop.sleep(pause);
                    left.len()
                }
                Weather::Trickle => 1,
                Weather::BlackHole => 0,
            };
            if now < left.len() && self.is_over() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.to.write_all(&left[..now])?;
            left = &left[now..];
            match weather {
                Weather::Trickle => std::thread::sleep(Duration::from_micros(20)),
                Weather::BlackHole => std::thread::sleep(TICK),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
