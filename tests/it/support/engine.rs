//! An engine in this process.

use framepress::config::{Config, Loader};
use framepress::internals::base::{Fault, Stop};
use framepress::internals::engine::{Engine, EngineView, Hooks};
use framepress::internals::metrics::{Conservation, Counter};

use super::{LONG, RedisServer, wait_until};

/// Default settings for tests; `flags` take precedence.
const ORDINARY: [(&str, &str); 7] = [
    ("redis_queue.block_time_ms", "100"),
    ("redis_queue.timeout", "5"),
    ("redis_queue.consumer_name", "engine"),
    ("engine.workers", "2"),
    ("engine.pin", "off"),
    ("stats.addr", "null"),
    ("engine.drain_timeout_ms", "30000"),
];

/// The configuration for a server, with `flags` by dotted key.
fn config(url: &str, flags: &[(&str, &str)]) -> Config {
    let mut loader = Loader::new().flag("redis_queue.url", url);
    for (key, value) in ORDINARY.iter().filter(|(key, _)| flags.iter().all(|(k, _)| k != key)) {
        loader = loader.flag(*key, *value);
    }
    for (key, value) in flags {
        loader = loader.flag(*key, *value);
    }
    loader.load().unwrap_or_else(|error| panic!("{error}")).config
}

/// An engine that stops when the value is dropped; [`RunningEngine::stop`] also checks its account.
pub struct RunningEngine {
    engine: Option<Engine>,
    stop: Stop,
    view: EngineView,
}

impl RunningEngine {
    /// An engine on `server`, ready.
    #[track_caller]
    pub fn start(server: &RedisServer, flags: &[(&str, &str)]) -> RunningEngine {
        RunningEngine::with_hooks(server, flags, Hooks::default())
    }

    /// An engine that calls `probe` with each frame id.
    #[track_caller]
    pub fn probed(
        server: &RedisServer,
        flags: &[(&str, &str)],
        probe: impl Fn(&str) + Send + Sync + 'static,
    ) -> RunningEngine {
        let hooks = Hooks { probe: Some(std::sync::Arc::new(probe)), ..Hooks::default() };
        RunningEngine::with_hooks(server, flags, hooks)
    }

    /// An engine with `hooks`, ready.
    #[track_caller]
    pub fn with_hooks(server: &RedisServer, flags: &[(&str, &str)], hooks: Hooks) -> RunningEngine {
        let running = RunningEngine::launch(server, flags, hooks);
        wait_until("the engine is ready", LONG, || running.view.metrics.health.unready().is_none());
        running
    }

    /// An engine on a server that refuses its work. Does not wait until it is ready: such an engine
    /// is ready only briefly between connecting and its first failure, and a waiter may miss that.
    #[track_caller]
    pub fn launch(server: &RedisServer, flags: &[(&str, &str)], hooks: Hooks) -> RunningEngine {
        let stop = Stop::default();
        let engine = Engine::start(&config(&server.url(), flags), hooks, stop.clone())
            .unwrap_or_else(|fault| panic!("the engine does not start: {fault}"));
        let view = engine.view().clone();
        RunningEngine { engine: Some(engine), stop, view }
    }

    /// The engine's metrics, cameras and plan.
    pub fn view(&self) -> &EngineView {
        &self.view
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.view.metrics.get(counter)
    }

    /// Waits until the engine knows the outcome of every frame; the server knows it sooner.
    #[track_caller]
    pub fn wait_until_heard(&self) {
        wait_until("nothing is in flight", LONG, || self.account().in_flight == 0);
    }

    /// Where every frame read went; asserts that the sum balances.
    #[track_caller]
    pub fn account(&self) -> Conservation {
        let account = self.view.metrics.ledger.read();
        assert!(account.balanced, "the sum does not hold: {account:?}");
        account
    }

    pub fn is_ready(&self) -> bool {
        self.view.metrics.health.unready().is_none()
    }

    /// The figures of its cameras.
    pub fn cameras(&self) -> std::sync::Arc<framepress::internals::stage::process::Cameras> {
        std::sync::Arc::clone(&self.view.cameras)
    }

    /// Why the engine is not ready; empty if it is.
    pub fn complaint(&self) -> String {
        self.view.metrics.health.unready().unwrap_or_default()
    }

    /// Stops the engine cleanly; returns the account, with nothing in flight.
    #[track_caller]
    pub fn stop(mut self) -> Conservation {
        let ended = self.end();
        assert!(ended.is_ok(), "the engine ends in order: {ended:?}");
        let account = self.account();
        assert_eq!(account.in_flight, 0, "{account:?}");
        account
    }

    /// Stops the engine and returns how it ended. The sum must balance in any case.
    #[track_caller]
    pub fn end(&mut self) -> Result<(), Fault> {
        self.stop.drain();
        let ended = self.engine.take().map_or(Ok(()), Engine::wait);
        self.account();
        ended
    }

    /// Waits for an end that the test did not request. The sum must balance in any case.
    #[track_caller]
    pub fn wait(mut self) -> Result<(), Fault> {
        let ended = self.engine.take().map_or(Ok(()), Engine::wait);
        self.account();
        ended
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        // After a failed claim there is nothing to drain.
        self.stop.now();
        if let Some(engine) = self.engine.take() {
            let _ = engine.wait();
        }
    }
}
