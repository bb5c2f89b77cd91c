//! Log lines on standard error, as text or JSON. Each event is one line; repetitions of a fault are
//! counted and reported together.

mod repeats;

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop, text};
use crate::cli::output::terminal::Stream;
use crate::cli::output::{progress, terminal};
use crate::config::{LogConfig, LogFormat, LogLevel};
use repeats::{Repeats, Reported};

/// Target of warnings that are never counted as repetitions.
pub(in crate::cli) const EACH: &str = "framepress::each";

/// Interval of checking for repetitions to report.
const TICK: Duration = Duration::from_secs(1);

/// The parts that can change after the start.
struct Started {
    level: reload::Handle<LevelFilter, Registry>,
    repeats: Arc<Repeats>,
}

static STARTED: OnceLock<Started> = OnceLock::new();

/// Starts logging; later calls do nothing.
pub(in crate::cli) fn start(log: &LogConfig) {
    let (level, handle) = reload::Layer::new(filter(log.level));
    let repeats = Arc::new(Repeats::default());
    let is_json = log.format == LogFormat::Json;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || Lines { is_json })
        .with_target(false)
        .with_ansi(terminal::colours(Stream::Error));
    let lines = match log.format {
        LogFormat::Text => lines.fmt_fields(format::debug_fn(field).delimited(" ")).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let started = Started { level: handle, repeats: Arc::clone(&repeats) };
    let subscriber = tracing_subscriber::registry().with(level).with(repeats::RepeatGate(repeats));
    // Keep a subscriber that is installed already (by a test or an embedding program).
    if subscriber.with(lines).try_init().is_ok() {
        let _ = STARTED.set(started);
    }
}

/// Changes the minimum level of log lines.
pub(in crate::cli) fn set_level(level: LogLevel) {
    if let Some(started) = STARTED.get() {
        // Fails only if the subscriber is gone; then there is no log.
        let _ = started.level.reload(filter(level));
    }
}

/// Reports repetitions that have been held back long enough; to be called about every second.
pub(in crate::cli) fn report_repeats() {
    if let Some(started) = STARTED.get() {
        started.repeats.due().iter().for_each(report);
    }
}

/// Reports repetitions while it lives, for long commands without a [`ConfigKeeper`].
///
/// [`ConfigKeeper`]: super::keeper::ConfigKeeper
#[derive(Debug)]
pub(in crate::cli) struct Reporter {
    end: Stop,
    /// Joined on drop.
    _thread: Running,
}

impl Reporter {
    pub(in crate::cli) fn start() -> Result<Reporter, Fault> {
        let end = Stop::default();
        let ended = end.clone();
        let identity = Identity { role: Role::Keep, index: 0, core: None };
        let thread = threads::spawn(identity, &end, move || {
            while !ended.sleep(TICK) {
                report_repeats();
            }
            Ok(())
        })?;
        Ok(Reporter { end, _thread: thread })
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.end.drain();
    }
}

/// Writes one field of a text line. All foreign text arrives in fields.
fn field(line: &mut format::Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    // Line breaks are replaced, so that no part of a message looks like a log line.
    let value = text::line(&format!("{value:?}").replace('\n', " "));
    match field.name() {
        "message" => line.write_str(&value),
        name => write!(line, "{name}={value}"),
    }
}

/// Standard error above a progress bar; each line is written in one piece.
struct Lines {
    is_json: bool,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let line = match self.is_json {
            true => {
                Cow::Owned(text::json(&String::from_utf8_lossy(bytes)).into_owned().into_bytes())
            }
            false => Cow::Borrowed(bytes),
        };
        progress::above(|| std::io::stderr().write_all(&line))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Reports everything held back; called at the end.
pub(in crate::cli) fn finish() {
    if let Some(started) = STARTED.get() {
        started.repeats.all().iter().for_each(report);
    }
}

fn report(reported: &Reported) {
    let Reported { level, camera, message, count, seconds } = reported;
    let camera = (!camera.is_empty()).then_some(camera.as_str());
    if *level == tracing::Level::ERROR {
        tracing::error!(target: EACH, repeated = count, camera, "{count} more in {seconds} s: {message}");
    } else {
        tracing::warn!(target: EACH, repeated = count, camera, "{count} more in {seconds} s: {message}");
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
