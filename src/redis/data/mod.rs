//! The data plane: a small RESP client for the hot commands only. Bulk replies are copied once, from
//! the socket into a pooled buffer, and payloads are sent by vectored writes.

mod feed;
mod pending;
mod pipeline;
mod plan;
mod sink;
mod sinks;
mod source;
mod stale;
mod tenure;
mod window;

pub use feed::Feed;
pub use pending::{Page, Pending};
pub use pipeline::{Pipeline, PipelineOptions, Sendings, Ticket};
pub use plan::{CommitPlan, Delivery, Retention};
pub use sink::{Action, CommitAnswer, Earlier, Sink, Task};
pub use sinks::{Sent, Sinks};
pub use source::{Batch, Delivered, SourceOptions, StreamSource};
