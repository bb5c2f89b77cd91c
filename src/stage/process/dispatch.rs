//! A dispatcher: gives each frame its camera, its ticket and a slot, and starts a job for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::Receiver;
use parking_lot::RwLock;
use rayon::ThreadPool;

use super::super::group::Groups;
use super::super::retry::Attempts;
use super::cameras::{Cameras, Ordered};
use super::effort::Effort;
use super::job::Job;
use super::work::Arrived;
use super::{
    CommitRoutes, Live, LiveSettings, Outgoing, ProcessSettings, Work, WorkerShared, Workers,
    first_half, label, second_half,
};
use crate::base::threads::Role;
use crate::base::{Fault, Reason, Reject, Stage, Stop, limits};
use crate::frame::{
    self, Body, Discard, Entry, EntryId, EntryOrigin, Pool, RawFrame, Receipt, RingPixels, Slots,
    Verdict, WakingSender,
};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Gauge, Metrics};
use crate::wire;

/// The dispatcher of one pipeline, ready to run.
pub struct Dispatcher {
    shared: Arc<WorkerShared>,
    groups: Arc<Groups>,
    slots: Slots<Work>,
    threads: Arc<ThreadPool>,
    stop: Stop,
    lane: Receiver<RawFrame>,
}

/// What dispatchers are built from.
pub struct DispatcherParts {
    /// One per thread of `threads`.
    pub workers: Workers,
    /// The threads that run jobs.
    pub threads: Arc<ThreadPool>,
    /// The consumer groups, for counting attempts.
    pub groups: Arc<Groups>,
    /// Buffers for results.
    pub pool: Pool,
    /// The cameras seen.
    pub cameras: Arc<Cameras>,
    /// The settings that may change while the engine runs.
    pub live: Live,
    /// For each pipeline, its lane of frames that were read and its slots.
    pub pipelines: Vec<(Receiver<RawFrame>, Slots<Work>)>,
    /// A lane to each committer, with room for every slot that leads to it.
    pub lanes: Vec<WakingSender<Outgoing>>,
}

impl Dispatcher {
    /// The dispatchers of all pipelines.
    pub fn all(
        settings: ProcessSettings,
        parts: DispatcherParts,
        metrics: Arc<Metrics>,
        stop: &Stop,
    ) -> Vec<Dispatcher> {
        let DispatcherParts { workers, threads, groups, pool, cameras, live, pipelines, lanes } =
            parts;
        let recorder = metrics.recorder();
        let routes = CommitRoutes { pipelines: pipelines.len(), lanes: lanes.len() };
        let (jobs, alone) = (AtomicUsize::new(0), RwLock::new(()));
        let shared = WorkerShared {
            settings,
            live,
            workers,
            cameras,
            jobs,
            effort: Effort::default(),
            alone,
            pool,
            metrics,
            recorder,
            routes,
            lanes,
        };
        let shared = Arc::new(shared);
        let of_pipeline = |(lane, slots)| Dispatcher {
            shared: Arc::clone(&shared),
            groups: Arc::clone(&groups),
            slots,
            threads: Arc::clone(&threads),
            stop: stop.clone(),
            lane,
        };
        pipelines.into_iter().map(of_pipeline).collect()
    }

    /// Dispatches until the lane is closed and empty.
    ///
    /// # Errors
    /// Never fails. If the engine is to stop at once, it returns early.
    pub fn run(self) -> Result<(), Fault> {
        while let Some(frame) = frame::recv(&self.lane, &self.stop) {
            let metrics = &self.shared.metrics;
            metrics.lower(Gauge::ReadLane);
            self.shared.settings.loop_hook.call(Role::Dispatch);
            let began = Tick::now();
            let Some(mut slot) = self.slots.acquire(&self.stop) else { break };
            metrics.add_micros(Counter::SlotsBlockedMicros, began.elapsed());
            let RawFrame { receipt, body, shard } = frame;
            label::trace(&mut slot, body.fields());
            let ordered = self.camera_of(body.fields());
            let ticket = ordered.tickets.fetch_add(1, Ordering::Relaxed);
            let entry = match self.entry_to_process(&receipt, body) {
                Ok(entry) => entry,
                Err(verdict) => {
                    let arrived = Arrived { receipt, shard, slot, verdict: Some(verdict) };
                    second_half::arrive(&self.shared, &ordered, ticket, arrived);
                    continue;
                }
            };
            let job = Job { receipt, entry, shard, ordered, ticket, slot };
            if is_suspect(&job.receipt) {
                if !self.process_alone(job) {
                    break;
                }
                continue;
            }
            let shared = Arc::clone(&self.shared);
            let _beside_others = self.shared.alone.read();
            shared.jobs.fetch_add(1, Ordering::AcqRel);
            self.threads.spawn(move || first_half::run(&shared, job));
        }
        Ok(())
    }

