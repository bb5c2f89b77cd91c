//! An engine behind a bad network: every frame exactly once, and no hang.

use std::time::Duration;

use framepress::internals::engine::Hooks;
use framepress::internals::metrics::Counter;
use framepress::internals::metrics::clock::Tick;

use crate::proxy::{Proxy, Weather};
use crate::support::{Dice, LONG, RunningEngine, Server, wait_until};

/// Timeout of these engines, in seconds. The watch on a blocked read is never shorter than two
/// seconds, so the timeout is not either.
const TIMEOUT: u64 = 2;

/// Timeout of engines that must not take a slow network for a silent one, in seconds.
const PATIENCE: u64 = 30;

/// An engine that reads through a proxy from a server. The test adds frames to the server directly.
struct Scene {
    engine: RunningEngine,
    // Drop order: the proxy after its engine and before its server.
    proxy: Proxy,
    server: Server,
}

impl Scene {
    fn new() -> Scene {
        Scene::with_timeout(TIMEOUT)
    }

    /// A scene whose engine has another timeout, in seconds.
    fn with_timeout(timeout: u64) -> Scene {
        let server = Server::start();
        let proxy = Proxy::start(server.port());
        let timeout = timeout.to_string();
        let flags = [("redis_queue.timeout", &*timeout), ("redis_queue.batch_size", "8")];
        let engine = RunningEngine::start(&proxy.url(), &flags, Hooks::default());
        wait_until("the engine is ready", LONG, || engine.is_ready());
        Scene { engine, proxy, server }
    }

    /// Adds a frame every few milliseconds.
    fn feed_for(&mut self, time: Duration) {
        let began = Tick::now();
        while began.elapsed() < time {
            self.server.add(1);
            std::thread::sleep(Duration::from_millis(4));
        }
    }

    /// Heals the network, then asserts that a new frame passes, that every frame has passed exactly
    /// once, and that the engine's account balances.
    #[track_caller]
    fn heals(mut self) {
        self.proxy.heal();
        let began = Tick::now();
        self.server.add(1);
        let marker = self.server.last_added();
        wait_until("working again after the fault", LONG, || {
            self.engine.is_ready() && self.server.latest_frame_ids(100).contains(&marker)
        });
        let took = began.elapsed();
        // Entries lost with a connection return after their idle time.
        let all = self.server.wait_until_done(LONG);
        let errors = self.engine.view.metrics.get(Counter::Errors);
        let frames = self.server.outputs().len();
        eprintln!("{errors} errors, {frames} frames, works after {took:?}, all after {all:?}");
        self.server.assert_every_frame_once();
        let account = self.engine.stop();
        // Two kinds of frames are read twice: those being read when the connection was lost (given
        // up), and those whose commit was confirmed while the pending entries list with them was in
        // flight (fenced off).
        let twice = account.abandoned + account.superseded;
        assert_eq!(account.read - twice, frames as u64, "{account:?}");
        assert_eq!(account.out, frames as u64, "{account:?}");
        self.server.assert_every_frame_once();
    }
}

#[test]
fn a_slow_network_only_delays() {
    let mut scene = Scene::with_timeout(PATIENCE);
    scene.proxy.set(Weather::Slow(Duration::from_millis(60)));
    scene.feed_for(Duration::from_millis(1500));
    assert_eq!(scene.engine.view.metrics.get(Counter::Errors), 0, "slowness is no error");
    scene.heals();
}

#[test]
fn connections_that_are_cut_are_made_again() {
    let mut scene = Scene::new();
    for _ in 0..8 {
        scene.feed_for(Duration::from_millis(120));
        scene.proxy.cut();
    }
    wait_until("a cut is noticed", LONG, || scene.engine.view.metrics.get(Counter::Reconnects) > 0);
    scene.heals();
}

#[test]
fn bytes_that_trickle_are_put_together() {
    let mut scene = Scene::with_timeout(PATIENCE);
    scene.proxy.set(Weather::Trickle);
    scene.feed_for(Duration::from_millis(1500));
    assert_eq!(scene.engine.view.metrics.get(Counter::Errors), 0, "slowness is no error");
    scene.heals();
}

#[test]
fn a_reset_inside_a_bulk_loses_nothing() {
    let mut scene = Scene::new();
    for round in 1..=6 {
        scene.proxy.reset_inside_a_bulk();
        scene.feed_for(Duration::from_millis(50));
        wait_until("the reset", LONG, || {
            scene.server.add(1);
            scene.proxy.resets() >= round
        });
    }
    scene.heals();
}

#[test]
fn a_black_hole_longer_than_the_time_out_is_survived() {
    let mut scene = Scene::new();
    scene.feed_for(Duration::from_millis(200));
    scene.proxy.set(Weather::BlackHole);
    scene.feed_for(Duration::from_secs(TIMEOUT));
    wait_until("silence for longer than the time-out is noticed", LONG, || {
        scene.server.add(1);
        scene.engine.view.metrics.get(Counter::Errors) > 0
    });
    scene.heals();
}

#[test]
fn any_weather_in_any_order_loses_and_doubles_nothing() {
    let mut dice = Dice::thrown();
    let mut scene = Scene::new();
    let began = Tick::now();
    while began.elapsed() < Duration::from_secs(12) {
        match dice.next() % 6 {
            0 => scene.proxy.set(Weather::Slow(dice.millis(1, 150))),
            1 => scene.proxy.set(Weather::Trickle),
            2 => scene.proxy.set(Weather::BlackHole),
            3 => scene.proxy.reset_inside_a_bulk(),
            _ => scene.proxy.cut(),
        }
        let longest = if dice.next().is_multiple_of(8) { 2500 } else { 500 };
        scene.feed_for(dice.millis(20, longest));
        // Faults may follow each other directly, or after a period of clear weather.
        if dice.next().is_multiple_of(2) {
            scene.proxy.heal();
            scene.feed_for(dice.millis(10, 300));
        }
    }
    scene.heals();
}
