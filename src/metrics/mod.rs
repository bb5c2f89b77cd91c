//! Floor 1: figures, and the only reader of the clock.
//!
//! A [`Metrics`] is shared by every thread of an engine. Counters are atomics. The conservation
//! ledger is behind one lock, so that its sum can be read consistently at any moment. Latencies go
//! to HDR histograms, one set for each thread, merged on reading.

pub mod clock;
mod health;
mod ledger;
mod names;
mod recorder;
mod rings;
mod series;
mod trips;
mod windows;

pub use health::{Health, Part};
pub use ledger::{Conservation, Ledger, Outcome};
pub use names::{Counter, Gauge, Timer};
pub use recorder::{Distribution, Recorder};
pub use rings::{RingFigures, RingTable};
pub use series::{Series, SeriesKind};
pub use trips::{RoundTrip, RoundTrips};
pub use windows::{WindowGauge, WindowStage, Windows};

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use clock::Tick;
use recorder::Recorders;

use crate::base::Reason;

/// Everything counted and timed in one engine.
#[derive(Debug)]
pub struct Metrics {
    /// The account of every frame read.
    pub ledger: Ledger,
    counters: [AtomicU64; Counter::ALL.len()],
    gauges: [AtomicI64; Gauge::COUNT],
    dead_letters: [AtomicU64; Reason::ALL.len()],
    recorders: Recorders,
    started: Tick,
    /// Whether the engine can work, and if not, why.
    pub health: Health,
    /// The clock that entry ids are made from.
    pub redis_clock: clock::RemoteClock,
    /// The round trips to the servers.
    pub round_trips: RoundTrips,
    /// The windows: what is in flight to the servers and back.
    pub windows: Windows,
    /// What was read from each frame ring.
    pub rings: RingTable,
}

impl Metrics {
    /// New metrics, all zero, counting from this moment.
    pub fn new() -> Arc<Metrics> {
        Arc::new(Metrics {
            ledger: Ledger::default(),
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            gauges: std::array::from_fn(|_| AtomicI64::new(0)),
            dead_letters: std::array::from_fn(|_| AtomicU64::new(0)),
            recorders: Recorders::default(),
            started: Tick::now(),
            health: Health::default(),
            redis_clock: clock::RemoteClock::default(),
            round_trips: RoundTrips::default(),
            windows: Windows::default(),
            rings: RingTable::default(),
        })
    }

    /// Adds to a counter.
    pub fn add(&self, counter: Counter, amount: u64) {
        self.counters[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Adds a time to a counter of microseconds.
    pub fn add_micros(&self, counter: Counter, time: Duration) {
        self.add(counter, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Raises a gauge by one.
    pub fn raise(&self, gauge: Gauge) {
        self.gauges[gauge as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Lowers a gauge by one.
    pub fn lower(&self, gauge: Gauge) {
        self.gauges[gauge as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set_level(&self, gauge: Gauge, level: u8) {
        self.gauges[gauge as usize].store(level.into(), Ordering::Relaxed);
    }

    /// Reads a gauge. A decrement can be observed before its increment, so it is clamped at 0.
    pub fn level(&self, gauge: Gauge) -> u64 {
        u64::try_from(self.gauges[gauge as usize].load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Reads a counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// Counts one dead letter by its reason.
    pub fn count_dead_letter(&self, reason: Reason) {
        self.dead_letters[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Dead letters by reason.
    pub fn dead_letters(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .into_iter()
            .map(|reason| (reason, self.dead_letters[reason as usize].load(Ordering::Relaxed)))
    }

    /// A recorder for the calling thread. Create one for each thread and keep it.
    pub fn recorder(&self) -> Recorder {
        self.recorders.add()
    }

    /// The distribution of a duration over all threads since the start.
    pub fn distribution(&self, timer: Timer) -> Distribution {
        self.recorders.distribution(timer)
    }

    /// When counting began.
    pub fn started(&self) -> Tick {
        self.started
    }
}
