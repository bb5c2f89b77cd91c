//! Starts, changes and ends all cameras of a configuration, with one sender for all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use super::camera::{CameraReader, coder};
use super::sender::{self, Lanes, Refusals, SendLane, SenderLimits};
use super::slot::{FrameSlot, bell};
use super::source::Spec;
use super::status::{IngestStatus, SendOutcome, State};
use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop};
use crate::camera::{Full, ProducerOptions, Reuse, RingUse};
use crate::config::{Config, FeedConfig, RingReuse};
use crate::metrics::clock::Tick;
use crate::redis::Topology;
use crate::ring::{self, RingOptions};

/// Time between the starts of two cameras, so that they are not all opened at once.
const STAGGER: Duration = Duration::from_millis(25);

/// A camera's thread gives a sign of life before each wait. If it is silent for its longest wait
/// plus this time, it hangs.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Settings of a supervisor.
#[derive(Clone, Debug)]
pub struct Mode {
    /// Input streams of all shards.
    pub streams: Vec<String>,
    /// Whether the loss of a camera ends the run with an error.
    pub once: bool,
    /// Total number of frames to send; `None` for no limit.
    pub frames: Option<u64>,
    /// Maximum entries of a stream; 0 for no limit.
    pub entries_max: u64,
}

/// A running camera.
struct RunningCamera {
    spec: Spec,
    lane: Arc<SendLane>,
    stop: Stop,
    thread: Option<Running>,
}

/// Read access to the state of all cameras.
#[derive(Clone, Debug, Default)]
pub struct IngestView {
    statuses: Arc<Mutex<BTreeMap<String, Arc<IngestStatus>>>>,
    refusals: Refusals,
}

impl IngestView {
    /// Every configured camera, ordered by id.
    pub fn cameras(&self) -> Vec<Arc<IngestStatus>> {
        self.statuses.lock().values().cloned().collect()
    }

    /// The camera with this id.
    pub fn camera(&self, id: &str) -> Option<Arc<IngestStatus>> {
        self.statuses.lock().get(id).cloned()
    }

    /// Why ingest is not ready: Redis refuses frames, or no enabled camera is live. `None` if it is
    /// ready.
    pub fn unready(&self) -> Option<String> {
        if let Some(refusal) = self.refusals.last() {
            return Some(refusal);
        }
        let cameras = self.cameras();
        let wanted = cameras.iter().filter(|camera| camera.state().0 != State::Disabled).count();
        let live = cameras.iter().filter(|camera| camera.state().0 == State::Live).count();
        // A single lost camera calls for an alert, not for taking this process out of service.
        (wanted > 0 && live == 0).then(|| format!("none of {wanted} cameras is live"))
    }

    /// A message naming a camera whose thread hangs, if there is one.
    pub fn hangs(&self) -> Option<String> {
        let hung = self
            .cameras()
            .into_iter()
            .find(|camera| camera.silence() > SILENCE_MAX + camera.wait_max())?;
        Some(format!("camera {}: no sign of life for {} s", hung.id, hung.silence().as_secs()))
    }

    /// Total number of frames with an outcome.
    pub fn progress(&self) -> u64 {
        let cameras = self.cameras();
        cameras
            .iter()
            .map(|it| SendOutcome::ALL.iter().map(|&out| it.frames(out)).sum::<u64>())
            .sum()
    }
}

/// Cameras, their threads, and the sender.
pub struct Supervisor {
    config: Config,
    mode: Mode,
    cameras: BTreeMap<String, RunningCamera>,
    lanes: Lanes,
    bell: (Sender<()>, Receiver<()>),
    bytes_max: Arc<AtomicU64>,
    confirmed: Arc<AtomicU64>,
    view: IngestView,
    sender: Option<Running>,
    started: usize,
    stop: Stop,
}

impl Supervisor {
    /// Starts the sender, without cameras.
    ///
    /// # Errors
    /// [`Fault::Io`] when no thread can be started.
    pub fn start(
        config: &Config,
        topology: Topology,
        mode: Mode,
        stop: &Stop,
    ) -> Result<Supervisor, Fault> {
        let mut supervisor = Supervisor {
            config: config.clone(),
            mode,
            cameras: BTreeMap::new(),
            lanes: Lanes::default(),
            bell: bell(),
            bytes_max: Arc::new(AtomicU64::new(config.ingest.defaults.max_stream_bytes)),
            confirmed: Arc::default(),
            view: IngestView::default(),
            sender: None,
            started: 0,
            stop: stop.clone(),
        };
        supervisor.sender = Some(supervisor.start_sender(topology)?);
        Ok(supervisor)
    }

