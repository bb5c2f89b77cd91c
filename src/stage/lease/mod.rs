//! Several engines, one order: each shard is read by one engine at a time, under a lease.

pub mod assign;
