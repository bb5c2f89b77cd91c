//! Floor 2: frames between the stages, and their carriers.
//!
//! A frame is a [`RawFrame`] from the reader to the workers and a [`Finished`] frame from the
//! workers to the committer. Both carry the [`Receipt`] of their stream entry. Bytes live in leases
//! of one [`Pool`] and return to it when dropped; nothing else flows backwards.

mod digest;
mod entry;
mod hops;
mod journal;
mod kind;
mod lane;
mod plane;
mod pool;
mod slot;
mod waker;

pub use digest::{Digest, Digester, Locate, RunningDigest, hash_of};
pub use entry::{Entry, EntryBuilder, EntryId, RingPixels};
pub use hops::{
    Body, Discard, Finished, Handed, Labels, RawFrame, Refused, Results, Stored, Verdict,
};
pub use journal::{EntryOrigin, Journal, Opened, Receipt, Recovery, Session};
pub use kind::FileKind;
pub use lane::{recv, send};
pub use plane::{Plane, Planes, View};
pub use pool::{Lease, Pool};
pub use slot::{Slot, Slots};
pub use waker::{Received, WakingReceiver, WakingSender, waking};
