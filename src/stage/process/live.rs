//! What may change while the engine runs.
//!
//! A job takes these settings once, so no picture is made half by the old and half by the new. Age and
//! deliveries are judged before, by the dispatcher.
//! Whatever decides about a frame's way (order, the gate, the lanes) is deliberately absent.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::image::{Huffman, PngLevel, Target, Treatment};

/// The settings in force, for everybody who uses or replaces them.
pub type Live = Arc<ArcSwap<LiveSettings>>;

/// How frames are treated from now on.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// How results are coded.
    pub target: Target,
    /// Whether the method of WebP follows idle cores.
    pub is_webp_open: bool,
    /// How hard PNG is compressed; `None` if that follows idle cores.
    pub png_level: Option<PngLevel>,
    /// What the effort for WebP and PNG is to keep.
    pub latency_target: Duration,
    /// The Huffman tables of JPEG output.
    pub huffman: Huffman,
    /// When JPEG input is coded anew.
    pub recoding: Recoding,
    /// What becomes of damaged and of turned pictures.
    pub treatment: Treatment,
    /// Figures and features; `None` switches them off.
    pub analysis: Option<AnalysisSettings>,
    /// 640x640 `processed_image`.
    pub ml_image: bool,
    /// 128x128 `thumbnail`.
    pub thumbnail: bool,
    /// Deliveries after which an entry becomes a dead letter.
    pub deliveries_max: u32,
    /// Frames older than this are shed; `None` for never.
    pub frame_age_max: Option<Duration>,
}

/// What becomes of a frame that is a JPEG already, where the result is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recoding {
    /// It is decoded and coded.
    Always,
    /// It is handed on as it was coded if it is at or below the target quality.
    WhenSmaller,
    /// It keeps its coefficients.
    Lossless,
}

/// How frames are judged.
#[derive(Clone, Copy, Debug)]
pub struct AnalysisSettings {
    /// Quality score from which `validation_passed` is true.
    pub quality_threshold: f32,
    /// Whether frames below it are acknowledged without output.
    pub drop_below_threshold: bool,
}
