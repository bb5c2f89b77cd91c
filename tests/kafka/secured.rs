//! Brokers with encryption and authentication.

use rcgen::{CertificateParams, KeyPair};

use crate::common::wait_until;
use crate::support::{Broker, Carried, LONG, available, frames, send};
use rustix::process::Signal;

#[test]
fn both_directions_pass_over_tls_with_a_login() {
    if !available() {
        return;
    }
    let key = KeyPair::generate().unwrap();
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let broker = Broker::encrypted(&certificate.pem(), &key.serialize_pem());
    broker.create_topic("frames", 1, &[]);
    broker.create_topic("results", 1, &[]);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.pem()).unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, Broker::password("bridge") + "\n").unwrap();
    let carried = |name: &str, value: &str| {
        Carried::between(&broker, "frames", "results")
            .with("KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
            .with("KAFKA__SASL_MECHANISM", "SCRAM-SHA-256")
            .with("KAFKA__SASL_USERNAME", "bridge")
            .with("KAFKA__SASL_PASSWORD_FILE", password.to_str().unwrap())
            .with("KAFKA__SSL_CAFILE", ca.to_str().unwrap())
            .with(name, value)
    };
    let good = carried("LOG__LEVEL", "info");
    send(&broker, "frames", &frames(0, 5, 1));
    good.catch_up("kafka-to-redis");
    good.assert_once_and_in_order(5);
    good.catch_up("redis-to-kafka");
    let said = good.start(&["check", "--for", "bridge"]).ends_with(0);
    assert!(said.contains("1 Kafka brokers answer"), "{said}");
    assert!(!said.contains("bridge-secret"), "{said}");

    // The bridge reports that a certificate is not signed, and that the broker speaks another
    // protocol.
    for (name, value, word) in [
        ("KAFKA__SSL_CAFILE", "/etc/ssl/certs/ca-certificates.crt", "certificate verify failed"),
        ("KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT", "is kafka.security_protocol right?"),
    ] {
        let bad = carried(name, value);
        let mut bridge = bad.bridge("kafka-to-redis");
        wait_until(word, LONG, || bridge.said().contains(word));
        bridge.signal(Signal::TERM);
        bridge.ends_with(0);
    }
}
