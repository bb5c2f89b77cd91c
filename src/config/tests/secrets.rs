use super::*;
use crate::config::{RedisUrl, Secret};

const PASSWORD: &str = "hunter2";

fn assert_hidden(text: &str) {
    assert!(!text.contains(PASSWORD), "{text}");
}

#[test]
fn a_valid_url_is_shown_without_its_password() {
    for (url, shown) in [
        ("redis://:hunter2@h:1/2", "redis://***@h:1/2"),
        ("redis://user:hunter2@h", "redis://user:***@h"),
        ("rediss://hunter2@h", "rediss://***@h"),
        ("redis://user:hunter2%40hunter2@h", "redis://user:***@h"),
        ("redis+unix:///run/r.sock?db=1&pass=hunter2", "redis+unix:///run/r.sock?db=1&pass=***"),
        ("unix://u:hunter2@/run/r.sock", "unix://u:***@/run/r.sock"),
        ("redis-sentinel://:hunter2@a:1,b:2/m/0", "redis-sentinel://***@a:1,b:2/m/0"),
        ("redis-cluster://:hunter2@a,b", "redis-cluster://***@a,b"),
    ] {
        let parsed = RedisUrl::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(parsed.to_string(), shown);
        assert_eq!(format!("{parsed:?}"), shown);
        assert_eq!(parsed.expose(), url);
        let config = valid(&format!(
            "redis_queue: {{url: '{url}', shards: 2, sentinel_service_name: {}}}",
            if url.contains("sentinel") { "m" } else { "null" }
        ));
        assert_hidden(&config.to_yaml());
        assert_hidden(&config.to_json().to_string());
        assert_hidden(&format!("{config:?} {config:#?}"));
        let again = valid(&config.to_yaml());
        assert_eq!(again.redis_queue.url.to_string(), shown);
    }
}

#[test]
fn a_malformed_url_never_shows_a_password() {
    for url in [
        "redis://:hunter2@h:99999",
        "redis://:hunter2@h:port/0",
        "redis://:hunter2",
        "redis://user:hunter2",
        "redis://user:hunter2/0",
        "redis://user@h:hunter2",
        "redis:hunter2@h",
        "redis//user:hunter2@h",
        "user:hunter2@h:1",
        ":hunter2",
        "http://:hunter2@h",
        "redis://:hunter2/x@h:1",
        "redis://:hunter2?@h:1",
        "redis://:hunter2#@h:1",
        "redis://:@hunter2@h:x",
        "redis://:hunter2 @h",
        "redis://h/0?password2=hunter2",
        "redis://h/0?hunter2",
        "redis://:%zzhunter2@h",
        "{{ redis://:hunter2@h }}",
    ] {
        let quoted = serde_json::to_string(url).unwrap();
        for yaml in [
            format!("redis_queue: {{url: {quoted}}}"),
            format!("redis_url: {quoted}"),
            format!("redis_queue: {{urll: {quoted}}}"),
            format!("redis_queue: {{url: [{quoted}]}}"),
        ] {
            let lines = faults(&yaml);
            assert_eq!(lines.len(), 1, "{url}");
            assert_hidden(&lines[0]);
        }
        let error = environment(&[("REDIS_QUEUE__URL", url)]).unwrap_err();
        assert_hidden(&error.to_string());
        assert_hidden(&format!("{error:?}"));
    }
}

#[test]
fn a_malformed_url_still_shows_its_host() {
    check("redis_queue: {url: 'redis://:hunter2@h:99999'}", &["redis://***@h:99999", "65535"]);
    check("redis_queue: {url: 'redis://h:99999/0'}", &["redis://h:99999/0", "1 to 65535"]);
    check("redis_queue: {url: 'localhost:6379'}", &["\"localhost:6379\"", "redis://localhost"]);
}

#[test]
fn rules_over_several_keys_do_not_show_the_password_either() {
    let lines = faults("redis_queue: {url: 'redis-sentinel://:hunter2@a'}");
    assert_eq!(lines.len(), 1);
    assert_hidden(&lines[0]);
}

#[test]
fn the_token_is_shown_nowhere() {
    let config = valid("stats: {token: hunter2}");
    assert_eq!(config.stats.token.as_ref().unwrap().expose(), PASSWORD);
    assert_hidden(&format!("{config:?} {} {}", config.to_yaml(), config.to_json()));
    for yaml in
        ["stats: {token: 'hunter2 x'}", "stats: {token: [hunter2]}", "stats: {tokn: hunter2}"]
    {
        let lines = faults(yaml);
        assert_eq!(lines.len(), 1);
        assert_hidden(&lines[0]);
    }
    let secret = Secret::new(PASSWORD);
    assert_eq!(format!("{secret} {secret:?}"), "*** ***");
}

#[test]
fn unknown_keys_that_sound_secret_hide_their_value() {
    for yaml in [
        "redis_password: hunter2",
        "redis_queue: {password: hunter2}",
        "redis_queue: {ulr: ':hunter2'}",
        "stats: {TOKEN: hunter2}",
        "redis: {auth: {password: hunter2}}",
        "cameras: [{id: a, rtsp: 'rtsp://u:hunter2@cam/1'}]",
        "cameras: [{id: a, rtsp_password: hunter2}]",
        "cameras: {a: {password: hunter2}}",
    ] {
        let lines = faults(yaml);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_hidden(&lines[0]);
    }
    let error = environment(&[("REDIS_QUEUE__PASSWORD", PASSWORD)]).unwrap_err();
    assert_hidden(&error.to_string());
}

#[test]
fn long_values_are_cut() {
    let lines = faults(&format!("log: {{level: {}}}", "x".repeat(5_000)));
    assert!(lines[0].len() < 400, "{}", lines[0].len());
}
