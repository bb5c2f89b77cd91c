//! The state of each camera: its gate, its background, its figures.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use twox_hash::XxHash3_64;

use super::CameraSettings;
use super::gate::Gate;
use super::snapshot::{Kept, Photo, Snapshot};
use super::work::Arrived;
use crate::analysis::Background;
use crate::base::Stage;
use crate::frame::Discard;
use crate::image::CameraTables;
use crate::metrics::clock::unix_seconds;
use crate::metrics::{Counter, Metrics};

/// After this many seconds without a frame a camera counts as inactive.
const ACTIVE_SECONDS: f64 = 10.0;

/// Most cameras with a separate time series; the others are summed up.
pub const CAMERA_SERIES_MAX: usize = 50;

/// One camera.
pub(super) struct Camera {
    pub(super) id: String,
    /// Hash of the id; it decides which committer gets its frames.
    pub(super) hash: u64,
    settings: Mutex<Arc<CameraSettings>>,
    /// The number of the next frame read; only dispatchers take one.
    pub(super) tickets: AtomicU64,
    /// Held while frames pass, so that they also reach the committer in order.
    pub(super) gate: Mutex<Gate<Arrived>>,
    /// Used by the second half of a job, frame after frame. No other lock is taken while this one
    /// is held: frames of a batch update the backgrounds of cameras whose gates the batch does not
    /// pass.
    pub(super) background: Mutex<Background>,
    /// The Huffman tables of its pictures; dropped with the camera.
    pub(super) tables: CameraTables,
    status: Mutex<Status>,
    used: AtomicU64,
    /// The latest picture, while a client watches it.
    pub(super) snapshot: Snapshot,
    /// The totals that also count its frames, if it has no separate time series.
    others: Option<Arc<Totals>>,
}

/// Frames of all cameras beyond the cap on time series.
#[derive(Debug, Default)]
struct Totals {
    processed: AtomicU64,
    rejected: AtomicU64,
    dropped: AtomicU64,
}

impl Totals {
    fn note(&self, ended: Ended) {
        let counter = match ended {
            Ended::Result { .. } => &self.processed,
            Ended::Refused => &self.rejected,
            Ended::Dropped(_) => &self.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Status {
    frames: u64,
    damaged: u64,
    refused: u64,
    shed_at_read: u64,
    shed_at_encode: u64,
    below_threshold: u64,
    overwritten: u64,
    last_frame: f64,
    quality: f32,
    density: f32,
    congestion: &'static str,
    processing_ms: f32,
}

/// The figures of one camera.
#[derive(Clone, Debug, serde::Serialize)]
pub struct CameraStatus {
    /// Its name.
    pub camera_id: String,
    /// `active`, or `inactive` after ten seconds without a frame.
    pub status: &'static str,
    /// Results handed to the committer.
    pub frames_processed: u64,
    /// Of these, results of damaged pictures.
    pub frames_damaged: u64,
    /// Frames refused.
    pub frames_rejected: u64,
    /// Frames acknowledged without output: the sum of the next four.
    pub frames_dropped: u64,
    /// Frames that were too old when they were read.
    pub frames_shed_at_read: u64,
    /// Frames that had grown too old before they were encoded.
    pub frames_shed_at_encode: u64,
    /// Frames below the quality threshold.
    pub frames_below_threshold: u64,
    /// Frames overwritten in their frame ring before they were read.
    pub frames_overwritten: u64,
    /// When the last result was ready, in seconds since the Unix epoch; 0 for never.
    pub last_frame_time: f64,
    /// Quality score of the last frame, 0 to 1.
    pub quality_score: f32,
    /// Vehicle density of the last frame, 0 to 1.
    pub vehicle_density: f32,
    /// Congestion of the last frame: `free_flow`, `low`, `medium` or `high`.
    pub congestion_level: &'static str,
    /// Processing time of the last frame, in milliseconds.
    pub processing_time_ms: f32,
    /// Whether it has a separate time series.
    #[serde(skip)]
    #[doc(hidden)]
    pub has_series: bool,
}

/// Frames of the cameras without a separate time series, including cameras that were evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherCameras {
    /// Results handed to the committer.
    pub processed: u64,
    /// Frames refused.
    pub rejected: u64,
    /// Frames acknowledged without output.
    pub dropped: u64,
}

/// How a frame of a camera ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    Result {
        quality: f32,
        density: f32,
        congestion: &'static str,
        processing_ms: f32,
        is_damaged: bool,
    },
    Refused,
    Dropped(Discard),
}

