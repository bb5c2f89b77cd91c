//! Framepress.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod analysis;
pub mod base;
pub mod camera;
pub mod cli;
pub mod config;
pub mod engine;
pub mod frame;
pub mod http;
pub mod image;
pub mod metrics;
pub mod redis;
pub mod stage;
pub mod wire;
