//! Where a Redis server is, and who we are there.

use std::fmt;
use std::path::Path;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::Seam;
use crate::base::Fault;

/// Address and credentials of one server. `Display` and `Debug` show the address only.
#[derive(Clone)]
pub struct Address {
    info: ConnectionInfo,
    shown: String,
    seam: Seam,
}

impl Address {
    /// Reads a `redis://` or `redis+unix://` URL.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for URLs that are no address of a single plain server. The text never
    /// holds the URL itself, which may hold a password.
    pub fn parse(url: &str) -> Result<Address, Fault> {
        let scheme = url.split("://").next().unwrap_or_default();
        let info = url.into_connection_info().map_err(|error| {
            Fault::Unusable(format!("redis_queue.url ({scheme}://...) is not an address: {error}"))
        })?;
        Address::from_info(info)
    }

    /// The server behind a Unix socket, without credentials.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if the path is no address.
    pub fn unix(path: &Path) -> Result<Address, Fault> {
        Address::parse(&format!("redis+unix://{}", path.display()))
    }

    fn from_info(info: ConnectionInfo) -> Result<Address, Fault> {
        let shown = match info.addr() {
            ConnectionAddr::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            ConnectionAddr::Tcp(host, port) => format!("{host}:{port}"),
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => {
                return Err(Fault::Unusable(
                    "redis_queue.url: TLS is not built into this version; use redis:// or \
                     redis+unix://"
                        .into(),
                ));
            }
        };
        Ok(Address { info, shown, seam: Seam::default() })
    }

    /// The same server, with `seam` between us and it on the data plane.
    #[must_use]
    pub fn through(self, seam: Seam) -> Address {
        Address { seam, ..self }
    }

    /// What is asked before each operation of a data-plane socket.
    pub(super) fn seam(&self) -> &Seam {
        &self.seam
    }

    /// Where to connect to.
    pub(super) fn target(&self) -> &ConnectionAddr {
        self.info.addr()
    }

    /// User, if one is named, and password, if there is one.
    pub(super) fn credentials(&self) -> Option<(Option<&str>, &str)> {
        let settings = self.info.redis_settings();
        settings.password().map(|password| (settings.username(), password))
    }

    /// The database number.
    pub(super) fn database(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// A control-plane client for the same server.
    pub(super) fn client(&self) -> Result<redis::Client, Fault> {
        redis::Client::open(self.info.clone())
            .map_err(|error| Fault::Unusable(format!("{}: {error}", self.shown)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        let address = Address::parse("redis://user:s3cret@127.0.0.1:6400/2").unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:6400");
        assert!(!format!("{address:?}").contains("s3cret"));
        assert_eq!(address.credentials(), Some((Some("user"), "s3cret")));
        assert_eq!(address.database(), 2);
        let fault = Address::parse("redis://user:s3cret@:bad:/x").unwrap_err();
        assert!(!fault.to_string().contains("s3cret"), "{fault}");
    }

    #[test]
    fn sockets_and_ipv6_are_addresses() {
        assert_eq!(Address::unix(Path::new("/tmp/r.sock")).unwrap().to_string(), "/tmp/r.sock");
        assert_eq!(Address::parse("redis://[::1]:7000").unwrap().to_string(), "[::1]:7000");
    }
}
