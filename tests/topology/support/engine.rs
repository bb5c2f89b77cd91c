//! An engine in this process.

use framepress::config::{Config, Loader};
use framepress::internals::base::{Fault, Stop};
use framepress::internals::engine::{Engine, EngineView, Hooks};
use framepress::internals::metrics::Conservation;

use super::wait_until;

/// Default settings for tests; `flags` take precedence.
const ORDINARY: [(&str, &str); 8] = [
    ("redis_queue.block_time_ms", "100"),
    ("redis_queue.timeout", "5"),
    ("redis_queue.claim_idle_ms", "2000"),
    // A failover may add one to the delivery count of every entry.
    ("redis_queue.retry_attempts", "1000"),
    ("redis_queue.consumer_name", "engine"),
    ("engine.workers", "2"),
    ("engine.pin", "off"),
    ("stats.addr", "null"),
];

/// The configuration for a URL, with `flags` by dotted key.
pub fn config(url: &str, flags: &[(&str, &str)]) -> Config {
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
    pub view: EngineView,
}

impl RunningEngine {
    /// An engine, ready.
    #[track_caller]
    pub fn start(config: &Config) -> RunningEngine {
        RunningEngine::with_hooks(config, Hooks::default())
    }

    /// An engine with `hooks`, ready.
    #[track_caller]
    pub fn with_hooks(config: &Config, hooks: Hooks) -> RunningEngine {
        let stop = Stop::default();
        let engine = Engine::start(config, hooks, stop.clone())
            .unwrap_or_else(|fault| panic!("the engine does not start: {fault}"));
        let view = engine.view().clone();
        wait_until("the engine is ready", || view.metrics.health.unready().is_none());
        RunningEngine { engine: Some(engine), stop, view }
    }

    /// Stops the engine cleanly; returns the account, with nothing in flight.
    #[track_caller]
    pub fn stop(mut self) -> Conservation {
        self.stop.drain();
        let ended = self.engine.take().map_or(Ok(()), Engine::wait);
        assert!(ended.is_ok(), "the engine ends in order: {ended:?}");
        let account = self.view.metrics.ledger.read();
        assert!(account.balanced && account.in_flight == 0, "{account:?}");
        account
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        self.stop.now();
        if let Some(engine) = self.engine.take() {
            let _ = engine.wait();
        }
    }
}

/// The fault that prevents an engine's start, with retries disabled.
#[track_caller]
pub fn start_fault(url: &str, flags: &[(&str, &str)]) -> Fault {
    let mut flags = flags.to_vec();
    flags.push(("redis_queue.retry_on_failure", "false"));
    match Engine::start(&config(url, &flags), Hooks::default(), Stop::default()) {
        Ok(_) => panic!("the engine has started"),
        Err(fault) => fault,
    }
}
