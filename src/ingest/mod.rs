//! Floor 5: reads live cameras, keeps them connected, samples their pictures and sends them to the
//! input stream.
//!
//! Each camera has a thread that reads it, a child (`ffmpeg`) or a connection, and a slot for its
//! newest picture. One sender takes pictures from all slots. So a slow Redis costs old pictures and
//! never delays new ones, and a camera that hangs does not affect the others.
//!
//! Reading order: `source` (location of a camera), `link` with `web` and `mjpeg` (connection to a
//! camera), `camera` with `pause` (reader thread and restarts), `coder`, `slot`, `sender`,
//! `supervisor` (all cameras), `status` (state of each camera).

mod camera;
mod coder;
mod link;
mod link_end;
mod mjpeg;
mod pause;
mod sender;
mod slot;
mod source;
mod status;
mod supervisor;
mod teller;
mod trial;
mod web;

pub use coder::{Coder, Form, Ready};
pub use sender::Mean;
pub use source::Spec;
pub use status::{AGE_BOUNDS, IngestStatus, SERIES, SendOutcome, State};
pub use supervisor::{Changed, IngestView, Mode, Supervisor, ring_of};
pub use teller::StatePublisher;
pub use trial::{CameraFound, try_out};