impl Camera {
    /// Its current settings.
    pub(super) fn settings(&self) -> Arc<CameraSettings> {
        Arc::clone(&self.settings.lock())
    }

    pub(super) fn note(&self, ended: Ended) {
        if let Some(others) = &self.others {
            others.note(ended);
        }
        let mut status = self.status.lock();
        match ended {
            Ended::Refused => status.refused += 1,
            Ended::Dropped(Discard::Shed(Stage::Read)) => status.shed_at_read += 1,
            Ended::Dropped(Discard::Shed(_)) => status.shed_at_encode += 1,
            Ended::Dropped(Discard::BelowThreshold) => status.below_threshold += 1,
            Ended::Dropped(Discard::Overwritten) => status.overwritten += 1,
            // `LostToTrim` has no body that names a camera; `Repeated` is counted already.
            Ended::Dropped(Discard::LostToTrim | Discard::Repeated) => {}
            Ended::Result { quality, density, congestion, processing_ms, is_damaged } => {
                *status = Status {
                    frames: status.frames + 1,
                    damaged: status.damaged + u64::from(is_damaged),
                    last_frame: unix_seconds(),
                    quality,
                    density,
                    congestion,
                    processing_ms,
                    ..*status
                };
            }
        }
    }
}

/// The cameras seen recently, up to a limit; the least recently used one is evicted first. A camera
/// with a frame in work stays, so there are more while frames of more cameras are in work at once.
/// The number of slots bounds them.
pub struct Cameras {
    by_id: Mutex<HashMap<String, Arc<Camera>>>,
    configured: Mutex<HashMap<String, Arc<CameraSettings>>>,
    limit: usize,
    clock: AtomicU64,
    metrics: Arc<Metrics>,
    others: Arc<Totals>,
    pictures: Kept,
}

impl Cameras {
    /// Room for `limit` cameras. `configured` holds the settings of single cameras.
    pub fn new(
        limit: usize,
        configured: &HashMap<String, CameraSettings>,
        metrics: Arc<Metrics>,
    ) -> Arc<Cameras> {
        let configured = configured
            .iter()
            .map(|(id, settings)| (id.clone(), Arc::new(settings.clone())))
            .collect();
        Arc::new(Cameras {
            by_id: Mutex::new(HashMap::new()),
            configured: Mutex::new(configured),
            limit: limit.max(1),
            clock: AtomicU64::new(0),
            metrics,
            others: Arc::default(),
            pictures: Kept::default(),
        })
    }

