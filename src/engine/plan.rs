//! Derives the settings of each stage from a valid configuration and resolves every `auto`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Hooks;
use crate::analysis::RegionBox;
use crate::base::{limits, threads};
use crate::config::{
    BelowThreshold, CompressionFormat, Config, DamagedImages, JpegHuffman, Ordering,
    OrientationChoice, OutputFull, Pin, PngLevelChoice, Reencode, Retention, WebpMethod,
    connections_beside,
};
use crate::image::{Format, Huffman, PngLevel, Target, Treatment};
use crate::metrics::clock::unix_nanos;
use crate::redis::status_key;
use crate::redis::{self, LeaseTerms, SourceOptions, Streams, Topology};
use crate::stage::commit::CommitSettings;
use crate::stage::feeds::Feeds;
use crate::stage::keeper::{KeeperSettings, member_name};
use crate::stage::process::{
    AnalysisSettings, CameraSettings, CommitRoutes, LiveSettings, ProcessSettings, Recoding,
};
use crate::stage::read::ReadSettings;
use crate::stage::watch::WatchSettings;
use crate::wire;

/// Everything an engine is built from.
#[derive(Debug)]
pub struct Plan {
    /// The Redis topology.
    pub topology: Topology,
    /// The streams of each shard that this engine reads.
    pub streams: Vec<Streams>,
    /// The consumer group.
    pub group: String,
    /// Settings of each reader.
    pub read: Vec<ReadSettings>,
    /// Settings of dispatchers and their jobs.
    pub process: ProcessSettings,
    /// Settings of every committer.
    pub commit: CommitSettings,
    /// Settings of the watcher.
    pub watch: WatchSettings,
    /// Settings of the lease keeper and terms of the leases, if streams are exclusive.
    pub lease: Option<(KeeperSettings, LeaseTerms)>,
    /// Number of worker threads.
    pub workers: usize,
    /// Number of committer threads.
    pub committers: usize,
    /// Routes of frames from shards to committers.
    pub routes: CommitRoutes,
    /// Per dispatcher: maximum frames between dispatch and the end of their commit.
    pub slots: usize,
    /// Maximum bytes in flight.
    pub inflight_bytes_max: usize,
    /// Maximum connections this process may open.
    pub connections_max: usize,
    /// Maximum drain time.
    pub drain_timeout: Duration,
    /// Longest wait for Redis.
    pub timeout: Duration,
    /// Whether to wait for Redis while it is unreachable.
    pub retry: bool,
    /// Maximum length of an output stream, in entries.
    pub queue_length_max: u64,
    /// Pinning of threads to cores.
    pub cores: Cores,
    /// Whether output pictures are compressed.
    pub compression: bool,
}

/// Core of each thread; `None` leaves the choice to the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cores {
    /// Per reader.
    pub readers: Vec<Option<usize>>,
    /// Per dispatcher.
    pub dispatchers: Vec<Option<usize>>,
    /// Per worker.
    pub workers: Vec<Option<usize>>,
    /// Per committer.
    pub committers: Vec<Option<usize>>,
}

