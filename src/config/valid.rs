//! From the layers to one valid configuration.
//!
//! The sections of `table` read their keys; rules over several keys are in `check.rs`.

use super::reader::KeyReader;
use super::secret::Secret;
use super::table::{Config, Section};
use super::url::RedisUrl;

/// Reads every key there is; what is absent or faulty has its built-in value.
pub(super) fn config(r: &mut KeyReader) -> Config {
    let mut config = <Config as Section>::read(r, Config::builtin());
    secret_files(&mut config, r);
    for camera in &mut config.cameras {
        camera.inherit(&config.ingest.defaults);
    }
    config
}

/// Reads the values that stand in files of their own.
fn secret_files(config: &mut Config, r: &mut KeyReader) {
    let queue = &mut config.redis_queue;
    let url = |text: String| {
        RedisUrl::parse(&text).map_err(|valid| format!("in the file: valid: {valid}"))
    };
    let file = queue.url_file.as_deref();
    if let Some(url) = r.value_in_file("redis_queue.url", "redis_queue.url_file", file, url) {
        queue.url = url;
    }
    let secret = |text: String| Ok(Secret::new(text));
    let (key, file_key) = ("redis_queue.sentinel_password", "redis_queue.sentinel_password_file");
    if let Some(secret) =
        r.value_in_file(key, file_key, queue.sentinel_password_file.as_deref(), secret)
    {
        queue.sentinel_password = Some(secret);
    }
    let kafka = &mut config.kafka;
    let (key, file_key) = ("kafka.sasl_password", "kafka.sasl_password_file");
    if let Some(secret) =
        r.value_in_file(key, file_key, kafka.sasl_password_file.as_deref(), secret)
    {
        kafka.sasl_password = Some(secret);
    }
}
