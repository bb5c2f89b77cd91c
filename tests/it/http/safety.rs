//! Hostile clients, and clients that look hostile: they neither stop the frames nor fill the
//! memory.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};

use super::{Site, address_of, ask};
use crate::support::{
    FramepressProcess, LONG, OUTPUT, RaisedAtEnd, RedisServer, RunningEngine, status_of, wait_until,
};

/// Number of open connections that send nothing.
const IDLE: usize = 1_000;

/// How often each kind of attack must run while frames are processed.
const ROUNDS: usize = 30;

/// Memory that an attack may cost, in bytes: the answers held for slow clients, the threads that
/// answer, and what the allocator keeps of them.
const GROWTH_MAX: u64 = 64 << 20;

/// Frames per measurement of CPU time, without and under attack, and the number of measurements of
/// each. The lowest counts, as other load only adds to it.
const FRAMES_IN_PEACE: usize = 800;
const FRAMES_ATTACKED: usize = 250;
const MEASUREMENTS: usize = 3;

/// How much more CPU time a frame may cost the processing threads while the server is under attack.
/// Caches and cores are shared, work is not.
const ENGINE_RATIO_MAX: f64 = 3.0;

/// The same for the whole process while a thousand connections send nothing. Their threads and the
/// gate may poll them now and then.
const IDLE_RATIO_MAX: f64 = 3.0;

/// Opens a connection and sends `bytes` until it is closed, or 64 MiB were sent.
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

/// Many pipelined requests whose answers are never read.
fn pipelined(addr: SocketAddr) {
    flood(addr, b"", &b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(256));
}

/// Endless bytes that are not a request.
fn noise(addr: SocketAddr) {
    flood(addr, b"", &b"\r\n\0\xff".repeat(4096));
}

/// Requests the largest page and does not read it.
fn slow_reader(addr: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(addr) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    let _ = stream.read(&mut [0; 1]);
}

const ATTACKS: [fn(SocketAddr); 7] =
    [endless_headers, endless_line, huge_body, endless_chunks, pipelined, noise, slow_reader];

