//! Floor 4: sources of frames.
//!
//! A [`FrameSource`] repeatedly fills a [`Still`]: a synthetic road, a video through the `ffmpeg`
//! program, a folder of images, or raw pixels on standard input. No source reads the clock or waits
//! until a frame is due. [`Pace`] computes when a frame is due, and the caller waits.

mod folder;
mod open;
mod pace;
mod producer;
mod random;
mod raw;
mod readiness;
mod slots;
mod synthetic;
// Live cameras in `ingest` use the rest of it.
#[cfg_attr(not(feature = "program"), allow(dead_code, unused_imports))]
pub(crate) mod video;

pub use crate::redis::{Sendings, Ticket};
pub use folder::Folder;
pub use open::{OpenOptions, open};
pub use pace::Pace;
pub use producer::{Full, Outbound, Producer, ProducerCounts, ProducerOptions, shard_of};
pub use raw::RawInput;
pub use slots::{Reuse, RingUse};
pub use synthetic::{Synthetic, SyntheticOptions};
pub use video::Video;

use crate::base::Fault;
use crate::image::RawLayout;

/// Longest side of a picture from any source, in pixels.
pub(crate) const SIDE_MAX: u32 = 16384;

/// Format of the bytes of a [`Still`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// Interleaved RGB, `width * height * 3` bytes.
    #[default]
    Rgb,
    /// Gray, `width * height` bytes.
    Gray,
    /// Planes of luma and chroma without padding, chroma halved in both directions; see
    /// [`Still::layout`].
    Planes,
    /// An unchanged JPEG, PNG or WebP file; its size in pixels is not known here.
    File,
}

/// One picture from a source, in storage that is reused for the next.
#[derive(Clone, Debug, Default)]
pub struct Still {
    /// Pixels in a row; 0 for [`Coding::File`].
    pub width: u32,
    /// Rows; 0 for [`Coding::File`].
    pub height: u32,
    /// 3 for colour, 1 for gray; 0 for [`Coding::File`].
    pub channels: u32,
    /// Format of the bytes.
    pub coding: Coding,
    /// Layout of [`Coding::Planes`].
    pub layout: RawLayout,
    /// The pixels without padding, or the file.
    pub bytes: Vec<u8>,
    /// Name of the file it was read from; empty if the source has no files.
    pub name: String,
    /// Why this picture could not be read; the source continues with the next.
    pub unread: Option<String>,
    /// Position in the source, in seconds from its beginning, if the source has times.
    pub place: Option<f64>,
    /// True share of vehicle pixels, `0.0..=1.0`, if the source knows it.
    pub vehicle_share: Option<f32>,
}

/// A source of frames.
pub trait FrameSource: Send {
    /// Replaces `still` with the next frame. `false` means the end; `still` is then meaningless.
    ///
    /// The reason why the source cannot continue. No frame follows an error.
    fn next(&mut self, still: &mut Still) -> Result<bool, Fault>;

    /// Frames per second as recorded or simulated, if known.
    fn fps(&self) -> Option<f64>;

    /// Expected number of frames, if known; for progress display only, because it may be wrong.
    fn frames(&self) -> Option<u64>;

    /// Description of the losses so far, for the user; `None` if there are none.
    fn losses(&mut self) -> Option<String> {
        None
    }
}
