//! The cameras seen recently, and the order of the frames of each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use twox_hash::XxHash3_64;

use super::CameraSettings;
use super::camera::{Camera, CameraStatus, Totals, status_of};
use super::gate::OrderGate;
use super::snapshot::{KeptBytes, Photo, Snapshot};
use super::work::Arrived;
use crate::image::CameraTables;
use crate::metrics::{Counter, Metrics};

/// Most cameras with a separate time series; the others are summed up.
pub const CAMERA_SERIES_MAX: usize = 50;

/// A camera and the order of its frames.
pub(super) struct Ordered {
    pub(super) camera: Arc<Camera>,
    /// The number of the next frame read; only dispatchers take one.
    pub(super) tickets: AtomicU64,
    /// Held while frames pass, so that they also reach the committer in order.
    pub(super) gate: Mutex<OrderGate<Arrived>>,
    used: AtomicU64,
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

/// The cameras seen recently, up to a limit; the least recently used one is evicted first. A camera
/// with a frame in work stays, so there are more while frames of more cameras are in work at once.
/// The number of slots bounds them.
pub struct Cameras {
    by_id: Mutex<HashMap<String, Arc<Ordered>>>,
    configured: Mutex<HashMap<String, Arc<CameraSettings>>>,
    limit: usize,
    clock: AtomicU64,
    metrics: Arc<Metrics>,
    others: Arc<Totals>,
    pictures: KeptBytes,
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
            pictures: KeptBytes::default(),
        })
    }

    /// The camera of this name, known or new.
    pub(super) fn get(&self, id: &str) -> Arc<Ordered> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut by_id = self.by_id.lock();
        if let Some(ordered) = by_id.get(id) {
            ordered.used.store(now, Ordering::Relaxed);
            return Arc::clone(ordered);
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
            background: Mutex::default(),
            tables: CameraTables::default(),
            status: Mutex::default(),
            snapshot: Snapshot::new(&self.pictures),
            others: (!has_series).then(|| Arc::clone(&self.others)),
        });
        let (tickets, gate, used) = (AtomicU64::new(0), Mutex::default(), AtomicU64::new(now));
        let ordered = Arc::new(Ordered { camera, tickets, gate, used });
        by_id.insert(id.to_owned(), Arc::clone(&ordered));
        ordered
    }

    /// Whether a new camera gets a separate time series. It keeps it until it is evicted, because a
    /// counter that moves between a camera and "other" would seem to restart. Places are reserved
    /// for configured cameras; other cameras take the rest in order of appearance.
    fn has_place(&self, by_id: &HashMap<String, Arc<Ordered>>, is_configured: bool) -> bool {
        let cameras = by_id.values().map(|ordered| &ordered.camera);
        let taken = cameras.filter(|camera| camera.others.is_none());
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
        for Ordered { camera, .. } in by_id.values().map(|ordered| &**ordered) {
            if camera.id != id {
                camera.snapshot.forget_if_unwatched();
            }
        }
        by_id.get(id).map(|ordered| ordered.camera.snapshot.ask())
    }

    /// Configures a camera from its next frame on.
    pub fn configure(&self, id: &str, settings: CameraSettings) {
        let settings = Arc::new(settings);
        self.configured.lock().insert(id.to_owned(), Arc::clone(&settings));
        if let Some(ordered) = self.by_id.lock().get(id) {
            *ordered.camera.settings.lock() = settings;
        }
    }

    /// Replaces the settings of all single cameras from their next frames on.
    pub fn reconfigure(&self, configured: HashMap<String, CameraSettings>) {
        let configured: HashMap<_, _> =
            configured.into_iter().map(|(id, settings)| (id, Arc::new(settings))).collect();
        // All under one lock, so that a camera that appears meanwhile gets the new settings.
        let by_id = self.by_id.lock();
        for Ordered { camera, .. } in by_id.values().map(|ordered| &**ordered) {
            *camera.settings.lock() = configured.get(&camera.id).cloned().unwrap_or_default();
        }
        *self.configured.lock() = configured;
    }

    /// The figures of every camera kept, by name.
    pub fn statuses(&self) -> Vec<CameraStatus> {
        let cameras: Vec<_> = self.by_id.lock().values().cloned().collect();
        let mut all: Vec<_> = cameras.iter().map(|ordered| status_of(&ordered.camera)).collect();
        all.sort_unstable_by(|a, b| a.camera_id.cmp(&b.camera_id));
        all
    }

    /// The figures of one camera.
    pub fn status(&self, id: &str) -> Option<CameraStatus> {
        let ordered = self.by_id.lock().get(id).cloned()?;
        Some(status_of(&ordered.camera))
    }
}

/// The least recently used camera without a frame in work. Each frame in work holds a reference to
/// its camera, or to the order of its frames.
fn least_recently_used(cameras: &HashMap<String, Arc<Ordered>>) -> Option<String> {
    let is_idle = |ordered: &&Arc<Ordered>| {
        Arc::strong_count(ordered) == 1 && Arc::strong_count(&ordered.camera) == 1
    };
    let idle = cameras.values().filter(is_idle);
    let oldest = idle.min_by_key(|ordered| ordered.used.load(Ordering::Relaxed))?;
    Some(oldest.camera.id.clone())
}

impl std::fmt::Debug for Cameras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cameras({} of {})", self.by_id.lock().len(), self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::camera::Ended;
    use super::*;
    use crate::frame::Discard;

    #[test]
    fn cameras_beyond_the_cap_are_summed_and_configured_ones_have_their_place() {
        let configured = HashMap::from([("known".to_owned(), CameraSettings::default())]);
        let cameras = Cameras::new(1000, &configured, Metrics::new());
        for index in 0..CAMERA_SERIES_MAX + 10 {
            cameras.get(&format!("cam{index}")).camera.note(Ended::Refused);
        }
        cameras.get("known").camera.note(Ended::Dropped(Discard::BelowThreshold));
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
        assert_eq!(cameras.get("a").camera.settings().quality_threshold, Some(0.9));
    }
}
