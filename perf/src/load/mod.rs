//! One measured load on one side: the engine, or a program that does its work.
//!
//! Four kinds of process take part, so that the cost of one is never counted as another's: a
//! redis-server, the measured side, a feeder ([`feed`]) and a consumer ([`collect`]). The feeder
//! writes into each frame when it should have been sent, and the consumer measures from that time
//! on. Waiting in front of a slow system is therefore part of the latency: there is no coordinated
//! omission. CPU time and memory are the kernel's figures of the side's processes.

pub mod collect;
pub mod feed;
pub mod files;
mod group;
mod side;
mod trial;

use framepress::config::Config;

pub use collect::Collected;
pub use side::{Program, Usage, guarded, memory_available, usage_of};
pub use trial::{Load, Measured, Sample, Trial};

/// Streams and group, as the engine's defaults name them.
pub const INPUT: &str = "camera_frames";
pub const OUTPUT: &str = "processed_frames";
pub const GROUP: &str = "stream_processor";

/// Input and output stream of each of `shards` shards.
pub fn streams(shards: usize) -> Vec<[String; 2]> {
    let mut config = Config::builtin();
    config.redis_queue.input_queue = INPUT.to_owned();
    config.redis_queue.output_queue = OUTPUT.to_owned();
    config.redis_queue.shards = shards;
    let streams = framepress::internals::engine::all_streams(&config).into_iter();
    streams.map(|streams| [streams.input, streams.output]).collect()
}

/// Seconds since the Unix epoch, by the clock that all processes of a run share.
pub fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Waits until a moment of that clock.
pub fn sleep_until(moment: f64) {
    let left = moment - now();
    if left > 0.0 {
        std::thread::sleep(std::time::Duration::from_secs_f64(left));
    }
}
