//! More connections to the statistics server than the process has descriptors.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Guest, limited};
use crate::support::{LONG, RaisedAtEnd, RedisServer, wait_until};

#[test]
fn idle_connections_never_take_the_descriptors_of_the_pipeline() {
    let mut server = RedisServer::durable();
    let environment = [
        ("REDIS_QUEUE__URL", &*server.url()),
        ("REDIS_QUEUE__BLOCK_TIME_MS", "100"),
        ("REDIS_QUEUE__TIMEOUT", "5"),
        ("STATS__ADDR", "127.0.0.1:0"),
    ];
    let engine = Guest::start(limited("ulimit -n 64", &["run"], &environment));
    wait_until("the engine runs", LONG, || engine.said().contains("running: "));
    let said = engine.said();
    let (_, rest) = said.split_once("statistics on http://").unwrap();
    let address: SocketAddr = rest.split_once(char::is_whitespace).unwrap().0.parse().unwrap();
    server.add_frames("cam", 2);
    server.wait_for_outputs(2);

    // The server closes idle connections after some seconds, so the attack keeps opening new ones.
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whatever happens, the other threads end.
        let _end = RaisedAtEnd(&over);
        let over = &over;
        scope.spawn(move || {
            let mut before = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let fresh: Vec<_> =
                    (0..70).filter_map(|_| TcpStream::connect(address).ok()).collect();
                std::thread::sleep(Duration::from_millis(500));
                before = std::mem::replace(&mut before, fresh);
            }
        });
        // Every connection to Redis is lost and must be reopened. Meanwhile waiting clients compete
        // for the freed descriptors.
        for round in 0..3 {
            server.kill();
            std::thread::sleep(Duration::from_millis(1500));
            server.restart();
            server.add_frames("cam", 2);
            server.wait_for_outputs(2 * (round + 2));
        }
        let answer = crate::http::ask(address, "GET", "/readyz", &[]);
        assert!(answer.is_some(), "an honest client is answered");
    });
    assert!(!engine.said().contains("Too many open files"), "{}", engine.said());
}
