//! Addresses: the Redis URL in all its schemes, and `host:port`.
//!
//! Error texts here never repeat a piece of the URL: any piece of a mistyped one may be a password.

use super::secret::HIDDEN;
use crate::base::redact;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// Port of a Redis server that names none.
const REDIS_PORT: u16 = 6379;
/// Port of a Sentinel that names none.
const SENTINEL_PORT: u16 = 26379;

/// A host name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Host name, IPv4 or IPv6 address, the latter without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl HostPort {
    /// A port of this machine's loopback address.
    pub(super) fn local(port: u16) -> HostPort {
        HostPort { host: "127.0.0.1".into(), port }
    }

    /// Reads `host:port`; IPv6 addresses stand in brackets, and the port may be left out if there
    /// is a `default_port`. The error says what would be valid.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<HostPort, String> {
        let (host, port) = match text.strip_prefix('[') {
            Some(text) => {
                let (host, port) =
                    text.split_once(']').ok_or("an IPv6 address in brackets, as in [::1]:6379")?;
                host.parse::<Ipv6Addr>().map_err(|_| "an IPv6 address between the brackets")?;
                match port.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if port.is_empty() => (host, None),
                    None => return Err("a colon and a port after the bracket".into()),
                }
            }
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("host:port, with an IPv6 address in brackets".into());
                }
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        is_host(host)?;
        let port = match (port, default_port) {
            (Some(port), _) => parse_port(port)?,
            (None, Some(port)) => port,
            (None, None) => return Err("host:port, as in 127.0.0.1:8080".into()),
        };
        Ok(HostPort { host: host.into(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Whether `host` can be a host name or an address.
pub(super) fn is_host(host: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.parse::<Ipv6Addr>().is_ok() || (!host.is_empty() && host.chars().all(plain)) {
        Ok(())
    } else {
        Err("a host name or address before the port".into())
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| "a port from 1 to 65535".into())
}

/// How Redis is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `redis://`: TCP.
    Redis,
    /// `rediss://`: TLS.
    Rediss,
    /// `redis+unix://` or `unix://`: a Unix socket.
    Unix,
    /// `redis-sentinel://`: the hosts are Sentinels.
    Sentinel,
    /// `redis-cluster://`: the hosts are nodes of a Cluster.
    Cluster,
    /// `embedded://`: a private redis-server, started and stopped with this process.
    Embedded,
}

/// A valid Redis URL. `Display` and `Debug` show it without passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    text: String,
    scheme: Scheme,
    nodes: Vec<HostPort>,
    socket: Option<PathBuf>,
    service: Option<String>,
    database: u32,
    username: Option<String>,
    password: Option<String>,
}

impl RedisUrl {
    /// Reads a URL. The error says what would be valid and repeats nothing of the URL.
    pub fn parse(text: &str) -> Result<RedisUrl, String> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("a URL without spaces and control characters".into());
        }
        let (scheme, rest) =
            text.split_once("://").ok_or("a URL, as in redis://localhost:6379/0")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "redis" => Scheme::Redis,
            "rediss" => Scheme::Rediss,
            "redis+unix" | "unix" => Scheme::Unix,
            "redis-sentinel" => Scheme::Sentinel,
            "redis-cluster" => Scheme::Cluster,
            "embedded" => Scheme::Embedded,
            _ => return Err(SCHEMES.into()),
        };
        if rest.contains('#') {
            return Err("a URL without #; in a password it is written %23".into());
        }
        let mut url = RedisUrl { text: text.into(), scheme, ..RedisUrl::local() };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        url.read_query(query)?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let hosts = match authority.rsplit_once('@') {
            Some((user, hosts)) => {
                url.read_user(user)?;
                hosts
            }
            None => authority,
        };
        url.read_hosts(hosts)?;
        url.read_path(path)?;
        Ok(url)
    }

    /// `redis://localhost:6379/0`, the built-in default.
    pub(super) fn local() -> RedisUrl {
        RedisUrl {
            text: "redis://localhost:6379/0".into(),
            scheme: Scheme::Redis,
            nodes: vec![HostPort { host: "localhost".into(), port: REDIS_PORT }],
            socket: None,
            service: None,
            database: 0,
            username: None,
            password: None,
        }
    }

    fn read_query(&mut self, query: &str) -> Result<(), String> {
        for part in query.split('&').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("db", value)) => self.database = parse_database(value)?,
                Some(("user", value)) => self.username = Some(decode(value)?),
                Some(("pass" | "password", value)) => self.password = Some(decode(value)?),
                _ => return Err("after the ? only db, user and pass".into()),
            }
        }
        Ok(())
    }

    fn read_user(&mut self, user: &str) -> Result<(), String> {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        if !name.is_empty() {
            self.username = Some(decode(name)?);
        }
        if !password.is_empty() {
            self.password = Some(decode(password)?);
        }
        Ok(())
    }

    fn read_hosts(&mut self, hosts: &str) -> Result<(), String> {
        let several = matches!(self.scheme, Scheme::Sentinel | Scheme::Cluster);
        if matches!(self.scheme, Scheme::Unix | Scheme::Embedded) {
            self.nodes.clear();
            return match (hosts, self.scheme) {
                ("", _) => Ok(()),
                (_, Scheme::Unix) => {
                    Err("three slashes before the path, as in redis+unix:///run/redis.sock".into())
                }
                _ => Err("embedded:// with nothing after it".into()),
            };
        }
        if !several && hosts.contains(',') {
            return Err("one host; several belong to redis-sentinel:// or redis-cluster://".into());
        }
        let port = if self.scheme == Scheme::Sentinel { SENTINEL_PORT } else { REDIS_PORT };
        self.nodes = hosts
            .split(',')
            .map(|host| match HostPort::parse(host, Some(port))? {
                HostPort { port: 0, .. } => Err("a port from 1 to 65535".to_string()),
                node => Ok(node),
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    fn read_path(&mut self, path: &str) -> Result<(), String> {
        let name = path.strip_prefix('/').unwrap_or(path);
        match self.scheme {
            Scheme::Unix if name.is_empty() => Err("the path of a socket after the slashes".into()),
            Scheme::Unix => {
                self.socket = Some(PathBuf::from(decode(path)?));
                Ok(())
            }
            Scheme::Embedded if self.text.len() > "embedded://".len() => {
                Err("embedded:// with nothing after it".into())
            }
            Scheme::Cluster if !matches!(name, "" | "0") || self.database != 0 => {
                Err("database 0; a Cluster has no other".into())
            }
            Scheme::Sentinel => {
                let (service, database) = match name.split_once('/') {
                    Some(both) => both,
                    None if name.bytes().all(|b| b.is_ascii_digit()) => ("", name),
                    None => (name, ""),
                };
                self.service = (!service.is_empty()).then(|| decode(service)).transpose()?;
                self.read_database(database)
            }
            _ => self.read_database(name),
        }
    }

    fn read_database(&mut self, text: &str) -> Result<(), String> {
        if !text.is_empty() {
            self.database = parse_database(text)?;
        }
        Ok(())
    }

    /// The whole URL with its password, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// How Redis is reached.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The servers, Sentinels or Cluster nodes; empty for a Unix socket and `embedded://`.
    pub fn nodes(&self) -> &[HostPort] {
        &self.nodes
    }

    /// The socket's path, for a Unix socket.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The primary's name, if a `redis-sentinel://` URL gives it as its path.
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// The database number.
    pub fn database(&self) -> u32 {
        self.database
    }

    /// The user name, decoded.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The password, decoded. Never to be printed.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }
}

/// What would be valid where the scheme is not.
const SCHEMES: &str = "one of redis://, rediss://, redis+unix://, redis-sentinel://, \
                       redis-cluster:// and embedded://";

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = redact::url(&self.text);
        // A user without a password may be a token. With one, the user name is no secret.
        match (self.username(), self.password()) {
            (Some(user), Some(_)) if self.text.contains(&format!("://{user}:")) => f.write_str(
                &shown.replacen(&format!("://{HIDDEN}@"), &format!("://{user}:{HIDDEN}@"), 1),
            ),
            _ => f.write_str(&shown),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn parse_database(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| "a database number after /".into())
}

/// Undoes percent encoding.
fn decode(text: &str) -> Result<String, String> {
    const FAULT: &str = "%XX with two hex digits, together UTF-8; a percent sign itself is %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let digits = tail.get(..2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
            let digits = digits.and_then(|two| std::str::from_utf8(two).ok()).ok_or(FAULT)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| FAULT)?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| FAULT.into())
}
