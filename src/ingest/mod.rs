//! Floor 5: live cameras into the input stream: opened, kept alive, sampled, sent.
//!
//! A camera has a thread that reads it, a child (`ffmpeg`) or a connection, and a slot for its newest
//! picture. One sender takes from all slots. So a slow Redis costs old pictures and never delays new
//! ones, and a camera that hangs costs no other one anything.
//!
//! Reading order: `source` (where a camera is), `link` with `web` and `mjpeg` (what brings its
//! pictures), `camera` with `pause` (when it is begun again), `coder`, `slot`, `sender`, `supervisor`
//! (all of them), `status` (how they stand).

mod camera;
mod coder;
mod link;
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
pub use status::{AGE_BOUNDS, Outcome, SERIES, State, Status};
pub use supervisor::{Changed, Mode, Supervisor, View, ring_of};
pub use teller::Teller;
pub use trial::{Found, try_out};
