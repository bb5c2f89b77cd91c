//! Floor 4: the three stages. Each has one lane in, one lane out, and returns a `Result` at the
//! end.
//!
//! [`read`] takes entries from Redis, [`process`] decodes, analyses and encodes them on a rayon
//! pool, and [`commit`] stores the results in Redis and acknowledges the entries.

pub mod commit;
pub mod feeds;
pub mod group;
pub mod keeper;
pub mod lease;
pub mod process;
pub mod read;
mod recent;
mod retry;
pub mod watch;
mod window;
