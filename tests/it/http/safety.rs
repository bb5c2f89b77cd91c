//! Clients that mean harm, or only seem to: they neither stop the frames nor fill the memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::{Site, address_of, ask};
use crate::support::{FramepressProcess, LONG, OUTPUT, RedisServer, RunningEngine, wait_until};

/// Connections that are opened and say nothing.
const IDLE: usize = 1_000;

/// How often each kind of attack must have been tried while frames were processed.
const ROUNDS: usize = 30;

/// Memory an attack may cost, in bytes: the answers held for slow clients, the threads that answer,
/// and what an allocator keeps of them.
const GROWTH_MAX: u64 = 64 << 20;

/// One connection that sends `bytes` until it is shut out, or has sent 64 MiB.
fn flood(addr: SocketAddr, start: &[u8], bytes: &[u8]) {
    let Ok(mut stream) = TcpStream::connect(addr) else { return };
    let _ = stream.set_write_timeout(Some(Duration::from_secs(10)));
    if stream.write_all(start).is_err() {
        return;
    }
    for _ in 0..(64 << 20) / bytes.len() {
        if stream.write_all(bytes).is_err() {
            return;
        }
    }
}

fn endless_headers(addr: SocketAddr) {
    flood(addr, b"GET / HTTP/1.1\r\n", &b"X-Header: value\r\n".repeat(1024));
}

fn endless_line(addr: SocketAddr) {
    flood(addr, b"GET /", &[b'a'; 16 << 10]);
}

fn huge_body(addr: SocketAddr) {
    let head = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n";
    flood(addr, head, &[0; 16 << 10]);
}

fn endless_chunks(addr: SocketAddr) {
    let head = b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    flood(addr, head, &b"10\r\n0123456789abcdef\r\n".repeat(512));
}

/// Many requests at once, and not a byte of the answers is read.
fn pipelined(addr: SocketAddr) {
    flood(addr, b"", &b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(256));
}

/// Bytes without end that are no request at all.
fn noise(addr: SocketAddr) {
    flood(addr, b"", &b"\r\n\0\xff".repeat(4096));
}

/// Asks for the largest page and does not read it.
fn slow_reader(addr: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(addr) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let _ = stream.read(&mut [0; 1]);
}

const ATTACKS: [fn(SocketAddr); 7] =
    [endless_headers, endless_line, huge_body, endless_chunks, pipelined, noise, slow_reader];

/// A figure of a process, from its status file, in the unit that stands there.
fn status_of(pid: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn an_attack_neither_stops_the_frames_nor_fills_the_memory() {
    // This side of the thousand connections needs descriptors too.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);

    let server = RedisServer::start();
    let process = FramepressProcess::run(&server, &[("STATS__ADDR", "127.0.0.1:0")]);
    let addr = address_of(&process);
    let is_ready = || ask(addr, "GET", "/readyz", &[]).is_some_and(|answer| answer.status == 200);
    wait_until("the engine is ready", LONG, is_ready);

    // What it takes to process frames and to answer is there before anything is compared.
    let mut frames = 100;
    server.add_frames("cam", frames);
    server.wait_for_outputs(frames);
    for _ in 0..20 {
        assert!(ask(addr, "GET", "/metrics", &[]).is_some());
    }
    let (rss, threads) = (status_of(process.pid(), "VmRSS:"), status_of(process.pid(), "Threads:"));

    let idle: Vec<_> = (0..IDLE).filter_map(|_| TcpStream::connect(addr).ok()).collect();
    assert!(idle.len() > IDLE / 2, "{} connections could be made", idle.len());
    let over = AtomicBool::new(false);
    let rounds: Vec<AtomicUsize> = ATTACKS.iter().map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        // However this ends, the attackers leave.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _end = End(&over);
        for (attack, rounds) in ATTACKS.iter().zip(&rounds) {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    attack(addr);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Frames go through while every attack is made again and again, and so do questions.
        let enough = || rounds.iter().all(|rounds| rounds.load(Ordering::Relaxed) >= ROUNDS);
        let mut most = (0, 0);
        loop {
            let is_last = enough();
            frames += 50;
            server.add_frames("cam", 50);
            server.wait_for_outputs(frames);
            wait_until("an honest client is answered", LONG, is_ready);
            most.0 = most.0.max(status_of(process.pid(), "VmRSS:"));
            most.1 = most.1.max(status_of(process.pid(), "Threads:"));
            if is_last {
                break;
            }
        }
        let growth = most.0.saturating_sub(rss) * 1024;
        assert!(growth < GROWTH_MAX, "resident memory grew by {growth} bytes");
        // Of the connections, 64 at most have a thread behind the gate.
        assert!(most.1 <= threads + 64, "{threads} threads became {}", most.1);
    });
    drop(idle);

    // Nothing was lost on the way, and all is in order afterwards.
    wait_until("the engine answers as before", LONG, is_ready);
    let metrics = ask(addr, "GET", "/api/v1/system/metrics", &[]).unwrap().json();
    let account = &metrics["conservation"];
    assert_eq!(account["out"], frames, "{account}");
    assert_eq!((&account["in_flight"], &account["balanced"]), (&0.into(), &true.into()));
    assert_eq!(server.len(OUTPUT), frames);
}

