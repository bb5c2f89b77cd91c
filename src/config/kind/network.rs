//! Hosts and URLs.

use super::{Given, Parsed, Secrets, ValueKind, problem};
use crate::config::url::{HostPort, RedisUrl};
use serde_json::{Value, json};

/// The URL of Redis.
pub(in crate::config) struct Url;

impl ValueKind<RedisUrl> for Url {
    fn read(&self, given: Given<'_>) -> Parsed<RedisUrl> {
        match given.value.as_str() {
            Some(text) => {
                RedisUrl::parse(text.trim()).map_err(|valid| problem(format!("valid: {valid}")))
            }
            None => Err(problem("valid: a URL, as in redis://localhost:6379/0")),
        }
    }

    fn write(&self, value: &RedisUrl, secrets: Secrets) -> Value {
        match secrets {
            Secrets::Exposed => value.expose().into(),
            Secrets::Hidden => value.to_string().into(),
        }
    }

    fn value_type(&self) -> String {
        "URL".into()
    }

    fn valid(&self) -> String {
        "redis://, rediss://, redis+unix://, redis-sentinel://, redis-cluster:// or embedded://"
            .into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("redis://redis.example:6380/3"), json!("embedded://")]
    }
}

/// A host and a port.
pub(in crate::config) struct HostPortText;

impl ValueKind<HostPort> for HostPortText {
    fn read(&self, given: Given<'_>) -> Parsed<HostPort> {
        let text = given.text().map_err(problem)?;
        HostPort::parse(text.trim(), None).map_err(|valid| problem(format!("valid: {valid}")))
    }

    fn write(&self, value: &HostPort, _: Secrets) -> Value {
        value.to_string().into()
    }

    fn value_type(&self) -> String {
        "host:port".into()
    }

    fn valid(&self) -> String {
        "host:port, as in 127.0.0.1:8080".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("[::1]:9090"), json!("127.0.0.1:0")]
    }
}
