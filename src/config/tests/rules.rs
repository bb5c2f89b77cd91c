use super::*;

/// `section: {rest}` has one fault, at `section.key`, that says `words`.
fn check_in(section: &str, rest: &str, words: &[&str]) {
    check(&format!("{section}: {{{rest}}}"), words);
}

#[test]
fn numbers_have_ranges() {
    for (section, rest, valid) in [
        ("redis_queue", "pool_size: 0", "1 to 10000"),
        ("redis_queue", "timeout: 0", "1 to 3600"),
        ("redis_queue", "max_queue_length: 0", "from 1"),
        ("redis_queue", "batch_size: 0", "1 to 10000"),
        ("redis_queue", "batch_size: 10001", "1 to 10000"),
        ("redis_queue", "block_time_ms: 0", "1 to 1000"),
        ("redis_queue", "block_time_ms: 1001", "1 to 1000"),
        ("redis_queue", "retry_attempts: 0", "from 1"),
        ("redis_queue", "dead_letter_max_length: 0", "from 1"),
        ("redis_queue", "claim_idle_ms: 999", "from 1000"),
        ("redis_queue", "lease_ms: 499", "500 to 60000"),
        ("redis_queue", "lease_ms: 60001", "500 to 60000"),
        ("redis_queue", "max_frame_age_ms: -1", "from 0"),
        ("redis_queue", "shards: 0", "from 1"),
        ("redis_queue", "compression_quality: 0", "1 to 100"),
        ("redis_queue", "compression_quality: 101", "1 to 100"),
        ("redis_queue", "webp_method: 7", "auto, or a whole number from 0 to 6"),
        ("engine", "readers: 0", "auto, or a whole number from 1"),
        ("engine", "workers: many", "auto, or a whole number from 1"),
        ("engine", "committers: 1025", "1 to 1024"),
        ("engine", "drain_timeout_ms: -5", "from 0"),
        ("engine", "latency_target_ms: 0", "from 1"),
        ("engine", "max_concurrent_streams: 0", "from 1"),
        ("limits", "max_payload_bytes: 0", "from 1"),
        ("limits", "max_pixels: 0", "from 1"),
        ("analysis", "quality_threshold: 1.1", "0.0 to 1.0"),
        ("analysis", "quality_threshold: -0.1", "0.0 to 1.0"),
    ] {
        let typed = format!("{section}.{}", rest.replace(": ", " = ").replace("many", "\"many\""));
        check_in(section, rest, &[&typed, valid]);
    }
}

#[test]
fn numbers_are_finite() {
    check_in("analysis", "quality_threshold: .nan", &["not finite"]);
    check_in("analysis", "quality_threshold: 1e999", &["quality_threshold = ", "0.0 to 1.0"]);
    let error = environment(&[("ANALYSIS__QUALITY_THRESHOLD", "NaN")]).unwrap_err();
    assert!(error.to_string().contains("0.0 to 1.0"), "{error}");
}

#[test]
fn types_are_not_guessed_in_files() {
    check_in("redis_queue", "batch_size: '20'", &["batch_size = \"20\"", "whole number"]);
    check_in("redis_queue", "batch_size: 20.0", &["batch_size = 20.0", "whole number"]);
    check_in("redis_queue", "batch_size: null", &["batch_size = null", "whole number"]);
    check_in("redis_queue", "retry_on_failure: 'true'", &["true or false"]);
    check_in("redis_queue", "retry_on_failure: 1", &["true or false"]);
    check_in("redis_queue", "consumer_name: 7", &["without spaces", "or null"]);
    check_in("redis_queue", "url: 7", &["redis://localhost:6379/0"]);
    check_in("redis_queue", "output_full: null", &["trim_oldest, block"]);
    check_in("redis_queue", "batch_size: [1]", &["batch_size = [1]"]);
    assert_eq!(valid("analysis: {quality_threshold: 1}").analysis.quality_threshold, 1.0);
}

#[test]
fn words_are_one_of_a_few() {
    check_in("redis_queue", "output_full: drop", &["trim_oldest, block"]);
    check_in("redis_queue", "delivery: twice", &["exactly_once, at_least_once"]);
    check_in("redis_queue", "retention: forget", &["keep, delete, trim_acked"]);
    check_in("redis_queue", "compression_format: gif", &["jpeg, png, webp"]);
    check_in("engine", "ordering: total", &["per_camera, none"]);
    check_in("engine", "reencode: never", &["always, when_smaller, lossless"]);
    check_in("redis_queue", "png_level: 9", &["fast, balanced, high, auto"]);
    check_in("redis_queue", "jpeg_huffman: none", &["adaptive, standard, optimised"]);
    check_in("engine", "orientation: turn", &["apply, ignore"]);
    check_in("limits", "damaged_images: maybe", &["refuse, accept"]);
    check_in("analysis", "below_threshold: keep", &["emit, drop"]);
    check_in("log", "level: loud", &["error, warn, info, debug, trace"]);
    check_in("log", "format: xml", &["text, json"]);
}

