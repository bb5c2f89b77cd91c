//! Floor 3: codecs and scaling. Nearly all unsafe code of the crate lives here.
//!
//! A [`Decoder`] converts a camera's picture to a [`View`](crate::frame::View) with the forms that
//! the caller needs. An [`Encoder`] converts a view to a file. A [`Scaler`] makes the small
//! pictures. Each keeps its scratch memory from frame to frame and belongs to one worker.
//!
//! A picture with an EXIF orientation is made upright unless the [`Treatment`] says otherwise.
//! Colour profiles are not applied; alpha is ignored.

mod boxed;
mod compress;
mod cpu;
mod decode;
mod encode;
mod exif;
mod format;
mod huffman;
mod jpeg;
mod keep;
mod layout;
mod markers;
mod orient;
mod png;
mod probe;
mod quality;
mod samples;
mod scale;
mod tag;
mod turbo;
mod webp;
mod yuv;

#[cfg(test)]
mod tests;

pub use boxed::keeps_its_rows;
pub use compress::Codes;
pub use cpu::supported_cpu;
pub use decode::{Decoder, Findings, Needs, Picture, Treatment};
pub use encode::{Encoder, Target};
pub use format::{Bounds, Format, Header, InputImage};
pub use huffman::{
    Adaptive, Band, CameraTables, Chosen, Counts, Huffman, Learner, Tables, ac_symbols,
    count_symbols, is_small, jpeg_blocks, recode_jpeg, standard_tables, start_bands, start_tables,
};
pub use keep::{Kept, keep_jpeg};
pub use layout::{Matrix, PixelLayout, Range, RawLayout};
pub use orient::Orientation;
pub use png::PngLevel;
pub use probe::probe;
pub use quality::jpeg_quality;
pub use scale::{Placement, Scaler};
pub use tag::tag;
