//! Notifies systemd about `run`, `ingest` and `bridge`: readiness, stopping, status, and watchdog
//! signals while there is progress.
//!
//! Bounded waits count as progress: for frames, for a server that is away, for room in the output
//! stream. If no thread of the engine has given a sign of life for longer than any single wait may
//! take, the engine hangs. Then the watchdog signals stop, and systemd restarts the engine.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;

use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop, text};
#[cfg(feature = "kafka")]
use crate::bridge;
use crate::engine::EngineView;
use crate::http::silence_max;
use crate::ingest::{self, State};
use crate::metrics::clock::Tick;

/// Interval of status messages; shorter if the watchdog requires it.
const PERIOD: Duration = Duration::from_secs(5);

/// Interval of checking readiness before the engine is ready for the first time.
const LOOK: Duration = Duration::from_millis(100);

/// Notifies systemd until dropped, if systemd has requested it.
#[derive(Debug)]
pub(in crate::cli) struct Notifier {
    view: Arc<Mutex<Option<Watched>>>,
    ended: Stop,
    thread: Option<Running>,
}

impl Notifier {
    /// Starts before the engine, because waiting for Redis may take long.
    ///
    /// # Errors
    /// [`Fault::Io`] if the operating system refuses another thread.
    pub(in crate::cli) fn start(stop: &Stop) -> Result<Notifier, Fault> {
        let (view, ended) = (Arc::new(Mutex::new(None)), Stop::default());
        let mut thread = None;
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            let watchdog = sd_notify::watchdog_enabled();
            let messenger = Messenger {
                view: Arc::clone(&view),
                stop: stop.clone(),
                ended: ended.clone(),
                watchdog: watchdog.is_some(),
                // Three times per watchdog period, so that one message may be late.
                period: watchdog.map_or(PERIOD, |limit| PERIOD.min(limit / 3)),
                ready: false,
                stopping: false,
                told: None,
            };
            let identity = Identity { role: Role::Notify, index: 0, core: None };
            thread = Some(threads::spawn(identity, stop, move || {
                messenger.run();
                Ok(())
            })?);
        }
        Ok(Notifier { view, ended, thread })
    }

    /// Reports on this engine from this call on.
    pub(in crate::cli) fn watch(&self, view: &EngineView) {
        *self.view.lock() = Some(Watched::Engine(view.clone()));
    }

    /// Reports on this bridge from this call on.
    #[cfg(feature = "kafka")]
    pub(in crate::cli) fn watch_bridge(&self, status: &Arc<bridge::BridgeStatus>) {
        *self.view.lock() = Some(Watched::Bridge(Arc::clone(status)));
    }

    /// Reports on these cameras from this call on.
    pub(in crate::cli) fn watch_ingest(&self, view: &ingest::IngestView) {
        *self.view.lock() = Some(Watched::Ingest(view.clone()));
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // End the loop before the thread is joined.
        self.ended.drain();
        drop(self.thread.take());
    }
}

/// The subject of the notifications.
#[derive(Clone, Debug)]
enum Watched {
    Engine(EngineView),
    Ingest(ingest::IngestView),
    #[cfg(feature = "kafka")]
    Bridge(Arc<bridge::BridgeStatus>),
}

impl Watched {
    /// A description of the hang, if it hangs.
    fn hangs(&self) -> Option<String> {
        match self {
            Watched::Engine(view) => {
                let silence = view.metrics.health.silence();
                let hangs = silence > silence_max(&view.plan);
                hangs.then(|| format!("no sign of life for {} s", silence.as_secs()))
            }
            Watched::Ingest(view) => view.hangs(),
            #[cfg(feature = "kafka")]
            Watched::Bridge(status) => status.hangs(),
        }
    }

    /// The reason why it is not ready. Lost cameras are alerts: `ingest` is ready once it reads.
    fn unready(&self) -> Option<String> {
        match self {
            Watched::Engine(view) => view.metrics.health.unready(),
            Watched::Ingest(_) => None,
            #[cfg(feature = "kafka")]
            Watched::Bridge(status) => status.unready(),
        }
    }

    fn working(&self) -> String {
        match self {
            Watched::Engine(view) => working(view),
            Watched::Ingest(view) => {
                let cameras = view.cameras();
                let live = cameras.iter().filter(|it| it.state().0 == State::Live).count();
                format!("ready: {live} of {} cameras live", cameras.len())
            }
            #[cfg(feature = "kafka")]
            Watched::Bridge(status) => format!("ready: {}", status.summary()),
        }
    }
}

struct Messenger {
    view: Arc<Mutex<Option<Watched>>>,
    stop: Stop,
    ended: Stop,
    watchdog: bool,
    period: Duration,
    ready: bool,
    stopping: bool,
    /// The last status sent, and when.
    told: Option<(String, Tick)>,
}