impl Plan {
    /// Resolves everything the configuration leaves open.
    pub fn new(config: &Config, topology: &Topology, hooks: &Hooks) -> Plan {
        let queue = &config.redis_queue;
        let mut streams = streams(&queue.input_queue, &queue.output_queue, queue.shards);
        if let Some(subset) = &queue.shard_subset {
            streams = subset.iter().filter_map(|&shard| streams.get(shard).cloned()).collect();
        }
        let timeout = Duration::from_secs(queue.timeout);
        let workers = config.engine.workers.or(threads::parallelism());
        // Every stream needs a reader, and exactly one if order matters. The configuration rules
        // allow more readers only if it does not.
        let readers = config.engine.readers.or(streams.len()).max(streams.len());
        // Each shard of a Cluster has its own dispatcher, so that a silent node delays only its own
        // shards.
        let pipelines = if topology.is_cluster() { streams.len() } else { 1 };
        let committers = committers(config, workers, readers, pipelines);
        let slots = (workers * limits::SLOTS_PER_WORKER).max(limits::SLOTS_MIN);
        let claim_idle = Duration::from_millis(queue.claim_idle_ms);
        let consumer = queue.consumer_name.clone().unwrap_or_else(host_name);

        let read = (0..readers)
            .map(|index| (index, index % streams.len()))
            .map(|(index, shard)| ReadSettings {
                index,
                topology: topology.clone(),
                source: Arc::new(SourceOptions {
                    stream: streams[shard].input.clone(),
                    shard,
                    reader: index / streams.len(),
                    group: queue.consumer_group.clone(),
                    consumer: consumer_of(&consumer, index),
                    block: Duration::from_millis(queue.block_time_ms),
                    timeout,
                    payload_bytes_max: config.limits.max_payload_bytes as u64,
                    locate_picture: wire::locate_picture,
                }),
                batch_size: queue.batch_size,
                inflight_bytes_max: config.engine.max_inflight_bytes,
                claim_idle,
                ring_folder: config.ring.folder(),
                retry: queue.retry_on_failure,
                loop_hook: hooks.loop_hook.clone(),
            })
            .collect();
        let commit_plan = Arc::new(redis::CommitPlan {
            streams: streams.clone(),
            group: queue.consumer_group.clone(),
            output_length_max: match queue.output_full {
                OutputFull::TrimOldest => queue.max_queue_length,
                OutputFull::Block => 0,
            },
            output_full_at: match queue.output_full {
                OutputFull::TrimOldest => 0,
                OutputFull::Block => queue.max_queue_length,
            },
            dead_letter_length_max: queue.dead_letter_max_length,
            delivery: queue.delivery,
            retention: queue.retention,
            wait_replicas: queue.wait_replicas,
        });
        let commit = CommitSettings {
            topology: topology.clone(),
            plan: commit_plan,
            timeout,
            window_frames_min: slots,
            // The other half is for frames that are read ahead.
            window_bytes_max: config.engine.max_inflight_bytes / 2,
            dead_letters: queue.dead_letter_queue,
            retry: queue.retry_on_failure,
            loop_hook: hooks.loop_hook.clone(),
        };
        let watch = WatchSettings {
            topology: topology.clone(),
            streams: streams.clone(),
            group: queue.consumer_group.clone(),
            timeout,
            trim_acked: queue.retention == Retention::TrimAcked,
            consumers: (0..streams.len()).map(|shard| consumer_of(&consumer, shard)).collect(),
            claim_idle,
            is_exclusive: queue.is_exclusive(),
            feeds: Arc::new(Feeds::new(status_key(&queue.input_queue), with_source(config))),
            loop_hook: hooks.loop_hook.clone(),
        };
        let lease = queue.is_exclusive().then(|| leases(config, topology, &consumer, hooks));
        Plan {
            topology: topology.clone(),
            streams,
            group: queue.consumer_group.clone(),
            read,
            process: process(config, hooks),
            commit,
            watch,
            lease,
            workers,
            committers,
            routes: CommitRoutes { pipelines, lanes: committers },
            slots,
            inflight_bytes_max: config.engine.max_inflight_bytes,
            connections_max: queue.pool_size,
            drain_timeout: Duration::from_millis(config.engine.drain_timeout_ms),
            timeout,
            retry: queue.retry_on_failure,
            queue_length_max: queue.max_queue_length,
            cores: cores(
                &config.engine.pin,
                &threads::allowed_cores(),
                threads::parallelism(),
                [readers, pipelines, workers, committers],
            ),
            compression: queue.enable_compression,
        }
    }

    /// Capacity of the lane to a committer, in frames: every slot that leads to it.
    pub fn commit_room(&self, lane: usize) -> usize {
        self.slots * self.routes.pipelines_into(lane)
    }

