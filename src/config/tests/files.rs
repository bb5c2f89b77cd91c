use super::*;
use crate::config::{CompressionFormat, HostPort};

#[test]
fn an_empty_file_changes_nothing() {
    for text in ["", "\n\n", "# nothing yet\n", "---\n", "{}"] {
        assert_eq!(valid(text), Config::builtin(), "{text:?}");
    }
}

#[test]
fn json_is_read_by_its_extension_and_as_yaml_without_one() {
    let json = r#"{"redis_queue": {"batch_size": 5}, "engine": {"pin": [1, 0]}}"#;
    for name in ["a.json", "a.JSON", "a.yaml", "a.yml", "a.conf", "a"] {
        let config = load_as(name, json).unwrap().config;
        assert_eq!(config.redis_queue.batch_size, 5, "{name}");
    }
    assert_eq!(load_as("bom.json", "\u{feff}{}").unwrap().config, Config::builtin());
    assert_eq!(
        load_as("bom.yaml", "\u{feff}log: {level: warn}").unwrap().config.log.level.to_string(),
        "warn"
    );
}

#[test]
fn a_kafka_era_file_is_accepted_as_it_is() {
    let yaml = "
redis_url: redis://redis:6379/1
queue_pool_size: 12
batch_size: 10
block_time_ms: 100
input_queue: frames
output_queue: done
max_queue_length: 500
enable_compression: true
compression_format: JPEG
compression_quality: 75
quality_threshold: 0.6
max_concurrent_streams: 50
processing_timeout: 10.0
sentinel_service_name: mymaster
sentinel_nodes: [{host: s1, port: 26379}, 's2:26379', [s3, 26379]]
";
    let Loaded { config, notes, .. } = load(yaml).unwrap();
    let queue = &config.redis_queue;
    assert_eq!(queue.url.expose(), "redis://redis:6379/1");
    assert_eq!((queue.pool_size, queue.batch_size, queue.block_time_ms), (12, 10, 100));
    assert_eq!((queue.input_queue.as_str(), queue.output_queue.as_str()), ("frames", "done"));
    assert_eq!((queue.max_queue_length, queue.compression_quality), (500, 75));
    assert_eq!(queue.compression_format, CompressionFormat::Jpeg);
    assert_eq!(queue.sentinel_service_name.as_deref(), Some("mymaster"));
    let node = |host: &str| HostPort { host: host.into(), port: 26379 };
    assert_eq!(queue.sentinel_nodes, [node("s1"), node("s2"), node("s3")]);
    assert_eq!(config.analysis.quality_threshold, 0.6);
    assert_eq!(config.engine.max_concurrent_streams, 50);
    assert_eq!(notes, ["processing_timeout is accepted for old files and has no effect"]);
}

#[test]
fn a_kafka_era_file_may_be_json() {
    let config = load_as("old.json", r#"{"batch_size": 3, "compression_format": "jpg"}"#).unwrap();
    assert_eq!(config.config.redis_queue.batch_size, 3);
}

#[test]
fn flat_keys_and_sections_mix_unless_both_set_the_same() {
    let config = valid("batch_size: 3\nredis_queue: {block_time_ms: 9}");
    assert_eq!((config.redis_queue.batch_size, config.redis_queue.block_time_ms), (3, 9));
    check(
        "batch_size: 3\nredis_queue: {batch_size: 4}",
        &["batch_size = 3", "redis_queue.batch_size sets the same"],
    );
}

#[test]
fn a_fault_in_a_flat_key_is_named_as_typed() {
    check("block_time_ms: 5000", &["block_time_ms = 5000", "file ", "1 to 1000"]);
    let lines = faults("block_time_ms: 5000");
    assert!(lines[0].starts_with("block_time_ms"), "{lines:?}");
}

#[test]
fn a_file_with_a_kafka_section_is_refused_with_the_command_that_converts_it() {
    check(
        "kafka: {bootstrap_servers: 'k:9092', sasl_password: hunter2}",
        &["kafka", "framepress migrate-config", "framepress.yaml"],
    );
    check("kafka_topic: x\nkafka_group: y", &["framepress migrate-config"]);
    let lines = faults("kafka: {topic: a}\nbatch_size: 0");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault() {
    let missing = Loader::new().file(Some("/nonexistent/fp.yaml".into())).load().unwrap_err();
    assert!(missing.to_string().starts_with("file /nonexistent/fp.yaml: cannot be read"));
    assert!(Loader::new().file(Some("/".into())).load().is_err());
    for (bytes, word) in [
        (vec![b'a', 0xff, 0xfe], "UTF-8"),
        (vec![b'#'; (1 << 20) + 1], "1 MiB"),
        (b"- a\n- b\n".to_vec(), "not a mapping"),
        (b"redis://:hunter2@host".to_vec(), "not a mapping"),
        (b"? {secret: hunter2}\n: b\n".to_vec(), "not plain text"),
        (b"a: 1\n---\nb: 2\n".to_vec(), "one"),
    ] {
        let error = load_as("a.yaml", &bytes).unwrap_err();
        assert_eq!(error.faults.len(), 1, "{error}");
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert!(load_as("a.yaml", vec![b'#'; 1 << 20]).is_ok());
}

#[test]
fn syntax_errors_name_the_line() {
    check("log: {level: info\nengine: [}", &["is not YAML", "line 2"]);
    check("log:\n  level: info\n  level: warn\n", &["key level appears twice", "line"]);
    let json = load_as("a.json", "{\n\"log\": {\"level\": \"info\",\n \"level\": \"warn\"}}");
    let json = json.unwrap_err().to_string();
    assert!(json.contains("key level appears twice at line 3"), "{json}");
    let json = load_as("a.json", "{\n").unwrap_err().to_string();
    assert!(json.contains("line 2"), "{json}");
}

#[test]
fn a_broken_file_does_not_hide_faults_elsewhere() {
    let (_dir, path) = file("a.yaml", "{");
    let loader = Loader::new().file(Some(path)).flag("log.level", "loud");
    let error = loader.environment(pairs(&[("STATS__ADDR", "nowhere")])).load().unwrap_err();
    assert_eq!(error.faults.len(), 3, "{error}");
}

#[test]
fn deep_nesting_is_a_fault_and_no_crash() {
    let stairs = (0..1_400).map(|depth| format!("{}-\n", " ".repeat(depth))).collect();
    let words = ["[", "- ", "? ", "{a: ", "-\t", "[[{a: "].map(|word| word.repeat(100_000));
    for text in words.into_iter().chain([stairs]) {
        for name in ["a.yaml", "a.json"] {
            assert!(load_as(name, &text).is_err());
        }
    }
}