    /// Processes a suspect frame while no other frame is in work. The server's delivery count is
    /// raised before the attempt and lowered after it. So if the process crashes, the next one
    /// knows which frame caused it and blames no other. `false` if the engine stops at once.
    fn process_alone(&self, job: Job) -> bool {
        let _alone = self.shared.alone.write();
        while self.shared.jobs.load(Ordering::Acquire) > 0 {
            if self.stop.sleep_unless_now(limits::JOB_TICK) {
                return false;
            }
        }
        let (shard, id) = (job.shard, job.receipt.id());
        let deliveries = job.receipt.origin().deliveries();
        if !self.count_deliveries(shard, id, deliveries) {
            return false;
        }
        self.shared.jobs.fetch_add(1, Ordering::AcqRel);
        self.threads.install(|| first_half::run(&self.shared, job));
        self.count_deliveries(shard, id, deliveries.saturating_sub(1))
    }

    /// Sets the server's delivery count of an entry; `false` if the engine stops at once.
    fn count_deliveries(&self, shard: usize, id: EntryId, deliveries: u32) -> bool {
        let mut attempts = Attempts::new("storing a delivery count", limits::BACKOFF_LONGEST);
        while let Err(fault) = self.groups.set_deliveries(shard, id, deliveries) {
            // A server that refuses to count must not hold the frame up.
            if matches!(fault, Fault::Refused { .. }) {
                tracing::debug!("the server does not store the delivery count of {id}: {fault}");
                break;
            }
            attempts.failed(&fault);
            attempts.pause(&self.stop, true);
            if self.stop.is_now() {
                return false;
            }
        }
        true
    }

    fn camera_of(&self, entry: Option<&Entry>) -> Arc<Ordered> {
        let in_data = entry.and_then(|entry| entry.data());
        let inflated_max = self.shared.settings.payload_bytes_max;
        let in_data = in_data.and_then(|data| wire::camera_of(data, inflated_max));
        let beside = || entry.and_then(|entry| entry.side_text("camera_id"));
        let id = in_data.as_deref().or_else(beside).unwrap_or_default();
        self.shared.cameras.get(id)
    }

    /// The entry, or the verdict on a frame that needs no processing.
    fn entry_to_process(&self, receipt: &Receipt, body: Body) -> Result<Entry, Verdict> {
        let settings = &*self.shared.live.load();
        if receipt.origin() == EntryOrigin::Repeated {
            return Err(Verdict::Discard(Discard::Repeated));
        }
        let (entry, is_stale) = match body {
            Body::Whole(entry) => (entry, false),
            Body::Stale(entry) => (entry, true),
            Body::Trimmed => return Err(Verdict::Discard(Discard::LostToTrim)),
        };
        let deliveries = receipt.origin().deliveries();
        if deliveries > settings.deliveries_max {
            let detail = format!("delivered {deliveries} times and never acknowledged");
            let reject = Reject::new(Reason::MaxDeliveries, Stage::Read, detail);
            return Err(first_half::with_pixels(&self.shared, reject.into(), &entry));
        }
        if is_stale || self.shared.is_too_old(settings, receipt) {
            self.shared.metrics.add(Counter::ShedAtRead, 1);
            return Err(Verdict::Discard(Discard::Shed(Stage::Read)));
        }
        match &entry.ring {
            Some(RingPixels::Overwritten) => Err(Verdict::Discard(Discard::Overwritten)),
            Some(RingPixels::Refused(reject)) => Err(reject.clone().into()),
            Some(RingPixels::Here { .. }) | None => Ok(entry),
        }
    }
}

/// Whether a former process may have crashed on this frame.
fn is_suspect(receipt: &Receipt) -> bool {
    matches!(receipt.origin(), EntryOrigin::Again { is_counted: false, .. })
}

impl WorkerShared {
    /// Whether more frames wait than the workers can begin with within two jobs each. A few cameras
    /// that send at the same moment are not a queue.
    pub(super) fn has_queue(&self) -> bool {
        self.jobs.load(Ordering::Relaxed) > 3 * self.workers.len()
    }

    /// Whether a frame is older than allowed: by the clock that made its id, or by the time since
    /// it was read.
    pub(super) fn is_too_old(&self, settings: &LiveSettings, receipt: &Receipt) -> bool {
        settings.frame_age_max.is_some_and(|limit| {
            self.metrics.redis_clock.age_of(receipt.id().millis) > limit
                || receipt.read_at().elapsed() > limit
        })
    }
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dispatcher")
    }
}