    /// The camera of this name, known or new.
    pub(super) fn get(&self, id: &str) -> Arc<Camera> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut by_id = self.by_id.lock();
        if let Some(camera) = by_id.get(id) {
            camera.used.store(now, Ordering::Relaxed);
            return Arc::clone(camera);
        }
        while by_id.len() >= self.limit {
            let Some(idle) = least_recently_used(&by_id) else { break };
            by_id.remove(&idle);
            self.metrics.add(Counter::CamerasEvicted, 1);
        }
        let configured = self.configured.lock().get(id).cloned();
        let has_series = self.has_place(&by_id, configured.is_some());
        let camera = Arc::new(Camera {
            id: id.to_owned(),
            hash: XxHash3_64::oneshot(id.as_bytes()),
            settings: Mutex::new(configured.unwrap_or_default()),
            tickets: AtomicU64::new(0),
            gate: Mutex::default(),
            background: Mutex::default(),
            tables: CameraTables::default(),
            status: Mutex::default(),
            used: AtomicU64::new(now),
            snapshot: Snapshot::new(&self.pictures),
            others: (!has_series).then(|| Arc::clone(&self.others)),
        });
        by_id.insert(id.to_owned(), Arc::clone(&camera));
        camera
    }

    /// Whether a new camera gets a separate time series. It keeps it until it is evicted, because a
    /// counter that moves between a camera and "other" would seem to restart. Places are reserved
    /// for configured cameras; other cameras take the rest in order of appearance.
    fn has_place(&self, by_id: &HashMap<String, Arc<Camera>>, is_configured: bool) -> bool {
        let taken = by_id.values().filter(|camera| camera.others.is_none());
        let configured = self.configured.lock();
        let (known, unknown): (Vec<_>, Vec<_>) =
            taken.partition(|camera| configured.contains_key(&camera.id));
        let reserved = configured.len().min(CAMERA_SERIES_MAX);
        if is_configured {
            known.len() + unknown.len() < CAMERA_SERIES_MAX
        } else {
            unknown.len() + known.len().max(reserved) < CAMERA_SERIES_MAX
        }
    }

    /// The frames of cameras without a separate time series.
    pub fn others(&self) -> OtherCameras {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OtherCameras {
            processed: read(&self.others.processed),
            rejected: read(&self.others.rejected),
            dropped: read(&self.others.dropped),
        }
    }

    /// The latest picture of a camera: `None` if there is no such camera, `Some(None)` if it has no
    /// picture yet. After a call, pictures are kept from its next frame on, as long as clients ask.
    pub fn photo(&self, id: &str) -> Option<Option<Photo>> {
        let by_id = self.by_id.lock();
        for camera in by_id.values().filter(|camera| camera.id != id) {
            camera.snapshot.forget_if_unwatched();
        }
        by_id.get(id).map(|camera| camera.snapshot.ask())
    }

    /// Configures a camera from its next frame on.
    pub fn configure(&self, id: &str, settings: CameraSettings) {
        let settings = Arc::new(settings);
        self.configured.lock().insert(id.to_owned(), Arc::clone(&settings));
        if let Some(camera) = self.by_id.lock().get(id) {
            *camera.settings.lock() = settings;
        }
    }

    /// Replaces the settings of all single cameras from their next frames on.
    pub fn reconfigure(&self, configured: HashMap<String, CameraSettings>) {
        let configured: HashMap<_, _> =
            configured.into_iter().map(|(id, settings)| (id, Arc::new(settings))).collect();
        // All under one lock, so that a camera that appears meanwhile gets the new settings.
        let by_id = self.by_id.lock();
        for camera in by_id.values() {
            *camera.settings.lock() = configured.get(&camera.id).cloned().unwrap_or_default();
        }
        *self.configured.lock() = configured;
    }

    /// The figures of every camera kept, by name.
    pub fn statuses(&self) -> Vec<CameraStatus> {
        let cameras: Vec<_> = self.by_id.lock().values().cloned().collect();
        let mut all: Vec<_> = cameras.iter().map(|camera| status_of(camera)).collect();
        all.sort_unstable_by(|a, b| a.camera_id.cmp(&b.camera_id));
        all
    }

    /// The figures of one camera.
    pub fn status(&self, id: &str) -> Option<CameraStatus> {
        let camera = self.by_id.lock().get(id).cloned()?;
        Some(status_of(&camera))
    }
}

/// The least recently used camera without a frame in work. Each frame in work holds a reference to
/// its camera.
fn least_recently_used(cameras: &HashMap<String, Arc<Camera>>) -> Option<String> {
    let idle = cameras.values().filter(|camera| Arc::strong_count(camera) == 1);
    let oldest = idle.min_by_key(|camera| camera.used.load(Ordering::Relaxed))?;
    Some(oldest.id.clone())
}

