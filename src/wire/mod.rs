//! Floor 3: the envelope around a picture.
//!
//! Reading borrows from the entry's bytes and copies no picture. Writing copies each coded picture
//! once, into the buffer that is sent to Redis.

mod base64;
mod batch;
mod compose;
mod cursor;
mod envelope;
mod gzip;
mod json;
mod open;
mod rows;
mod text;
mod time;

/// The messages of `proto/processed_frame.proto`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/its_camera_ai.streaming.rs"));
}

pub use batch::FrameBatch;
pub use compose::{Composer, Draft, whole};
pub use envelope::{Envelope, ImageRef};
pub use open::{OpenedEnvelope, Scratch, camera_of, locate_picture, open, open_all};
pub use time::seconds;
