//! Sends frames to an input stream as `ProcessedFrame` messages of stage INGESTION.

use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

use crate::base::{Fault, Stop, limits};
use crate::frame::{EntryId, Pool};
use crate::image::{Matrix, PixelLayout, Range, Source as Picture};
use crate::metrics::{Counter, Metrics};
use crate::redis::{Feeds, Lookout, Topology};
use crate::wire::Composer;
use crate::wire::proto::ProcessingStage;

/// Buffer budget of a producer: it holds one frame at a time.
const POOL_BYTES: usize = 256 << 20;

/// Refusals that waiting may mend.
const PASSING: [&str; 8] =
    ["OOM", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"];

/// Where and how a [`Producer`] sends.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Where Redis is.
    pub topology: Topology,
    /// The streams of all shards; a camera always sends to the same one.
    pub streams: Vec<String>,
    /// Approximate length limit of each stream; 0 for none.
    pub length_max: u64,
    /// Replicas that are to have a frame before [`Producer::send`] returns, as far as they confirm
    /// it within a second; 0 does not wait.
    pub wait_replicas: u32,
    /// Longest wait for Redis.
    pub timeout: Duration,
    /// Whether to wait for a server that is away; otherwise its loss is an error.
    pub retry: bool,
}

/// One frame to send.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// Its name; unique per camera.
    pub frame_id: &'a str,
    /// The camera.
    pub camera_id: &'a str,
    /// Capture time in seconds since the Unix epoch.
    pub timestamp: f64,
    /// The picture; for coded pictures the size may be 0 if it is not known.
    pub picture: Picture<'a>,
    /// Quality the picture was coded with; 0 if not known.
    pub quality: i32,
}

/// A connection that sends frames.
#[derive(Debug)]
pub struct Producer {
    options: ProducerOptions,
    feeds: Feeds,
    _lookout: Option<Lookout>,
    composer: Composer,
    pool: Pool,
    metrics: Arc<Metrics>,
    stop: Stop,
    pause: Duration,
}

impl Producer {
    /// Connects.
    ///
    /// # Errors
    /// [`Fault::Connection`] or [`Fault::Refused`] when the server does not let us in, unless
    /// `retry` is set and it is merely away; [`Fault::Io`] when no thread can be started.
    pub fn connect(options: ProducerOptions, stop: &Stop) -> Result<Producer, Fault> {
        let metrics = Metrics::new();
        let ProducerOptions { topology, timeout, wait_replicas, .. } = &options;
        let feeds = Feeds::new(topology, *timeout, *wait_replicas, &metrics, stop);
        let lookout = Lookout::start(topology, stop)?;
        let mut producer = Producer {
            options,
            feeds,
            _lookout: lookout,
            composer: Composer::default(),
            pool: Pool::new(POOL_BYTES),
            metrics,
            stop: stop.clone(),
            pause: limits::BACKOFF_FIRST,
        };
        // What is sent first should not have to wait for a connection, nor be the first to fail.
        while let Err(fault) = producer.feeds.connect(&producer.options.streams) {
            producer.after(fault)?;
        }
        Ok(producer)
    }

    /// Sends one frame and returns its entry. After a lost connection it is sent again, so a frame
    /// may be in the stream twice.
    ///
    /// # Errors
    /// The server's refusal; with `retry` off, also a lost connection.
    pub fn send(&mut self, frame: &Outbound<'_>) -> Result<EntryId, Fault> {
        let Outbound { frame_id, camera_id, timestamp, picture, quality } = *frame;
        let message = &mut self.composer.message;
        replace(&mut message.frame_id, frame_id);
        replace(&mut message.camera_id, camera_id);
        replace(&mut message.version, "1.0");
        message.timestamp = timestamp;
        message.processing_stage = ProcessingStage::Ingestion.into();
        let about = &mut self.composer.original;
        let layout = picture.layout;
        let name = layout.pixels.map_or(picture.format.name(), PixelLayout::name);
        replace(&mut about.compression_format, name);
        about.row_stride = side(layout.row_stride);
        replace(&mut about.color_range, layout.range.map_or("", Range::name));
        let matrix = if layout.matrix == Matrix::Bt601 { "" } else { layout.matrix.name() };
        replace(&mut about.color_matrix, matrix);
        about.width = side(picture.width);
        about.height = side(picture.height);
        about.channels = side(picture.channels);
        about.quality = quality;
        let draft = self.composer.draft(picture.bytes, None, None, 0, &self.pool);
        let payload = self.composer.finish(draft, &self.pool);

        let stream = shard_of(camera_id, self.options.streams.len());
        let stamp = timestamp.to_string();
        let beside = [
            ("frame_id", frame_id.as_bytes()),
            ("camera_id", camera_id.as_bytes()),
            ("timestamp", stamp.as_bytes()),
        ];
        loop {
            let stream = &self.options.streams[stream];
            match self.feeds.add(stream, &payload, &beside, self.options.length_max) {
                Ok(id) => {
                    self.pause = limits::BACKOFF_FIRST;
                    return Ok(id);
                }
                Err(fault) => self.after(fault)?,
            }
        }
    }

    /// Frames that fewer replicas than asked for have confirmed in time; see
    /// [`ProducerOptions::wait_replicas`].
    pub fn replica_acks_missing(&self) -> u64 {
        self.metrics.get(Counter::ReplicaAcksMissing)
    }

    /// Waits after a fault that waiting may mend; hands back all others.
    fn after(&mut self, fault: Fault) -> Result<(), Fault> {
        let passing = matches!(fault, Fault::Connection { .. })
            || matches!(fault.redis_code(), Some(code) if PASSING.contains(&code));
        if !self.options.retry || !passing || self.stop.is_draining() {
            return Err(fault);
        }
        tracing::warn!("{fault}; trying again in {:?}", self.pause);
        if self.stop.sleep(self.pause) {
            return Err(fault);
        }
        self.pause = (self.pause * 2).min(self.options.topology.pause_longest());
        Ok(())
    }
}

/// Which of `shards` streams a camera sends to: XXH3-64 of its id, modulo their number.
pub fn shard_of(camera_id: &str, shards: usize) -> usize {
    let hash = XxHash3_64::oneshot(camera_id.as_bytes());
    usize::try_from(hash % shards.max(1) as u64).unwrap_or(0)
}

fn replace(text: &mut String, with: &str) {
    text.clear();
    text.push_str(with);
}

fn side(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
