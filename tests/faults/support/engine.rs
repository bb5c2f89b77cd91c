//! Engines, in this process or as a separate program.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crossbeam_channel::bounded;
use framepress::config::{Config, Loader};
use framepress::internals::base::threads::{self, Identity, Role};
use framepress::internals::base::{Fault, Stop};
use framepress::internals::engine::{Engine, EngineView, Hooks};
use framepress::internals::metrics::Conservation;
use framepress::internals::metrics::clock::Tick;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{LONG, wait_until};

/// Default settings for fault tests: short timeouts, and no limit on deliveries, as each fault may
/// add one to the delivery count of every entry.
const ORDINARY: [(&str, &str); 9] = [
    ("redis_queue.block_time_ms", "100"),
    ("redis_queue.timeout", "1"),
    ("redis_queue.claim_idle_ms", "1000"),
    ("redis_queue.retry_attempts", "10000"),
    ("redis_queue.consumer_name", "engine"),
    ("engine.workers", "2"),
    ("engine.pin", "off"),
    ("stats.addr", "null"),
    ("engine.drain_timeout_ms", "30000"),
];

fn with_ordinary<'a>(flags: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let ordinary = ORDINARY.iter().filter(|(key, _)| flags.iter().all(|(given, _)| given != key));
    ordinary.chain(flags).copied().collect()
}

/// The configuration for a server, with `flags` by dotted key.
pub fn config(url: &str, flags: &[(&str, &str)]) -> Config {
    let mut loader = Loader::new().flag("redis_queue.url", url);
    for (key, value) in with_ordinary(flags) {
        loader = loader.flag(key, value);
    }
    loader.load().unwrap_or_else(|error| panic!("{error}")).config
}

/// An engine in this process. Dropping the value stops it without draining.
pub struct RunningEngine {
    engine: Option<Engine>,
    stop: Stop,
    pub view: EngineView,
}

impl RunningEngine {
    #[track_caller]
    pub fn start(url: &str, flags: &[(&str, &str)], hooks: Hooks) -> RunningEngine {
        let stop = Stop::default();
        let engine = Engine::start(&config(url, flags), hooks, stop.clone())
            .unwrap_or_else(|fault| panic!("the engine does not start: {fault}"));
        let view = engine.view().clone();
        RunningEngine { engine: Some(engine), stop, view }
    }

    pub fn is_ready(&self) -> bool {
        self.view.metrics.health.unready().is_none()
    }

    pub fn signal(&self) -> &Stop {
        &self.stop
    }

    /// Where every frame read went; asserts that the sum balances.
    #[track_caller]
    pub fn account(&self) -> Conservation {
        let account = self.view.metrics.ledger.read();
        assert!(account.balanced, "the sum does not hold: {account:?}");
        account
    }

    /// Waits for the end, requested or not; returns how the engine ended and how long that took.
    /// Leaks an engine that does not end.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> (Result<(), Fault>, Duration) {
        let began = Tick::now();
        let Some(result) = self.end(limit) else {
            panic!("HANG: the engine does not end within {limit:?}");
        };
        self.account();
        (result, began.elapsed())
    }

    fn end(&mut self, limit: Duration) -> Option<Result<(), Fault>> {
        let engine = self.engine.take()?;
        let (tell, told) = bounded(1);
        let identity = Identity { role: Role::Signal, index: 0, core: None };
        let waiting = threads::spawn(identity, &Stop::default(), move || {
            let _ = tell.send(engine.wait());
            Ok(())
        });
        let result = told.recv_timeout(limit).ok();
        if result.is_none() {
            std::mem::forget(waiting); // otherwise its handle would wait for it
        }
        result
    }

    /// Stops the engine cleanly: asserts an end without a fault, and nothing in flight.
    #[track_caller]
    pub fn stop(self) -> Conservation {
        self.stop.drain();
        let view = self.view.clone();
        let (result, _) = self.wait(LONG);
        assert!(result.is_ok(), "the engine ends in order: {result:?}");
        let account = view.metrics.ledger.read();
        assert_eq!(account.in_flight, 0, "{account:?}");
        account
    }
}

impl Drop for RunningEngine {
    fn drop(&mut self) {
        self.stop.now();
        let _ = self.end(LONG);
    }
}

/// A running `framepress run`; dropping the value kills it by process id.
pub struct ProgramUnderTest {
    child: Child,
    folder: TempDir,
}

impl ProgramUnderTest {
    /// `framepress run` on a server.
    pub fn run(url: &str, flags: &[(&str, &str)]) -> ProgramUnderTest {
        let folder = tempfile::Builder::new().prefix("framepress-fault-").tempdir().unwrap();
        let said = || {
            Stdio::from(
                File::options().append(true).create(true).open(folder.path().join("said")).unwrap(),
            )
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_framepress"));
        command.arg("run").env("REDIS_QUEUE__URL", url);
        for (key, value) in with_ordinary(flags) {
            command.env(key.to_uppercase().replace('.', "__"), value);
        }
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(said()).stderr(said());
        let child = command.spawn().unwrap();
        ProgramUnderTest { child, folder }
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Waits for an end with exit code 0; returns how long it took.
    #[track_caller]
    pub fn ends_well(&mut self, limit: Duration) -> Duration {
        let mut status = None;
        let took = wait_until(&format!("the end of the program:\n{}", self.said()), limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(status.unwrap().success(), "{status:?}:\n{}", self.said());
        took
    }
}

impl Drop for ProgramUnderTest {
    fn drop(&mut self) {
        let _ = self.child.kill(); // also kills a stopped process
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("framepress said:\n{}", self.said());
        }
    }
}
