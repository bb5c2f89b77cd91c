//! Floor 0: the base of all other modules.
//!
//! Errors, the stop signal, the only place that starts threads, the only place that makes outside
//! text safe to show, and the limits. Nothing here knows what a frame is or reads the clock, except
//! to sleep.

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
