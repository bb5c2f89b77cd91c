//! Floor 3: two planes to Redis.
//!
//! Each room uses only those above it:
//!
//! | room | what it is |
//! | --- | --- |
//! | `protocol` | RESP, transport, TLS: one connection |
//! | `topology` | which server has a key: Sentinel, Cluster, hash slots, the streams of a shard |
//! | `control` | everything but the hot commands, with a limit on every wait ([`Control`]) |
//! | `data` | our own small RESP client for the hot commands ([`StreamSource`], [`Sink`], [`Pipeline`]) |
//! | `check` | what `framepress check` asks: facts about the server, rights of the account |
//!
//! Bulk replies are copied once, from the socket into a pooled buffer, and payloads are sent by
//! vectored writes. `scripts` has the Lua scripts of both planes.

pub mod check;
mod control;
mod data;
mod protocol;
mod topology;

pub use check::Survey;
pub use control::{
    Control, DEAD_LETTER_FIELDS, DeadLetterNote, Embedded, FoundGroup, Greeting, GroupState,
    Handover, LeaseAsk, LeaseClient, LeaseState, LeaseTerms, Members, Pages, PlaceKeys, Placed,
    PlacedBatch, PlacedEntry, Presence, Record, ServerTime, ShardState, StreamCounts, StreamState,
    Tenure, Version, bytes_of, engines_keys, lease_key,
};
pub use data::{
    Action, Batch, CommitAnswer, CommitPlan, Delivered, Delivery, Earlier, Feed, Page, Pending,
    Pipeline, PipelineOptions, Retention, Sendings, Sent, Sink, Sinks, SourceOptions, StreamSource,
    Task, Ticket,
};
pub use protocol::{
    Address, Connection, FaultPoint, Login, Operation, RespHeader, RespLimits, RespReader, Tls,
    TlsOptions, Trouble, Waited,
};
pub use topology::{
    Lookout, Route, SLOTS, Streams, Topology, dead_letters_of, slot_of, status_key, tag_of,
};