/// Sends `request` in pieces and reads what comes.
fn say(addr: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    for piece in pieces {
        stream.write_all(piece).unwrap();
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_at_the_limits_are_answered_in_order() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, None);
    let addr = site.addr;
    let starts = |answer: &str, with: &str| assert!(answer.starts_with(with), "{with}: {answer}");

    let long = [b"GET /".as_slice(), &[b'a'; 9_000], b" HTTP/1.1\r\n\r\n"];
    starts(&say(addr, &long), "HTTP/1.1 431 ");
    let header = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(7_000));
    starts(&say(addr, &[header.as_bytes()]), "HTTP/1.1 200 ");
    // A head in single bytes, its end across two reads.
    let bytes: Vec<_> = b"GET /livez HTTP/1.1\r\n\r\n".chunks(1).collect();
    starts(&say(addr, &bytes), "HTTP/1.1 200 ");
    starts(&say(addr, &[b"nonsense\r\n\r\n"]), "HTTP/1.1 400 ");
    // Nobody waits for the body that was announced, nor takes it for a second request.
    let smuggled = b"POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET /livez HTTP/1.1\r\n\r\n";
    let answer = say(addr, &[smuggled]);
    starts(&answer, "HTTP/1.1 405 ");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    // One answer for each connection; the client is told so.
    let twice = say(addr, &[&b"GET /livez HTTP/1.1\r\nConnection: keep-alive\r\n\r\n".repeat(2)]);
    assert_eq!(twice.matches("HTTP/1.1 200").count(), 1, "{twice}");
    assert!(twice.contains("Connection: close\r\n"), "{twice}");
    // What stops in the middle is told so after a while, and holds nothing up meanwhile.
    starts(&say(addr, &[b"GET /livez HTTP/1.1\r\nHost:"]), "HTTP/1.1 408 ");
}

#[test]
fn a_head_that_is_not_beyond_doubt_is_refused() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, None);
    for head in [
        // Headers in hiding: one that was believed would ask for all the memory there is.
        "POST / HTTP/1.1\r\n Content-Length: 9223372036854775807\r\n\r\n",
        "POST / HTTP/1.1\r\n\tContent-Length: 9223372036854775807\r\n\r\n",
        "POST / HTTP/1.1\r\nX: y\r\n Content-Length: 18446744073709551615\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length : 9223372036854775807\r\n\r\n",
        "POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "GET /livez HTTP/1.1\r\n Expect: 100-continue\r\n\r\n",
        // Requests in hiding.
        "GET /livez HTTP/1.1\nHost: x\r\n\r\n",
        "GET /livez HTTP/1.1\r\nX: y\n\nGET /metrics HTTP/1.1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nX: y\rContent-Length: 5\r\n\r\n",
        "GET /livez HTTP/1.1\n\nGET /metrics HTTP/1.1\r\n\r\n",
        "GET /livez HTTP/1.1\r\nX: \0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        "GET /livez HTTP/2.0\r\n\r\n",
    ] {
        let answer = say(site.addr, &[head.as_bytes()]);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}: {answer}");
    }
    assert_eq!(site.get("/livez").status, 200, "nobody is the worse for it");
}
