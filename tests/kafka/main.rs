//! The bridge on a real Apache Kafka, whose jars `make setup-test` fetches. Without them or without
//! Java, every test here is skipped, and one line says so.
#![allow(clippy::unwrap_used, clippy::expect_used)]

/// What the other tests need as well: a Redis of its own, the program, and a way to wait.
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
