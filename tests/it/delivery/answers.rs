//! Error replies of a server that cannot serve a command: the engine waits until it can, and stores
//! every frame once.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use framepress::internals::metrics::Counter;
use redis::cmd;

use super::{engine_in_work, finish};
use crate::support::{INPUT, LONG, RedisServer, RunningEngine, is_older_than_7, skip, wait_until};

/// A server that follows a primary which accepts the connection and never answers.
struct Follower<'a> {
    server: &'a RedisServer,
    _mute: TcpListener,
}

impl Follower<'_> {
    fn of_a_mute_primary(server: &RedisServer) -> Follower<'_> {
        let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = mute.local_addr().unwrap().port();
        let _: () = server.ask(cmd("REPLICAOF").arg("127.0.0.1").arg(port));
        Follower { server, _mute: mute }
    }

    fn promote(self) {
        let _: () = self.server.ask(cmd("REPLICAOF").arg("NO").arg("ONE"));
    }
}

#[track_caller]
fn wait_for_complaint(engine: &RunningEngine, code: &str) {
    wait_until(&format!("the engine says {code}"), LONG, || engine.complaint().contains(code));
}

#[test]
fn readonly_is_waited_out() {
    let server = RedisServer::start();
    let engine = engine_in_work(&server, 200);
    for _ in 0..2 {
        let follower = Follower::of_a_mute_primary(&server);
        wait_for_complaint(&engine, "READONLY");
        follower.promote();
        server.add_frames("more", 20);
    }
    finish(&server, engine, 240);
}

#[test]
fn masterdown_is_waited_out() {
    let server = RedisServer::with(&["--replica-serve-stale-data", "no"]);
    let engine = engine_in_work(&server, 200);
    let follower = Follower::of_a_mute_primary(&server);
    // The replica refuses a storing script with READONLY, and other commands with MASTERDOWN.
    wait_until("the engine says so", LONG, || {
        ["MASTERDOWN", "READONLY"].iter().any(|code| engine.complaint().contains(code))
    });
    follower.promote();
    server.add_frames("more", 20);
    finish(&server, engine, 220);
}

#[test]
fn loading_is_waited_out() {
    if is_older_than_7() {
        return skip("Redis 6.2 does not answer while it loads so few keys");
    }
    // The server serves its connections after every kilobyte it has loaded.
    let mut server = RedisServer::with(&["--loading-process-events-interval-bytes", "1024"]);
    let filler = "for i = 1, 5000 do redis.call('SET', 'filler:' .. i, i) end";
    let _: redis::Value = server.ask(cmd("EVAL").arg(filler).arg(0));
    let engine = engine_in_work(&server, 200);
    let _: () = server.ask(&cmd("SAVE"));
    server.kill();
    // Ten milliseconds per key: the server is still loading when the engine reconnects.
    server.restart_unready(&["--key-load-delay", "10000"]);
    wait_for_complaint(&engine, "LOADING");
    server.configure("key-load-delay", "0");
    server.wait_until_up();
    server.add_frames("more", 20);
    server.wait_for_outputs(220);
    server.wait_until_done();
    server.assert_every_entry_once();
    // What came after the snapshot was processed again, so the engine counts more than 220.
    assert!(engine.stop().out >= 220);
}

#[test]
fn a_busy_script_is_waited_out() {
    let mut server = RedisServer::with(&["--busy-reply-threshold", "50"]);
    let engine = engine_in_work(&server, 200);
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    client.write_all(b"EVAL \"while true do end\" 0\r\n").unwrap();
    wait_for_complaint(&engine, "BUSY");
    let _: () = server.ask(cmd("SCRIPT").arg("KILL"));
    // The script ends a little later.
    server.wait_until_up();
    server.add_frames("more", 20);
    finish(&server, engine, 220);
}

/// An engine whose read is blocked at the server most of the time.
fn blocked_engine(server: &RedisServer) -> RunningEngine {
    let engine = RunningEngine::start(server, &[("redis_queue.block_time_ms", "1000")]);
    server.add_frames("before", 20);
    server.wait_for_outputs(20);
    server.wait_until_done();
    engine
}

#[test]
fn a_read_that_is_unblocked_with_an_error_is_asked_again() {
    let server = RedisServer::start();
    let engine = blocked_engine(&server);
    wait_until("the blocked read is ended", LONG, || {
        let clients: String = server.ask(cmd("CLIENT").arg("LIST"));
        let ours = clients.lines().find(|line| line.contains("name=framepress-engine-0 "));
        let id = ours.and_then(|line| line.strip_prefix("id=")?.split(' ').next());
        let mut unblock = cmd("CLIENT");
        unblock.arg("UNBLOCK").arg(id.unwrap_or("0")).arg("ERROR");
        server.ask::<i64>(&unblock) == 1
    });
    wait_until("it was an error", LONG, || engine.count(Counter::Errors) >= 1);
    server.add_frames("after", 20);
    finish(&server, engine, 40);
}

/// Redis 7.0 crashes with "Unknown btype in replyToBlockedClientOnTimeout" at a CLIENT UNBLOCK of a
/// paused client.
#[test]
fn a_stop_while_clients_are_paused_does_not_end_the_server() {
    let server = RedisServer::start();
    let engine = blocked_engine(&server);
    let _: () = server.ask(cmd("CLIENT").arg("PAUSE").arg(6000).arg("WRITE"));
    // The blocked read ends after a second; the server holds the next one back.
    std::thread::sleep(Duration::from_millis(1500));
    engine.stop();
    let _: () = server.ask(cmd("CLIENT").arg("UNPAUSE"));
    let engine = RunningEngine::start(&server, &[]);
    server.add_frames("after", 5);
    finish(&server, engine, 5);
}

#[test]
fn a_stream_deleted_under_a_blocked_read_is_read_again_when_it_is_there_again() {
    let server = RedisServer::start();
    let engine = blocked_engine(&server);
    let _: i64 = server.ask(cmd("DEL").arg(INPUT));
    wait_until("the group is made again", LONG, || engine.count(Counter::GroupRecreated) >= 1);
    let ids = server.add_frames("after", 20);
    server.wait_for_outputs(40);
    server.wait_until_done();
    assert_each_has_one_result(&server, &ids);
    assert_eq!(engine.stop().out, 40);
}

#[test]
fn a_stream_that_becomes_something_else_is_waited_for() {
    let server = RedisServer::start();
    let engine = blocked_engine(&server);
    let _: () = server.ask(cmd("SET").arg(INPUT).arg("not a stream"));
    wait_for_complaint(&engine, "WRONGTYPE");
    let _: i64 = server.ask(cmd("DEL").arg(INPUT));
    wait_until("the group is made again", LONG, || engine.count(Counter::GroupRecreated) >= 1);
    let ids = server.add_frames("after", 20);
    server.wait_for_outputs(40);
    server.wait_until_done();
    assert_each_has_one_result(&server, &ids);
    assert_eq!(engine.stop().out, 40);
}

/// For streams that have lost entries but still hold their results.
#[track_caller]
fn assert_each_has_one_result(server: &RedisServer, ids: &[String]) {
    let results: Vec<_> = server.outputs().into_iter().map(|output| output.source_id()).collect();
    for id in ids {
        assert_eq!(results.iter().filter(|result| *result == id).count(), 1, "{id}");
    }
}