#[test]
fn names_have_no_spaces() {
    for name in ["''", "'a b'", "\"a\\tb\"", "\"a\\nb\"", "\"a\\0b\""] {
        for key in ["input_queue", "output_queue", "consumer_group", "consumer_name"] {
            check_in("redis_queue", &format!("{key}: {name}"), &[key, "without spaces"]);
        }
    }
}

#[test]
fn the_time_out_is_longer_than_a_blocking_read() {
    check_in(
        "redis_queue",
        "timeout: 1",
        &["timeout = 1", "block_time_ms = 1000", "from 2 seconds"],
    );
    valid("redis_queue: {timeout: 1, block_time_ms: 500}");
    check_in("redis_queue", "timeout: 1, block_time_ms: 501", &["timeout = 1"]);
}

#[test]
fn the_largest_frame_fits_into_what_may_be_in_flight() {
    check_in("engine", "max_inflight_bytes: 1000", &["= 1000", "must fit", "from 67108864"]);
    check_in("limits", "max_payload_bytes: 2000000000", &["limits.max_payload_bytes", "must fit"]);
    valid("engine: {max_inflight_bytes: 5}\nlimits: {max_payload_bytes: 5}");
}

#[test]
fn the_pool_holds_a_connection_per_reader_and_committer_and_two_and_one_for_a_sentinel() {
    let pool = |size: usize, assignment: &str| {
        format!(
            "redis_queue: {{pool_size: {size}, shards: 3, assignment: {assignment}}}\n\
             engine: {{readers: 3, committers: 2}}"
        )
    };
    check(&pool(6, "shared"), &["redis_queue.pool_size = 6", "from 7"]);
    valid(&pool(7, "shared"));
    check(&pool(7, "auto"), &["redis_queue.pool_size = 7", "from 8"]);
    valid(&pool(8, "auto"));
    check("engine: {committers: 20}", &["engine.committers = 20", "pool_size from 23"]);
    check("redis_queue: {pool_size: 3}", &["pool_size = 3", "from 4"]);
    let sentinels = |size: usize| {
        format!("redis_queue: {{pool_size: {size}, url: 'redis-sentinel://s1:26379/cabinet/0'}}")
    };
    check(&sentinels(4), &["pool_size = 4", "3 are held beside", "from 5"]);
    valid(&sentinels(5));
}

#[test]
fn one_stream_is_read_by_one_reader_where_order_counts() {
    check_in("engine", "readers: 2", &["engine.readers = 2", "ordering: none", "order holds"]);
    valid("engine: {readers: 2, ordering: none}");
    valid("engine: {readers: 2}\nredis_queue: {shards: 2}");
}

#[test]
fn streams_do_not_feed_themselves() {
    check_in("redis_queue", "output_queue: camera_frames", &["output_queue", "names that differ"]);
    check_in("redis_queue", "input_queue: processed_frames", &["input_queue", "names that differ"]);
    check_in("redis_queue", "output_queue: 'camera_frames:dlq'", &["dead letters"]);
    check_in("redis_queue", "input_queue: 'a{b}', shards: 2", &["input_queue", "without braces"]);
    valid("redis_queue: {input_queue: 'a{b}'}");
}

#[test]
fn sentinels_and_the_name_they_watch_come_together() {
    check_in("redis_queue", "sentinel_service_name: m", &["sentinel_service_name", "no Sentinel"]);
    check_in("redis_queue", "sentinel_nodes: ['a:1']", &["sentinel_nodes", "by name"]);
    check_in("redis_queue", "url: 'redis-sentinel://a:1'", &["redis_queue.url", "by name"]);
    valid("redis_queue: {url: 'redis-sentinel://a:1', sentinel_service_name: m}");
    valid("redis_queue: {url: 'redis-sentinel://a:1,b/m/2'}");
    let mixed = "url: 'redis-cluster://a', sentinel_service_name: m, sentinel_nodes: ['a:1'], \
                 shards: 2";
    check_in("redis_queue", mixed, &["sentinel_nodes", "redis-sentinel:// URL"]);
}

#[test]
fn certificate_and_key_come_together_and_the_url_is_encrypted() {
    let tls = |files: &str| format!("redis_queue: {{url: 'rediss://h', tls: {{{files}}}}}");
    check(&tls("cert: a"), &["redis_queue.tls.cert", "both cert and key"]);
    check(&tls("key: a"), &["redis_queue.tls.key", "both cert and key"]);
    valid(&tls("cert: a, key: b"));
    valid(&tls("ca: a"));
    check("redis_queue: {tls: {ca: a}}", &["redis_queue.tls.ca", "not encrypted"]);
}

#[test]
fn rules_over_several_keys_stay_silent_when_one_of_them_is_faulty_itself() {
    check("redis_queue: {timeout: 1, block_time_ms: 0}", &["block_time_ms"]);
}

#[test]
fn the_address_of_the_stats_server_has_a_port() {
    for addr in ["localhost", "':8080'", "'a:b'", "'a:65536'", "'::1:80'", "'[::g]:80'", "'a b:1'"]
    {
        check_in("stats", &format!("addr: {addr}"), &["stats.addr", "valid: ", "or null"]);
    }
    assert_eq!(valid("stats: {addr: null}").stats.addr, None);
    assert_eq!(valid("stats: {addr: 'box:0'}").stats.addr.unwrap().to_string(), "box:0");
}
