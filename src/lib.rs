//! Framepress reads camera frames from a Redis stream, analyses and compresses them, and writes
//! `ProcessedFrame` protobuf messages to another Redis stream. It is synchronous from end to end:
//! threads joined by bounded lanes, no async runtime.
//!
//! Most users want the program; see `framepress --help`. A program that embeds the engine starts
//! with [`create_stream_processor`]; one that only sends frames starts with [`Producer`]:
//!
//! ```
//! use framepress::camera::Outbound;
//! use framepress::config::{Config, RedisUrl};
//! use framepress::image::{Format, Source};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = Config::builtin();
//! // A private redis-server, for as long as the processor lives.
//! config.redis_queue.url = RedisUrl::parse("embedded://")?;
//! let processor = framepress::create_stream_processor(&config)?;
//!
//! let gray = vec![128; 64 * 48];
//! let picture = Source { format: Format::Raw, width: 64, height: 48, channels: 1, layout: Default::default(), bytes: &gray };
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
//! # The house
//!
//! The modules ("rooms") are arranged in floors. A room uses only rooms on lower floors, never a
//! sibling. In reading order:
//!
//! | floor | room | what it is |
//! | --- | --- | --- |
//! | 0 | [`base`] | errors, the stop signal, thread creation, bounds |
//! | 1 | [`metrics`] | counters, latencies, conservation; the only reader of the clock |
//! | 2 | [`frame`] | what travels: entries, receipts, buffers, slots, lanes, planes |
//! | 3 | [`wire`] | the envelope: protobuf and legacy JSON |
//! | 3 | [`image`] | codecs and scaling; nearly all unsafe code |
//! | 3 | [`analysis`] | figures and the background model |
//! | 3 | [`redis`] | data plane, control plane, the commit script |
//! | 3 | [`ring`] | pixels in shared memory, bypassing Redis |
//! | 4 | [`stage`] | read, process, commit; housekeeping beside them |
//! | 4 | [`camera`] | sources of frames, and the producer |
//! | 4 | [`config`] | configuration as typed and as valid |
//! | 5 | [`engine`] | pools, lanes, threads: the wiring |
//! | 5 | `bridge` | messages between Kafka and Redis, with the feature `kafka` |
//! | 5 | [`ingest`] | live cameras, kept alive, into the input stream |
//! | 6 | [`processor`] | the engine as a library |
//! | 6 | [`http`] | the statistics server |
//! | 7 | [`cli`] | one file per subcommand |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod base;
pub mod metrics;

pub mod frame;

pub mod analysis;
pub mod image;
pub mod redis;
pub mod ring;
pub mod wire;

pub mod camera;
pub mod config;
pub mod stage;

#[cfg(feature = "kafka")]
pub mod bridge;
pub mod engine;
pub mod ingest;

pub mod cli;
pub mod http;
pub mod processor;

pub use camera::Producer;
pub use processor::{StreamProcessor, create_stream_processor};
