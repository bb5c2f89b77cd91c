//! The proxy's effect on bytes, tested against servers in this process.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use framepress::internals::base::threads::{self, Identity, Role, Running};
use framepress::internals::base::{Fault, Stop};
use framepress::internals::metrics::clock::Tick;
use framepress_proxy::{Admission, Direction, Link, Proxy, ROUTER_BYTES};

/// Longer than any wait here, also on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// Serves every connection with `body` until the proxy in front of it ends.
struct Server {
    port: u16,
    stop: Stop,
    _acceptor: Running,
}

impl Server {
    fn start(body: impl Fn(TcpStream) + Copy + Send + 'static) -> Server {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Stop::default();
        let until = stop.clone();
        let acceptor = spawn(&stop, move || {
            let mut connections = Vec::new();
            while !until.sleep(Duration::from_millis(1)) {
                while let Ok((connection, _)) = listener.accept() {
                    connection.set_nonblocking(false).unwrap();
                    connection.set_nodelay(true).unwrap();
                    connections.push(spawn(&until, move || {
                        body(connection);
                        Ok(())
                    }));
                }
            }
            Ok(())
        });
        Server { port, stop, _acceptor: acceptor }
    }

    fn echo() -> Server {
        Server::start(|mut connection| {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(read @ 1..) = connection.read(&mut bytes) {
                if connection.write_all(&bytes[..read]).is_err() {
                    break;
                }
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.drain();
    }
}

fn spawn(stop: &Stop, body: impl FnOnce() -> Result<(), Fault> + Send + 'static) -> Running {
    let identity = Identity { role: Role::Signal, index: 0, core: None };
    threads::spawn(identity, stop, body).unwrap()
}

fn before(server: &Server, link: Link) -> Proxy {
    Proxy::before_port(server.port, link).unwrap()
}

fn connect(proxy: &Proxy) -> TcpStream {
    let connection = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    connection.set_nodelay(true).unwrap();
    connection.set_read_timeout(Some(LONG)).unwrap();
    connection
}

/// Sends one byte and waits for its echo.
fn ping(connection: &mut TcpStream) -> std::io::Result<Duration> {
    let began = Tick::now();
    connection.write_all(b"x")?;
    connection.read_exact(&mut [0])?;
    Ok(began.elapsed())
}

#[test]
fn a_round_trip_takes_its_time_and_a_new_connection_one_more() {
    let server = Server::echo();
    let trip = Duration::from_millis(40);
    let proxy = before(&server, Link::with_round_trip(trip));
    let mut connection = connect(&proxy);
    assert!(ping(&mut connection).unwrap() >= trip * 2, "with the handshake");
    let mut trips: Vec<_> = (0..15).map(|_| ping(&mut connection).unwrap()).collect();
    trips.sort();
    assert!(trips[0] >= trip, "{trips:?}");
    assert!(trips[7] < trip + Duration::from_millis(5), "{trips:?}");
    proxy.change(|link| link.delay = Duration::ZERO);
    assert!(ping(&mut connection).unwrap() < trip);
}

#[test]
fn a_delay_does_not_limit_the_throughput() {
    let server = Server::echo();
    let proxy = before(&server, Link::with_round_trip(Duration::from_millis(200)));
    let mut connection = connect(&proxy);
    let sent = vec![7; 64 << 20];
    let mut writer = connection.try_clone().unwrap();
    let began = Tick::now();
    let received = std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&sent).unwrap());
        let mut received = vec![0; sent.len()];
        connection.read_exact(&mut received).unwrap();
        received
    });
    let took = began.elapsed();
    assert!(received == sent);
    // A window of a megabyte would take 64 round trips: 13 s.
    assert!(took < Duration::from_secs(5), "{took:?}");
    let counts = proxy.counts();
    assert_eq!((counts.request_bytes, counts.answer_bytes), (64 << 20, 64 << 20));
    assert_eq!((counts.connections, counts.open), (1, 1));
}

#[test]
fn a_narrow_link_is_shared_and_pushes_back() {
    const RATE: u64 = 1_000_000;
    let server = Server::start(|mut connection| {
        let bytes = vec![0; 64 << 10];
        while connection.write_all(&bytes).is_ok() {}
    });
    let proxy = before(&server, Link { bytes_per_second: Some(RATE), ..Link::default() });
    let began = Tick::now();
    let read: u64 = std::thread::scope(|scope| {
        let readers = [0, 1].map(|_| {
            let mut connection = connect(&proxy);
            scope.spawn(move || {
                let (mut bytes, mut sum) = (vec![0; 16 << 10], 0);
                while began.elapsed() < Duration::from_secs(2) {
                    sum += connection.read(&mut bytes).unwrap() as u64;
                }
                sum
            })
        });
        readers.map(|reader| reader.join().unwrap()).iter().sum()
    });
    let seconds = began.elapsed().as_secs_f64();
    let share = read as f64 / (RATE as f64 * seconds);
    assert!((0.8..1.1).contains(&share), "{read} bytes in {seconds} s");
    const { assert!(ROUTER_BYTES < RATE) };
}

#[test]
fn connections_are_cut_refused_held_and_stalled() {
    let server = Server::echo();
    let proxy = before(&server, Link::default());
    let mut connections = [connect(&proxy), connect(&proxy)];
    for connection in &mut connections {
        ping(connection).unwrap();
    }
    proxy.cut();
    for connection in &mut connections {
        ping(connection).unwrap_err();
    }

    proxy.change(|link| link.admission = Admission::Refuse);
    ping(&mut connect(&proxy)).unwrap_err();
    assert_eq!(proxy.counts().refused, 1);

    proxy.change(|link| link.admission = Admission::Hold);
    let mut held = connect(&proxy);
    held.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    held.write_all(b"x").unwrap();
    assert_eq!(held.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.change(|link| link.admission = Admission::Open);
    held.set_read_timeout(Some(LONG)).unwrap();
    held.read_exact(&mut [0]).unwrap();

    proxy.stall(true);
    held.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    held.write_all(b"x").unwrap();
    assert_eq!(held.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    proxy.stall(false);
    held.set_read_timeout(Some(LONG)).unwrap();
    held.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_connection_is_reset_inside_a_piece() {
    let server = Server::start(|mut connection| {
        let _ = connection.read(&mut [0]);
        let _ = connection.write_all(&[1; 10_000]);
        let _ = connection.read(&mut [0]);
    });
    let proxy = before(&server, Link::default());
    proxy.reset_inside(Direction::Answer, 1_000);
    let mut connection = connect(&proxy);
    connection.write_all(b"x").unwrap();
    let mut all = Vec::new();
    connection.read_to_end(&mut all).unwrap_err();
    assert!(all.len() < 10_000, "{}", all.len());
    assert_eq!(proxy.counts().resets, 1);
}

#[test]
fn what_was_said_before_the_end_arrives() {
    let server = Server::start(|mut connection| {
        let _ = connection.write_all(b"last words");
    });
    let proxy = before(&server, Link::with_round_trip(Duration::from_millis(20)));
    let mut all = Vec::new();
    connect(&proxy).read_to_end(&mut all).unwrap();
    assert_eq!(all, b"last words");
}
