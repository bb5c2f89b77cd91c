//! One program for all tests that need more than one room: real redis-servers, whole engines, the
//! program itself. Each module is a caption; `cargo test --test it inputs::` runs one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

mod bad_input;
mod commands;
mod delivery;
mod house;
mod inputs;
mod measure;
mod order;
mod stop;
mod video;
