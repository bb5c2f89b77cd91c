//! Redis as deployed: TLS, Sentinel, Cluster, shards. All servers are real.
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
