//! Settings that may change while the engine runs.
//!
//! A job reads these settings once, so no picture is made half with old and half with new ones. The
//! dispatcher judges age and deliveries earlier.
//!
//! Settings that decide how a frame is routed (order, the gate, the lanes) are deliberately absent.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::image::{Huffman, PngLevel, Target, Treatment};

/// The settings in force, shared by all threads that use or replace them.
pub type Live = Arc<ArcSwap<LiveSettings>>;

/// How frames are treated.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// How results are coded.
    pub target: Target,
    /// Whether the WebP method adapts to idle cores.
    pub is_webp_open: bool,
    /// How hard PNG is compressed; `None` if it adapts to idle cores.
    pub png_level: Option<PngLevel>,
    /// The latency that the effort for WebP and PNG must keep.
    pub latency_target: Duration,
    /// The Huffman tables of JPEG output.
    pub huffman: Huffman,
    /// When JPEG input is coded again.
    pub recoding: Recoding,
    /// What is done with damaged and with rotated pictures.
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

/// What is done with a JPEG frame if the result is to be a JPEG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recoding {
    /// It is decoded and coded again.
    Always,
    /// It is handed on unchanged if its quality is at or below the target quality.
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
