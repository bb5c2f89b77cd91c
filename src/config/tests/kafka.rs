use super::*;
use crate::config::{Migrated, migrate};

const OLD: &str = "
kafka:
  bootstrap_servers: [kafka1:9092, kafka2:9092]
  input_topic: frames
  output_topic: results
  consumer_group: its
  max_poll_records: 50
  fetch_max_wait_ms: 5000
  auto_offset_reset: earliest
  sasl_password: hunter2
  made_up: 7
compression_quality: 70
processing_timeout: 30
database_url: postgres://user:secret@db/its
";

fn converted(name: &str, text: &str) -> (Migrated, Config) {
    let (_dir, path) = file(name, text);
    let migrated = migrate(&path).unwrap_or_else(|error| panic!("{error}"));
    let config = valid(&migrated.yaml);
    (migrated, config)
}

#[test]
fn what_has_a_counterpart_is_carried_over_and_loads() {
    let (migrated, config) = converted("old.yaml", OLD);
    let queue = &config.redis_queue;
    assert_eq!(queue.input_queue, "frames");
    assert_eq!(queue.output_queue, "results");
    assert_eq!(queue.consumer_group, "its");
    assert_eq!((queue.batch_size, queue.compression_quality), (50, 70));
    assert!(
        migrated.yaml.contains("input_queue: frames  # kafka.input_topic"),
        "{}",
        migrated.yaml
    );
    assert!(migrated.yaml.contains("kafka1:9092"), "{}", migrated.yaml);
}

#[test]
fn what_has_none_is_named_with_the_reason_and_without_secrets() {
    let (migrated, _) = converted("old.yaml", OLD);
    let left_out = migrated.left_out.join("\n");
    for word in [
        "kafka.bootstrap_servers",
        "kafka.auto_offset_reset = earliest: a new group begins",
        "kafka.sasl_password = ***",
        "kafka.made_up = 7: nothing here does the same",
        "kafka.fetch_max_wait_ms = 5000: valid: a whole number from 1 to 1000",
        "processing_timeout",
        "database_url",
    ] {
        assert!(left_out.contains(word), "no {word:?} in\n{left_out}");
    }
    for secret in ["hunter2", "secret"] {
        assert!(!left_out.contains(secret) && !migrated.yaml.contains(secret), "{left_out}");
    }
    for line in &migrated.left_out {
        assert!(migrated.yaml.contains(line), "named in the file too: {line}");
    }
}

#[test]
fn json_and_environment_files_are_converted_the_same() {
    let (_, json) = converted(
        "old.json",
        r#"{"kafka": {"input_topic": "frames", "consumer_group": "its"}, "batch_size": 5}"#,
    );
    let (migrated, env) = converted(
        ".env",
        "# the old system\nexport KAFKA__INPUT_TOPIC=frames\nKAFKA__CONSUMER_GROUP=\"its\"\n\
         BATCH_SIZE=5\nKAFKA_BOOTSTRAP_SERVERS=kafka:9092\nPATH_TO_MODEL=/m\n",
    );
    assert_eq!(json, env);
    assert_eq!(env.redis_queue.batch_size, 5);
    assert_eq!(migrated.left_out.len(), 2, "{:?}", migrated.left_out);
}

#[test]
fn the_password_of_redis_is_not_copied() {
    let (migrated, _) =
        converted("old.yaml", "redis_url: redis://:hunter2@r/0\nkafka: {acks: all}");
    assert!(!migrated.yaml.contains("hunter2"), "{}", migrated.yaml);
    assert!(migrated.yaml.contains("redis://***@r/0"), "{}", migrated.yaml);
    assert!(migrated.left_out.iter().any(|line| line.contains("REDIS_QUEUE__URL")));
}

#[test]
fn what_is_already_new_stays_and_what_is_no_file_is_refused() {
    let (migrated, config) = converted(
        "new.yaml",
        "redis_queue: {shards: 2}\ncameras: [{id: cam1}]\nengine: {workers: 3}",
    );
    assert_eq!((config.redis_queue.shards, config.cameras.len()), (2, 1));
    assert_eq!(migrated.left_out, Vec::<String>::new());
    assert!(migrate(std::path::Path::new("/no/such/file")).is_err());
}
