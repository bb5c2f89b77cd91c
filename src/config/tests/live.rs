use super::*;
use crate::config::LogLevel;

#[test]
fn a_running_engine_takes_on_what_it_can_and_names_the_rest() {
    let mut config = Config::builtin();
    let new = valid(
        "redis_queue: {compression_quality: 50, url: 'redis://:secret@other/0', batch_size: 7, \
         tls: {ca: null}}\n\
         analysis: {quality_threshold: 0.5, enabled: false}\n\
         cameras: [{id: cam1}]\nlog: {level: debug, format: json, summary_seconds: 5}\n\
         stats: {token: hidden}",
    );
    let changes = config.take_live(&new);
    assert_eq!(
        changes.taken,
        [
            "analysis.quality_threshold",
            "cameras",
            "log.level",
            "log.summary_seconds",
            "redis_queue.compression_quality",
        ]
    );
    assert_eq!(
        changes.needs_restart,
        [
            "analysis.enabled",
            "log.format",
            "redis_queue.batch_size",
            "redis_queue.url",
            "stats.token",
        ]
    );
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!((config.redis_queue.compression_quality, config.redis_queue.batch_size), (50, 20));
    assert!(config.analysis.enabled && config.check().is_ok());
}

#[test]
fn only_the_password_of_a_url_is_a_change_too() {
    let mut config = valid("redis_url: redis://:one@host/0");
    let changes = config.take_live(&valid("redis_url: redis://:two@host/0"));
    assert_eq!(changes.needs_restart, ["redis_queue.url"]);
}

#[test]
fn the_same_configuration_changes_nothing() {
    let mut config = Config::builtin();
    assert_eq!(config.take_live(&Config::builtin()), Default::default());
}
