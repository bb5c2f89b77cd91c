//! A frame between the halves of its job, and the storage that its slot carries along.

use std::fmt;
use std::sync::Arc;

use super::CameraSettings;
use super::camera::Camera;
use crate::analysis::Reduced;
use crate::frame::{Receipt, Slot, Verdict};
use crate::wire::proto::RoiAnalysis;
use crate::wire::{Composer, Draft};

/// A frame at the gate.
pub(super) struct Arrived {
    pub(super) receipt: Receipt,
    pub(super) shard: usize,
    pub(super) slot: Slot<Work>,
    /// Set if the verdict is already known; otherwise the draft is in the slot.
    pub(super) verdict: Option<Verdict>,
}

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
