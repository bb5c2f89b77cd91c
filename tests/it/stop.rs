//! Stopping, and failing to start: exit codes, deadlines and messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use framepress::internals::metrics::Counter;
use framepress::internals::metrics::clock::Tick;
use rustix::process::Signal;

use crate::support::{FramepressProcess, LONG, OUTPUT, RedisServer, RunningEngine, wait_until};

/// A loopback port on which no test program can listen.
const NOBODYS_PORT: u16 = 1;

#[test]
fn a_signal_drains_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = RedisServer::start();
        let mut engine = FramepressProcess::run(&server, &[]);
        server.add_frames("cam", 500);
        wait_until("some results", LONG, || server.len(OUTPUT) > 20);
        engine.signal(signal);
        engine.ends_with(0);
        let stored = server.len(OUTPUT);
        assert!(stored >= 20, "{stored}");
        server.assert_nothing_acknowledged_without_result();

        let mut engine = FramepressProcess::run(&server, &[]);
        server.wait_for_outputs(500);
        // The first engine may have processed them all; this one handles signals once it runs.
        wait_until("the engine", LONG, || engine.said().contains("running:"));
        engine.signal(signal);
        engine.ends_with(0);
        server.assert_every_entry_once();
    }
}

#[test]
fn a_second_signal_ends_at_once_with_130() {
    let server = RedisServer::start();
    let environment = [
        ("REDIS_QUEUE__OUTPUT_FULL", "block"),
        ("REDIS_QUEUE__MAX_QUEUE_LENGTH", "3"),
        ("ENGINE__DRAIN_TIMEOUT_MS", "600000"),
    ];
    let mut engine = FramepressProcess::run(&server, &environment);
    server.add_frames("cam", 200);
    wait_until("a full output stream", LONG, || server.len(OUTPUT) >= 3 && server.pending() > 0);
    engine.signal(Signal::TERM);
    // The kernel merges two pending signals of one kind.
    wait_until("the first is heard", LONG, || engine.said().contains("a second signal"));
    std::thread::sleep(Duration::from_millis(1500));
    assert!(engine.is_running(), "it cannot drain: the output stream is full\n{}", engine.said());
    engine.signal(Signal::TERM);
    engine.ends_with(130); // long before its drain timeout of ten minutes

    // Frames it left are pending, and come out once there is room.
    assert!(server.pending() > 0);
    let mut engine = FramepressProcess::run(&server, &[]);
    server.wait_for_outputs(200);
    engine.signal(Signal::TERM);
    engine.ends_with(0);
    server.assert_every_entry_once();
}

/// `timeout` of coreutils signals its child and then the whole group. A terminal and a service
/// manager may each send a signal too.
#[test]
fn signals_of_one_moment_are_one_request() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let server = RedisServer::start();
        let environment = [
            ("REDIS_QUEUE__OUTPUT_FULL", "block"),
            ("REDIS_QUEUE__MAX_QUEUE_LENGTH", "3"),
            ("ENGINE__DRAIN_TIMEOUT_MS", "600000"),
        ];
        let mut engine = FramepressProcess::run(&server, &environment);
        server.add_frames("cam", 50);
        wait_until("a full output stream", LONG, || {
            server.len(OUTPUT) >= 3 && server.pending() > 0
        });
        engine.signal(first);
        // The kernel merges two pending signals of one kind.
        wait_until("the first is heard", LONG, || engine.said().contains("a second signal"));
        engine.signal(second);
        // The engine drains: frames in flight come out as soon as there is room.
        wait_until("room and the end", LONG, || {
            let _: u64 = server.ask(redis::cmd("XTRIM").arg(OUTPUT).arg("MAXLEN").arg(0));
            !engine.is_running()
        });
        engine.ends_with(0);
        assert_eq!(server.pending(), 0, "{first:?} and {second:?}: drained\n{}", engine.said());
    }
}

