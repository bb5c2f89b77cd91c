//! Floor 4: the three stages, each with one lane in, one lane out, and a `Result` at the end.
//!
//! [`read`] takes entries from Redis, [`process`] decodes, analyses and encodes them on a rayon
//! pool, [`commit`] ends them in Redis.

pub mod commit;
pub mod feeds;
pub mod group;
pub mod lease;
pub mod process;
pub mod read;
mod recent;
mod retry;
pub mod watch;
mod window;