/// A figure from the status file of a process, in the unit given there.
/// CPU time of a process so far, in nanoseconds: of the whole process, which the kernel counts in
/// hundredths of a second, and of the threads that process frames, which it counts exactly.
fn cpu_of(pid: u32) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, in brackets, may hold any characters.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|&field| fields[field].parse::<u64>().unwrap()).sum();
    let whole = ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second());
    let engine = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|thread| {
            let thread = thread.ok()?.path();
            let name = std::fs::read_to_string(thread.join("comm")).ok()?;
            let own = ["fp-read", "fp-dispatch", "fp-work", "fp-commit"];
            own.iter().find(|own| name.starts_with(**own))?;
            let times = std::fs::read_to_string(thread.join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    (whole, engine)
}

/// CPU time per frame between two readings of [`cpu_of`], in milliseconds.
#[allow(clippy::cast_precision_loss)]
fn cost(before: (u64, u64), after: (u64, u64), frames: usize) -> (f64, f64) {
    let each = |nanos: u64| nanos as f64 / 1e6 / frames as f64;
    (each(after.0 - before.0), each(after.1 - before.1))
}

#[test]
fn an_attack_neither_stops_the_frames_nor_fills_the_memory_nor_makes_them_dear() {
    // The client side of the thousand connections needs descriptors too.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);

    let server = RedisServer::start();
    // Every result is counted at the end, so none may be trimmed.
    let environment =
        [("STATS__ADDR", "127.0.0.1:0"), ("REDIS_QUEUE__MAX_QUEUE_LENGTH", "1000000")];
    let process = FramepressProcess::run(&server, &environment);
    let addr = address_of(&process);
    let is_ready = || ask(addr, "GET", "/readyz", &[]).is_some_and(|answer| answer.status == 200);
    wait_until("the engine is ready", LONG, is_ready);

    // Process frames and answer requests once before measuring, so that start-up costs are not
    // counted.
    let frames = Cell::new(100);
    server.add_frames("cam", frames.get());
    server.wait_for_outputs(frames.get());
    for _ in 0..20 {
        assert!(ask(addr, "GET", "/metrics", &[]).is_some());
    }
    let now = |name: &str| status_of(process.pid(), name).unwrap();
    let (rss, threads) = (now("VmRSS"), now("Threads"));

    // Frames are processed fifty at a time, with a well-formed request each time.
    let most = Cell::new((0, 0));
    let pass = || {
        frames.set(frames.get() + 50);
        server.add_frames("cam", 50);
        server.wait_for_outputs(frames.get());
        wait_until("an honest client is answered", LONG, is_ready);
        let (rss, threads) = most.get();
        most.set((rss.max(now("VmRSS")), threads.max(now("Threads"))));
    };
    let measured = |count: usize| {
        let before = cpu_of(process.pid());
        (0..count / 50).for_each(|_| pass());
        cost(before, cpu_of(process.pid()), count)
    };
    let least = |one: (f64, f64), other: (f64, f64)| (one.0.min(other.0), one.1.min(other.1));
    let quiet = || (0..MEASUREMENTS).map(|_| measured(FRAMES_IN_PEACE)).reduce(least).unwrap();
    let alone = quiet();
    assert!(alone.0 > 0.0 && alone.1 > 0.0, "CPU times cannot be told: {alone:?}");
    let idle: Vec<_> = (0..IDLE).filter_map(|_| TcpStream::connect(addr).ok()).collect();
    assert!(idle.len() > IDLE / 2, "{} connections could be made", idle.len());
    let beside_idle = quiet();
    let over = AtomicBool::new(false);
    let rounds: Vec<AtomicUsize> = ATTACKS.iter().map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        // Whatever happens, the other threads end.
        let _end = RaisedAtEnd(&over);
        for (attack, rounds) in ATTACKS.iter().zip(&rounds) {
            let over = &over;
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    attack(addr);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Frames and well-formed requests continue while every attack repeats.
        let enough = || rounds.iter().all(|rounds| rounds.load(Ordering::Relaxed) >= ROUNDS);
        let mut costs = Vec::new();
        loop {
            let is_last = enough() && costs.len() + 1 >= MEASUREMENTS;
            costs.push(measured(FRAMES_ATTACKED));
            if is_last {
                break;
            }
        }
        let growth = most.get().0.saturating_sub(rss) * 1024;
        assert!(growth < GROWTH_MAX, "resident memory grew by {growth} bytes");
        // At most 64 connections have a thread behind the gate.
        let most = most.get().1;
        assert!(most <= threads + 64, "{threads} threads became {most}");

        let attacks: usize = rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).sum();
        let passed = costs.len() * FRAMES_ATTACKED;
        let attacked = costs.into_iter().reduce(least).unwrap();
        let shown = |(process, engine): (f64, f64)| format!("{process:.3} ({engine:.3}) ms");
        println!(
            "CPU per frame of the process (of the engine in it): alone {}; beside {} idle \
             connections {}; and under {attacks} attacks in {passed} frames {}",
            shown(alone),
            idle.len(),
            shown(beside_idle),
            shown(attacked),
        );
        let ratio = beside_idle.0 / alone.0;
        assert!(ratio < IDLE_RATIO_MAX, "idle connections: {ratio:.1} times the CPU of a frame");
        let ratio = attacked.1 / alone.1;
        assert!(ratio < ENGINE_RATIO_MAX, "attacks: {ratio:.1} times the CPU of a frame");
    });
    drop(idle);

    // Nothing was lost, and afterwards the engine works as before.
    wait_until("the engine answers as before", LONG, is_ready);
    let metrics = ask(addr, "GET", "/api/v1/system/metrics", &[]).unwrap().json();
    let (account, frames) = (&metrics["conservation"], frames.get());
    assert_eq!(account["out"], frames, "{account}");
    assert_eq!((&account["in_flight"], &account["balanced"]), (&0.into(), &true.into()));
    assert_eq!(server.len(OUTPUT), frames);
}

/// Sends `request` in pieces and returns the answer.
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
    // A head sent byte by byte, so that its end spans several reads.
    let bytes: Vec<_> = b"GET /livez HTTP/1.1\r\n\r\n".chunks(1).collect();
    starts(&say(addr, &bytes), "HTTP/1.1 200 ");
    starts(&say(addr, &[b"nonsense\r\n\r\n"]), "HTTP/1.1 400 ");
    // The server neither waits for the announced body nor takes it for a second request.
    let smuggled = b"POST / HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET /livez HTTP/1.1\r\n\r\n";
    let answer = say(addr, &[smuggled]);
    starts(&answer, "HTTP/1.1 405 ");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    // One answer per connection; the client is told so.
    let twice = say(addr, &[&b"GET /livez HTTP/1.1\r\nConnection: keep-alive\r\n\r\n".repeat(2)]);
    assert_eq!(twice.matches("HTTP/1.1 200").count(), 1, "{twice}");
    assert!(twice.contains("Connection: close\r\n"), "{twice}");
    // An incomplete request times out with an answer, and blocks nothing meanwhile.
    starts(&say(addr, &[b"GET /livez HTTP/1.1\r\nHost:"]), "HTTP/1.1 408 ");
}

#[test]
fn a_head_that_is_not_beyond_doubt_is_refused() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, None);
    for head in [
        // Folded and malformed Content-Length headers: if one were believed, it would request all
        // memory.
        "POST / HTTP/1.1\r\n Content-Length: 9223372036854775807\r\n\r\n",
        "POST / HTTP/1.1\r\n\tContent-Length: 9223372036854775807\r\n\r\n",
        "POST / HTTP/1.1\r\nX: y\r\n Content-Length: 18446744073709551615\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length : 9223372036854775807\r\n\r\n",
        "POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "GET /livez HTTP/1.1\r\n Expect: 100-continue\r\n\r\n",
        // Smuggled requests.
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
