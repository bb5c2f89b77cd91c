//! Framepress reads camera frames from a Redis stream, analyses and compresses them, and writes
//! `ProcessedFrame` protobuf messages to another Redis stream. It is synchronous from end to end:
//! threads joined by bounded lanes, no async runtime.
//!
//! Most users want the program; see `framepress --help`. This library is for programs that embed
//! the engine or send frames to one. They do not need the program's dependencies:
//!
//! ```toml
//! framepress = { version = "0.1", default-features = false }
//! ```
//!
//! | task | begin with |
//! | --- | --- |
//! | configure | [`Config::builtin`](config::Config::builtin), or [`Loader`](config::Loader) for a file, the environment and flags |
//! | run an engine in this process | [`create_stream_processor`], which returns a [`StreamProcessor`]; end it with [`StreamProcessor::stop`] |
//! | send frames to an engine elsewhere | [`create_producer`], which returns a [`Producer`] for [`Outbound`] frames |
//! | send without waiting | [`Producer::enqueue`], then [`Producer::replies`] and [`Producer::flush`] |
//! | end a wait | a [`Stop`], from another thread |
//! | bypass Redis with pixels on one machine | [`RingUse`], given to [`create_producer`]; its folder is the engine's, [`RingConfig::folder`](config::RingConfig::folder) |
//! | read results | a Redis client of your own and [`proto::ProcessedFrame`], decoded by `prost::Message::decode` of the crate prost 0.14: the field `data` of each entry of `redis_queue.output_queue` is one message, its picture is in `original_image` |
//! | know of losses | [`Conservation`] of an engine, [`ProducerCounts`] of a producer |
//! | watch an engine | [`StreamProcessor::get_processing_stats`], [`get_queue_health`](StreamProcessor::get_queue_health), [`get_stream_status`](StreamProcessor::get_stream_status) |
//! | handle errors | [`Fault`] of a connection or setting, [`ConfigError`](config::ConfigError) of a configuration |
//!
//! An engine and a producer in one process. `embedded://` starts the program `redis-server` on a
//! socket, for as long as the processor lives; other programs reach it at [`StreamProcessor::server`].
//!
//! ```
//! use framepress::config::{Config, RedisUrl};
//! use framepress::{Format, Outbound, InputImage, create_stream_processor};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::builtin();
//! config.redis_queue.url = RedisUrl::parse("embedded://")?;
//! let processor = create_stream_processor(&config)?;
//!
//! let gray = vec![128; 64 * 48];
//! let picture = InputImage {
//!     format: Format::Raw,
//!     width: 64,
//!     height: 48,
//!     channels: 1,
//!     layout: Default::default(),
//!     bytes: &gray,
//! };
//! processor.enqueue_frame_for_processing(&Outbound {
//!     frame_id: "frame-1",
//!     camera_id: "camera-1",
//!     timestamp: 1_700_000_000.0,
//!     picture,
//!     quality: 0,
//! })?;
//! while processor.get_processing_stats().frames_processed < 1 {
//!     std::thread::sleep(std::time::Duration::from_millis(5));
//! }
//! assert_eq!(processor.get_stream_status("camera-1").unwrap().frames_processed, 1);
//! processor.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! A producer for an engine elsewhere, which sends several frames before it looks at the answers:
//!
//! ```no_run
//! use framepress::config::Loader;
//! use framepress::{Format, Full, Outbound, InputImage, Stop, create_producer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The same file as the engine's, and its environment variables.
//! let config = Loader::new().file(Some("framepress.yaml".into())).process_environment().load()?.config;
//! // Another thread may call `stop.drain()` to end a wait.
//! let stop = Stop::default();
//! let mut producer = create_producer(&config, Full::Block, None, &stop)?;
//! let jpeg = std::fs::read("frame.jpg")?;
//! for number in 0..100 {
//!     producer.enqueue(&Outbound {
//!         frame_id: &format!("frame-{number}"),
//!         camera_id: "camera-1",
//!         timestamp: 1_700_000_000.0 + f64::from(number) / 10.0,
//!         picture: InputImage::file(Format::Jpeg, &jpeg),
//!         quality: 0,
//!     })?;
//!     for (_ticket, reply) in producer.replies() {
//!         println!("stored as entry {}", reply?);
//!     }
//! }
//! // The last replies stay until they are read.
//! let missing = producer.flush(std::time::Duration::from_secs(5));
//! for (ticket, reply) in producer.replies() {
//!     if let Err(fault) = reply {
//!         println!("{ticket:?} was not stored: {fault}");
//!     }
//! }
//! println!("{missing} frames have no answer");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `program` | yes | the command line, the displays, the statistics server, live cameras |
//! | `kafka` | yes | `framepress bridge`; includes `program` and compiles librdkafka |
//! | `native-webp` | no | libwebp with SSE4.1 and AVX2 throughout; the program refuses other processors |
//!
//! CONTRIBUTING.md and docs/architecture.md in the repository describe the inside.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod base;
mod metrics;

mod frame;

mod analysis;
mod image;
mod redis;
mod ring;
mod wire;

mod camera;
pub mod config;
mod stage;

#[cfg(feature = "kafka")]
mod bridge;
mod engine;
#[cfg(feature = "program")]
mod ingest;

#[cfg(feature = "program")]
mod http;
#[cfg(feature = "program")]
mod instruments;
mod processor;

#[cfg(feature = "program")]
mod cli;

pub use base::{Fault, Stop};
pub use camera::{Full, Outbound, Producer, ProducerCounts, Reuse, RingUse, Sendings, Ticket};
pub use frame::EntryId;
pub use image::{Format, InputImage, Matrix, PixelLayout, Range, RawLayout};
pub use metrics::Conservation;
pub use processor::{
    ProcessingStats, QueueHealth, StreamProcessor, create_producer, create_stream_processor,
};
pub use ring::RingOptions;
pub use stage::process::CameraStatus;
pub use stage::watch::{QueueState, Queues, Rates, Recent, ServerMemory};
pub use wire::proto;

/// Everything else that the tests, benchmarks and instruments of this repository use. It can change
/// in every version.
#[doc(hidden)]
pub mod internals {
    macro_rules! rooms {
        ($($room:ident)+) => { $( pub mod $room { pub use crate::$room::*; } )+ };
    }

    rooms! { base metrics frame analysis image redis ring wire camera stage engine }
    #[cfg(feature = "program")]
    rooms! { ingest http instruments cli }
    #[cfg(feature = "kafka")]
    rooms! { bridge }
}
