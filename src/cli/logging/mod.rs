//! Log lines on standard error, as text or JSON: one line per event, and a fault that repeats is
//! counted instead of repeated.

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

use super::terminal::Stream;
use super::{progress, terminal};
use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop, text};
use crate::config::{Log, LogFormat, LogLevel};
use repeats::{Repeats, Reported};

/// The target of warnings that are each worth a line, however many there are.
pub(super) const EACH: &str = "framepress::each";

/// How often it is looked whether repetitions are to be reported.
const TICK: Duration = Duration::from_secs(1);

/// What can be changed after the start.
struct Started {
    level: reload::Handle<LevelFilter, Registry>,
    repeats: Arc<Repeats>,
}

static STARTED: OnceLock<Started> = OnceLock::new();

/// Starts logging; a second call changes nothing.
pub(super) fn start(log: &Log) {
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
    let subscriber = tracing_subscriber::registry().with(level).with(repeats::Gate(repeats));
    // A subscriber that is there already (a test, an embedding program) is left alone.
    if subscriber.with(lines).try_init().is_ok() {
        let _ = STARTED.set(started);
    }
}

/// From now on only lines of this level and above.
pub(super) fn set_level(level: LogLevel) {
    if let Some(started) = STARTED.get() {
        // It fails only when the subscriber is gone, and then nobody reads.
        let _ = started.level.reload(filter(level));
    }
}

/// Reports repetitions that have been held back for long enough; to be called every second or so.
pub(super) fn report_repeats() {
    if let Some(started) = STARTED.get() {
        started.repeats.due().iter().for_each(report);
    }
}

/// Reports repetitions while it lives, for commands that take long and have no [`Keeper`].
///
/// [`Keeper`]: super::keeper::Keeper
#[derive(Debug)]
pub(super) struct Reporter {
    end: Stop,
    /// Joined by dropping.
    _thread: Running,
}

impl Reporter {
    pub(super) fn start() -> Result<Reporter, Fault> {
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

/// One field of a line of text. Whatever comes from outside comes in a field.
fn field(line: &mut format::Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    // A message of several lines becomes one, so that no part of it looks like a line of the log.
    let value = text::line(&format!("{value:?}").replace('\n', " "));
    match field.name() {
        "message" => line.write_str(&value),
        name => write!(line, "{name}={value}"),
    }
}

/// Standard error, above what is drawn there; a line comes as one piece.
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

/// Reports all that is held back. For the end.
pub(super) fn finish() {
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
