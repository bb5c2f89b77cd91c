//! Floor 4: configuration, as typed and as valid.
//!
//! A [`Loader`] lays four layers over each other: built-in defaults, a YAML or JSON file, the
//! environment, command-line flags. What was typed stays apart, with its origin, until all of it
//! has been read; then either there is a valid [`Config`], or a [`ConfigError`] with every fault
//! at once. A valid configuration is a plain tree of values: nothing here opens a connection,
//! resolves `auto`, or looks at the machine.
//!
//! Reading order: `table` (every key, once) and `kind` (how values are read and written), `layers`,
//! `file` and `yaml` (as typed), `reader`, `given` and `valid` (key by key), `check` (rules over
//! several keys), `render` (back to text).

mod check;
mod choice;
mod fault;
mod file;
mod given;
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
pub use check::connections_beside;
pub use choice::{
    Assignment, Begin, BelowThreshold, Choice, CompressionFormat, Count, DamagedImages, FeedFormat,
    Hwaccel, JpegHuffman, KafkaProtocol, LogFormat, LogLevel, Ordering, OrientationChoice,
    OutputFull, Pin, PngLevelChoice, Reencode, ResultFormat, ResultImage, RingReuse, SaslMechanism,
    Transport, WebpMethod,
};
pub use fault::{ConfigError, FaultLine, Origin};
pub use kind::{InputArg, RoiBox, is_secret_property};
pub use live::Changes;
pub use loader::{Loaded, Loader};
pub use migrate::{Migrated, migrate};
pub use secret::{Secret, names_a_secret};
pub use table::{
    AnalysisConfig, CameraConfig, Config, EngineConfig, FeedConfig, IngestConfig,
    IngestStatsConfig, KafkaConfig, KafkaStatsConfig, Key, LimitsConfig, LogConfig,
    RedisQueueConfig, RingConfig, StatsConfig, TlsConfig,
};
pub use url::{HostPort, RedisUrl, Scheme};
