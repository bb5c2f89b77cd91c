//! The periodic summary line in the log.

use std::time::Duration;

use crate::engine::EngineView;
use crate::metrics::clock::Tick;
use crate::metrics::{Conservation, Counter, Distribution, Timer};

/// The counters at the last summary.
#[derive(Debug)]
pub(in crate::cli) struct Summary {
    at: Tick,
    account: Conservation,
    latency: Distribution,
    errors: u64,
}

impl Summary {
    /// Starts counting.
    pub(in crate::cli) fn start(view: &EngineView) -> Summary {
        Summary {
            at: Tick::now(),
            account: view.metrics.ledger.read(),
            latency: view.metrics.distribution(Timer::EndToEnd),
            errors: view.metrics.get(Counter::Errors),
        }
    }

    /// Logs the line if `every_seconds` have passed since the last one; 0 for never.
    pub(in crate::cli) fn tick(&mut self, view: &EngineView, every_seconds: u64) {
        // Ticks are only approximately a second apart.
        let due = Duration::from_secs(every_seconds).saturating_sub(Duration::from_millis(50));
        if every_seconds > 0 && self.at.elapsed() >= due {
            self.write(view);
        }
    }

    fn write(&mut self, view: &EngineView) {
        let before = std::mem::replace(self, Summary::start(view));
        let seconds = self.at.since(before.at).as_secs_f64();
        let latency = self.latency.since(&before.latency);
        let (now, then) = (&self.account, &before.account);
        #[allow(clippy::cast_precision_loss)] // the frames of a minute
        let rate = |now: u64, then: u64| tenths((now - then) as f64 / seconds.max(1e-3));
        let queues = *view.queues.lock();
        let statuses = view.cameras.statuses();
        tracing::info!(
            fps_in = rate(now.read, then.read),
            fps_out = rate(now.out, then.out),
            latency_ms_p50 = tenths(latency.quantile_ms(0.5)),
            latency_ms_p99 = tenths(latency.quantile_ms(0.99)),
            waiting = queues.input.lag,
            pending = queues.input.pending,
            in_flight = now.in_flight,
            dead_lettered = now.dead_lettered - then.dead_lettered,
            rejected = now.rejected - then.rejected,
            shed = now.shed - then.shed,
            lost = now.lost - then.lost,
            handed_over = now.handed_over - then.handed_over,
            errors = self.errors - before.errors,
            cameras = statuses.iter().filter(|camera| camera.status == "active").count(),
            "the last {seconds:.0} s"
        );
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
