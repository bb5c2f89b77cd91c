//! What breaks, and what has to hold all the same: every frame exactly once, and an end or a
//! recovery within a bound. Real redis-servers, whole engines, the program itself.
//!
//! Tests that draw lots print their seed; `FRAMEPRESS_SEED` repeats one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;
/// The fuzz targets, which are a crate of their own.
#[path = "../fuzz/src/lib.rs"]
mod targets;

mod back_pressure;
mod decoders;
mod hang;
mod network;
mod pause;
mod producers;
mod proxy;
mod seam;
