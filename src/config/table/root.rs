//! The whole configuration.

use super::cameras::CameraList;
use super::{
    AnalysisConfig, CameraConfig, EngineConfig, IngestConfig, KafkaConfig, Key, LimitsConfig,
    LogConfig, RedisQueueConfig, RingConfig, StatsConfig,
};
use super::{FIRST, Section, section};
use crate::config::choice::RingReuse;

section! {
    /// The valid configuration: a plain tree of structs whose fields bear the names of the file's keys.
    /// A value from a [`Loader`](crate::config::Loader) obeys every rule. There is no `Default`: the
    /// built-in values are [`Config::builtin`].
    Config in "" {
        /// Single cameras: what `ingest` reads, and what the engine does differently for them.
        cameras: Vec<CameraConfig> = Vec::new() => CameraList, reload: yes, since: FIRST;
    }
    sections {
        /// Redis, the streams, and the compression of what goes into them.
        redis_queue: RedisQueueConfig;
        /// Threads, order and re-encoding.
        engine: EngineConfig;
        /// Sizes above which a frame is refused.
        limits: LimitsConfig;
        /// The figures of a frame, and extra images.
        analysis: AnalysisConfig;
        /// Frames whose pixels lie in shared memory.
        ring: RingConfig;
        /// The HTTP server.
        stats: StatsConfig;
        /// Log lines.
        log: LogConfig;
        /// How `ingest` reads cameras.
        ingest: IngestConfig;
        /// The system before, for `bridge`.
        kafka: KafkaConfig;
    }
    beside {}
}

impl Config {
    /// The configuration of a program that was told nothing.
    pub fn builtin() -> Config {
        <Config as Section>::builtin()
    }

    /// Every key there is, section by section; then `cameras` and the keys of one camera.
    pub fn keys() -> Vec<Key> {
        let mut keys = Vec::new();
        <Config as Section>::keys(&mut keys);
        keys.sort_by_key(|key| key.section.is_empty());
        CameraConfig::keys(&mut keys);
        keys
    }

    /// Whether a camera has a frame ring whose slots wait for their frames to end.
    pub fn has_lossless_ring(&self) -> bool {
        let feeds = self.cameras.iter().map(|camera| &camera.feed).chain([&self.ingest.defaults]);
        feeds.into_iter().any(|feed| feed.ring > 0 && feed.ring_reuse == RingReuse::Lossless)
    }
}