    fn start_sender(&self, topology: Topology) -> Result<Running, Fault> {
        let options = ProducerOptions {
            topology,
            streams: self.mode.streams.clone(),
            length_max: self.mode.entries_max,
            wait_replicas: self.config.redis_queue.wait_replicas,
            timeout: Duration::from_secs(self.config.redis_queue.timeout),
            retry: self.config.redis_queue.retry_on_failure,
            full: Full::Drop,
            ring: None,
        };
        let limits = SenderLimits {
            entries: self.mode.entries_max,
            bytes: Arc::clone(&self.bytes_max),
            frames: self.mode.frames,
            drain: Duration::from_millis(self.config.engine.drain_timeout_ms),
        };
        let (lanes, bell) = (Arc::clone(&self.lanes), self.bell.1.clone());
        let (confirmed, refusals) = (Arc::clone(&self.confirmed), self.view.refusals.clone());
        let stop = self.stop.clone();
        let identity = Identity { role: Role::Send, index: 0, core: None };
        threads::spawn(identity, &self.stop, move || {
            let end = sender::run(options, &lanes, &bell, &limits, (&confirmed, &refusals), &stop);
            // Without the sender, reading cameras is pointless.
            stop.drain();
            end
        })
    }

    /// The state of the cameras.
    pub fn view(&self) -> &IngestView {
        &self.view
    }

    /// Frames that Redis has confirmed.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Starts, restarts and ends cameras so that exactly `specs` are read; those of `disabled` are
    /// shown as disabled. Unchanged cameras continue undisturbed.
    ///
    /// # Errors
    /// [`Fault::Io`] when no thread can be started.
    pub fn read(&mut self, specs: Vec<Spec>, disabled: Vec<String>) -> Result<Changed, Fault> {
        let mut changed = Changed::default();
        let wanted: BTreeMap<String, Spec> =
            specs.into_iter().map(|spec| (spec.id.clone(), spec)).collect();
        let gone: Vec<String> = self
            .cameras
            .iter()
            .filter(|(id, camera)| wanted.get(*id) != Some(&camera.spec))
            .map(|(id, _)| id.clone())
            .collect();
        let mut ending = Vec::new();
        for id in gone {
            let Some(camera) = self.cameras.remove(&id) else { continue };
            camera.stop.drain();
            match wanted.contains_key(&id) {
                true => changed.restarted.push(id),
                false => changed.removed.push(id),
            }
            ending.push(camera);
        }
        // Join only after all of them were told to end.
        for camera in ending {
            self.end(camera);
        }
        self.view.statuses.lock().retain(|id, _| self.cameras.contains_key(id));
        for id in disabled {
            let status = Arc::new(IngestStatus::new(&id, State::Disabled, Duration::ZERO));
            self.view.statuses.lock().insert(id, status);
        }
        let bytes = wanted.values().map(|spec| spec.feed.max_stream_bytes).min();
        self.bytes_max.store(
            bytes.unwrap_or(self.config.ingest.defaults.max_stream_bytes),
            Ordering::Relaxed,
        );
        for (id, spec) in wanted {
            if self.cameras.contains_key(&id) {
                continue;
            }
            if !changed.restarted.contains(&id) {
                changed.added.push(id.clone());
            }
            let camera = self.begin(spec)?;
            self.cameras.insert(id, camera);
            if self.stop.sleep(STAGGER) {
                break;
            }
        }
        Ok(changed)
    }

    /// Sets the configuration for cameras started later.
    pub fn adopt(&mut self, config: &Config) {
        self.config = config.clone();
    }

