//! Floor 3: two planes to Redis.
//!
//! The *data plane* ([`Source`], [`Sink`], [`Feed`]) is a small RESP client of our own for the hot
//! commands only: bulk replies go from the socket into a pooled buffer in one copy, payloads go
//! out by vectored writes. The *control plane* ([`Control`]) is the `redis` crate, with a limit on
//! every wait.

mod address;
mod answers;
mod connection;
mod control;
mod embedded;
mod feed;
mod greeting;
mod hash_slot;
mod request;
mod resp;
pub mod rights;
mod seam;
mod sink;
mod source;
pub mod survey;

/// The fields a dead letter has behind the original ones, in this order.
pub const DEAD_LETTER_FIELDS: [&str; 7] =
    ["original_id", "queue", "reason", "detail", "stage", "deliveries", "failed_at"];

pub use address::Address;
pub use connection::{Connection, Waited};
pub use control::{Control, GroupState, Record};
pub use embedded::Embedded;
pub use feed::Feed;
pub use greeting::{Greeting, Version};
pub use hash_slot::{hash_slot, hash_tag};
pub use resp::{Header, Limits as RespLimits, Reader as RespReader, Trouble};
pub use seam::{Operation, Seam};
pub use sink::{Action, Answer, Delivery, Plan, Retention, Sink, Task};
pub use source::{Batch, Delivered, Source, SourceOptions};
pub use survey::Survey;
