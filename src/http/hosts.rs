//! Checks the host name of a request, and the page that makes it.
//!
//! A hostile page in an operator's browser can reach every address that the browser can, including
//! loopback. It can read the answers if its own name temporarily resolves to that address (DNS
//! rebinding). The browser then still sends the name of the hostile site as `Host`, which is
//! neither an address nor a name of this server.

use std::net::IpAddr;

/// Host names that the server answers to, besides addresses and `localhost`.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Vec<String>);

/// The parts of a request that name its server and the page that makes it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RequestOrigin<'a> {
    pub(super) target: &'a str,
    pub(super) host: Option<&'a str>,
    pub(super) origin: Option<&'a str>,
    pub(super) fetch_site: Option<&'a str>,
    pub(super) fetch_mode: Option<&'a str>,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostRefusal {
    /// It is for another server.
    Host,
    /// A page of another server makes it.
    Page,
}

impl Hosts {
    pub(super) fn new(names: &[String]) -> Hosts {
        Hosts(names.iter().map(|name| plain(name)).collect())
    }

    /// Checks a request. Browsers always send `Host`, so a request without it is harmless.
    pub(super) fn refuses(&self, asking: &RequestOrigin<'_>) -> Option<HostRefusal> {
        // The absolute form, as sent by proxies, also names the server and takes precedence.
        let named = asking.target.split_once("://").map(|(_, rest)| {
            let end = rest.find(['/', '?', '#']);
            &rest[..end.unwrap_or(rest.len())]
        });
        let is_own = |authority: &str| name_of(authority).is_some_and(|name| self.answers(&name));
        if !named.into_iter().chain(asking.host).all(is_own) {
            return Some(HostRefusal::Host);
        }
        let is_own_page = |origin: &str| {
            let authority = origin.strip_prefix("http://").or(origin.strip_prefix("https://"));
            authority.is_some_and(|authority| {
                // A proxy may have replaced the host name that the page has.
                let is_configured = name_of(authority).is_some_and(|name| self.0.contains(&name));
                asking.host.is_some_and(|host| host.eq_ignore_ascii_case(authority))
                    || is_configured
            })
        };
        // A link on another page may lead here; requests by scripts or elements of that page are
        // refused.
        let is_fetched = asking.fetch_mode.is_some_and(|mode| mode != "navigate");
        let is_foreign = matches!(asking.fetch_site, Some("cross-site" | "same-site"));
        if !asking.origin.is_none_or(is_own_page) || (is_fetched && is_foreign) {
            return Some(HostRefusal::Page);
        }
        None
    }

    fn answers(&self, name: &str) -> bool {
        let address = name.split('%').next().unwrap_or_default();
        name == "localhost"
            || address.parse::<IpAddr>().is_ok()
            || self.0.iter().any(|known| known == name)
    }
}

/// The name or address in `name[:port]`, without brackets; `None` if it is neither.
fn name_of(authority: &str) -> Option<String> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            if !address.contains(':') {
                return None;
            }
            (address, port)
        }
        None => {
            let (name, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (name, port)
        }
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    let is_port = port.is_empty() || port.starts_with(':');
    (is_port && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| plain(name))
}

/// Lower case, without the final dot of a fully qualified name.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(&["Cabinet-7.Example.".into()])
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_answered() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "10.0.0.7:1",
            "[::1]",
            "[::1]:8080",
            "[fe80::1%eth0]:80",
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "cabinet-7.example",
            "cabinet-7.example.:80",
        ] {
            let asking =
                RequestOrigin { target: "/metrics", host: Some(host), ..RequestOrigin::default() };
            assert_eq!(hosts().refuses(&asking), None, "{host}");
        }
        assert_eq!(
            hosts().refuses(&RequestOrigin { target: "/", ..RequestOrigin::default() }),
            None
        );
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "a@127.0.0.1",
            "127.0.0.1:80@evil.example",
            "",
            ":8080",
            "[evil]",
            "[::1]x",
            "127.1",
            "0x7f000001",
            "127.0.0.1:80:80",
            "localhost..",
            "::1",
        ] {
            let asking =
                RequestOrigin { target: "/metrics", host: Some(host), ..RequestOrigin::default() };
            assert_eq!(hosts().refuses(&asking), Some(HostRefusal::Host), "{host}");
        }
        for target in ["http://evil.example/metrics", "http://evil.example", "ws://evil.example?x"]
        {
            let asking =
                RequestOrigin { target, host: Some("127.0.0.1"), ..RequestOrigin::default() };
            assert_eq!(hosts().refuses(&asking), Some(HostRefusal::Host), "{target}");
        }
    }

    #[test]
    fn pages_of_other_servers_are_not() {
        let host = Some("127.0.0.1:8080");
        let of = |origin| RequestOrigin {
            target: "/",
            host,
            origin: Some(origin),
            ..RequestOrigin::default()
        };
        for origin in ["null", "http://evil.example", "http://127.0.0.1:3000", "file://", "x"] {
            assert_eq!(hosts().refuses(&of(origin)), Some(HostRefusal::Page), "{origin}");
        }
        for origin in ["http://127.0.0.1:8080", "https://cabinet-7.example"] {
            assert_eq!(hosts().refuses(&of(origin)), None, "{origin}");
        }
        let by = |site, mode| {
            let (fetch_site, fetch_mode) = (Some(site), Some(mode));
            hosts().refuses(&RequestOrigin {
                target: "/",
                host,
                fetch_site,
                fetch_mode,
                origin: None,
            })
        };
        for (site, mode) in [("cross-site", "no-cors"), ("same-site", "cors")] {
            assert_eq!(by(site, mode), Some(HostRefusal::Page), "{site}");
        }
        for (site, mode) in
            [("cross-site", "navigate"), ("none", "navigate"), ("same-origin", "cors")]
        {
            assert_eq!(by(site, mode), None, "{site}");
        }
    }
}
