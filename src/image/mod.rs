//! Floor 3: codecs and scaling. All unsafe code of the crate lives here.
//!
//! A [`Decoder`] turns what a camera sent into a [`View`](crate::frame::View) with the forms the
//! caller needs, an [`Encoder`] turns a view into a file, a [`Scaler`] makes the small pictures.
//! Each keeps its scratch memory from frame to frame and belongs to one worker.
//!
//! Pixels are kept as stored: an EXIF orientation is not applied, colour profiles are not read,
//! alpha is ignored.

mod boxed;
mod cpu;
mod decode;
mod encode;
mod format;
mod markers;
mod png;
mod probe;
mod quality;
mod samples;
mod scale;
mod turbo;
mod webp;

#[cfg(test)]
mod tests;

pub use boxed::keeps_its_rows;
pub use cpu::supported_cpu;
pub use decode::{Decoder, Needs, Picture};
pub use encode::{Encoder, Target};
pub use format::{Bounds, Format, Header, Source};
pub use probe::probe;
pub use quality::jpeg_quality;
pub use scale::{Placement, Scaler};
