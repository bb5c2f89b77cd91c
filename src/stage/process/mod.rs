//! The processing stage: a dispatcher thread for each pipeline, and a rayon job for each frame.
//!
//! A job has two halves. The first half is everything that concerns the picture alone: decoding,
//! figures, encoding. Jobs of all cameras run it in parallel. The second half needs the camera's
//! past (background model) and its order. It goes through the camera's gate, which lets frames pass
//! in the order of their tickets. If a job's ticket is not the next one, the job leaves its frame
//! at the gate and ends; no job ever waits. Each camera has its own gate behind its own lock. So a
//! slow frame holds up only later frames of its camera, at their gate, and no worker.
//!
//! Every frame past a dispatcher holds a slot. Each lane to a committer has room for every slot of
//! the pipelines that lead into it, so handing on a finished frame never waits either. Each
//! pipeline has its own slots, so frames that cannot be committed take none from another pipeline;
//! see [`CommitRoutes`].

mod camera;
mod cameras;
mod dispatch;
mod effort;
mod figures;
mod first_half;
mod gate;
mod job;
mod label;
mod live;
mod pictures;
mod routes;
mod second_half;
mod snapshot;
mod work;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::RwLock;

pub use camera::CameraStatus;
pub use cameras::{CAMERA_SERIES_MAX, Cameras, OtherCameras};
pub use dispatch::{Dispatcher, DispatcherParts};
pub use live::{AnalysisSettings, Live, LiveSettings, Recoding};
pub use routes::CommitRoutes;
pub use snapshot::Photo;
pub use work::Work;
pub use worker::Workers;

use self::effort::Effort;
use crate::analysis::RegionBox;
use crate::base::threads::LoopHook;
use crate::frame::{Handed, Pool, Slot, WakingSender};
use crate::metrics::{Metrics, Recorder};

/// A finished frame, handed to the committer.
pub type Outgoing = Handed<Slot<Work>>;

/// Called with the frame id before a frame is decoded. For tests of panics, and for programs that
/// observe the engine.
pub type Probe = Arc<dyn Fn(&str) + Send + Sync>;

/// What the processing stage needs to know.
#[derive(Clone)]
pub struct ProcessSettings {
    /// The settings to begin with; they may be replaced later.
    pub live: LiveSettings,
    /// Largest picture, in pixels.
    pub pixels_max: u64,
    /// Most bytes that unpacking gzip may yield.
    pub payload_bytes_max: usize,
    /// Whether frames of one camera leave in the order they were read.
    pub keep_order: bool,
    /// Whether frames pass their camera's gate: to keep their order, or for figures that need the
    /// camera's past.
    pub gated: bool,
    /// Most cameras whose state is kept.
    pub cameras_max: usize,
    /// Settings of single cameras.
    pub cameras: HashMap<String, CameraSettings>,
    /// See [`Probe`].
    pub probe: Option<Probe>,
    /// The loop hook, called by the dispatcher at each loop iteration and by workers at each job.
    pub loop_hook: LoopHook,
}

/// Settings of one camera.
#[derive(Clone, Debug, Default)]
pub struct CameraSettings {
    /// Boxes with separate figures, each with its label.
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
struct WorkerShared {
    settings: ProcessSettings,
    live: Live,
    workers: Workers,
    cameras: Arc<Cameras>,
    /// Frames that a worker has or that wait for a worker.
    jobs: AtomicUsize,
    /// Chooses the effort if the settings leave it open.
    effort: Effort,
    /// Held for writing while a suspect frame is in work, so that no dispatcher begins another job.
    alone: RwLock<()>,
    pool: Pool,
    metrics: Arc<Metrics>,
    /// For the second half, which may run on any thread.
    recorder: Recorder,
    routes: CommitRoutes,
    lanes: Vec<WakingSender<Outgoing>>,
}
