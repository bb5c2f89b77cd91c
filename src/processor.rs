//! Floor 6: the engine as a library, for programs that embed it.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::base::{Fault, Stop};
use crate::camera::{Full, Outbound, Producer, ProducerOptions, RingUse};
use crate::config::{CameraConfig, Config, Scheme};
use crate::engine::{self, Engine, EngineView, Hooks};
use crate::frame::EntryId;
use crate::metrics::{Conservation, Timer};
use crate::redis::Topology;
use crate::stage::process::CameraStatus;
use crate::stage::watch::Queues;

/// Starts an engine as configured, in threads of this process, and connects a producer to it.
///
/// The sections `stats`, `log`, `ingest` and `kafka` are for the program and have no effect here. Log
/// lines are events of the crate `tracing`. `embedded://` needs the program `redis-server`.
///
/// # Errors
/// [`Fault::Unusable`] for an invalid configuration, and for a processor without the instructions
/// that the codecs need. [`Fault::Connection`] or [`Fault::Refused`] if the server cannot be used; with
/// `redis_queue.retry_on_failure` an unreachable server is waited for. [`Fault::Io`] if the system
/// refuses threads.
pub fn create_stream_processor(config: &Config) -> Result<StreamProcessor, Fault> {
    config.check().map_err(|error| Fault::Unusable(error.to_string()))?;
    let engine = Engine::start(config, Hooks::default(), Stop::default())?;
    let view = engine.view().clone();
    let producer = producer(config, view.topology.clone(), Full::Block, None, engine.stop())?;
    Ok(StreamProcessor { engine, view, producer: Mutex::new(producer) })
}

/// Connects a producer to the input streams of a running engine with the same configuration.
///
/// `ring` sends the pixels through shared memory on the engine's machine. Once `stop` drains, the
/// producer sends nothing again, so a wait ends when an answer or its time-out comes; see [`Stop`].
///
/// # Errors
/// [`Fault::Unusable`] for an invalid configuration, and for `embedded://`, because the server would
/// end with this function. [`Fault::Connection`] or [`Fault::Refused`] if the server cannot be
/// reached or rejects the login; with `retry_on_failure`, an unreachable server is not an error.
/// [`Fault::Io`] if no thread can be started or the ring cannot be made.
pub fn create_producer(
    config: &Config,
    full: Full,
    ring: Option<RingUse>,
    stop: &Stop,
) -> Result<Producer, Fault> {
    config.check().map_err(|error| Fault::Unusable(error.to_string()))?;
    if config.redis_queue.url.scheme() == Scheme::Embedded {
        let why =
            "a producer cannot share the server of embedded://; use that of a StreamProcessor";
        return Err(Fault::Unusable(why.into()));
    }
    let (topology, _) = engine::find_server(&config.redis_queue, stop)?;
    producer(config, topology, full, ring, stop)
}

fn producer(
    config: &Config,
    topology: Topology,
    full: Full,
    ring: Option<RingUse>,
    stop: &Stop,
) -> Result<Producer, Fault> {
    let queue = &config.redis_queue;
    let options = ProducerOptions {
        topology,
        streams: engine::input_streams(config),
        length_max: 0,
        wait_replicas: queue.wait_replicas,
        timeout: Duration::from_secs(queue.timeout),
        retry: queue.retry_on_failure,
        full,
        ring,
    };
    Producer::connect(options, stop)
}

/// A running engine and a producer for its input.
///
/// A drop without [`StreamProcessor::stop`] ends the engine at once; frames that are not committed
/// then stay pending in Redis for the next engine.
#[derive(Debug)]
pub struct StreamProcessor {
    engine: Engine,
    view: EngineView,
    producer: Mutex<Producer>,
}

/// Statistics of an engine. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ProcessingStats {
    /// Results stored.
    pub frames_processed: u64,
    /// Frames rejected, with or without a dead letter.
    pub frames_rejected: u64,
    /// Mean time from reading a frame until its result is ready.
    pub avg_processing_time: f64,
    /// Results per second over the last ten seconds.
    pub throughput_fps: f64,
    /// Median time from adding the entry to storing its result.
    pub latency_ms_p50: f64,
    /// 99th percentile of that time.
    pub latency_ms_p99: f64,
    /// Account of every frame read.
    pub conservation: Conservation,
}

/// State of an engine and its queues.
#[derive(Clone, Debug)]
pub struct QueueHealth {
    /// Whether every part of the engine works.
    pub ready: bool,
    /// The reason, if not ready.
    pub reason: Option<String>,
    /// Depths, lags and rates, as of the last look; the engine looks every second.
    pub queues: Queues,
}

impl StreamProcessor {
    /// Adds a frame to the input stream and waits for the server's answer. Callers in several threads
    /// wait for each other. [`create_producer`] makes a producer for each, unless the server is that of
    /// `embedded://`.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn enqueue_frame_for_processing(&self, frame: &Outbound<'_>) -> Result<EntryId, Fault> {
        self.producer.lock().send(frame)
    }

    /// The statistics so far.
    pub fn get_processing_stats(&self) -> ProcessingStats {
        let metrics = &self.view.metrics;
        let conservation = metrics.ledger.read();
        let latency = metrics.distribution(Timer::EndToEnd);
        ProcessingStats {
            frames_processed: conservation.out,
            frames_rejected: conservation.rejected + conservation.dead_lettered,
            avg_processing_time: metrics.distribution(Timer::Processing).mean_ms(),
            throughput_fps: self.view.queues.lock().rates.out,
            latency_ms_p50: latency.quantile_ms(0.5),
            latency_ms_p99: latency.quantile_ms(0.99),
            conservation,
        }
    }

    /// State of the queues, and whether the engine is ready.
    pub fn get_queue_health(&self) -> QueueHealth {
        let reason = self.view.metrics.health.unready();
        QueueHealth { ready: reason.is_none(), reason, queues: *self.view.queues.lock() }
    }

    /// Configures a camera from its next frame on: its `roi_boxes` and `quality_threshold`. Parts of a
    /// box outside the picture are cut off.
    pub fn register_stream(&self, camera: &CameraConfig) {
        let (id, settings) = engine::camera_settings(camera);
        self.view.cameras.configure(&id, settings);
    }

    /// The figures of a camera; `None` if it has sent no frame, or if it made room for another camera
    /// since: the engine keeps `engine.max_concurrent_streams` of them.
    pub fn get_stream_status(&self, camera_id: &str) -> Option<CameraStatus> {
        self.view.cameras.status(camera_id)
    }

    /// The server, without credentials: `host:port`, or the path of a socket, as of `embedded://`.
    pub fn server(&self) -> String {
        self.view.topology.to_string()
    }

    /// The signal that ends the engine. Its producer has the same one; see [`Stop`].
    pub fn stop_signal(&self) -> &Stop {
        self.engine.stop()
    }

    /// Completes the frames in flight, for at most `engine.drain_timeout_ms`, and ends. What is not
    /// committed by then stays pending in Redis.
    ///
    /// # Errors
    /// If the engine ended before by itself, the fault that explains it best.
    pub fn stop(self) -> Result<(), Fault> {
        self.engine.stop().drain();
        self.engine.wait()
    }
}
