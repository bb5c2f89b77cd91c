//! Random kills of both sides and of the broker: nothing is lost, nothing is duplicated.
//!
//! `FRAMEPRESS_KILLS` sets the number of kills per direction (50 for the long form, `make
//! kafka-kills`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{Value, cmd};
use rustix::process::Signal;

use crate::common::{RaisedAtEnd, RedisServer, wait_until};
use crate::outbound::assert_once_and_in_order;
use crate::support::{Broker, Carried, Isolation, LONG, available, frames, read, try_send};

/// Kills of the short form.
const KILLS: u64 = 8;

/// The session is short, so that a killed bridge's partitions become free soon.
const SHORT_SESSION: &str = r#"{"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}"#;

/// Pseudo-random numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn kills() -> u64 {
    std::env::var("FRAMEPRESS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

#[test]
fn kafka_to_redis_survives_kills() {
    if !available() {
        return;
    }
    let mut broker = Broker::start();
    broker.create_topic("frames", 3, &[]);
    let mut sent = 0;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut server = RedisServer::durable();
    for kill in 0..kills() {
        let mut bridges: Vec<_> = {
            let mut carried = Carried::between(&broker, "frames", "none")
                .with("KAFKA__PROPERTIES", SHORT_SESSION);
            std::mem::swap(&mut carried.server, &mut server);
            let bridges = (0..=dice.roll(2)).map(|_| carried.bridge("kafka-to-redis")).collect();
            std::mem::swap(&mut carried.server, &mut server);
            bridges
        };
        try_send(broker.client(), "frames", &frames(sent, 400, 3)).unwrap();
        sent += 400;
        let before = server.len("camera_frames");
        std::thread::sleep(Duration::from_millis(dice.roll(1500)));
        wait_until("some frames", LONG, || server.len("camera_frames") > before || kill % 3 == 0);
        match dice.roll(4) {
            0 => {
                broker.kill();
                broker.start_again();
            }
            1 => {
                server.kill();
                server.restart();
            }
            _ => {}
        }
        for bridge in &mut bridges {
            bridge.kill();
        }
    }
    let mut carried = Carried::between(&broker, "frames", "none");
    std::mem::swap(&mut carried.server, &mut server);
    carried.catch_up("kafka-to-redis");
    carried.assert_once_and_in_order(sent);
}

#[test]
fn redis_to_kafka_survives_kills() {
    if !available() {
        return;
    }
    let mut broker = Broker::start();
    broker.create_topic("results", 3, &[]);
    let server = RedisServer::start();
    let stop = AtomicBool::new(false);
    let added = std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let mut connection = server.connect();
            let mut added = 0;
            while !stop.load(Ordering::Relaxed) {
                let camera = format!("cam-{}", added % 4);
                let frame = framepress::internals::wire::proto::ProcessedFrame {
                    frame_id: format!("frame-{added:06}"),
                    camera_id: camera.clone(),
                    ..Default::default()
                };
                let data = prost::Message::encode_to_vec(&frame);
                let mut command = cmd("XADD");
                command.arg("results-of-results").arg("*").arg("data").arg(data);
                command.arg("camera_id").arg(camera).query::<Value>(&mut connection).unwrap();
                added += 1;
                std::thread::sleep(Duration::from_millis(3));
            }
            added
        });
        let _stops = RaisedAtEnd(&stop);
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        for _ in 0..kills() {
            let mut bridge = {
                let url = server.url();
                let carried =
                    Carried::between(&broker, "frames", "results").with("REDIS_QUEUE__URL", &url);
                carried.bridge("redis-to-kafka")
            };
            wait_until("the bridge to begin", LONG, || bridge.said().contains("behind "));
            std::thread::sleep(Duration::from_millis(dice.roll(1200)));
            match dice.roll(4) {
                0 => {
                    broker.kill();
                    broker.start_again();
                    std::thread::sleep(Duration::from_millis(dice.roll(1000)));
                }
                1 => {
                    bridge.signal(Signal::STOP);
                    std::thread::sleep(Duration::from_millis(dice.roll(1000)));
                    bridge.signal(Signal::CONT);
                }
                _ => {}
            }
            bridge.kill();
        }
        stop.store(true, Ordering::Relaxed);
        adding.join().unwrap()
    });
    let url = server.url();
    let carried = Carried::between(&broker, "frames", "results").with("REDIS_QUEUE__URL", &url);
    carried.catch_up("redis-to-kafka");
    assert_once_and_in_order(&read(&broker, "results", Isolation::Committed, LONG), added);
}
