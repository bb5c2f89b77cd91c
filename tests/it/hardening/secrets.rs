//! Passwords typed where none is expected.

use super::{run, said};

#[test]
fn no_message_repeats_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let twice = file("twice.yaml", "redis://:hunter2@h: 1\nredis://:hunter2@h: 2\n");
    let twice_json = file("twice.json", r#"{"redis://:hunter2@h": 1, "redis://:hunter2@h": 2}"#);
    let key = file("key.yaml", "redis://:hunter2@h: 1\n");
    let unknown = file("unknown.yaml", "redis_queue: {kennwort: hunter2}\nfoo: [hunter2]\n");
    let camera = file("camera.yaml", "cameras: [{id: a, kennwort: hunter2, url2: hunter2}]\n");
    let nested = file("nested.yaml", "stats: {a.b: hunter2, access: {x: hunter2}}\n");
    let cases: &[&[&str]] = &[
        &["top", "--once", "--url", "http://user:hunter2@127.0.0.1:1"],
        &["top", "--once", "--url", "http://127.0.0.1:1/?token=hunter2"],
        &["top", "--once", "--url", "http://127.0.0.1:1/hunter2@x"],
        &["top", "--once", "--url", "https://user:hunter2@h"],
        &["top", "--once", "--url", "http://user:hunter2@h h"],
        &["top", "redis://:hunter2@h"],
        &["run", "--redis-urll", "redis://:hunter2@h"],
        &["run", "--redis-urll=redis://:hunter2@h"],
        &["run", "--redis-url", "redis://:hunter2@h:x"],
        &["run", "--token=hunter2"],
        &["run", "--token", "hunter2"],
        &["bench", "--size", "redis://:hunter2@h"],
        &["dlq", "show", "redis://:hunter2@h", "--redis-url", "redis://127.0.0.1:1"],
        &["ingest", "--camera", "a", "--source", "rtsp:/u:hunter2@h"],
        &["ingest", "--camera", "a", "--source", "rtsp//u:hunter2@h/live"],
        &["ingest", "--camera", "a", "--source", "ftp://u:hunter2@h/live"],
        &["ingest", "--camera", "a", "--source", "rtsp://u:hunter2@127.0.0.1:1/live", "--once"],
        &["check", "--config", &twice],
        &["check", "--json", "--config", &twice],
        &["check", "--config", &twice_json],
        &["check", "--config", &key],
        &["check", "--json", "--config", &key],
        &["check", "--config", &unknown],
        &["check", "--json", "--config", &unknown],
        &["check", "--config", &camera],
        &["check", "--config", &nested],
        &["check", "--config", "redis://:hunter2@h"],
        &["migrate-config", &twice],
        &["migrate-config", "redis://:hunter2@h"],
    ];
    for arguments in cases {
        let output = run(arguments, &[]);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!said(&output).is_empty(), "{arguments:?}");
        assert!(!said(&output).contains("hunter2"), "{arguments:?}: {}", said(&output));
    }
    let old = file(
        "old.yaml",
        "kafka: {input_topic: a, kennwort: hunter2, 'redis://:hunter2@h': 1}\nfoo: {bar: hunter2}\n",
    );
    let output = run(&["migrate-config", &old], &[]);
    assert!(output.status.success() && said(&output).contains("kennwort"), "{}", said(&output));
    assert!(!said(&output).contains("hunter2"), "{}", said(&output));
    for (name, value) in [
        ("REDIS_QUEUE__KENNWORT", "hunter2"),
        ("REDIS_QUEUE__URL", "redis:/:hunter2@h"),
        ("STATS__TOKN", "hunter2"),
        ("stats__token", "hunter2"),
    ] {
        let output = run(&["check"], &[(name, value)]);
        assert_eq!(output.status.code(), Some(2), "{name}");
        assert!(!said(&output).contains("hunter2"), "{name}: {}", said(&output));
    }
}
