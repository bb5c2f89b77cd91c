use super::*;

#[test]
fn a_url_may_stand_in_a_file_of_its_own() {
    let (_dir, path) = file("url", "redis://user:hunter2@h:7/3\n");
    let text = format!("redis_queue: {{url_file: '{}'}}", path.display());
    let config = valid(&text);
    assert_eq!(config.redis_queue.url.password(), Some("hunter2"));
    assert_eq!(config.redis_queue.url.database(), 3);
    // What is shown names the file, and reads the same again.
    let yaml = config.to_yaml();
    assert!(yaml.contains("url_file") && !yaml.contains("hunter2"), "{yaml}");
    assert_eq!(valid(&yaml), config);
    config.check().unwrap();
    let config =
        environment(&[("REDIS_QUEUE__URL_FILE", path.to_str().unwrap())]).unwrap().redis_queue;
    assert_eq!(config.url.username(), Some("user"));
}

#[test]
fn a_url_file_and_a_url_are_one_too_many() {
    let (_dir, path) = file("url", "redis://:hunter2@h");
    let text = format!("redis_queue: {{url: 'redis://g', url_file: '{}'}}", path.display());
    check(&text, &["redis_queue.url_file", "one of the two"]);
}

#[test]
fn a_file_that_holds_no_url_is_a_fault_that_shows_nothing_of_it() {
    for wrong in ["hunter2", "http://:hunter2@h", "", "redis://:hunter2@h\nredis://g"] {
        let (_dir, path) = file("url", wrong);
        let lines = faults(&format!("redis_queue: {{url_file: '{}'}}", path.display()));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("valid:") && !lines[0].contains("hunter2"), "{lines:?}");
    }
    check("redis_queue: {url_file: /no/such/file}", &["No such file"]);
}

#[test]
fn sentinels_have_credentials_of_their_own() {
    let (_dir, path) = file("password", "hunter2\n");
    let sentinels = "sentinel_service_name: m, sentinel_nodes: ['a:1'], sentinel_username: eye";
    let typed = valid(&format!("redis_queue: {{{sentinels}, sentinel_password: hunter2}}"));
    let read = valid(&format!(
        "redis_queue: {{{sentinels}, sentinel_password_file: '{}'}}",
        path.display()
    ));
    for config in [&typed, &read] {
        let queue = &config.redis_queue;
        assert_eq!(queue.sentinel_username.as_deref(), Some("eye"));
        assert_eq!(queue.sentinel_password.as_ref().map(|it| it.expose()), Some("hunter2"));
        let shown = format!("{}{}{config:?}", config.to_yaml(), config.to_json());
        assert!(!shown.contains("hunter2"), "{shown}");
        config.check().unwrap();
    }
    let both = format!(
        "redis_queue: {{{sentinels}, sentinel_password: hunter2, sentinel_password_file: '{}'}}",
        path.display()
    );
    check(&both, &["sentinel_password_file", "one of the two"]);
}

#[test]
fn a_subset_of_the_shards_is_a_list_of_their_numbers() {
    let subset = |text: &str| {
        valid(&format!("redis_queue: {{shards: 4, shard_subset: {text}}}")).redis_queue.shard_subset
    };
    assert_eq!(subset("[3, 0]"), Some(vec![0, 3]));
    assert_eq!(subset("null"), None);
    let typed = [("REDIS_QUEUE__SHARDS", "4"), ("REDIS_QUEUE__SHARD_SUBSET", "[1]")];
    assert_eq!(environment(&typed).unwrap().redis_queue.shard_subset, Some(vec![1]));
    check("redis_queue: {shards: 2, shard_subset: [2]}", &["numbers from 0 to 1"]);
    check("redis_queue: {shards: 2, shard_subset: [1, 1]}", &["each shard once"]);
    check("redis_queue: {shards: 2, shard_subset: []}", &["or null"]);
    check("redis_queue: {shards: 2, shard_subset: 1}", &["or null"]);
}

#[test]
fn a_server_name_needs_a_url_that_is_encrypted() {
    check("redis_queue: {tls: {server_name: h}}", &["not encrypted", "rediss://"]);
    let config = valid("redis_queue: {url: 'rediss://10.0.0.1', tls: {server_name: r.example}}");
    assert_eq!(config.redis_queue.tls.server_name.as_deref(), Some("r.example"));
}
