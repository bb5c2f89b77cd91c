use super::*;
use crate::config::{Count, LogLevel, Origin, Pin};

#[test]
fn the_later_layer_wins() {
    let (_dir, path) = file("a.yaml", "redis_queue: {batch_size: 2, timeout: 3, shards: 4}");
    let env = pairs(&[("REDIS_QUEUE__TIMEOUT", "7"), ("REDIS_QUEUE__SHARDS", "8")]);
    let loader = Loader::new().flag("redis_queue.shards", "9").environment(env).file(Some(path));
    let queue = loader.load().unwrap().config.redis_queue;
    assert_eq!((queue.batch_size, queue.timeout, queue.shards), (2, 7, 9));
    assert_eq!(queue.pool_size, 20);
}

#[test]
fn a_faulty_value_that_is_overridden_is_not_reported() {
    let (_dir, path) = file("a.yaml", "redis_queue: {batch_size: many}");
    let loader = Loader::new().file(Some(path)).flag("redis_queue.batch_size", "3");
    assert_eq!(loader.load().unwrap().config.redis_queue.batch_size, 3);
}

#[test]
fn variables_are_read_as_the_type_of_their_key() {
    let config = environment(&[
        ("REDIS_QUEUE__URL", "rediss://h:1/2"),
        ("REDIS_QUEUE__COMPRESSION_QUALITY", " 70 "),
        ("REDIS_QUEUE__SENTINEL_NODES", r#"[{"host": "s", "port": 1}]"#),
        ("REDIS_QUEUE__SENTINEL_SERVICE_NAME", "123"),
        ("REDIS_QUEUE__CONSUMER_NAME", "null"),
        ("REDIS_QUEUE__TLS__CA", "/ca.pem"),
        ("ENGINE__WORKERS", "3"),
        ("ENGINE__READERS", "AUTO"),
        ("ENGINE__PIN", "[0, 1]"),
        ("ANALYSIS__ENABLED", "False"),
        ("ANALYSIS__QUALITY_THRESHOLD", "0.5"),
        ("LIMITS__MAX_PIXELS", "1000"),
        ("STATS__ADDR", ""),
        ("STATS__TOKEN", "12345"),
        ("LOG__LEVEL", "DEBUG"),
    ]);
    let config = config.unwrap();
    assert_eq!(config.redis_queue.compression_quality, 70);
    assert_eq!(config.redis_queue.sentinel_nodes[0].host, "s");
    assert_eq!(config.redis_queue.sentinel_service_name.as_deref(), Some("123"));
    assert_eq!(config.redis_queue.consumer_name, None);
    assert_eq!(config.redis_queue.tls.ca, Some("/ca.pem".into()));
    assert_eq!((config.engine.workers, config.engine.readers), (Count::Fixed(3), Count::Auto));
    assert_eq!(config.engine.pin, Pin::Cores(vec![0, 1]));
    assert!(!config.analysis.enabled);
    assert_eq!(config.analysis.quality_threshold, 0.5);
    assert_eq!(config.stats.addr, None);
    assert_eq!(config.stats.token.unwrap().expose(), "12345");
    assert_eq!(config.log.level, LogLevel::Debug);
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let env = [("PATH", "/bin"), ("REDIS_URL", "x"), ("LOG_LEVEL", "x"), ("MYLOG__LEVEL", "x")];
    assert_eq!(environment(&env).unwrap(), Config::builtin());
}

#[test]
fn an_unknown_variable_names_the_nearest() {
    let error = environment(&[("REDIS_QUEUE__BATCHSIZE", "3")]).unwrap_err();
    assert_eq!(error.faults[0].origin, Origin::Variable("REDIS_QUEUE__BATCHSIZE".into()));
    assert!(error.to_string().contains("did you mean REDIS_QUEUE__BATCH_SIZE?"), "{error}");
    let error = environment(&[("engine__workers", "3")]).unwrap_err();
    assert!(error.to_string().contains("capitals, ENGINE__WORKERS"), "{error}");
    assert!(environment(&[("CAMERAS__FRONT", "x")]).is_err());
}

#[test]
fn faults_of_variables_and_flags_say_so() {
    let error = environment(&[("REDIS_QUEUE__BATCH_SIZE", "many")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "redis_queue.batch_size = many (environment variable REDIS_QUEUE__BATCH_SIZE): valid: a \
         whole number from 1 to 10000"
    );
    let error = Loader::new().flag("redis_queue.urll", "x").load().unwrap_err();
    assert!(error.to_string().contains("(command-line flag): unknown key"), "{error}");
    assert!(error.to_string().contains("did you mean redis_queue.url?"), "{error}");
    let error = environment(&[("ENGINE__PIN", "0,1")]).unwrap_err();
    assert!(error.to_string().contains("a list of cores such as [0, 2]"), "{error}");
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (yaml, key, nearest) in [
        (
            "redis_queue: {comression_quality: 5}",
            "redis_queue.comression_quality = 5",
            "compression_quality",
        ),
        ("redis_queue: {tls: {cart: a}}", "redis_queue.tls.cart", "cert"),
        ("redis_que: {url: a, batch_size: 3}", "redis_que = {", "redis_queue"),
        ("redis_ulr: a", "redis_ulr = ", "redis_url"),
        ("prossing_timeout: 3", "prossing_timeout", "processing_timeout"),
        ("engine: {batch_size: 3}", "engine.batch_size", "redis_queue.batch_size"),
        ("retention: keep", "retention", "redis_queue.retention"),
        ("stats: {adr: null}", "stats.adr", "addr"),
        ("anlysis: {}", "anlysis", "analysis"),
    ] {
        check(yaml, &[key, &format!("unknown key; did you mean {nearest}?")]);
    }
    check("redis_queue: {url: {host: a}}", &["redis_queue.url.host", "has no keys below it"]);
    check("redis_queue.url: a", &["redis_queue.url"]);
    check("engine: {a.b: 1}", &["engine.a.b", "not with a dot"]);
}

#[test]
fn sections_are_sections() {
    check("engine: null", &["engine = null", "a section of keys"]);
    check("engine: 5", &["engine = 5", "a section of keys"]);
    check("redis_queue: {tls: null}", &["redis_queue.tls", "a section of keys"]);
    assert_eq!(valid("engine: {}\nredis_queue: {tls: {}}"), Config::builtin());
}

#[test]
fn all_faults_are_reported_at_once() {
    let lines = faults(
        "
redis_queue: {batch_size: 0, compression_format: gif, url: 'http://h'}
engine: {wrokers: 2, ordering: none}
cameras: [{id: a}, {id: a, color: red}]
",
    );
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines.iter().all(|line| line.contains("framepress.yaml")), "{lines:#?}");
}

#[test]
fn an_empty_variable_switches_off_no_protection() {
    let (_dir, path) = file(
        "a.yaml",
        "stats: {token: hunter2}\nredis_queue: {url: 'rediss://h', tls: {ca: /etc/ca.pem}}",
    );
    let load = |name: &str, value: &str| {
        let loader = Loader::new().file(Some(path.clone())).environment(pairs(&[(name, value)]));
        loader.load().map(|loaded| loaded.config)
    };
    for name in [
        "STATS__TOKEN",
        "REDIS_QUEUE__URL",
        "REDIS_QUEUE__URL_FILE",
        "REDIS_QUEUE__TLS__CA",
        "REDIS_QUEUE__TLS__CERT",
        "REDIS_QUEUE__TLS__KEY",
        "REDIS_QUEUE__TLS__SERVER_NAME",
        "REDIS_QUEUE__SENTINEL_USERNAME",
        "REDIS_QUEUE__SENTINEL_PASSWORD",
        "REDIS_QUEUE__SENTINEL_PASSWORD_FILE",
    ] {
        for value in ["", " "] {
            let error = load(name, value).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hunter2"), "{name}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
    assert_eq!(load("STATS__TOKEN", "null").unwrap().stats.token, None, "said in so many words");
    assert_eq!(load("STATS__ADDR", "").unwrap().stats.addr, None);
    let hosts = load("STATS__HOSTS", "a.example, b").unwrap().stats.hosts;
    assert_eq!(hosts, ["a.example", "b"]);
}
