//! Certificates made by the tests.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

/// A CA and the certificates it has signed.
pub struct Certificates {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    pub fn new() -> Certificates {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let folder = tempfile::Builder::new().prefix("framepress-tls-").tempdir().unwrap();
        let ca = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Certificates { folder, issuer: Issuer::new(params, key) }
    }

    /// A CA with a certificate called `server` for the servers on this machine.
    pub fn of_this_machine() -> Certificates {
        let certificates = Certificates::new();
        certificates.sign("server", "127.0.0.1", |_| {});
        certificates
    }

    /// The file of the CA certificate.
    pub fn ca(&self) -> String {
        self.path("ca.pem")
    }

    /// Names and values of the settings with which a server presents the certificate called
    /// `server`. Client certificates are optional.
    pub fn server_settings(&self) -> [(&'static str, String); 4] {
        [
            ("tls-cert-file", self.path("server.crt")),
            ("tls-key-file", self.path("server.key")),
            ("tls-ca-cert-file", self.ca()),
            ("tls-auth-clients", "no".to_owned()),
        ]
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Signs a certificate for `host` and writes it and its key to files called `name`.
    pub fn sign(&self, name: &str, host: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        // With the same name as its CA it would look self-signed.
        params.distinguished_name.push(DnType::CommonName, host);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let write = |kind: &str, pem: String| {
            std::fs::write(PathBuf::from(self.path(&format!("{name}.{kind}"))), pem).unwrap();
        };
        write("crt", certificate.pem());
        write("key", key.serialize_pem());
    }
}
