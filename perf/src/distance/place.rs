//! A redis-server with a plain and an encrypted port, and the link in front of it.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use framepress::internals::redis::{Address, Embedded};
use framepress_proxy::{Link, Proxy};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::Outcome;
use crate::load::guarded;
use crate::server::Plain;

/// Time limit of the server's first answer.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The server. Producer and observer reach it through a Unix socket, the engine through a
/// [`Proxy`]. Dropping the value ends it.
pub struct Place {
    child: Child,
    pub plain: Plain,
    pub address: Address,
    port: u16,
    tls_port: u16,
    folder: TempDir,
}

impl Place {
    pub fn open() -> Outcome<Place> {
        let folder = tempfile::Builder::new().prefix("framepress-distance-").tempdir()?;
        let [certificate, key, ca] = ["server.crt", "server.key", "ca.pem"]
            .map(|name| folder.path().join(name).display().to_string());
        sign(&certificate, &key, &ca)?;
        let (port, tls_port) = (free_port()?, free_port()?);
        let socket = folder.path().join("redis.sock");
        let mut command = guarded(&Embedded::program().to_string_lossy());
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--daemonize", "no", "--maxmemory-policy", "noeviction"]);
        command.arg("--dir").arg(folder.path()).arg("--unixsocket").arg(&socket);
        command.args(["--tls-port", &tls_port.to_string(), "--tls-cert-file", &certificate]);
        command.args(["--tls-key-file", &key, "--tls-ca-cert-file", &ca]);
        command.args(["--tls-auth-clients", "no"]);
        let log = File::create(folder.path().join("redis.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn()?;
        let address = Address::unix(&socket);
        let began = Instant::now();
        loop {
            if let Ok(mut plain) = Plain::connect(&address)
                && plain.run::<String>(&["PING"]).is_ok()
            {
                return Ok(Place { child, plain, address, port, tls_port, folder });
            }
            if let Some(status) = child.try_wait()? {
                return Err(format!("redis-server ended with {status}; has it TLS?").into());
            }
            if began.elapsed() > START_LIMIT {
                let _ = child.kill();
                return Err("redis-server does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A proxy in front of the plain or the encrypted port.
    pub fn link(&self, tls: bool, link: Link) -> Outcome<Proxy> {
        Ok(Proxy::before_port(if tls { self.tls_port } else { self.port }, link)?)
    }

    /// The file of the CA certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback port that is free at present.
pub fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Writes a CA certificate, and a certificate signed by it with its key.
fn sign(certificate: &str, key: &str, ca: &str) -> Outcome<()> {
    let ca_key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(ca, params.self_signed(&ca_key)?.pem())?;
    let issuer = Issuer::new(params, ca_key);
    let server_key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    // With the same name as its CA it would look self-signed.
    server.distinguished_name.push(DnType::CommonName, "127.0.0.1");
    std::fs::write(certificate, server.signed_by(&server_key, &issuer)?.pem())?;
    Ok(std::fs::write(key, server_key.serialize_pem())?)
}
