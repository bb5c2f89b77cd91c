//! Several engines, one order: each shard is read by one engine at a time, under a lease.

use framepress::base::Stop;
use framepress::config::Config;

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

/// Sends `count` frames of all cameras in turn.
fn send(config: &Config, count: usize) {
    let stop = Stop::default();
    let mut producer = producer(config, &stop);
    let picture = picture();
    for number in 0..count {
        let camera = format!("camera-{}", number % CAMERAS);
        producer.send(&frame(&format!("frame-{number}"), &camera, &picture)).unwrap();
    }
}

/// Every entry of every shard has one result; how many of them are out of order within their camera.
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
