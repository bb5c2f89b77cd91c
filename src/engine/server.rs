//! Derives the servers from the configuration: addresses, credentials, encryption.

use std::time::Duration;

use crate::base::{Fault, Stop};
use crate::config::{HostPort, RedisQueueConfig, RedisUrl, Scheme};
use crate::redis::{Address, Embedded, Login, Tls, TlsOptions, Topology};

/// The Redis topology; for `embedded://` a server that is started here. Opens no other connection.
///
/// # Errors
/// [`Fault::Unusable`] if a file for TLS cannot be used, or if no server can be started.
pub fn find_server(
    queue: &RedisQueueConfig,
    stop: &Stop,
) -> Result<(Topology, Option<Embedded>), Fault> {
    let url = &queue.url;
    let timeout = Duration::from_secs(queue.timeout);
    let at = |node: &HostPort, login: &Login, tls: &Option<Tls>| {
        Address::tcp(node.host.as_str(), node.port).with_login(login.clone()).with_tls(tls.clone())
    };
    if url.scheme() == Scheme::Embedded {
        let embedded = Embedded::start(stop)?;
        return Ok((embedded.address().into(), Some(embedded)));
    }
    let login = login(url);
    if let Some(path) = url.socket() {
        return Ok((Address::unix(path).with_login(login).into(), None));
    }
    let tls = tls(queue)?;
    let mut nodes = url.nodes().iter();
    let topology = match url.scheme() {
        Scheme::Cluster => {
            let seeds = nodes.map(|node| at(node, &login, &tls)).collect();
            Topology::cluster(seeds, timeout, stop)
        }
        Scheme::Sentinel | Scheme::Redis | Scheme::Rediss if is_watched(queue) => {
            let service = queue.sentinel_service_name.as_deref().or(url.service());
            let theirs = Login {
                username: queue.sentinel_username.clone(),
                password: queue.sentinel_password.as_ref().map(|it| it.expose().to_owned()),
                database: 0,
            };
            let named = match url.scheme() {
                Scheme::Sentinel => url.nodes(),
                _ => &[],
            };
            let sentinels = named.iter().chain(&queue.sentinel_nodes);
            let sentinels = sentinels.map(|node| at(node, &theirs, &tls)).collect();
            let like = Address::tcp("", 0).with_login(login).with_tls(tls);
            Topology::sentinel(service.unwrap_or_default(), sentinels, like, timeout, stop)
        }
        _ => match nodes.next() {
            Some(node) => at(node, &login, &tls).into(),
            None => return Err(Fault::Unusable(format!("redis_queue.url: {url} names no host"))),
        },
    };
    Ok((topology, None))
}

/// Whether Sentinels name the primary.
fn is_watched(queue: &RedisQueueConfig) -> bool {
    queue.url.scheme() == Scheme::Sentinel || !queue.sentinel_nodes.is_empty()
}

fn login(url: &RedisUrl) -> Login {
    Login {
        username: url.username().map(str::to_owned),
        password: url.password().map(str::to_owned),
        database: url.database(),
    }
}

/// `rediss://` is always encrypted. The schemes of Sentinels and Clusters have no encrypted
/// variant: they use TLS if any TLS option is set.
fn tls(queue: &RedisQueueConfig) -> Result<Option<Tls>, Fault> {
    let files = &queue.tls;
    let said = files.ca.is_some() || files.cert.is_some() || files.server_name.is_some();
    if queue.url.scheme() != Scheme::Rediss && !said {
        return Ok(None);
    }
    let options = TlsOptions {
        ca: files.ca.clone(),
        identity: files.cert.clone().zip(files.key.clone()),
        server_name: files.server_name.clone(),
    };
    Tls::load(&options).map(Some)
}
