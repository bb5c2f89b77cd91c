//! Several engines, one order: each shard is read by one engine at a time, under a lease.
//!
//! The lease lies in Redis beside the shard and is the truth; see `redis/lease.lua`. Which engine is
//! to take which shard every engine works out for itself, from the same list ([`assign`]). The
//! [`Keeper`] keeps the list and renews leases; the reader of a shard takes its lease, and gives it
//! back. What both and the committers know is in [`Leases`].

pub mod assign;
mod keeper;
mod table;

pub use keeper::{Keeper, KeeperSettings, member_name};
pub use table::Leases;
