//! What is known of each camera: its gate, its background, its figures.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::CameraSettings;
use super::gate::Gate;
use super::second_half::Arrived;
use crate::analysis::Background;
use crate::metrics::clock::unix_seconds;
use crate::metrics::{Counter, Metrics};

/// Seconds without a frame after which a camera does not count as active.
const ACTIVE_SECONDS: f64 = 10.0;

/// One camera.
pub(super) struct Camera {
    pub(super) id: String,
    /// Of the id: decides which committer ends its frames.
    pub(super) hash: u64,
    settings: Mutex<Arc<CameraSettings>>,
    /// The number of the next frame read; only the dispatcher takes one.
    pub(super) tickets: AtomicU64,
    /// Held while frames pass, so that they also reach the committer in order.
    pub(super) past: Mutex<Past>,
    status: Mutex<Status>,
    used: AtomicU64,
}

/// What the second half of a job works on, frame after frame.
#[derive(Default)]
pub(super) struct Past {
    pub(super) gate: Gate<Arrived>,
    pub(super) background: Background,
}

#[derive(Clone, Copy, Debug, Default)]
struct Status {
    frames: u64,
    refused: u64,
    dropped: u64,
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
    /// Frames refused.
    pub frames_rejected: u64,
    /// Frames acknowledged without output: too old, or below the threshold.
    pub frames_dropped: u64,
    /// When the last result was ready, in seconds since the Unix epoch; 0 for never.
    pub last_frame_time: f64,
    /// Of the last frame.
    pub quality_score: f32,
    /// Of the last frame.
    pub vehicle_density: f32,
    /// Of the last frame.
    pub congestion_level: &'static str,
    /// Of the last frame.
    pub processing_time_ms: f32,
}

/// How a frame of a camera ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    Result { quality: f32, density: f32, congestion: &'static str, processing_ms: f32 },
    Refused,
    Dropped,
}

impl Camera {
    /// What is configured for it now.
    pub(super) fn settings(&self) -> Arc<CameraSettings> {
        Arc::clone(&self.settings.lock())
    }

    pub(super) fn note(&self, ended: Ended) {
        let mut status = self.status.lock();
        match ended {
            Ended::Refused => status.refused += 1,
            Ended::Dropped => status.dropped += 1,
            Ended::Result { quality, density, congestion, processing_ms } => {
                let frames = status.frames + 1;
                let last_frame = unix_seconds();
                let (refused, dropped) = (status.refused, status.dropped);
                *status = Status {
                    frames,
                    refused,
                    dropped,
                    last_frame,
                    quality,
                    density,
                    congestion,
                    processing_ms,
                };
            }
        }
    }
}

/// The cameras seen lately, at most so many; the least recently used one goes first, unless a
/// frame of it is still in work.
pub struct Cameras {
    by_id: Mutex<HashMap<String, Arc<Camera>>>,
    configured: Mutex<HashMap<String, Arc<CameraSettings>>>,
    limit: usize,
    clock: AtomicU64,
    metrics: Arc<Metrics>,
}

impl Cameras {
    /// Room for `limit` cameras, some of which are configured.
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
        })
    }

    /// The camera of that name, known or new.
    pub(super) fn get(&self, id: &str) -> Arc<Camera> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let mut by_id = self.by_id.lock();
        if let Some(camera) = by_id.get(id) {
            camera.used.store(now, Ordering::Relaxed);
            return Arc::clone(camera);
        }
        if by_id.len() >= self.limit {
            let oldest = by_id
                .values()
                .filter(|camera| Arc::strong_count(camera) == 1)
                .min_by_key(|camera| camera.used.load(Ordering::Relaxed))
                .map(|camera| camera.id.clone());
            if let Some(oldest) = oldest {
                by_id.remove(&oldest);
                self.metrics.add(Counter::CamerasEvicted, 1);
            }
        }
        let camera = Arc::new(Camera {
            id: id.to_owned(),
            hash: xxhash_rust::xxh3::xxh3_64(id.as_bytes()),
            settings: Mutex::new(self.configured.lock().get(id).cloned().unwrap_or_default()),
            tickets: AtomicU64::new(0),
            past: Mutex::default(),
            status: Mutex::default(),
            used: AtomicU64::new(now),
        });
        by_id.insert(id.to_owned(), Arc::clone(&camera));
        camera
    }

    /// Configures a camera, from its next frame on.
    pub fn configure(&self, id: &str, settings: CameraSettings) {
        let settings = Arc::new(settings);
        self.configured.lock().insert(id.to_owned(), Arc::clone(&settings));
        if let Some(camera) = self.by_id.lock().get(id) {
            *camera.settings.lock() = settings;
        }
    }

    /// Replaces all that is configured for single cameras, from their next frames on.
    pub fn reconfigure(&self, configured: HashMap<String, CameraSettings>) {
        let configured: HashMap<_, _> =
            configured.into_iter().map(|(id, settings)| (id, Arc::new(settings))).collect();
        // All under one lock: a camera that appears meanwhile is configured by the new.
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

fn status_of(camera: &Camera) -> CameraStatus {
    let status = *camera.status.lock();
    let active = unix_seconds() - status.last_frame <= ACTIVE_SECONDS;
    CameraStatus {
        camera_id: camera.id.clone(),
        status: if active { "active" } else { "inactive" },
        frames_processed: status.frames,
        frames_rejected: status.refused,
        frames_dropped: status.dropped,
        last_frame_time: status.last_frame,
        quality_score: status.quality,
        vehicle_density: status.density,
        congestion_level: status.congestion,
        processing_time_ms: status.processing_ms,
    }
}

impl std::fmt::Debug for Cameras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cameras({} of {})", self.by_id.lock().len(), self.limit)
    }
}
