//! Floor 4: where frames come from.
//!
//! A [`Source`] fills a [`Still`] again and again: a synthetic road, a video through the `ffmpeg`
//! program, a folder of images, or raw pixels on standard input. No source reads the clock or waits
//! for a frame to be due: [`Pace`] says when that is, and the caller does the waiting.

mod folder;
mod open;
mod pace;
mod producer;
mod random;
mod raw;
mod readiness;
mod slots;
mod synthetic;
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

/// The longest side of a picture any source yields.
pub(crate) const SIDE_MAX: u32 = 16384;

/// How the bytes of a [`Still`] are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// Interleaved RGB, `width * height * 3` bytes.
    #[default]
    Rgb,
    /// Gray, `width * height` bytes.
    Gray,
    /// Planes of luma and chroma without padding, chroma halved both ways; [`Still::layout`] says more.
    Planes,
    /// A JPEG, PNG or WebP file as it was found; its size in pixels is not known here.
    File,
}

/// What one source yields: a picture in storage that is used again for the next.
#[derive(Clone, Debug, Default)]
pub struct Still {
    /// Pixels in a row; 0 for [`Coding::File`].
    pub width: u32,
    /// Rows; 0 for [`Coding::File`].
    pub height: u32,
    /// 3 for colour, 1 for gray; 0 for [`Coding::File`].
    pub channels: u32,
    /// What the bytes are.
    pub coding: Coding,
    /// How [`Coding::Planes`] lie.
    pub layout: RawLayout,
    /// The pixels without padding, or the file.
    pub bytes: Vec<u8>,
    /// The name of the file it was read from; empty if the source has no files.
    pub name: String,
    /// Why there is no picture in this place; the source goes on with the next.
    pub unread: Option<String>,
    /// Where in the source it lies, in seconds from its beginning, if the source has times.
    pub place: Option<f64>,
    /// The true share of vehicle pixels, `0.0..=1.0`, if the source knows it.
    pub vehicle_share: Option<f32>,
}

/// Something that yields frames.
pub trait Source: Send {
    /// Replaces `still` with the next frame. `false` is the end, and `still` is then meaningless.
    ///
    /// # Errors
    /// What kept the source from going on. Nothing more comes after an error.
    fn next(&mut self, still: &mut Still) -> Result<bool, Fault>;

    /// Frames per second as recorded or simulated, if known.
    fn fps(&self) -> Option<f64>;

    /// How many frames there will be, if known; for progress, not for counting on.
    fn frames(&self) -> Option<u64>;

    /// What the source has lost so far, for a person; `None` for nothing.
    fn losses(&mut self) -> Option<String> {
        None
    }
}
