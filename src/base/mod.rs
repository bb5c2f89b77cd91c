//! Floor 0: what every other room stands on.
//!
//! Errors, the stop signal, the one door for threads, the one for text from outside, and the bounds.
//! Nothing here knows what a frame is, and nothing here reads the clock except to sleep.

pub mod children;
pub mod descriptors;
pub mod error;
pub mod files;
pub mod limits;
pub mod private;
pub mod redact;
pub mod stop;
pub mod text;
pub mod threads;

pub use error::{Fault, Reason, Reject, Stage, error_code};
pub use stop::Stop;
