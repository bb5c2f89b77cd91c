//! Redis as it is deployed: TLS, Sentinel, Cluster, shards. Every server here is a real one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod distance;
mod exclusive;
mod sentinel;
mod shards;
mod support;
mod takeover;
mod tls;
mod urls;
