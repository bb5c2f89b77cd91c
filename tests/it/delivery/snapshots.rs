//! A server that returns to an earlier snapshot, or to an empty data set.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::internals::metrics::Counter;
use redis::cmd;

use crate::support::{GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, wait_until};

/// Holds one frame in work until released.
#[derive(Clone, Default)]
struct Held {
    reached: Arc<AtomicBool>,
    go_on: Arc<AtomicBool>,
}

impl Held {
    fn probe(&self, frame: &'static str) -> impl Fn(&str) + Send + Sync + 'static {
        let Held { reached, go_on } = self.clone();
        move |frame_id: &str| {
            if frame_id == frame {
                reached.store(true, Ordering::SeqCst);
                while !go_on.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    #[track_caller]
    fn wait(&self) {
        wait_until("the frame is in work", LONG, || self.reached.load(Ordering::SeqCst));
    }

    fn release(&self) {
        self.go_on.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_restart_from_a_snapshot_takes_the_engine_back_with_it() {
    let mut server = RedisServer::start();
    let held = Held::default();
    let flags = [("redis_queue.claim_idle_ms", "1000"), ("redis_queue.retry_attempts", "100")];
    let engine = RunningEngine::probed(&server, &flags, held.probe("cam-3"));
    server.add_frames("cam", 20);
    held.wait();
    // In the snapshot, the held frame and those after it are pending.
    let _: () = server.ask(&cmd("SAVE"));
    held.release();
    server.wait_for_outputs(20);
    server.wait_until_done();
    server.kill();
    server.restart();
    assert!(server.len(OUTPUT) < 20 && server.pending() > 0, "it has gone back");
    // The engine has already ended these frames; they must still become its own again.
    server.wait_for_outputs(20);
    server.wait_until_done();
    server.add_frames("more", 10);
    server.wait_for_outputs(30);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert!(engine.stop().out > 30, "some were done twice, and stored once in each history");
}

#[test]
fn a_restart_with_nothing_saved_is_recovered_from() {
    let mut server = RedisServer::start();
    let engine = super::engine_in_work(&server, 200);
    server.kill();
    wait_until("the engine notices", LONG, || !engine.is_ready());
    server.restart();
    wait_until("the group is made again", LONG, || engine.count(Counter::GroupRecreated) >= 1);
    // Frames lost with the server are gone; later frames are not.
    let ids = server.add_frames("after", 30);
    server.wait_until_done();
    let results: Vec<_> = server.outputs().into_iter().map(|output| output.source_id()).collect();
    for id in &ids {
        assert_eq!(results.iter().filter(|result| *result == id).count(), 1, "{id}");
    }
    wait_until("the engine is ready", LONG, || engine.is_ready());
    engine.stop();
}

#[test]
fn a_server_that_sleeps_for_less_than_the_time_out_is_waited_for() {
    let server = RedisServer::with(&["--enable-debug-command", "yes"]);
    let engine = RunningEngine::start(&server, &[("redis_queue.timeout", "30")]);
    for round in 0..3 {
        server.add_frames(&format!("cam{round}"), 50);
        let _: () = server.ask(cmd("DEBUG").arg("SLEEP").arg("0.4"));
    }
    server.wait_for_outputs(150);
    assert_eq!(engine.count(Counter::Errors), 0, "slowness is no error");
    super::finish(&server, engine, 150);
}

#[test]
fn a_server_that_sleeps_for_longer_than_the_time_out_costs_nothing() {
    let server = RedisServer::with(&["--enable-debug-command", "yes"]);
    let flags = [
        ("redis_queue.timeout", "1"),
        ("redis_queue.claim_idle_ms", "1000"),
        ("redis_queue.retry_attempts", "100"),
    ];
    let engine = RunningEngine::start(&server, &flags);
    for round in 0..2 {
        server.add_frames(&format!("cam{round}"), 50);
        let _: () = server.ask(cmd("DEBUG").arg("SLEEP").arg("5"));
        let failures = round + 1;
        wait_until("it was noticed", LONG, || engine.count(Counter::Errors) >= failures);
    }
    super::finish(&server, engine, 100);
}

#[test]
fn a_frame_whose_entry_is_trimmed_while_it_is_in_work_is_stored() {
    let server = RedisServer::start();
    let held = Held::default();
    let flags = [("redis_queue.claim_idle_ms", "1000")];
    let engine = RunningEngine::probed(&server, &flags, held.probe("cam-3"));
    server.add_frames("cam", 5);
    held.wait();
    let _: i64 = server.ask(cmd("XTRIM").arg(INPUT).arg("MAXLEN").arg(0));
    // Renewing an entry without a body must not remove it from the pending entries list.
    wait_until("it was to be renewed", LONG, || engine.count(Counter::Renewed) >= 4);
    held.release();
    server.wait_for_outputs(5);
    wait_until("nothing pending", LONG, || server.pending() == 0);
    let account = engine.stop();
    assert_eq!((account.out, account.lost), (5, 0), "{account:?}");
}

#[test]
fn a_stream_trimmed_under_load_loses_what_was_not_read_and_nothing_else() {
    let server = RedisServer::start();
    server.create_group(GROUP);
    // A dead consumer holds the first ten.
    server.add_frames("old", 10);
    server.read_as("dead", 10);
    let _: i64 = server.ask(cmd("XTRIM").arg(INPUT).arg("MAXLEN").arg(4));
    let engine = RunningEngine::start(&server, &[("redis_queue.claim_idle_ms", "1000")]);
    for round in 0..5 {
        server.add_frames(&format!("cam{round}"), 30);
        let _: i64 = server.ask(cmd("XTRIM").arg(INPUT).arg("MAXLEN").arg(20));
    }
    wait_until("the lost are counted", LONG, || engine.account().lost_to_trim >= 6);
    server.wait_until_done();
    let account = engine.stop();
    assert_eq!(server.pending(), 0, "nothing is stuck");
    assert_eq!(account.read, account.out + account.lost_to_trim, "{account:?}");
    assert_eq!(server.len(OUTPUT) as u64, account.out);
}
