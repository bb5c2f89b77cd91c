//! Servers that refuse one command: no result is stored twice, no entry is acknowledged without a
//! stored result, and no unfinished entry is trimmed.

use std::time::Duration;

use framepress::internals::engine::Hooks;
use framepress::internals::metrics::Counter;
use redis::cmd;

use crate::support::{
    FramepressProcess, GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, wait_until,
};

/// Changes the rights of the default account, which every client uses.
fn allow(server: &RedisServer, rule: &str) {
    let _: () = server.ask(cmd("ACL").arg("SETUSER").arg("default").arg(rule));
}

#[test]
fn nothing_is_stored_while_it_cannot_be_acknowledged() {
    for delivery in ["exactly_once", "at_least_once"] {
        let server = RedisServer::start();
        let engine = RunningEngine::start(&server, &[("redis_queue.delivery", delivery)]);
        server.add_frames("before", 5);
        server.wait_for_outputs(5);
        server.wait_until_done();
        allow(&server, "-xack");
        server.add_frames("during", 5);
        wait_until("the refusal is met", LONG, || !engine.is_ready());
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(server.len(OUTPUT), 5, "{delivery}: several attempts, and none has stored");
        allow(&server, "+xack");
        server.wait_for_outputs(10);
        server.wait_until_done();
        server.assert_every_entry_once();
        assert_eq!(engine.stop().out, 10, "{delivery}");
    }
}

#[test]
fn nothing_is_acknowledged_that_could_not_be_stored() {
    for retention in ["keep", "delete"] {
        let server = RedisServer::start();
        let url = server.url();
        let environment = [
            ("REDIS_QUEUE__DELIVERY", "at_least_once"),
            ("REDIS_QUEUE__RETENTION", retention),
            ("REDIS_QUEUE__URL", &*url),
        ];
        let mut engine = FramepressProcess::run(&server, &environment);
        wait_until("the engine", LONG, || engine.said().contains("running:"));
        let _: () = server.ask(cmd("SET").arg(OUTPUT).arg("not a stream"));
        let ids = server.add_frames("cam", 10);
        wait_until("the refusal is met", LONG, || engine.said().contains("WRONGTYPE"));
        std::thread::sleep(Duration::from_millis(500));
        engine.kill();
        assert_eq!(server.pending() + lag(&server), 10, "{retention}: none is acknowledged");
        assert_eq!(server.len(INPUT), 10, "{retention}: none is deleted");
        let _: i64 = server.ask(cmd("DEL").arg(OUTPUT));
        let _engine = FramepressProcess::run(&server, &environment);
        server.wait_for_outputs(10);
        server.wait_until_done();
        let results: Vec<_> = server.outputs().into_iter().map(|out| out.source_id()).collect();
        assert_eq!(results, ids, "{retention}: each once, in order");
    }
}

fn lag(server: &RedisServer) -> usize {
    let groups: redis::streams::StreamInfoGroupsReply =
        server.ask(cmd("XINFO").arg("GROUPS").arg(INPUT));
    let ours = groups.groups.into_iter().find(|group| group.name == GROUP);
    ours.and_then(|group| group.lag).unwrap_or(0)
}

#[test]
fn nothing_is_trimmed_while_the_own_group_is_missing() {
    let nodes = ["--stream-node-max-entries", "10", "--stream-node-max-bytes", "0"];
    let server = RedisServer::with(&nodes);
    let flags = [("redis_queue.retention", "trim_acked"), ("engine.workers", "1")];
    let engine = RunningEngine::probed(&server, &flags, |_| {
        std::thread::sleep(Duration::from_millis(10));
    });
    server.create_group_at("ahead", "$");
    server.add_frames("cam", 300);
    // The other group reads everything at once; the engine's group is lost in the middle.
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg("ahead").arg("fast").arg("NOACK").arg("COUNT").arg(1000);
    let _: redis::Value = server.ask(read.arg("STREAMS").arg(INPUT).arg(">"));
    for goal in [20, 100, 180] {
        wait_until("some results", LONG, || server.len(OUTPUT) >= goal);
        let _: i64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
    }
    server.wait_for_outputs(300);
    server.wait_until_done();
    let account = engine.stop();
    assert_eq!((account.out, account.lost), (300, 0), "{account:?}");
}

#[test]
fn trimming_leaves_a_stream_alone_whose_group_is_missing() {
    let server = RedisServer::start();
    server.create_group_at("ahead", "0");
    let ids = server.add_frames("cam", 300);
    let mut set = cmd("XGROUP");
    let _: () = server.ask(set.arg("SETID").arg(INPUT).arg("ahead").arg(&ids[299]));
    let address = framepress::internals::redis::Address::tcp("127.0.0.1", server.port());
    let mut control = framepress::internals::redis::Control::new(&address, LONG);
    assert_eq!(control.trim_acked(INPUT, GROUP, "", None).unwrap(), 0);
    assert_eq!(server.len(INPUT), 300);
    let another = control.trim_acked(INPUT, "ahead", "framepress-group-of-before", None);
    assert_eq!(another.unwrap(), 0, "a group that was made anew meanwhile");
    let ended = control.trim_acked(INPUT, "ahead", "", None).unwrap();
    assert!(ended > 0, "its own group has ended it");
}

#[test]
fn an_input_that_may_not_be_deleted_is_counted_and_said() {
    let server = RedisServer::start();
    allow(&server, "-xdel");
    allow_quietly(&server, "-xackdel");
    let hooks = Hooks::default();
    let flags = [("redis_queue.retention", "delete")];
    let engine = RunningEngine::with_hooks(&server, &flags, hooks);
    server.add_frames("cam", 10);
    server.wait_for_outputs(10);
    server.wait_until_done();
    wait_until("all are counted", LONG, || engine.count(Counter::DeletesRefused) == 10);
    assert_eq!(server.len(INPUT), 10);
    server.assert_every_entry_once();
    assert_eq!(engine.stop().out, 10);

    let mut process = FramepressProcess::run(&server, &[("REDIS_QUEUE__RETENTION", "delete")]);
    server.add_frames("more", 10);
    server.wait_for_outputs(20);
    wait_until("it says so", LONG, || process.said().contains("refuses to delete"));
    process.signal(rustix::process::Signal::TERM);
    let said = process.ends_with(0);
    assert_eq!(said.matches("refuses to delete").count(), 1, "once: {said}");
}

/// Like [`allow`], for a command that some servers lack.
fn allow_quietly(server: &RedisServer, rule: &str) {
    let mut command = cmd("ACL");
    command.arg("SETUSER").arg("default").arg(rule);
    let _ = command.query::<()>(&mut server.connect());
}
