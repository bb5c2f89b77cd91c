//! The bridge on a real Apache Kafka, whose jars `make setup-test` fetches. Without them or without
//! Java, every test is skipped with one message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

/// Shared with the other tests: a Redis server, the program, and waiting for a condition.
#[allow(dead_code, unused_imports)]
#[path = "../it/support/mod.rs"]
mod common;
mod support;

mod broker;
mod check;
mod errors;
mod inbound;
mod kills;
mod migration;
mod outbound;
mod python;
mod secured;
