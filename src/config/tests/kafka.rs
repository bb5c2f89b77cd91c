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
    // The bridge goes on talking to Kafka.
    let kafka = &config.kafka;
    assert_eq!(kafka.bootstrap_servers[1].to_string(), "kafka2:9092");
    assert_eq!((kafka.input_topic.as_str(), kafka.consumer_group.as_str()), ("frames", "its"));
}

/// All that both directions of the bridge need: an old file, and where Redis is.
#[test]
fn an_old_file_with_a_redis_queue_section_is_good_as_it_is() {
    let text =
        format!("{}\nredis_queue: {{url: 'redis://r/1'}}", OLD.replace("  made_up: 7\n", ""))
            .replace("database_url: postgres://user:secret@db/its\n", "");
    let (_dir, path) = file("old.yaml", &text);
    let loaded = Loader::new().file(Some(path)).load().unwrap_or_else(|error| panic!("{error}"));
    let kafka = &loaded.config.kafka;
    assert_eq!(kafka.bootstrap_servers.len(), 2);
    assert_eq!((kafka.input_topic.as_str(), kafka.output_topic.as_str()), ("frames", "results"));
    assert_eq!(kafka.consumer_group, "its");
    assert_eq!(kafka.sasl_password.as_ref().unwrap().expose(), "hunter2");
    assert_eq!(
        loaded.config.redis_queue.input_queue, "camera_frames",
        "Redis has names of its own"
    );
    let notes = loaded.notes.join("\n");
    assert!(notes.contains("kafka.auto_offset_reset") && notes.contains("no effect"), "{notes}");
    let shown = loaded.config.to_yaml();
    assert!(!shown.contains("hunter2") && !notes.contains("hunter2"), "{shown}");
}

#[test]
fn other_names_and_the_environment_reach_the_section() {
    let kafka =
        valid("redis_url: redis://r\nkafka: {brokers: 'a:1, b', topic: t, group_id: g}").kafka;
    let brokers: Vec<_> = kafka.bootstrap_servers.iter().map(ToString::to_string).collect();
    assert_eq!(brokers, ["a:1", "b:9092"]);
    assert_eq!((kafka.input_topic.as_str(), kafka.consumer_group.as_str()), ("t", "g"));
    let load = |name: &str, value: &str| {
        Loader::new().environment([(name.to_owned(), value.to_owned())]).load()
    };
    let config = load("KAFKA__BOOTSTRAP_SERVERS", "k1:9092,k2:9093").unwrap().config;
    assert_eq!(config.kafka.bootstrap_servers[1].to_string(), "k2:9093");
    let config = load("KAFKA__SASL_PASSWORD", "hunter2").unwrap().config;
    assert_eq!(config.kafka.sasl_password.unwrap().expose(), "hunter2");
    let config = load("KAFKA__PROPERTIES", r#"{"socket.timeout.ms": 7000}"#).unwrap().config;
    assert_eq!(config.kafka.properties["socket.timeout.ms"].expose(), "7000");
}

#[test]
fn properties_that_break_a_promise_are_refused_and_secrets_in_them_are_hidden() {
    for (text, word) in [
        ("properties: {enable.auto.commit: true}", "enable.auto.commit"),
        ("properties: {sasl.password: hunter2}", "a key of section kafka"),
        ("properties: {ssl.key.pem: [hunter2]}", "valid: text"),
        ("properties: hunter2", "valid: a mapping"),
        ("input_topic: 'a b'", "valid: letters"),
        ("bootstrap_servers: ['a:b:c']", "valid: "),
        ("begin: now", "valid: group, earliest, latest"),
        ("input_topics: x", "did you mean"),
    ] {
        let error =
            load(&format!("redis_url: redis://r\nkafka: {{{text}}}")).unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains("hunter2"), "{text}: {error}");
    }
    let text = "redis_url: redis://r\nkafka: {properties: {sasl.oauthbearer.client.secret: hunter2, \
                ssl.key.pem: hunter2, client.rack: here}}";
    let config = valid(text);
    for shown in [config.to_yaml(), config.to_json().to_string(), format!("{config:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(config.to_yaml().contains("client.rack: here"));
    assert_eq!(config.check(), Ok(()));
}

#[test]
fn what_has_none_is_named_with_the_reason_and_without_secrets() {
    let (migrated, _) = converted("old.yaml", OLD);
    let left_out = migrated.left_out.join("\n");
    for word in [
        "kafka.auto_offset_reset = earliest: a new group begins",
        "kafka.sasl_password: not copied, for it is a secret; set kafka.sasl_password",
        "kafka.made_up = 7: no setting here does the same",
        "kafka.fetch_max_wait_ms = 5000: valid: a whole number from 1 to 1000",
        "processing_timeout",
        "database_url",
    ] {
        assert!(left_out.contains(word), "no {word:?} in\n{left_out}");
    }
    for secret in ["hunter2", ":secret@"] {
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
    assert_eq!(env.kafka.bootstrap_servers[0].to_string(), "kafka:9092");
    assert_eq!(
        (&json.redis_queue, &json.kafka.input_topic),
        (&env.redis_queue, &env.kafka.input_topic)
    );
    assert_eq!(env.redis_queue.batch_size, 5);
    assert_eq!(migrated.left_out.len(), 1, "{:?}", migrated.left_out);
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

#[test]
fn properties_in_an_environment_file_are_converted_without_their_secrets() {
    let (migrated, config) = converted(
        ".env",
        r#"KAFKA__PROPERTIES={"ssl.keystore.password": "hunter2", "acks": "1", "client.rack": "here"}"#,
    );
    assert_eq!(config.kafka.properties.keys().collect::<Vec<_>>(), ["client.rack"]);
    assert!(!migrated.yaml.contains("hunter2"), "{}", migrated.yaml);
    let left_out = migrated.left_out.join("\n");
    assert!(left_out.contains("kafka.properties.acks: ") && !left_out.contains("hunter2"));
    let (migrated, _) = converted(".env", "KAFKA__PROPERTIES=hunter2");
    assert!(!migrated.yaml.contains("hunter2"), "{}", migrated.yaml);
}
