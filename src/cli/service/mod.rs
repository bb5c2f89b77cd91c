//! How the process behaves towards its system: signals, panics, reloads, log, summaries,
//! notifications to systemd.

pub(super) mod keeper;
pub(super) mod logging;
pub(super) mod notify;
pub(super) mod panics;
pub(super) mod signals;
mod summary;
