//! The address of a Redis server and the credentials to log in with.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::{FaultPoint, Tls};
use crate::base::Fault;

/// Address and credentials of one server; cheap to clone. `Display` and `Debug` show the address
/// only.
#[derive(Clone)]
pub struct Address {
    place: Arc<Endpoint>,
    login: Arc<Login>,
    tls: Option<Tls>,
    fault_point: FaultPoint,
    /// Set for a primary that the Sentinels named; true once they name another server. All clones
    /// of this address share it.
    replaced: Option<Arc<AtomicBool>>,
    asking: bool,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Credentials. `Debug` is deliberately absent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The user; `None` for the default one.
    pub username: Option<String>,
    /// The password, if one is needed.
    pub password: Option<String>,
    /// The database number.
    pub database: u32,
}

impl Address {
    /// The server on a TCP port, without credentials. `host` is a name, or an address without
    /// brackets.
    pub fn tcp(host: impl Into<String>, port: u16) -> Address {
        Address::of(Endpoint::Tcp { host: host.into(), port })
    }

    /// The server behind a Unix socket, without credentials.
    pub fn unix(path: &Path) -> Address {
        Address::of(Endpoint::Unix(path.to_path_buf()))
    }

    fn of(place: Endpoint) -> Address {
        Address {
            place: Arc::new(place),
            login: Arc::default(),
            tls: None,
            fault_point: FaultPoint::default(),
            replaced: None,
            asking: false,
        }
    }

    /// Reads a `redis://` or `redis+unix://` URL.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for a URL that is not the address of a single server without TLS. The
    /// error text never contains the URL, because the URL may contain a password.
    pub fn parse(url: &str) -> Result<Address, Fault> {
        let scheme = url.split("://").next().unwrap_or_default();
        let unusable = |detail: &dyn fmt::Display| {
            Fault::Unusable(format!("the URL {scheme}://... is not an address: {detail}"))
        };
        let info = url.into_connection_info().map_err(|error| unusable(&error))?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Address::tcp(host.as_str(), *port),
            ConnectionAddr::Unix(path) => Address::unix(path),
            _ => return Err(unusable(&"it is a TLS URL, which needs TLS settings as well")),
        };
        let settings = info.redis_settings();
        Ok(address.with_login(Login {
            username: settings.username().map(str::to_owned),
            password: settings.password().map(str::to_owned),
            database: u32::try_from(settings.db()).unwrap_or(0),
        }))
    }

    /// The same server with the given credentials.
    #[must_use]
    pub fn with_login(self, login: Login) -> Address {
        Address { login: Arc::new(login), ..self }
    }

    /// The same server, encrypted if `tls` is given.
    #[must_use]
    pub fn with_tls(self, tls: Option<Tls>) -> Address {
        Address { tls, ..self }
    }

    /// The same server, reached through a fault-injection point.
    #[must_use]
    pub fn through(self, fault_point: FaultPoint) -> Address {
        Address { fault_point, ..self }
    }

    /// Another server of the same deployment: same credentials, same encryption.
    #[must_use]
    pub(in crate::redis) fn elsewhere(&self, host: &str, port: u16) -> Address {
        let place = Endpoint::Tcp { host: host.to_owned(), port };
        Address { place: Arc::new(place), asking: false, ..self.clone() }
    }

    /// The same server, but a connection to it is closed if the server is not a primary or as soon
    /// as [`Address::set_replaced`] is called.
    #[must_use]
    pub(in crate::redis) fn primary_only(self) -> Address {
        Address { replaced: Some(Arc::default()), ..self }
    }

    /// Tells all clones of this address that another server has become the primary.
    pub(in crate::redis) fn set_replaced(&self) {
        if let Some(replaced) = &self.replaced {
            replaced.store(true, Ordering::Release);
        }
    }

    /// Whether another server is known to have become the primary.
    pub(super) fn is_replaced(&self) -> bool {
        self.replaced.as_ref().is_some_and(|replaced| replaced.load(Ordering::Acquire))
    }

    /// The same server, but each command is preceded by ASKING, because another node redirected us
    /// here.
    #[must_use]
    pub(in crate::redis) fn asking(self) -> Address {
        Address { asking: true, ..self }
    }

    /// Whether both are the same server and agree on ASKING.
    pub fn is_same(&self, other: &Address) -> bool {
        self.asking == other.asking && self.is_at(other)
    }

    /// Whether both are the same server.
    pub fn is_at(&self, other: &Address) -> bool {
        Arc::ptr_eq(&self.place, &other.place) || self.place == other.place
    }

    pub(in crate::redis) fn fault_point(&self) -> &FaultPoint {
        &self.fault_point
    }

    pub(super) fn place(&self) -> &Endpoint {
        &self.place
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    pub(super) fn must_be_primary(&self) -> bool {
        self.replaced.is_some()
    }

    pub(in crate::redis) fn is_asking(&self) -> bool {
        self.asking
    }

    /// The host; `None` for a Unix socket.
    pub(in crate::redis) fn host(&self) -> Option<&str> {
        match &*self.place {
            Endpoint::Tcp { host, .. } => Some(host),
            Endpoint::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.place {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
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
        let Login { username, password, database } = address.login();
        assert_eq!((username.as_deref(), password.as_deref()), (Some("user"), Some("s3cret")));
        assert_eq!(*database, 2);
        let fault = Address::parse("redis://user:s3cret@:bad:/x").unwrap_err();
        assert!(!fault.to_string().contains("s3cret"), "{fault}");
    }

    #[test]
    fn sockets_and_ipv6_are_addresses() {
        assert_eq!(Address::unix(Path::new("/tmp/r.sock")).to_string(), "/tmp/r.sock");
        assert_eq!(Address::parse("redis://[::1]:7000").unwrap().to_string(), "[::1]:7000");
        assert_eq!(Address::tcp("::1", 7000).to_string(), "[::1]:7000");
    }

    #[test]
    fn an_asking_address_is_the_same_place_spoken_to_differently() {
        let address = Address::tcp("a", 1);
        let asking = address.clone().asking();
        assert!(address.is_at(&asking) && !address.is_same(&asking));
        assert!(address.is_same(&asking.elsewhere("a", 1)));
        assert!(!address.is_at(&address.elsewhere("b", 1)));
    }
}
