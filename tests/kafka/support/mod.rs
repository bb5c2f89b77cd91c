//! Shared by all Kafka tests: a broker, topics, and messages in and out.

mod broker;
mod carried;
mod clients;
mod java;
mod process;

pub use broker::{Broker, shared};
pub use carried::{Carried, frames};
pub use clients::{
    Isolation, Message, Outcome, Stored, read, read_until, send, send_in_transaction, try_send,
};
pub use java::{available, java};

use std::time::Duration;

/// Longer than any request to a healthy broker, also on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);
