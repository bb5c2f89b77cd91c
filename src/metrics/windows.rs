//! The windows: items in flight to servers and back, and their limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Metrics;

/// The purpose of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowStage {
    /// Requests for new entries that are not answered yet.
    Read,
    /// Frames whose commit is not answered yet.
    Commit,
}

impl WindowStage {
    /// Every stage that has windows.
    pub const ALL: [WindowStage; 2] = [WindowStage::Read, WindowStage::Commit];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            WindowStage::Read => "read",
            WindowStage::Commit => "commit",
        }
    }
}

/// The sums over all windows.
#[derive(Debug, Default)]
pub struct Windows {
    sums: [Sum; WindowStage::ALL.len()],
}

#[derive(Debug, Default)]
struct Sum {
    items: AtomicI64,
    limit: AtomicI64,
}

impl Windows {
    /// Items in flight, and their limit, over all windows of a stage.
    pub fn read(&self, stage: WindowStage) -> (u64, u64) {
        let sum = &self.sums[stage as usize];
        let of = |value: &AtomicI64| u64::try_from(value.load(Ordering::Relaxed)).unwrap_or(0);
        (of(&sum.items), of(&sum.limit))
    }
}

/// The share of one window in the sums; removed when it is dropped.
#[derive(Debug)]
pub struct WindowGauge {
    metrics: Arc<Metrics>,
    stage: WindowStage,
    shown: (i64, i64),
}

impl WindowGauge {
    /// A gauge that shows nothing yet.
    pub fn new(metrics: &Arc<Metrics>, stage: WindowStage) -> WindowGauge {
        WindowGauge { metrics: Arc::clone(metrics), stage, shown: (0, 0) }
    }

    /// Sets the items in flight and their limit.
    pub fn set(&mut self, items: usize, limit: usize) {
        let of = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let new = (of(items), of(limit));
        if new == self.shown {
            return;
        }
        let sum = &self.metrics.windows.sums[self.stage as usize];
        sum.items.fetch_add(new.0 - self.shown.0, Ordering::Relaxed);
        sum.limit.fetch_add(new.1 - self.shown.1, Ordering::Relaxed);
        self.shown = new;
    }
}

impl Drop for WindowGauge {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_a_stage_are_added_up_and_go_with_their_owners() {
        let metrics = Metrics::new();
        let mut one = WindowGauge::new(&metrics, WindowStage::Read);
        let mut other = WindowGauge::new(&metrics, WindowStage::Read);
        one.set(3, 8);
        other.set(1, 2);
        one.set(2, 9);
        assert_eq!(metrics.windows.read(WindowStage::Read), (3, 11));
        assert_eq!(metrics.windows.read(WindowStage::Commit), (0, 0));
        drop(one);
        assert_eq!(metrics.windows.read(WindowStage::Read), (1, 2));
    }
}
