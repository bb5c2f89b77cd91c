//! Hosts and URLs.

use super::{Given, Kind, Parsed, Secrets, problem};
use crate::base::redact;
use crate::config::secret::Secret;
use crate::config::url::{HostPort, RedisUrl, is_host};
use serde_json::{Value, json};

/// The URL of Redis.
pub(in crate::config) struct Url;

impl Kind<RedisUrl> for Url {
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

/// A source of frames, as typed. It may hold a password.
pub(in crate::config) struct SecretUrl;

impl Kind<Secret> for SecretUrl {
    fn read(&self, given: Given<'_>) -> Parsed<Secret> {
        given.text().map(Secret::new).map_err(problem)
    }

    fn write(&self, value: &Secret, secrets: Secrets) -> Value {
        match secrets {
            Secrets::Exposed => value.expose().into(),
            Secrets::Hidden => redact::text(value.expose()).into(),
        }
    }

    fn value_type(&self) -> String {
        "URL or path".into()
    }

    fn valid(&self) -> String {
        "a URL, a device or a file".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("rtsp://192.0.2.11/sub"), json!("/dev/video0")]
    }
}

/// A host and a port.
pub(in crate::config) struct Address;

impl Kind<HostPort> for Address {
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

/// The name in a certificate.
pub(in crate::config) struct ServerName;

impl Kind<String> for ServerName {
    fn read(&self, given: Given<'_>) -> Parsed<String> {
        match given.text() {
            Ok(name) if is_host(name).is_ok() => Ok(name.into()),
            _ => Err(self.fault()),
        }
    }

    fn write(&self, value: &String, _: Secrets) -> Value {
        json!(value)
    }

    fn value_type(&self) -> String {
        "host".into()
    }

    fn valid(&self) -> String {
        "a host name or address".into()
    }

    fn examples(&self) -> Vec<Value> {
        vec![json!("redis.example"), json!("192.0.2.1")]
    }
}
