use super::*;
use crate::config::{
    CameraConfig, CompressionFormat, Count, Delivery, HostPort, InputArg, LogFormat, Ordering, Pin,
    Retention, RoiBox,
};

/// The keys and values that configuration files have relied on since the first release, and some of
/// those that came later.
const CONTRACT: &str = "
redis_queue:
  url: redis://localhost:6379/0
  pool_size: 20
  timeout: 30
  retry_on_failure: true
  input_queue: camera_frames
  output_queue: processed_frames
  consumer_group: stream_processor
  consumer_name: null
  max_queue_length: 10000
  output_full: trim_oldest
  batch_size: 20
  block_time_ms: 1000
  retry_attempts: 3
  dead_letter_queue: true
  dead_letter_max_length: 10000
  claim_idle_ms: 30000
  delivery: exactly_once
  retention: keep
  max_frame_age_ms: 0
  shards: 1
  shard_subset: null
  assignment: auto
  lease_ms: 2000
  wait_replicas: 0
  enable_compression: true
  compression_format: jpeg
  compression_quality: 85
  jpeg_huffman: adaptive
  webp_method: 2
  png_level: fast
  sentinel_service_name: null
  sentinel_nodes: []
  sentinel_username: null
  sentinel_password: null
  tls: {ca: null, cert: null, key: null, server_name: null}
engine:
  readers: auto
  workers: auto
  committers: auto
  pin: auto
  max_inflight_bytes: 268435456
  ordering: per_camera
  reencode: always
  orientation: apply
  drain_timeout_ms: 5000
  latency_target_ms: 100
  max_concurrent_streams: 1000
limits:
  max_payload_bytes: 67108864
  max_pixels: 33177600
  damaged_images: refuse
analysis:
  enabled: true
  quality_threshold: 0.0
  below_threshold: emit
  ml_image: false
  thumbnail: false
cameras: []
ring:
  dir: null
stats:
  addr: 127.0.0.1:8080
  token: null
  hosts: []
log: {level: info, format: text, summary_seconds: 60}
ingest:
  stats: {addr: 127.0.0.1:8081}
  defaults:
    fps: null
    size: null
    format: auto
    transport: tcp
    threads: 1
    hwaccel: null
    keyframes_only: false
    open_timeout_ms: 10000
    no_frame_ms: 10000
    same_frame_ms: 0
    backoff_ms: [500, 30000]
    ring: 0
    ring_reuse: freshest
    max_stream_bytes: 268435456
kafka:
  bootstrap_servers: []
  input_topic: camera_frames
  output_topic: processed_frames
  consumer_group: stream_processor
  bridge_group: framepress_bridge
  begin: group
  format: json
  image: none
  max_stream_length: 5000
  security_protocol: PLAINTEXT
  sasl_mechanism: PLAIN
  sasl_username: null
  sasl_password: null
  ssl_cafile: null
  ssl_certfile: null
  ssl_keyfile: null
  properties: {}
  stats: {kafka_to_redis: 127.0.0.1:8082, redis_to_kafka: 127.0.0.1:8083}
";

/// A file in which nothing is as built in.
const ALL_CHANGED: &str = "
redis_queue:
  url: rediss://redis.example:6380/3
  pool_size: 40
  timeout: 5
  retry_on_failure: false
  input_queue: in
  output_queue: out
  consumer_group: group
  consumer_name: box-7
  max_queue_length: 77
  output_full: block
  batch_size: 7
  block_time_ms: 250
  retry_attempts: 9
  dead_letter_queue: false
  dead_letter_max_length: 99
  claim_idle_ms: 4000
  delivery: at_least_once
  retention: trim_acked
  max_frame_age_ms: 800
  shards: 5
  shard_subset: [0, 1, 3, 4]
  assignment: shared
  lease_ms: 900
  wait_replicas: 2
  enable_compression: false
  compression_format: webp
  compression_quality: 60
  jpeg_huffman: standard
  webp_method: auto
  png_level: balanced
  sentinel_service_name: primary
  sentinel_nodes: [{host: s1, port: 26379}, {host: '::1', port: 26380}]
  sentinel_username: eye
  tls: {ca: /etc/ca.pem, cert: '/etc/my cert.pem', key: /etc/key.pem, server_name: r.example}
