//! Fault tests: whatever breaks, each frame is processed exactly once, and the engine ends or
//! recovers within a bound. They use real redis-servers, whole engines, and the program itself.
//!
//! Randomised tests print their seed; `FRAMEPRESS_SEED` repeats one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;
/// The fuzz targets, which are a separate crate.
#[path = "../fuzz/src/lib.rs"]
mod targets;

mod back_pressure;
mod decoders;
mod fault_point;
mod hang;
mod network;
mod pause;
mod producers;
mod proxy;