impl Messenger {
    fn run(mut self) {
        loop {
            self.tell();
            let pause = if self.ready { self.period } else { LOOK.min(self.period) };
            // A stop is reported at once; afterwards only the end is awaited.
            let waited = if self.stopping { &self.ended } else { &self.stop };
            waited.sleep(pause);
            if self.ended.is_draining() {
                return self.tell();
            }
        }
    }

    fn tell(&mut self) {
        let view = self.view.lock().clone();
        let hung = view.as_ref().and_then(Watched::hangs);
        let hangs = hung.is_some();
        let unready = match &view {
            Some(view) => view.unready(),
            None => Some("starting: waiting for Redis".into()),
        };
        let status = match (hung, &unready, &view) {
            (Some(how), ..) => format!("hangs: {how}"),
            (_, Some(why), _) => format!("not ready: {}", text::line(why)),
            (_, None, Some(view)) => view.working(),
            (_, None, None) => String::new(),
        };
        let stops = self.stop.is_draining() && !self.stopping;
        self.stopping |= stops;
        let becomes_ready = unready.is_none() && !self.stopping && !self.ready;
        self.ready |= becomes_ready;
        let is_old_news = self.told.as_ref().is_some_and(|(told, when)| {
            !stops && !becomes_ready && *told == status && when.elapsed() < self.period
        });
        if is_old_news {
            return;
        }

        let mut states = Vec::with_capacity(4);
        if becomes_ready {
            states.push(NotifyState::Ready);
        }
        if stops {
            states.push(NotifyState::Stopping);
        }
        if self.watchdog && !hangs {
            states.push(NotifyState::Watchdog);
        }
        states.push(NotifyState::Status(&status));
        // If systemd does not listen, the engine continues.
        if let Err(error) = sd_notify::notify(&states) {
            tracing::debug!("cannot notify systemd: {error}");
        }
        self.told = Some((status, Tick::now()));
    }
}

fn working(view: &EngineView) -> String {
    let account = view.metrics.ledger.read();
    let queues = *view.queues.lock();
    let lag = queues.input.lag.map_or_else(|| "unknown".into(), |lag| lag.to_string());
    format!(
        "ready: {} read, {} out, {} in flight, {} dead-lettered; {:.1} frames/s, lag {lag}",
        account.read, account.out, account.in_flight, account.dead_lettered, queues.rates.out
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::base::threads::LoopHook;
    use crate::config::Loader;
    use crate::engine::{Engine, Hooks};

    /// Environment variable set in the process that runs the engine.
    const PLAY: &str = "FRAMEPRESS_TEST_HANGING_ENGINE";

    /// An engine whose reader hangs after some loop iterations, started as in `run`.
    fn hanging_engine() {
        let config = Loader::new()
            .flag("redis_queue.url", "embedded://")
            .flag("redis_queue.timeout", "2")
            .flag("redis_queue.block_time_ms", "50")
            .load()
            .unwrap()
            .config;
        let stop = Stop::default();
        let notifier = Notifier::start(&stop).unwrap();
        let iterations = std::sync::atomic::AtomicU32::new(0);
        let loop_hook = LoopHook::new(move |role| {
            let n = iterations.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if role == Role::Read && n > 20 {
                loop {
                    std::thread::park();
                }
            }
        });
        let engine = Engine::start(&config, Hooks { loop_hook, ..Hooks::default() }, stop).unwrap();
        notifier.watch(engine.view());
        std::io::stdin().read_line(&mut String::new()).unwrap(); // until the test is done
        engine.stop().now();
        let _ = engine.wait();
    }

    /// The engine runs in a separate process, because the environment names the socket.
    #[test]
    fn the_watchdog_is_answered_until_the_engine_hangs() {
        if std::env::var_os(PLAY).is_some() {
            return hanging_engine();
        }
        let own_name = concat!(module_path!(), "::the_watchdog_is_answered_until_the_engine_hangs");
        let (_, own_name) = own_name.split_once("::").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([own_name, "--exact", "--nocapture"])
            .envs([(PLAY, "1"), ("NOTIFY_SOCKET", path.to_str().unwrap())])
            .env("WATCHDOG_USEC", "1500000")
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let next = || {
            let mut bytes = [0; 4096];
            let len = socket.recv(&mut bytes).expect("it goes on telling");
            String::from_utf8_lossy(&bytes[..len]).into_owned()
        };
        let mut told = String::new();
        let mut answered = 0;
        while !told.contains("STATUS=hangs") {
            told = next();
            answered += u32::from(told.contains("WATCHDOG=1"));
        }
        assert!(answered > 3, "it was answered while the engine ran: {answered}");
        for _ in 0..5 {
            assert!(told.contains("STATUS=hangs: no sign of life for"), "{told}");
            assert!(!told.contains("WATCHDOG=1"), "a hanging engine is not kept alive: {told}");
            told = next();
        }
        drop(child.stdin.take());
        let _ = child.wait();
    }
}