engine:
  readers: 4
  workers: 3
  committers: 2
  pin: [0, 3]
  max_inflight_bytes: 4096
  ordering: none
  reencode: when_smaller
  orientation: ignore
  drain_timeout_ms: 0
  latency_target_ms: 40
  max_concurrent_streams: 5
limits: {max_payload_bytes: 2048, max_pixels: 1024, damaged_images: accept}
analysis:
  enabled: false
  quality_threshold: 0.25
  below_threshold: drop
  ml_image: true
  thumbnail: true
ingest:
  stats: {addr: null}
  defaults:
    fps: 2.5
    size: 640x360
    format: webp
    transport: udp
    threads: 2
    hwaccel: vaapi
    keyframes_only: true
    open_timeout_ms: 101
    no_frame_ms: 102
    same_frame_ms: 103
    backoff_ms: [104, 105]
    max_stream_bytes: 106
cameras:
  - {id: 'cam: 1', roi_boxes: [{x: 1, y: 2, width: 3, height: 4, label: lane 1}], quality_threshold: 0.5}
  - id: 'null'
    source: rtsp://cam/live
    fallback: rtsp://cam/sub
    input_args: [-probesize, 5000]
    enabled: false
    fps: null
    size: 320x240
    backoff_ms: [5, 60]
ring: {dir: /run/rings}
kafka:
  bootstrap_servers: [k1, 'k2:9093']
  input_topic: frames
  output_topic: results
  consumer_group: its
  bridge_group: carrier
  begin: latest
  format: protobuf
  image: base64
  max_stream_length: 7
  security_protocol: sasl_ssl
  sasl_mechanism: SCRAM-SHA-512
  sasl_username: me
  ssl_cafile: /etc/ca.pem
  ssl_certfile: /etc/cert.pem
  ssl_keyfile: /etc/key.pem
  properties: {socket.timeout.ms: 7000, socket.keepalive.enable: true}
  stats: {kafka_to_redis: null, redis_to_kafka: '127.0.0.1:0'}
stats: {addr: '[::1]:9090', token: null, hosts: [cabinet-7.example]}
log: {level: debug, format: json, summary_seconds: 5}
";

#[test]
fn the_built_in_configuration_is_the_contract() {
    assert_eq!(valid(CONTRACT), Config::builtin());
    assert_eq!(Loader::new().load().unwrap().config, Config::builtin());
    assert_eq!(Loader::new().load().unwrap().notes, Vec::<String>::new());
}

#[test]
fn every_value_written_in_the_contract_is_the_built_in_one() {
    let (_dir, path) = file("contract.yaml", CONTRACT);
    let written = serde_json::Value::Object(crate::config::file::read(&path).unwrap());
    assert_holds(&Config::builtin().to_json(), &written, "");
}

/// `whole` has every value of `part`.
fn assert_holds(whole: &serde_json::Value, part: &serde_json::Value, at: &str) {
    match part.as_object().filter(|keys| !keys.is_empty()) {
        Some(keys) => {
            for (key, value) in keys {
                assert_holds(&whole[key], value, &format!("{at}.{key}"));
            }
        }
        None => assert_eq!(whole, part, "{at}"),
    }
}

