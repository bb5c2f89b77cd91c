//! The state a worker keeps between frames, and the storage that a slot carries along with its
//! frame.

use std::fmt;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::CameraSettings;
use super::camera::Camera;
use super::pictures::Coder;
use crate::analysis::Reduced;
use crate::base::Fault;
use crate::image::{Bounds, Decoder, Picture};
use crate::metrics::{Metrics, Recorder};
use crate::wire::proto::RoiAnalysis;
use crate::wire::{Composer, Draft, Scratch};

/// Storage of one slot: what the second half of the job needs from the first.
#[derive(Default)]
pub struct Work {
    /// The message under construction.
    pub(super) composer: Composer,
    /// The picture at the resolution of the background model.
    pub(super) reduced: Reduced,
    /// The pictures of the message, already written.
    pub(super) draft: Option<Draft>,
    /// Whether the picture was damaged and still accepted.
    pub(super) is_damaged: bool,
    /// The `traceparent` of the input entry; empty if it has none.
    pub(super) traceparent: String,
    /// The settings of the camera when work on the frame began.
    pub(super) camera: Arc<CameraSettings>,
    /// The frames of a batch, in order, with their storage; empty for a single frame.
    pub(super) batch: Vec<(Arc<Camera>, Work)>,
    /// Unused region figures, kept to reuse their strings.
    pub(super) spare_regions: Vec<RoiAnalysis>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Work({})", self.composer.message.frame_id)
    }
}

/// Codecs and scratch memory of one worker.
pub(super) struct Worker {
    pub(super) tools: Tools,
    pub(super) unpacked: Scratch,
}

/// The codecs and buffers used for each frame.
pub(super) struct Tools {
    pub(super) decoder: Decoder,
    pub(super) coder: Coder,
    pub(super) picture: Picture,
    pub(super) recorder: Recorder,
}

impl Worker {
    fn new(bounds: Bounds, payload_max: usize, recorder: Recorder) -> Result<Worker, Fault> {
        let tools = Tools {
            decoder: Decoder::new(bounds)?,
            coder: Coder::new()?,
            picture: Picture::default(),
            recorder,
        };
        Ok(Worker { tools, unpacked: Scratch::new(payload_max) })
    }

    /// Replaces everything that a panic may have left half done.
    pub(super) fn renew(&mut self, bounds: Bounds, payload_max: usize) {
        match Worker::new(bounds, payload_max, self.tools.recorder.clone()) {
            Ok(fresh) => *self = fresh,
            Err(fault) => tracing::error!("a worker cannot be renewed after a panic: {fault}"),
        }
    }
}

/// The workers of a pool, by their number in it.
pub struct Workers {
    workers: Vec<CachePadded<Mutex<Worker>>>,
}

impl Workers {
    /// One worker for each thread of the pool.
    ///
    /// Those of the codecs, if memory is short.
    pub fn new(
        count: usize,
        pixels_max: u64,
        payload_max: usize,
        metrics: &Metrics,
    ) -> Result<Workers, Fault> {
        let workers = (0..count)
            .map(|_| Worker::new(Bounds { pixels_max }, payload_max, metrics.recorder()))
            .map(|worker| Ok(CachePadded::new(Mutex::new(worker?))))
            .collect::<Result<_, Fault>>()?;
        Ok(Workers { workers })
    }

    pub(super) fn len(&self) -> usize {
        self.workers.len()
    }

    /// The worker of the calling pool thread. No other thread takes its lock.
    pub(super) fn mine(&self) -> MutexGuard<'_, Worker> {
        let index = rayon::current_thread_index().unwrap_or(0);
        self.workers[index % self.workers.len()].lock()
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workers({})", self.workers.len())
    }
}
