//! Framepress.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod base;
pub mod frame;
pub mod image;
pub mod analysis;
pub mod camera;
pub mod config;
