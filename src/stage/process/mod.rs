//! The processing stage: a dispatcher thread for each way, and a rayon job per frame.
//!
//! A job has two halves. The first is everything that concerns the picture alone: decoding,
//! figures, encoding; jobs of all cameras run side by side. The second needs the camera's past
//! (background model) and its place in the order; it goes through the camera's gate, which
//! lets frames pass in the order of their tickets. A job whose turn it is not leaves its frame at
//! the gate and ends; nobody ever waits inside a job. Each camera has a gate of its own, behind a
//! lock of its own: a frame that takes long holds up the later frames of its camera, at their gate,
//! and no other camera, no worker, and no part of the work that concerns the picture alone.
//!
//! Every frame past a dispatcher holds a slot, and each lane to a committer has room for every slot
//! of the ways that lead into it, so handing a finished frame on never waits either. Slots are of
//! one way: frames that cannot be committed take none from those of another; see [`Routes`].

mod camera;
mod dispatch;
mod effort;
mod figures;
mod first_half;
mod gate;
mod label;
mod live;
mod pictures;
mod routes;
mod second_half;
mod snapshot;
mod work;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::RwLock;

pub use camera::{CAMERA_SERIES_MAX, CameraStatus, Cameras, OtherCameras};
pub use dispatch::{Dispatcher, DispatcherParts};
pub use live::{AnalysisSettings, Live, LiveSettings, Recoding};
pub use routes::Routes;
pub use snapshot::Photo;
pub use work::{Work, Workers};

use self::effort::Effort;
use crate::analysis::RegionBox;
use crate::base::threads::Turn;
use crate::frame::{Handed, Pool, Slot, WakingSender};
use crate::metrics::{Metrics, Recorder};

/// A frame on its way to the committer.
pub type Outgoing = Handed<Slot<Work>>;

/// Called with the frame id before a frame is decoded. For tests of what a panic does, and for
/// programs that want to watch.
pub type Probe = Arc<dyn Fn(&str) + Send + Sync>;

/// What the processing stage needs to know.
#[derive(Clone)]
pub struct ProcessSettings {
    /// What the engine begins with and may be told otherwise later.
    pub live: LiveSettings,
    /// Largest picture, in pixels.
    pub pixels_max: u64,
    /// Most bytes that gzip may hold.
    pub payload_bytes_max: usize,
    /// Whether frames of one camera leave in the order they were read.
    pub keep_order: bool,
    /// Whether frames pass their camera's gate: for their order, or for figures that need the
    /// camera's past.
    pub gated: bool,
    /// Cameras whose state is kept.
    pub cameras_max: usize,
    /// What is configured for single cameras.
    pub cameras: HashMap<String, CameraSettings>,
    /// See [`Probe`].
    pub probe: Option<Probe>,
    /// Called by the dispatcher at each turn, by workers at each job.
    pub turn: Turn,
}

/// What is configured for one camera.
#[derive(Clone, Debug, Default)]
pub struct CameraSettings {
    /// Boxes with figures of their own, each with its label.
    pub regions: Vec<(String, RegionBox)>,
    /// Overrides the general threshold.
    pub quality_threshold: Option<f32>,
}

impl fmt::Debug for ProcessSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessSettings").field("live", &self.live).finish_non_exhaustive()
    }
}

/// What all jobs share. The lanes close when the last job has ended.
struct Shared {
    settings: ProcessSettings,
    live: Live,
    workers: Workers,
    cameras: Arc<Cameras>,
    /// Frames that workers have, or that wait for one.
    jobs: AtomicUsize,
    /// Chosen for pictures where the settings leave it open.
    effort: Effort,
    /// Held for writing while a suspect is in work, so that no dispatcher begins another job.
    alone: RwLock<()>,
    pool: Pool,
    metrics: Arc<Metrics>,
    /// For the second half, which may run on any thread.
    recorder: Recorder,
    routes: Routes,
    lanes: Vec<WakingSender<Outgoing>>,
}