    /// The settings that a running engine of this plan adopts from another configuration. Settings
    /// that decide a frame's route stay as planned: without the gate built for it, analysis would
    /// judge the frames of a camera in any order.
    pub(super) fn live(&self, config: &Config) -> LiveSettings {
        let planned = &self.process.live;
        let mut live = live_settings(config);
        live.target.format = planned.target.format;
        live.analysis = planned.analysis.is_some().then(|| analysis_settings(config));
        live
    }
}

fn process(config: &Config, hooks: &Hooks) -> ProcessSettings {
    let keep_order = config.engine.ordering == Ordering::PerCamera;
    ProcessSettings {
        live: live_settings(config),
        pixels_max: config.limits.max_pixels,
        payload_bytes_max: config.limits.max_payload_bytes,
        keep_order,
        gated: keep_order || config.analysis.enabled,
        cameras_max: config.engine.max_concurrent_streams,
        cameras: all_camera_settings(config),
        probe: hooks.probe.clone(),
        loop_hook: hooks.loop_hook.clone(),
    }
}

/// The cameras that `ingest` reads.
pub(super) fn with_source(config: &Config) -> Vec<String> {
    let cameras = config.cameras.iter().filter(|camera| camera.has_source());
    cameras.map(|camera| camera.id.clone()).collect()
}

/// Settings of single cameras, by id.
pub(super) fn all_camera_settings(config: &Config) -> HashMap<String, CameraSettings> {
    config.cameras.iter().map(camera_settings).collect()
}

/// Settings of the analysis.
fn analysis_settings(config: &Config) -> AnalysisSettings {
    let analysis = &config.analysis;
    AnalysisSettings {
        #[allow(clippy::cast_possible_truncation)] // a score; single precision is its type
        quality_threshold: analysis.quality_threshold as f32,
        drop_below_threshold: analysis.below_threshold == BelowThreshold::Drop,
    }
}

/// The settings that may change at run time, as in `config`.
fn live_settings(config: &Config) -> LiveSettings {
    let queue = &config.redis_queue;
    let format = match (queue.enable_compression, queue.compression_format) {
        (false, _) => Format::Raw,
        (true, CompressionFormat::Jpeg) => Format::Jpeg,
        (true, CompressionFormat::Png) => Format::Png,
        (true, CompressionFormat::Webp) => Format::Webp,
    };
    let analysis = &config.analysis;
    LiveSettings {
        target: Target {
            format,
            quality: queue.compression_quality,
            webp_method: queue.webp_method.or(2),
        },
        is_webp_open: queue.webp_method == WebpMethod::Auto,
        png_level: match queue.png_level {
            PngLevelChoice::Fast => Some(PngLevel::Fast),
            PngLevelChoice::Balanced => Some(PngLevel::Balanced),
            PngLevelChoice::High => Some(PngLevel::High),
            PngLevelChoice::Auto => None,
        },
        latency_target: Duration::from_millis(config.engine.latency_target_ms),
        huffman: match queue.jpeg_huffman {
            JpegHuffman::Adaptive => Huffman::Adaptive,
            JpegHuffman::Standard => Huffman::Standard,
            JpegHuffman::Optimised => Huffman::Optimised,
        },
        recoding: match config.engine.reencode {
            Reencode::Always => Recoding::Always,
            Reencode::WhenSmaller => Recoding::WhenSmaller,
            Reencode::Lossless => Recoding::Lossless,
        },
        treatment: Treatment {
            accept_damaged: config.limits.damaged_images == DamagedImages::Accept,
            rotate_upright: config.engine.orientation == OrientationChoice::Apply,
        },
        analysis: analysis.enabled.then(|| analysis_settings(config)),
        ml_image: analysis.ml_image,
        thumbnail: analysis.thumbnail,
        deliveries_max: queue.retry_attempts,
        frame_age_max: (queue.max_frame_age_ms > 0)
            .then(|| Duration::from_millis(queue.max_frame_age_ms)),
    }
}

