//! The state of one camera: its background, its tables, its figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::CameraSettings;
use super::snapshot::Snapshot;
use crate::analysis::Background;
use crate::base::Stage;
use crate::frame::Discard;
use crate::image::CameraTables;
use crate::metrics::clock::unix_seconds;

/// After this many seconds without a frame a camera counts as inactive.
const ACTIVE_SECONDS: f64 = 10.0;

/// One camera.
pub(super) struct Camera {
    pub(super) id: String,
    /// Hash of the id; it decides which committer gets its frames.
    pub(super) hash: u64,
    pub(super) settings: Mutex<Arc<CameraSettings>>,
    /// Used by the second half of a job, frame after frame. No other lock is taken while this one
    /// is held: frames of a batch update the backgrounds of cameras whose gates the batch does not
    /// pass.
    pub(super) background: Mutex<Background>,
    /// The Huffman tables of its pictures; dropped with the camera.
    pub(super) tables: CameraTables,
    pub(super) status: Mutex<Status>,
    /// The latest picture, while a client watches it.
    pub(super) snapshot: Snapshot,
    /// The totals that also count its frames, if it has no separate time series.
    pub(super) others: Option<Arc<Totals>>,
}

/// Frames of all cameras beyond the cap on time series.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) processed: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) dropped: AtomicU64,
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
pub(super) struct Status {
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

/// The figures of a camera.
pub(super) fn status_of(camera: &Camera) -> CameraStatus {
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
