//! Several engines that keep one order: each shard is read by one engine at a time, under a lease.
//!
//! The lease is stored in Redis beside the shard, and Redis decides who has it; see
//! `redis/scripts/lease.lua`. Every engine computes from the same list which engine is to take which
//! shard ([`assign`]). The [`LeaseKeeper`](super::keeper::LeaseKeeper) keeps the list and renews
//! leases. The reader of a shard takes its lease and gives it back. [`Leases`] holds the state that
//! keeper, readers and committers share.

pub mod assign;
mod table;

pub use table::Leases;