/// The camera's id, and the settings that the processing stage needs.
pub fn camera_settings(camera: &crate::config::CameraConfig) -> (String, CameraSettings) {
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let regions = camera.roi_boxes.iter().map(|roi| {
        let region = RegionBox {
            x: number(roi.x),
            y: number(roi.y),
            width: number(roi.width),
            height: number(roi.height),
        };
        (roi.label.clone(), region)
    });
    #[allow(clippy::cast_possible_truncation)] // as above
    let quality_threshold = camera.quality_threshold.map(|threshold| threshold as f32);
    (camera.id.clone(), CameraSettings { regions: regions.collect(), quality_threshold })
}

/// Settings of the lease keeper and terms of the leases. The key of a lease is in the hash slot of
/// its shard, and the keys of the list of engines in that of the first shard. Every consumer group
/// other than the built-in one has separate keys.
fn leases(
    config: &Config,
    topology: &Topology,
    consumer: &str,
    hooks: &Hooks,
) -> (KeeperSettings, LeaseTerms) {
    let queue = &config.redis_queue;
    let (inputs, group) = (input_streams(config), &queue.consumer_group);
    let unique = format!("{:x}-{:x}", unix_nanos(), std::process::id());
    let settings = KeeperSettings {
        topology: topology.clone(),
        engines: redis::engines_keys(&inputs[0], group),
        keys: inputs.iter().map(|input| redis::lease_key(input, group)).collect(),
        own: queue.shard_subset.clone().unwrap_or_else(|| (0..queue.shards).collect()),
        retry: queue.retry_on_failure,
        loop_hook: hooks.loop_hook.clone(),
    };
    let terms = LeaseTerms {
        group: queue.consumer_group.clone(),
        holder: member_name(consumer, &unique, queue.shard_subset.as_deref()),
        length: Duration::from_millis(queue.lease_ms),
    };
    (settings, terms)
}

/// Consumer name of a reader. The first reader of a shard has the shard's number.
fn consumer_of(name: &str, reader: usize) -> String {
    format!("{name}-{reader}")
}

/// Input streams of all shards in a configuration, in order: where producers send, whether or not
/// this engine reads them.
pub fn input_streams(config: &Config) -> Vec<String> {
    all_streams(config).into_iter().map(|streams| streams.input).collect()
}

/// The streams of all shards in a configuration.
pub fn all_streams(config: &Config) -> Vec<Streams> {
    let queue = &config.redis_queue;
    streams(&queue.input_queue, &queue.output_queue, queue.shards)
}

/// Names of all streams. With one shard they are as configured. With more, each carries its number
/// as a hash tag, so that all streams of a shard are in one hash slot.
fn streams(input: &str, output: &str, shards: usize) -> Vec<Streams> {
    if shards == 1 {
        return vec![Streams::new(input, output)];
    }
    (0..shards)
        .map(|shard| Streams::new(format!("{input}:{{{shard}}}"), format!("{output}:{{{shard}}}")))
        .collect()
}

/// Assigns threads to cores. With `auto` and fewer cores than threads, or a CPU quota below that,
/// no thread is pinned: it would wait for other work on its core while another core is idle.
fn cores(pin: &Pin, allowed: &[usize], at_once: usize, counts: [usize; 4]) -> Cores {
    let [readers, dispatchers, workers, committers] = counts;
    let list = match pin {
        Pin::Auto if allowed.len().min(at_once) >= counts.iter().sum() => allowed,
        Pin::Auto | Pin::Off => return Cores::default(),
        Pin::Cores(list) => list,
    };
    let mut next = list.iter().copied().cycle().map(Some);
    let mut take = |count: usize| next.by_ref().take(count).collect::<Vec<_>>();
    Cores {
        readers: take(readers),
        dispatchers: take(dispatchers),
        workers: take(workers),
        committers: take(committers),
    }
}

