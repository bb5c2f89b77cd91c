//! Pauses between attempts to reach Redis, and log lines that do not repeat themselves.

use std::time::Duration;

use crate::base::{Fault, Stop, limits};
use crate::metrics::clock::Tick;

/// How often a lasting fault is logged again.
const REMINDER: Duration = Duration::from_secs(10);

/// Attempts at one thing that fails for a while.
#[derive(Debug)]
pub(super) struct Attempts {
    what: &'static str,
    pause: Duration,
    pause_longest: Duration,
    failures: u64,
    mentioned: Option<Tick>,
}

impl Attempts {
    pub(super) fn new(what: &'static str, pause_longest: Duration) -> Self {
        let pause = limits::BACKOFF_FIRST;
        Attempts { what, pause, pause_longest, failures: 0, mentioned: None }
    }

    /// Logs the success if it had failed before, and resets the pauses.
    pub(super) fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!("{}: working again after {} failures", self.what, self.failures);
        }
        *self = Attempts::new(self.what, self.pause_longest);
    }

    /// Whether the last attempt failed.
    pub(super) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// Logs the failure the first time, and then at most once per [`REMINDER`].
    pub(super) fn failed(&mut self, fault: &Fault) {
        self.failures += 1;
        if self.mentioned.is_none_or(|tick| tick.elapsed() >= REMINDER) {
            self.mentioned = Some(Tick::now());
            if self.failures == 1 {
                tracing::warn!("{}: {fault}; trying again", self.what);
            } else {
                tracing::warn!("{}: {fault}; {} failures so far", self.what, self.failures);
            }
        }
    }

    /// Sleeps before the next attempt, longer each time. The sleep is cut short when draining
    /// begins; with `to_the_end`, only by a stop at once.
    pub(super) fn pause(&mut self, stop: &Stop, to_the_end: bool) {
        if to_the_end {
            stop.sleep_unless_now(self.pause);
        } else {
            stop.sleep(self.pause);
        }
        self.pause = (self.pause * 2).min(self.pause_longest);
    }
}
