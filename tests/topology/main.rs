//! Redis as it is deployed: TLS, Sentinel, Cluster, shards. Every server here is a real one.

mod cluster;
mod sentinel;
mod shards;
mod support;
mod tls;
mod urls;
