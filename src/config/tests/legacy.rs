use super::*;
use crate::config::Origin;

/// A file as the replaced system had it: every section, flat keys beside them, comments.
const NESTED: &str = r#"{
  "_comment": "an old file", "_version": {"of": "the file"},
  "redis_url": "redis://queue:6379/2", "input_queue": "frames", "output_queue": "results",
  "queue_pool_size": 15, "max_concurrent_streams": 250, "quality_threshold": 0.4,
  "processing_timeout": 3.0,
  "serialization": {"_note": "x", "enable_compression": true, "compression_format": "webp",
    "compression_quality": 70, "enable_batch_processing": true, "batch_size": 99},
  "performance": {"target_latency_ms": 80, "max_memory_usage_mb": 900},
  "queue_settings": {
    "input_queue_config": {"max_length": 7000, "consumer_group": "readers",
      "consumer_name": "box", "batch_size": 12, "block_time_ms": 400, "retry_attempts": 6,
      "dead_letter_queue": false},
    "output_queue_config": {"max_length": 30000, "consumer_group": "others", "batch_size": 50,
      "enable_compression": true}},
  "monitoring": {"enable_detailed_logging": false},
  "camera_defaults": {"resolution": [640, 480], "quality_threshold": 0.9, "roi_boxes": []},
  "production_optimizations": {"pool_size": 15, "connection_timeout": 25,
    "retry_on_failure": false, "max_retries": 5}
}"#;

#[test]
fn a_nested_file_of_the_replaced_system_takes_effect_as_it_is() {
    let Loaded { config, notes, origins } = load_as("old.json", NESTED).unwrap();
    let queue = &config.redis_queue;
    assert_eq!(queue.url.expose(), "redis://queue:6379/2");
    assert_eq!((queue.input_queue.as_str(), queue.output_queue.as_str()), ("frames", "results"));
    assert_eq!((queue.pool_size, queue.timeout, queue.retry_on_failure), (15, 25, false));
    assert_eq!(queue.compression_format, crate::config::CompressionFormat::Webp);
    assert_eq!((queue.enable_compression, queue.compression_quality), (true, 70));
    assert_eq!(
        (queue.consumer_group.as_str(), queue.consumer_name.as_deref()),
        ("readers", Some("box"))
    );
    assert_eq!((queue.batch_size, queue.block_time_ms, queue.retry_attempts), (12, 400, 6));
    assert_eq!((queue.dead_letter_queue, queue.max_queue_length), (false, 30_000));
    assert_eq!(config.analysis.quality_threshold, 0.4, "the flat key counts");
    assert_eq!(config.engine.max_concurrent_streams, 250);
    assert_eq!(config.engine.latency_target_ms, 80);

    assert_eq!(notes.len(), 1, "{notes:?}");
    for key in [
        "processing_timeout",
        "serialization.batch_size",
        "performance.max_memory_usage_mb",
        "queue_settings.input_queue_config.max_length",
        "queue_settings.output_queue_config.consumer_group",
        "monitoring.enable_detailed_logging",
        "camera_defaults.quality_threshold",
        "camera_defaults.resolution",
        "production_optimizations.max_retries",
    ] {
        assert_eq!(notes[0].matches(key).count(), 1, "{key}: {}", notes[0]);
    }

    let origin = |key: &str| origins.iter().find(|(of, ..)| of == key).cloned();
    let (_, typed, from) = origin("redis_queue.batch_size").unwrap();
    assert_eq!(typed, "queue_settings.input_queue_config.batch_size");
    assert!(matches!(from, Origin::File(path) if path.ends_with("old.json")));
    assert_eq!(origin("redis_queue.output_full"), None, "built in");
}

#[test]
fn keys_of_this_system_win_over_those_of_old_sections() {
    let config = valid(
        "redis_queue: {batch_size: 3, enable_compression: false}\n\
         serialization: {enable_compression: true, compression_quality: 60}\n\
         queue_settings: {input_queue_config: {batch_size: 9}}",
    );
    let queue = &config.redis_queue;
    assert_eq!((queue.batch_size, queue.enable_compression), (3, false));
    assert_eq!(queue.compression_quality, 60);
}

#[test]
fn values_of_old_sections_are_held_to_the_same_rules() {
    check(
        "serialization: {compression_quality: 101}",
        &["serialization.compression_quality = 101"],
    );
    check("serialisation: {compression_quality: 80}", &["serialisation", "unknown key"]);
    check("performance: 7", &["performance", "unknown key"]);
}