#[test]
fn fields_hold_what_the_file_says() {
    let config = valid(ALL_CHANGED);
    assert_eq!(config.redis_queue.delivery, Delivery::AtLeastOnce);
    assert_eq!(config.redis_queue.retention, Retention::TrimAcked);
    assert_eq!(config.redis_queue.compression_format, CompressionFormat::Webp);
    assert_eq!(config.redis_queue.claim_idle_ms, 4_000);
    assert_eq!(config.engine.readers, Count::Fixed(4));
    assert_eq!(config.engine.pin, Pin::Cores(vec![0, 3]));
    assert_eq!(config.engine.ordering, Ordering::None);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.stats.addr, Some(HostPort { host: "::1".into(), port: 9090 }));
    let label = "lane 1".to_string();
    let first = CameraConfig {
        roi_boxes: vec![RoiBox { x: 1, y: 2, width: 3, height: 4, label }],
        quality_threshold: Some(0.5),
        feed: config.ingest.defaults.clone(),
        ..CameraConfig::named("cam: 1")
    };
    let second = &config.cameras[1];
    assert_eq!(config.cameras[0], first);
    assert_eq!((second.id.as_str(), second.roi_boxes.len()), ("null", 0));
    assert_eq!(second.source.as_ref().unwrap().expose(), "rtsp://cam/live");
    assert_eq!(second.fallback.as_ref().unwrap().expose(), "rtsp://cam/sub");
    assert_eq!(second.input_args, [InputArg { key: "probesize".into(), value: "5000".into() }]);
    assert!(!second.enabled && second.feed.keyframes_only);
    assert_eq!((second.feed.fps, second.feed.size), (None, Some((320, 240))));
    assert_eq!(second.feed.backoff_ms, (5, 60));
}

#[test]
fn the_effective_configuration_can_be_loaded_again() {
    for text in ["", CONTRACT, ALL_CHANGED] {
        let config = valid(text);
        assert_eq!(valid(&config.to_yaml()), config);
        let json = config.to_json().to_string();
        assert_eq!(load_as("again.json", json).unwrap().config, config);
    }
}

#[test]
fn the_effective_configuration_is_in_the_order_of_the_contract() {
    let written = Config::builtin().to_yaml();
    let keys = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        lines.map(|line| line.trim().split(':').next().unwrap().to_string()).collect()
    };
    // Sections that came later stand behind.
    let contract = keys(CONTRACT.split("\ningest:").next().unwrap());
    assert_eq!(keys(&written)[..contract.len()], contract);
}

#[test]
fn a_configuration_made_by_a_program_is_held_to_the_same_rules() {
    let mut config = valid(ALL_CHANGED);
    assert_eq!(config.check(), Ok(()));
    config.redis_queue.batch_size = 0;
    config.redis_queue.output_queue = config.redis_queue.input_queue.clone();
    let error = config.check().unwrap_err();
    assert_eq!(error.faults.len(), 2, "{error}");
    assert!(error.to_string().contains("batch_size = 0 (set by the program)"), "{error}");
}

#[test]
fn cameras_take_what_they_do_not_say_from_the_defaults_and_keep_their_secrets() {
    let text = "ingest: {defaults: {fps: 3, threads: 2}}\ncameras: [{id: a, threads: 4, \
                source: 'rtsp://u:hunter2@cam/live'}, {id: b, source_file: /run/b}]";
    let config = valid(text);
    let of = |at: usize| &config.cameras[at].feed;
    assert_eq!((of(0).fps, of(0).threads, of(1).threads), (Some(3.0), 4, 2));
    for shown in [config.to_yaml(), config.to_json().to_string(), format!("{config:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    for wrong in [
        "source: rtsp://cam/a, source_file: /b",
        "input_args: [-i, /etc/passwd]",
        "input_args: [-probesize]",
        "ring: 1",
        "size: 0x8",
        "backoff_ms: [9, 1]",
        "fps: 0",
    ] {
        let error = load(&format!("cameras: [{{id: a, {wrong}}}]")).unwrap_err().to_string();
        assert!(error.contains("cameras[0].") && error.contains("valid: "), "{error}");
    }
    let lossless = "cameras: [{id: a, ring: 8, ring_reuse: lossless}]";
    let error = load(lossless).unwrap_err().to_string();
    assert!(error.contains("retention: delete"), "{error}");
    let feed =
        &load(&format!("{lossless}\nredis_queue: {{retention: delete}}")).unwrap().config.cameras
            [0]
        .feed;
    assert_eq!((feed.ring, feed.ring_reuse), (8, crate::config::RingReuse::Lossless));
}
