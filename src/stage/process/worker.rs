//! The state that a worker keeps between frames.

use std::fmt;

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::pictures::PictureCoder;
use crate::base::Fault;
use crate::image::{Bounds, Decoder, Picture};
use crate::metrics::{Metrics, Recorder};
use crate::wire::Scratch;

/// Codecs and scratch memory of one worker.
pub(super) struct Worker {
    pub(super) tools: Tools,
    pub(super) unpacked: Scratch,
}

/// The codecs and buffers used for each frame.
pub(super) struct Tools {
    pub(super) decoder: Decoder,
    pub(super) coder: PictureCoder,
    pub(super) picture: Picture,
    pub(super) recorder: Recorder,
}

impl Worker {
    fn new(bounds: Bounds, payload_max: usize, recorder: Recorder) -> Result<Worker, Fault> {
        let tools = Tools {
            decoder: Decoder::new(bounds)?,
            coder: PictureCoder::new()?,
            picture: Picture::default(),
            recorder,
        };
        Ok(Worker { tools, unpacked: Scratch::new(payload_max) })
    }

    /// Replaces everything that a panic may have left half done.
    pub(super) fn renew(&mut self, bounds: Bounds, payload_max: usize) {
        match Worker::new(bounds, payload_max, self.tools.recorder.clone()) {
            Ok(fresh) => *self = fresh,
            Err(fault) => tracing::error!(
                "cannot create a new worker after a panic, so the old one continues: {fault}"
            ),
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
