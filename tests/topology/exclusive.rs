//! Several engines, one order: one engine at a time reads each shard, under a lease.

use std::sync::Arc;

use framepress::config::Config;
use framepress::internals::base::Stop;
use framepress::internals::engine::Hooks;
use framepress::internals::metrics::Counter;
use parking_lot::Mutex;

use crate::support::{
    RunningEngine, Server, assert_every_entry_once, config, frame, out_of_order, picture, producer,
    wait_until,
};

const SHARDS: usize = 4;
const CAMERAS: usize = 12;

fn input(shard: usize) -> String {
    format!("camera_frames:{{{shard}}}")
}

fn output(shard: usize) -> String {
    format!("processed_frames:{{{shard}}}")
}

/// Sends `count` frames of all cameras alternately.
fn send(config: &Config, count: usize) {
    let stop = Stop::default();
    let mut producer = producer(config, &stop);
    let picture = picture();
    for number in 0..count {
        let camera = format!("camera-{}", number % CAMERAS);
        producer.send(&frame(&format!("frame-{number}"), &camera, &picture)).unwrap();
    }
}

/// Asserts that every entry of every shard has one result; returns how many are out of order within
/// their camera.
fn out_of_order_of_all(server: &Server) -> usize {
    (0..SHARDS)
        .map(|shard| {
            let (inputs, outputs) = (&mut server.connect(), &mut server.connect());
            assert_every_entry_once((inputs, &input(shard)), (outputs, &output(shard)));
            out_of_order(outputs, &output(shard))
        })
        .sum()
}

fn is_done(server: &Server) -> bool {
    (0..SHARDS).all(|shard| crate::support::is_done(&mut server.connect(), &input(shard)))
}

#[test]
fn two_engines_on_a_backlog_keep_the_order_of_every_camera() {
    let server = Server::start(&[]);
    let url = format!("redis://127.0.0.1:{}", server.port);
    let engine = |name: &str| {
        let flags = [("redis_queue.shards", "4"), ("redis_queue.consumer_name", name)];
        config(&url, &flags)
    };
    send(&engine("one"), 3000);
    let engines = ["one", "two"].map(|name| RunningEngine::start(&engine(name)));
    wait_until("every entry is done", || is_done(&server));
    let out = out_of_order_of_all(&server);
    let accounts = engines.map(RunningEngine::stop);
    println!("out of order: {out} of 3000; {} and {}", accounts[0].out, accounts[1].out);
    assert_eq!(out, 0, "results out of order within their camera");
}

/// The streams of a single shard, and its lease.
const INPUT: &str = "camera_frames";
const OUTPUT: &str = "processed_frames";
const LEASE: &str = "camera_frames:lease";

/// A server, and the configuration of an engine that holds the only stream under a lease.
fn exclusive() -> (Server, Config) {
    let server = Server::start(&[]);
    let url = format!("redis://127.0.0.1:{}", server.port);
    let flags = [("redis_queue.assignment", "exclusive"), ("redis_queue.lease_ms", "1000")];
    let config = config(&url, &flags);
    (server, config)
}

/// Another engine takes the stream while this one has a frame in work, as after a long pause.
#[test]
fn what_is_in_hand_when_the_lease_is_lost_is_handed_over_and_stored_once() {
    let (server, config) = exclusive();
    let gate = Arc::new(Mutex::new(()));
    let shut = gate.lock();
    let passed = Arc::clone(&gate);
    let probe = move |_: &str| drop(passed.lock());
    let hooks = Hooks { probe: Some(Arc::new(probe)), ..Hooks::default() };
    let engine = RunningEngine::with_hooks(&config, hooks);
    send(&config, 5);
    let in_flight = || engine.view.metrics.ledger.read().in_flight;
    wait_until("frames are in work", || in_flight() == 5);
    // The other engine exists only as a lease; it does nothing.
    let now: (u64, u64) = server.ask(&["TIME"]);
    let until = ((now.0 + 3600) * 1000).to_string();
    let taken = ["holder", "other~1", "epoch", "7", "until_ms", &until, "length_ms", "3600000"];
    let _: i64 = server.ask(&[&["HSET", LEASE], &taken[..]].concat());
    let lost = || engine.view.metrics.get(Counter::LeasesLost);
    wait_until("the engine knows", || lost() == 1);
    drop(shut);
    wait_until("nothing is in work", || in_flight() == 0);
    let account = engine.view.metrics.ledger.read();
    assert_eq!((account.out, account.handed_over, account.balanced), (0, 5, true), "{account:?}");
    assert_eq!(server.ask::<usize>(&["XLEN", OUTPUT]), 0, "it changes nothing");
    let holder: String = server.ask(&["HGET", LEASE, "holder"]);
    assert_eq!(holder, "other~1");

    let _: i64 = server.ask(&["HSET", LEASE, "until_ms", "1"]);
    wait_until("it holds the stream again", || {
        crate::support::is_done(&mut server.connect(), INPUT)
    });
    assert_eq!(server.ask::<String>(&["HGET", LEASE, "epoch"]), "8");
    let (inputs, outputs) = (&mut server.connect(), &mut server.connect());
    assert_eq!(assert_every_entry_once((inputs, INPUT), (outputs, OUTPUT)), 5);
    assert_eq!(out_of_order(outputs, OUTPUT), 0);
    let account = engine.stop();
    assert_eq!((account.read, account.out, account.handed_over), (10, 5, 5));
    assert_eq!(server.ask::<String>(&["HGET", LEASE, "holder"]), "", "given back at the end");
}

/// Another client may write anything into the lease. That ends the tenure and has no other effect.
#[test]
fn a_lease_that_holds_no_numbers_is_taken_anew() {
    let (server, config) = exclusive();
    let engine = RunningEngine::with_hooks(&config, Hooks::default());
    let mut sent = 0;
    let lies: [&[&str]; 5] = [
        &["epoch", "18446744073709551615", "until_ms", "0"],
        &["epoch", "9007199254740992", "until_ms", "0"],
        &["epoch", "-1", "until_ms", "nan"],
        &["epoch", "abc", "until_ms", "abc", "length_ms", "inf"],
        &["epoch", "1.5", "until_ms", "1e300", "length_ms", "nan"],
    ];
    for lie in lies {
        send(&config, 5);
        sent += 5;
        wait_until(&format!("all is done before {lie:?}"), || {
            crate::support::is_done(&mut server.connect(), INPUT)
        });
        let _: i64 = server.ask(&[&["HSET", LEASE, "holder", "x"], lie].concat());
    }
    send(&config, 5);
    sent += 5;
    wait_until("all is done", || crate::support::is_done(&mut server.connect(), INPUT));
    let epoch: u64 = server.ask::<String>(&["HGET", LEASE, "epoch"]).parse().unwrap();
    assert!(epoch < 100, "{epoch}");
    let (inputs, outputs) = (&mut server.connect(), &mut server.connect());
    assert_eq!(assert_every_entry_once((inputs, INPUT), (outputs, OUTPUT)), sent);
    engine.stop();
}