/// Number of committers. One committer serves several workers, because it mostly waits. Each
/// dispatcher has at least one committer of its own, whatever is configured, as far as the
/// connections suffice.
fn committers(config: &Config, workers: usize, readers: usize, pipelines: usize) -> usize {
    let wanted = config.engine.committers.or(workers.div_ceil(8));
    let beside = connections_beside(&config.redis_queue);
    let room = config.redis_queue.pool_size.saturating_sub(readers + beside);
    let committers = wanted.max(pipelines.min(room));
    if committers < pipelines {
        tracing::warn!(
            "{pipelines} shards share {committers} committers, so a node that does not answer can \
             delay shards of other nodes; set redis_queue.pool_size to {}",
            readers + pipelines + beside
        );
    }
    committers
}

/// The name of this machine: a stable consumer name, so that a restarted engine finds its own
/// pending entries.
fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "framepress".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Count;
    use crate::redis::Address;
    use crate::wire::proto::{ImageData, ProcessedFrame};
    use prost::Message;

    #[test]
    fn readers_find_the_picture_of_a_frame() {
        let image = ImageData { compressed_data: vec![7; 1000], ..Default::default() };
        let frame = ProcessedFrame { original_image: Some(image), ..Default::default() };
        let data = frame.encode_to_vec();
        let topology = Topology::from(Address::parse("redis://127.0.0.1:6379").unwrap());
        let plan = Plan::new(&Config::builtin(), &topology, &Hooks::default());
        let place = (plan.read[0].source.locate_picture)(&data[..20], data.len()).unwrap();
        assert_eq!(data[place], [7; 1000]);
    }

    #[test]
    fn one_shard_keeps_its_names_and_several_carry_hash_tags() {
        assert_eq!(streams("in", "out", 1), [Streams::new("in", "out")]);
        let two = streams("in", "out", 2);
        assert_eq!(two[1].all(), ["in:{1}", "out:{1}", "in:{1}:dlq"]);
    }

    #[test]
    fn every_shard_of_a_cluster_has_a_committer_as_far_as_connections_reach() {
        let mut config = Config::builtin();
        assert_eq!(committers(&config, 2, 4, 1), 1, "one server has all shards");
        assert_eq!(committers(&config, 2, 4, 4), 4);
        config.engine.committers = Count::Fixed(6);
        assert_eq!(committers(&config, 2, 4, 4), 6);
        config.engine.committers = Count::Fixed(1);
        assert_eq!(committers(&config, 2, 4, 4), 4);
        config.redis_queue.pool_size = 4 + connections_beside(&config.redis_queue) + 3;
        assert_eq!(committers(&config, 2, 4, 4), 3);
    }

    #[test]
    fn auto_pins_nothing_without_a_core_for_each_thread() {
        assert_eq!(cores(&Pin::Auto, &[0, 1], 2, [1, 1, 2, 1]), Cores::default());
        let many: Vec<usize> = (0..64).collect();
        assert_eq!(cores(&Pin::Auto, &many, 4, [1, 1, 2, 1]), Cores::default(), "a quota");
        let listed = cores(&Pin::Cores(vec![2, 3]), &[2, 3], 2, [1, 1, 2, 1]);
        assert_eq!(listed.workers, [Some(2), Some(3)], "who lists cores means it");
        assert_eq!(cores(&Pin::Cores(Vec::new()), &[0], 1, [1, 1, 1, 1]), Cores::default());
    }

    #[test]
    fn enough_cores_give_each_thread_its_own() {
        let plan = cores(&Pin::Auto, &[4, 5, 6, 7, 8], 5, [1, 1, 2, 1]);
        let mut used = vec![plan.readers[0], plan.dispatchers[0], plan.committers[0]];
        used.extend(plan.workers);
        used.sort_unstable();
        assert_eq!(used, [Some(4), Some(5), Some(6), Some(7), Some(8)]);
        assert_eq!(cores(&Pin::Off, &[0, 1], 2, [1, 1, 1, 1]), Cores::default());
    }
}
