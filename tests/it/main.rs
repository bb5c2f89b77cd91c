//! One program for all tests that span several modules: real redis-servers, whole engines, the
//! program itself. `cargo test --test it inputs::` runs one module.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

mod bad_input;
mod batches;
mod cameras;
mod cli;
mod commands;
mod delivery;
mod deploy;
mod distance;
mod doctor;
mod hardening;
mod house;
mod http;
mod inputs;
mod measure;
mod notify;
mod odd_inputs;
mod order;
mod pixels;
mod rights;
mod ring;
mod stop;
mod structure;
mod video;
