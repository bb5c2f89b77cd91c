//! Framepress.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod base;
pub mod frame;
pub mod metrics;
pub mod redis;
pub mod wire;