fn status_of(camera: &Camera) -> CameraStatus {
    let status = *camera.status.lock();
    let active = unix_seconds() - status.last_frame <= ACTIVE_SECONDS;
    CameraStatus {
        camera_id: camera.id.clone(),
        status: if active { "active" } else { "inactive" },
        frames_processed: status.frames,
        frames_damaged: status.damaged,
        frames_rejected: status.refused,
        frames_dropped: status.shed_at_read
            + status.shed_at_encode
            + status.below_threshold
            + status.overwritten,
        frames_shed_at_read: status.shed_at_read,
        frames_shed_at_encode: status.shed_at_encode,
        frames_below_threshold: status.below_threshold,
        frames_overwritten: status.overwritten,
        last_frame_time: status.last_frame,
        quality_score: status.quality,
        vehicle_density: status.density,
        congestion_level: status.congestion,
        processing_time_ms: status.processing_ms,
        has_series: camera.others.is_none(),
    }
}

impl std::fmt::Debug for Cameras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cameras({} of {})", self.by_id.lock().len(), self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_beyond_the_cap_are_summed_and_configured_ones_have_their_place() {
        let configured = HashMap::from([("known".to_owned(), CameraSettings::default())]);
        let cameras = Cameras::new(1000, &configured, Metrics::new());
        for index in 0..CAMERA_SERIES_MAX + 10 {
            cameras.get(&format!("cam{index}")).note(Ended::Refused);
        }
        cameras.get("known").note(Ended::Dropped(Discard::BelowThreshold));
        let statuses = cameras.statuses();
        let with_series = statuses.iter().filter(|status| status.has_series).count();
        assert_eq!(with_series, CAMERA_SERIES_MAX);
        assert!(cameras.status("known").unwrap().has_series);
        assert_eq!(cameras.others(), OtherCameras { rejected: 11, ..OtherCameras::default() });
    }

    fn room_for(limit: usize) -> (Arc<Cameras>, Arc<Metrics>) {
        let metrics = Metrics::new();
        (Cameras::new(limit, &HashMap::new(), Arc::clone(&metrics)), metrics)
    }

    fn names(cameras: &Cameras) -> Vec<String> {
        cameras.statuses().into_iter().map(|status| status.camera_id).collect()
    }

    #[test]
    fn the_least_recently_used_camera_goes_first_and_is_counted() {
        let (cameras, metrics) = room_for(3);
        for id in ["a", "b", "c", "a", "d"] {
            cameras.get(id);
        }
        assert_eq!(names(&cameras), ["a", "c", "d"]);
        assert_eq!(metrics.get(Counter::CamerasEvicted), 1);
        cameras.get("b");
        assert_eq!(names(&cameras), ["a", "b", "d"]);
        assert_eq!(metrics.get(Counter::CamerasEvicted), 2);
    }

    #[test]
    fn a_camera_with_a_frame_in_work_stays_and_the_excess_goes_when_it_can() {
        let (cameras, metrics) = room_for(2);
        let busy = ["a", "b", "c"].map(|id| cameras.get(id));
        assert_eq!(names(&cameras), ["a", "b", "c"]);
        assert_eq!(metrics.get(Counter::CamerasEvicted), 0);
        assert!(Arc::ptr_eq(&busy[0], &cameras.get("a")));
        drop(busy);
        cameras.get("d");
        assert_eq!(names(&cameras), ["a", "d"]);
        assert_eq!(metrics.get(Counter::CamerasEvicted), 2);
    }

    #[test]
    fn what_is_configured_outlives_the_camera() {
        let (cameras, _) = room_for(1);
        let strict = CameraSettings { quality_threshold: Some(0.9), ..CameraSettings::default() };
        cameras.configure("a", strict);
        cameras.get("a");
        cameras.get("b");
        assert_eq!(names(&cameras), ["b"]);
        assert_eq!(cameras.get("a").settings().quality_threshold, Some(0.9));
    }
}