#[test]
fn a_stop_without_redis_ends_within_the_drain_time() {
    let mut server = RedisServer::start();
    let flags = [("engine.drain_timeout_ms", "1000")];
    let (begun, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, go_on) = (Arc::clone(&begun), Arc::clone(&gone));
    let mut engine = RunningEngine::probed(&server, &flags, move |_| {
        // The first frames pass; the others stay in work until Redis is gone.
        if count.fetch_add(1, Ordering::SeqCst) >= 20 {
            while !go_on.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    server.add_frames("cam", 300);
    wait_until("frames in work", LONG, || {
        engine.account().out > 5 && begun.load(Ordering::SeqCst) > 20
    });
    server.kill();
    gone.store(true, Ordering::SeqCst);
    wait_until("the engine notices", LONG, || engine.count(Counter::Errors) > 0);
    let _ = engine.end(); // any end will do: without Redis the engine cannot drain
    wait_until("every receipt is given back", LONG, || engine.account().in_flight == 0);
    let account = engine.account();
    assert!(account.abandoned > 0, "what is not stored stays pending: {account:?}");
}

#[test]
fn an_idle_engine_stops_without_waiting_for_frames() {
    let server = RedisServer::start();
    // An engine that waits for its read to end takes most of a second each time. One that does not
    // may be slow by chance, but not every time.
    let quickest = (0..8).map(|_| {
        let engine = RunningEngine::start(&server, &[("redis_queue.block_time_ms", "1000")]);
        std::thread::sleep(Duration::from_millis(100));
        let began = Tick::now();
        engine.stop();
        began.elapsed()
    });
    let quickest = quickest.min().unwrap_or_default();
    assert!(quickest < Duration::from_millis(700), "{quickest:?}");
}

#[test]
fn a_stop_leaves_nothing_that_was_read_behind() {
    let mut clean = 0;
    for _ in 0..5 {
        let server = RedisServer::start();
        let engine = RunningEngine::start(&server, &[]);
        server.add_frames("cam", 200);
        server.wait_for_outputs(10);
        let account = engine.stop();
        assert_eq!(account.lost, 0, "{account:?}");
        assert_eq!(server.len(OUTPUT) as u64, account.out);
        server.assert_nothing_acknowledged_without_result();
        clean += u32::from(server.pending() == 0);
    }
    // If a server stalls for as long as the engine waits for the last reply, it delivers entries to
    // an engine that has left. Those stay pending, as promised.
    assert!(clean >= 3, "nothing left pending in only {clean} of 5 rounds");
}

#[test]
fn without_retry_a_lost_connection_ends_the_engine_with_its_cause() {
    let mut server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[("redis_queue.retry_on_failure", "false")]);
    server.kill();
    let fault = engine.wait().expect_err("the connection was lost");
    assert!(fault.to_string().contains(&format!("127.0.0.1:{}", server.port())), "{fault}");
}

#[test]
fn a_missing_redis_is_reported_without_the_password() {
    let port = NOBODYS_PORT;
    let url = format!("redis://user:very-secret@127.0.0.1:{port}/0");
    let environment = [
        ("REDIS_QUEUE__URL", &*url),
        ("REDIS_QUEUE__RETRY_ON_FAILURE", "false"),
        ("STATS__ADDR", "null"),
    ];
    let said = FramepressProcess::start(&["run"], &environment).ends_with(1);
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
    assert!(!said.contains("very-secret"), "{said}");
}

#[test]
fn a_wrong_password_is_reported_and_not_printed() {
    let server = RedisServer::start();
    let mut user = redis::cmd("ACL");
    user.arg("SETUSER").arg("cam").arg("on").arg(">right").arg("~*").arg("&*").arg("+@all");
    let _: () = server.ask(&user);
    let url = format!("redis://cam:very-secret@127.0.0.1:{}/0", server.port());
    let environment = [("REDIS_QUEUE__URL", &*url), ("STATS__ADDR", "null")];
    let said = FramepressProcess::start(&["run"], &environment).ends_with(1);
    assert!(said.contains(&format!("127.0.0.1:{}", server.port())), "{said}");
    assert!(!said.contains("very-secret"), "{said}");
}

#[test]
fn a_missing_redis_is_waited_for_visibly() {
    let port = NOBODYS_PORT;
    let url = format!("redis://:very-secret@127.0.0.1:{port}/0");
    let environment = [("REDIS_QUEUE__URL", &*url), ("STATS__ADDR", "null")];
    let mut engine = FramepressProcess::start(&["run"], &environment);
    let address = format!("127.0.0.1:{port}");
    wait_until("it names the address", LONG, || engine.said().contains(&address));
    assert!(engine.is_running(), "it tries again");
    engine.signal(Signal::TERM);
    engine.wait(LONG);
    assert!(!engine.said().contains("very-secret"), "{}", engine.said());
}

#[test]
fn a_wrong_configuration_ends_with_2_and_every_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.yaml");
    let text = "redis_queue:\n  compression_quality: 400\n  bloc_time_ms: 5\n\
                engine:\n  workers: none\nlimits:\n  max_pixels: -1\n";
    std::fs::write(&file, text).unwrap();
    let environment = [("STATS__ADDR", "nowhere")];
    let arguments = ["run", "--config", file.to_str().unwrap()];
    let said = FramepressProcess::start(&arguments, &environment).ends_with(2);
    for word in [
        "compression_quality",
        "400",
        "bloc_time_ms",
        "block_time_ms",
        "engine.workers",
        "limits.max_pixels",
        "stats.addr",
    ] {
        assert!(said.contains(word), "no {word} in\n{said}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    FramepressProcess::start(&["run", "--no-such-flag"], &[]).ends_with(2);
    FramepressProcess::start(&["no-such-command"], &[]).ends_with(2);
    let said = FramepressProcess::start(&["--help"], &[]).ends_with(0);
    for subcommand in ["run", "demo", "ingest", "inspect", "check"] {
        assert!(said.contains(subcommand), "no {subcommand} in\n{said}");
    }
}

#[test]
fn a_taken_stats_port_ends_with_1_and_is_named() {
    let server = RedisServer::start();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = FramepressProcess::run(&server, &[("STATS__ADDR", &address)]).ends_with(1);
    assert!(said.contains(&address), "{said}");
    drop(taken);
}

#[test]
fn the_readiness_page_tells_how_redis_is() {
    let mut server = RedisServer::durable();
    let engine = FramepressProcess::run(&server, &[("STATS__ADDR", "127.0.0.1:0")]);
    let mut address = String::new();
    wait_until("it names its page", LONG, || {
        let said = engine.said();
        let named =
            said.split("http://").nth(1).and_then(|rest| rest.split(['/', ' ', '\n']).next());
        address = named.unwrap_or_default().to_owned();
        !address.is_empty()
    });
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let get = |path: &str| {
        let mut answer = agent.get(format!("http://{address}{path}")).call().ok()?;
        let text = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), text))
    };
    let status = |path: &str| get(path).map_or(0, |(status, _)| status);
    wait_until("ready", LONG, || status("/readyz") == 200);
    assert_eq!(status("/livez"), 200);
    server.add_frames("cam", 10);
    server.wait_for_outputs(10);
    let conservation = || -> serde_json::Value {
        let (status, text) = get("/api/v1/system/metrics").expect("an answer");
        assert_eq!(status, 200);
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["conservation"].take()
    };
    wait_until("the account is told", LONG, || conservation()["out"] == 10);
    assert_eq!(conservation()["balanced"], true);
    assert_eq!(status("/no/such/page"), 404);

    server.kill();
    wait_until("not ready without Redis", LONG, || status("/readyz") == 503);
    assert_eq!(status("/livez"), 200, "alive all the same");
    server.restart();
    wait_until("ready again", LONG, || status("/readyz") == 200);
    drop(engine);
}
