//! Engines far from their Redis, through a network with delay, low bandwidth and faults.

mod narrow;
mod tools;
mod windows;

use std::time::Duration;

use framepress::internals::engine::Hooks;
use framepress_proxy::{Link, Proxy};

use crate::support::{LONG, RedisServer, RunningEngine, parts, wait_until};

/// A server, and the proxy in front of it.
struct Far {
    server: RedisServer,
    proxy: Proxy,
}

impl Far {
    fn with(server: RedisServer, link: Link) -> Far {
        let proxy = Proxy::before_port(server.port(), link).unwrap();
        Far { server, proxy }
    }

    fn new(round_trip_ms: u64) -> Far {
        let round_trip = Duration::from_millis(round_trip_ms);
        Far::with(RedisServer::start(), Link::with_round_trip(round_trip))
    }

    /// An engine that reaches the server through the proxy, ready.
    #[track_caller]
    fn engine(&self, flags: &[(&str, &str)]) -> RunningEngine {
        let url = format!("redis://127.0.0.1:{}/0", self.proxy.port());
        let mut all = vec![("redis_queue.url", url.as_str())];
        all.extend(flags);
        let engine = RunningEngine::launch(&self.server, &all, Hooks::default());
        wait_until("the engine is ready", LONG, || engine.is_ready());
        engine
    }

    /// The engine's promise, including the order within each camera.
    #[track_caller]
    fn assert_every_entry_once_in_order(&self) {
        self.server.wait_until_done();
        self.server.assert_every_entry_once();
        let mut last = std::collections::BTreeMap::new();
        for output in self.server.outputs() {
            let id = parts(&output.source_id());
            let before = last.insert(output.text("camera_id"), id);
            assert!(before.is_none_or(|before| before < id), "{id:?} after {before:?}");
        }
    }
}
