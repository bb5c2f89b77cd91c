//! TLS with rustls: loads the files, and explains failed handshakes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::base::Fault;
use crate::metrics::clock;

/// TLS settings; all files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The CA certificates to trust; `None` for those of the system.
    pub ca: Option<PathBuf>,
    /// This client's certificate chain and private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must have; `None` for the host of the address.
    pub server_name: Option<String>,
}

/// How connections are encrypted; cheap to clone.
#[derive(Clone)]
pub struct Tls {
    shared: Arc<TlsShared>,
}

struct TlsShared {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

/// The time at which certificates must be valid. The default clock of rustls panics before 1970.
#[derive(Debug)]
struct Clock;

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(clock::since_epoch()))
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`Fault::Unusable`] naming the setting and the file, if one cannot be read or has the wrong
    /// content.
    pub fn load(options: &TlsOptions) -> Result<Tls, Fault> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_details(provider, Arc::new(Clock))
            .with_safe_default_protocol_versions()
            .map_err(|error| Fault::Unusable(format!("TLS: {error}")))?
            .with_root_certificates(roots(options.ca.as_deref())?);
        let config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates("redis_queue.tls.cert", cert)?;
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unusable("redis_queue.tls.key", key, error))?;
                builder.with_client_auth_cert(chain, secret).map_err(|error| {
                    let problem = format!("it does not match {}: {error}", cert.display());
                    unusable("redis_queue.tls.key", key, problem)
                })?
            }
        };
        let server_name = options.server_name.as_deref().map(name_of).transpose()?;
        Ok(Tls { shared: Arc::new(TlsShared { config: Arc::new(config), server_name }) })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.shared.config)
    }

    /// The name that the certificate of the server at `host` must have.
    pub(in crate::redis) fn server_name(&self, host: &str) -> io::Result<ServerName<'static>> {
        match &self.shared.server_name {
            Some(name) => Ok(name.clone()),
            None => name_of(host).map_err(io::Error::other),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.shared.server_name).finish_non_exhaustive()
    }
}

fn name_of(host: &str) -> Result<ServerName<'static>, Fault> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        Fault::Unusable(format!(
            "{host} is not a name that a certificate can have; use the host name of the server"
        ))
    })
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(Fault::Unusable(
                "this system has no certificates to trust (on Debian: apt-get install \
                 ca-certificates); or set redis_queue.tls.ca to the CA of the server"
                    .into(),
            ));
        }
        return Ok(roots);
    };
    for certificate in certificates("redis_queue.tls.ca", path)? {
        roots.add(certificate).map_err(|error| unusable("redis_queue.tls.ca", path, error))?;
    }
    Ok(roots)
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(key, path, error))?;
    if read.is_empty() {
        return Err(unusable(key, path, "it contains no certificate; valid: a PEM file"));
    }
    Ok(read)
}

fn unusable(key: &str, path: &Path, problem: impl fmt::Display) -> Fault {
    Fault::Unusable(format!("{key}: {}: {problem}", path.display()))
}

/// Adds advice for the operator to an error of rustls.
pub(super) fn explain(error: rustls::Error) -> io::Error {
    use rustls::Error as E;
    let advice = match &error {
        E::InvalidCertificate(certificate) => about(certificate),
        E::InvalidMessage(_) => {
            "the server does not speak TLS on this port; name its TLS port, or use a URL without \
             TLS (redis://)"
        }
        E::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => {
            "the server asks for a client certificate; set redis_queue.tls.cert and \
             redis_queue.tls.key"
        }
        E::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => {
            "the server does not accept the client certificate; set redis_queue.tls.cert to one \
             that its CA has signed"
        }
        _ => "see the log of the server",
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}; {advice}"))
}

fn about(certificate: &CertificateError) -> &'static str {
    use CertificateError as C;
    match certificate {
        C::UnknownIssuer | C::BadSignature => {
            "its CA is not trusted here; set redis_queue.tls.ca to the file of the CA that signed it"
        }
        C::Expired | C::ExpiredContext { .. } => {
            "the certificate of the server has expired; renew it, or set the clock of this machine"
        }
        C::NotValidYet | C::NotValidYetContext { .. } => {
            "the certificate of the server is not valid yet; set the clock of this machine"
        }
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            "the certificate is for another name; use that name in redis_queue.url, or set \
             redis_queue.tls.server_name to it"
        }
        C::Revoked => "the certificate of the server has been revoked; renew it",
        _ => "the certificate of the server cannot be used; renew it",
    }
}