    fn begin(&mut self, spec: Spec) -> Result<RunningCamera, Fault> {
        let feed = &spec.feed;
        let longest = feed.open_timeout_ms.max(feed.no_frame_ms).max(feed.backoff_ms.1);
        let longest = Duration::from_millis(longest);
        let status = Arc::new(IngestStatus::new(&spec.id, State::Connecting, longest));
        self.view.statuses.lock().insert(spec.id.clone(), Arc::clone(&status));
        let slot = Arc::new(FrameSlot::new(self.bell.0.clone()));
        let ring = ring_of(&self.config, &spec.id, feed);
        let lane =
            Arc::new(SendLane { slot: Arc::clone(&slot), status: Arc::clone(&status), ring });
        self.lanes.lock().push(Arc::clone(&lane));
        let stop = Stop::default();
        let coder = coder(&self.config, &spec.feed)?;
        let once = self.mode.once;
        let reader =
            CameraReader { spec: spec.clone(), slot, status, stop: stop.clone(), once, coder };
        let (all, id) = (self.stop.clone(), spec.id.clone());
        let identity = Identity { role: Role::Camera, index: self.started % 1000, core: None };
        self.started += 1;
        // A panic ends only this camera: it raises the camera's own signal.
        let thread = threads::spawn(identity, &stop, move || {
            let end = reader.run();
            if once {
                all.drain();
            } else if let Err(fault) = &end {
                tracing::error!(
                    camera = id.as_str(),
                    "ingest no longer reads this camera: {fault}"
                );
            }
            end
        })?;
        Ok(RunningCamera { spec, lane, stop, thread: Some(thread) })
    }

    /// Ends a camera; its thread ends the child and reaps it.
    fn end(&mut self, mut camera: RunningCamera) {
        camera.stop.drain();
        self.lanes.lock().retain(|lane| !Arc::ptr_eq(lane, &camera.lane));
        if let Some(Err(fault)) = camera.thread.take().map(Running::join) {
            tracing::error!(camera = camera.spec.id.as_str(), "{fault}");
        }
    }

    /// Restarts cameras whose threads ended by a defect.
    ///
    /// # Errors
    /// [`Fault::Io`] when no thread can be started.
    pub fn look_after(&mut self) -> Result<(), Fault> {
        let dead =
            |camera: &RunningCamera| camera.thread.as_ref().is_some_and(Running::is_finished);
        let ids: Vec<String> = self
            .cameras
            .iter()
            .filter(|(_, camera)| !self.mode.once && dead(camera))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            let Some(camera) = self.cameras.remove(&id) else { continue };
            let spec = camera.spec.clone();
            self.end(camera);
            let camera = self.begin(spec)?;
            camera.lane.status.fail("panic", "an internal error of the program; see its log");
            self.cameras.insert(id, camera);
        }
        Ok(())
    }

    /// Ends the cameras, then the sender after its last frames are confirmed. Also returns the
    /// number of frames that Redis confirmed.
    ///
    /// The loss of a camera in a run with `once`, or the error of the sender.
    pub fn finish(mut self) -> (Result<(), Fault>, u64) {
        for camera in self.cameras.values() {
            camera.stop.drain();
        }
        let mut ends = Vec::new();
        for camera in self.cameras.values_mut() {
            ends.extend(camera.thread.take().map(Running::join));
        }
        self.stop.drain();
        let sent = self.sender.take().map_or(Ok(()), Running::join);
        let lost = ends.into_iter().find(Result::is_err).unwrap_or(Ok(()));
        (lost.and(sent), self.confirmed())
    }

    /// Waits for the stop signal, a reload, or `limit`; returns whether a reload was requested.
    pub fn wait(&self, reload: &Receiver<()>, limit: Duration) -> bool {
        let until = Tick::now().after(limit);
        while !self.stop.is_draining() && !until.remaining().is_zero() {
            if reload.recv_timeout(until.remaining().min(Duration::from_millis(100))).is_ok() {
                return true;
            }
        }
        false
    }
}

/// If the caller returns early, the threads must be told to end before they are joined.
impl Drop for Supervisor {
    fn drop(&mut self) {
        for camera in self.cameras.values() {
            camera.stop.drain();
        }
        self.stop.drain();
    }
}

/// The configured frame ring of a camera, without a frame size.
pub fn ring_of(config: &Config, camera_id: &str, feed: &FeedConfig) -> Option<RingUse> {
    let reuse = match feed.ring_reuse {
        RingReuse::Freshest => Reuse::Freshest,
        RingReuse::Lossless => Reuse::Lossless,
    };
    let ring = RingOptions {
        folder: config.ring.folder(),
        name: ring::name_of(camera_id),
        slots: feed.ring,
        frame_bytes_max: 0,
    };
    (feed.ring > 0).then_some(RingUse { ring, reuse })
}

/// Changes made by a new configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// New cameras.
    pub added: Vec<String>,
    /// Removed cameras.
    pub removed: Vec<String>,
    /// Cameras with changed settings.
    pub restarted: Vec<String>,
}
