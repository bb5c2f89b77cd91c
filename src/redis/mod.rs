//! Floor 3: two planes to Redis.
//!
//! The *data plane* ([`StreamSource`], [`Sink`], [`Pipeline`]) is our own small RESP client for the hot
//! commands only: bulk replies are copied once, from the socket into a pooled buffer, and payloads
//! are sent by vectored writes. The *control plane* ([`Control`]) does everything else, with a
//! limit on every wait. Both use the same connections and find their servers through [`Topology`].

mod address;
mod answers;
mod cluster;
mod connection;
mod control;
mod dead_letters;
mod embedded;
mod fault_point;
mod feed;
mod greeting;
mod groups;
mod leases;
mod look;
mod open;
mod pages;
mod pending;
mod pipeline;
mod places;
mod plan;
mod records;
mod request;
mod resp;
pub mod rights;
mod route;
mod sentinel;
mod sink;
mod sinks;
mod slot;
mod source;
mod stale;
mod streams;
pub mod survey;
mod tenure;
mod tls;
mod topology;
mod transport;
mod value;
mod window;

/// The fields added to a dead letter behind the original ones, in this order.
pub const DEAD_LETTER_FIELDS: [&str; 7] =
    ["original_id", "queue", "reason", "detail", "stage", "deliveries", "failed_at"];

/// The hash in which `ingest` publishes the state of its cameras: one field per camera, JSON, with
/// `until` in seconds since the Unix epoch.
pub fn status_key(input: &str) -> String {
    format!("{input}:ingest")
}

pub use address::{Address, Login};
pub use connection::{Connection, Waited};
pub use control::{Control, GroupState};
pub use dead_letters::DeadLetterNote;
pub use embedded::Embedded;
pub use fault_point::{FaultPoint, Operation};
pub use feed::Feed;
pub use greeting::{Greeting, Version};
pub use groups::FoundGroup;
pub use leases::{
    Handover, LeaseAsk, LeaseClient, LeaseState, LeaseTerms, Members, Presence, Tenure,
    engines_keys, lease_key,
};
pub use look::{ServerTime, ShardState, StreamState};
pub use pages::{Pages, bytes_of};
pub use pending::{Page, Pending};
pub use pipeline::{Pipeline, PipelineOptions, Sendings, Ticket};
pub use places::{PlaceKeys, Placed, PlacedBatch, PlacedEntry, StreamCounts};
pub use plan::{CommitPlan, Delivery, Retention};
pub use records::Record;
pub use resp::{RespHeader, RespLimits, RespReader, Trouble};
pub use route::Route;
pub use sentinel::Lookout;
pub use sink::{Action, Answer, Earlier, Sink, Task};
pub use sinks::{Sent, Sinks};
pub use slot::{SLOTS, slot_of, tag_of};
pub use source::{Batch, Delivered, SourceOptions, StreamSource};
pub use streams::{Streams, dead_letters_of};
pub use survey::Survey;
pub use tls::{Tls, TlsOptions};
pub use topology::Topology;
