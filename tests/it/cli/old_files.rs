//! A configuration file of the replaced system, given to the program unchanged.

use redis::cmd;

use super::says;
use crate::support::{FramepressProcess, LONG, Output, RedisServer, protobuf, root, wait_until};

fn path() -> String {
    root().join("tests/it/cli/old/config.json").to_str().unwrap().to_owned()
}

#[test]
fn the_engine_takes_streams_group_and_pictures_from_an_old_file() {
    let server = RedisServer::start();
    let environment =
        [("REDIS_QUEUE__URL", &*server.url()), ("ENGINE__PIN", "off"), ("STATS__ADDR", "null")];
    let engine = FramepressProcess::start(&["run", "--config", &path()], &environment);
    let mut add = cmd("XADD");
    add.arg("old_frames").arg("*").arg("data").arg(&protobuf("f", "cam")[0].1[..]);
    let id: String = server.ask(&add);
    add = cmd("XADD");
    let _: String = server.ask(add.arg("old_frames").arg("*").arg("data").arg("no frame"));
    wait_until("a result", LONG, || server.len("old_results") == 1);
    let result = server.range("old_results").remove(0);
    let result = Output::new(result.0, result.1);
    assert_eq!(result.source_id(), id);
    let image = result.frame.original_image.as_ref().unwrap();
    assert_eq!((&*image.compression_format, image.quality), ("webp", 31));
    assert!(!result.frame.validation_passed, "quality_threshold of the file is 0.99");
    let pending = || {
        let summary: Vec<redis::Value> =
            server.ask(cmd("XPENDING").arg("old_frames").arg("old_readers"));
        summary[0].clone()
    };
    wait_until("both are acknowledged", LONG, || pending() == redis::Value::Int(0));
    assert_eq!(server.len("old_frames:dlq"), 0, "dead_letter_queue of the file is false");
    let is_new: bool = server.ask(
        cmd("XGROUP")
            .arg("CREATECONSUMER")
            .arg("old_frames")
            .arg("old_readers")
            .arg("old_worker-0"),
    );
    assert!(!is_new, "consumer_name of the file, and the number of the reader");
    let said = engine.said();
    assert_eq!(said.matches("processing_timeout").count(), 1, "named once: {said}");
    assert_eq!(said.matches("camera_defaults.fps").count(), 1, "named once: {said}");
}

#[test]
fn the_origin_of_each_value_of_an_old_file_is_shown() {
    let server = RedisServer::start();
    let url = server.url();
    let shown = says(0, &["check", "--show-config", "--config", &path(), "--redis-url", &url]);
    for (key, value, typed) in [
        ("redis_queue.input_queue", "old_frames", "input_queue"),
        ("redis_queue.compression_quality", "31", "serialization.compression_quality"),
        ("redis_queue.compression_format", "webp", "serialization.compression_format"),
        (
            "redis_queue.consumer_group",
            "old_readers",
            "queue_settings.input_queue_config.consumer_group",
        ),
        ("redis_queue.batch_size", "14", "queue_settings.input_queue_config.batch_size"),
        ("redis_queue.max_queue_length", "40000", "queue_settings.output_queue_config.max_length"),
        ("redis_queue.timeout", "20", "production_optimizations.connection_timeout"),
        ("redis_queue.pool_size", "12", "queue_pool_size"),
        ("engine.latency_target_ms", "90", "performance.target_latency_ms"),
        ("analysis.quality_threshold", "0.99", "quality_threshold"),
    ] {
        let name = key.rsplit('.').next().unwrap();
        let (value, origin) = (format!("\n  {name}: {value}\n"), format!("# {key}: file "));
        assert!(shown.contains(&value), "{value}: {shown}");
        let from = shown.lines().find(|line| line.starts_with(&origin));
        assert!(
            from.is_some_and(|line| line.ends_with(&format!(", as {typed}"))),
            "{key}: {shown}"
        );
    }
    assert!(shown.contains("# redis_queue.url: command-line flag"), "{shown}");
}
