//! The configuration of an engine, its producers and the program.
//!
//! A [`Loader`] lays four layers over each other: built-in defaults, a YAML or JSON file, the
//! environment, and flags. The result is a valid [`Config`], or a [`ConfigError`] with every fault at
//! once. A configuration is a plain tree of values: nothing here opens a connection, resolves `auto`,
//! or looks at the machine. A program may also begin with [`Config::builtin`] and set fields;
//! [`Config::check`] holds the result to the same rules.
//!
//! A flag is a key as in a file, with the value as text; lists and mappings are written as JSON:
//!
//! ```
//! let config = framepress::config::Loader::new()
//!     .flag("redis_queue.url", "redis://127.0.0.1:6379/0")
//!     .flag("engine.workers", "2")
//!     .load()?
//!     .config;
//! assert_eq!(config.redis_queue.input_queue, "camera_frames");
//! # Ok::<(), framepress::config::ConfigError>(())
//! ```
//!
//! The environment variable of `engine.workers` is `ENGINE__WORKERS`, and that of
//! `redis_queue.tls.ca` is `REDIS_QUEUE__TLS__CA`; their values are written like those of flags. An
//! unknown key is a fault, and so is a file that cannot be read. docs/configuration.md in the repository lists every key with its default, its valid values and its unit.

mod check;
mod choice;
mod fault;
mod file;
mod given;
mod kafka_keys;
mod kind;
mod layers;
mod legacy;
mod live;
mod loader;
mod migrate;
mod near;
mod reader;
mod render;
mod secret;
mod table;
#[cfg(test)]
mod tests;
mod url;
mod valid;
mod yaml;

pub use crate::redis::{Delivery, Retention};
// Floor 4. Reading order: `table` (every key, once) and `kind` (how values are read and written),
// `layers`, `file` and `yaml` (as typed), `reader`, `given` and `valid` (key by key), `check` (rules
// over several keys), `render` (back to text).

pub(crate) use check::connections_beside;
pub use choice::{
    Assignment, Begin, BelowThreshold, Choice, CompressionFormat, Count, DamagedImages, FeedFormat,
    Hwaccel, JpegHuffman, KafkaProtocol, LogFormat, LogLevel, Ordering, OrientationChoice,
    OutputFull, Pin, PngLevelChoice, Reencode, ResultFormat, ResultImage, RingReuse, RtspTransport,
    SaslMechanism, WebpMethod,
};
pub use fault::{ConfigError, FaultLine, Origin};
#[cfg(feature = "kafka")]
pub(crate) use kind::is_secret_property;
pub use kind::{InputArg, RoiBox};
pub use live::Changes;
pub use loader::{Loaded, Loader};
pub use migrate::{Migrated, migrate};
pub use secret::Secret;
#[cfg(feature = "program")]
pub(crate) use secret::names_a_secret;
pub use table::{
    AnalysisConfig, CameraConfig, Config, EngineConfig, FeedConfig, IngestConfig,
    IngestStatsConfig, KafkaConfig, KafkaStatsConfig, Key, LimitsConfig, LogConfig,
    RedisQueueConfig, RingConfig, StatsConfig, TlsConfig,
};
pub use url::{HostPort, RedisUrl, Scheme};
