//! Encryption, with certificates made by the tests.

use rcgen::CertificateParams;

use crate::support::{
    Certificates, INPUT, Load, OUTPUT, RunningEngine, Server, assert_every_entry_once, config,
    is_done, start_fault, wait_until,
};

/// A server with a plain port and a TLS port.
struct TlsServer {
    plain: Server,
    certificates: Certificates,
}

impl TlsServer {
    /// A server whose certificate is for `host`. `clients` is `no` or `yes`: whether clients need a
    /// certificate. `None` if the server program has no TLS.
    fn start(
        host: &str,
        clients: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Option<TlsServer> {
        if !Server::knows_tls() {
            return None;
        }
        let certificates = Certificates::new();
        certificates.sign("server", host, change);
        let options = ["--tls-auth-clients", clients];
        Some(TlsServer { plain: Server::encrypted(&certificates, &options), certificates })
    }

    fn ordinary() -> Option<TlsServer> {
        TlsServer::start("127.0.0.1", "no", |_| {})
    }

    fn url(&self) -> String {
        format!("rediss://127.0.0.1:{}/0", self.plain.deployed_port())
    }

    fn ca(&self) -> String {
        self.certificates.path("ca.pem")
    }

    /// A load and an engine over TLS: every frame is processed exactly once.
    #[track_caller]
    fn serves(&self, flags: &[(&str, &str)]) {
        let config = config(&self.url(), flags);
        let load = Load::start(&config);
        let engine = RunningEngine::start(&config);
        load.wait_for_more(100);
        let sent = load.stop();
        let mut connection = self.plain.connect();
        wait_until("every entry done", || is_done(&mut connection, INPUT));
        let outputs = &mut self.plain.connect();
        let entries = assert_every_entry_once((&mut connection, INPUT), (outputs, OUTPUT));
        assert_eq!(entries, sent);
        assert_eq!(engine.stop().out as usize, sent);
    }
}

/// Starting on `url` fails with a message that contains each of `valid`.
#[track_caller]
fn refused(url: &str, flags: &[(&str, &str)], valid: &[&str]) {
    let fault = start_fault(url, flags).to_string();
    for part in valid {
        assert!(fault.contains(part), "{part:?} is not in: {fault}");
    }
}

#[test]
fn a_whole_run_goes_over_tls() {
    let Some(server) = TlsServer::ordinary() else { return };
    server.serves(&[("redis_queue.tls.ca", &server.ca())]);
}

#[test]
fn frames_larger_than_any_buffer_of_tls_go_through() {
    let Some(server) = TlsServer::ordinary() else { return };
    let config = config(&server.url(), &[("redis_queue.tls.ca", &server.ca())]);
    let stop = framepress::internals::base::Stop::default();
    let mut producer = crate::support::producer(&config, &stop);
    let (width, height) = (1920, 1080);
    let pixels: Vec<u8> = (0..width * height * 3).map(|at| (at * 7 % 251) as u8).collect();
    for number in 0..10 {
        let frame_id = format!("frame-{number}");
        let mut frame = crate::support::frame(&frame_id, "camera", &pixels);
        frame.picture.format = framepress::internals::image::Format::Raw;
        (frame.picture.width, frame.picture.height) = (width as u32, height as u32);
        producer.send(&frame).unwrap();
    }
    let engine = RunningEngine::start(&config);
    let mut connection = server.plain.connect();
    wait_until("every entry done", || is_done(&mut connection, INPUT));
    assert_eq!(engine.stop().out, 10);
}

#[test]
fn a_client_certificate_is_shown_where_one_is_wanted() {
    let Some(server) = TlsServer::start("127.0.0.1", "yes", |_| {}) else { return };
    server.certificates.sign("client", "engine", |_| {});
    let (cert, key) =
        (server.certificates.path("client.crt"), server.certificates.path("client.key"));
    let ca = server.ca();
    server.serves(&[
        ("redis_queue.tls.ca", &ca),
        ("redis_queue.tls.cert", &cert),
        ("redis_queue.tls.key", &key),
    ]);
    let without = [("redis_queue.tls.ca", ca.as_str())];
    refused(&server.url(), &without, &["asks for a client certificate", "redis_queue.tls.cert"]);

    let others = Certificates::new();
    others.sign("client", "engine", |_| {});
    let (cert, key) = (others.path("client.crt"), others.path("client.key"));
    let strange = [
        ("redis_queue.tls.ca", ca.as_str()),
        ("redis_queue.tls.cert", &cert),
        ("redis_queue.tls.key", &key),
    ];
    refused(&server.url(), &strange, &["does not accept the client certificate"]);
}

#[test]
fn a_server_of_another_ca_is_not_trusted() {
    let Some(server) = TlsServer::ordinary() else { return };
    let other = Certificates::new();
    let flags = [("redis_queue.tls.ca", &*other.path("ca.pem"))];
    refused(&server.url(), &flags, &["CA is not trusted", "redis_queue.tls.ca"]);
}

#[test]
fn an_expired_certificate_is_refused() {
    let expired = TlsServer::start("127.0.0.1", "no", |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let Some(server) = expired else { return };
    let flags = [("redis_queue.tls.ca", &*server.ca())];
    refused(&server.url(), &flags, &["has expired", "renew it"]);
}

#[test]
fn a_clock_before_1970_makes_no_handshake_panic() {
    let Some(server) = TlsServer::ordinary() else { return };
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let mut libraries = folders.map(|it| it.path().join("faketime/libfaketimeMT.so.1"));
    let Some(library) = libraries.find(|path| path.exists()) else {
        return eprintln!("skipped: faketime is not installed");
    };
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_framepress"))
        .args(["check", "--redis-url", &server.url()])
        .env("REDIS_QUEUE__TLS__CA", server.ca())
        .envs([("LD_PRELOAD", library.as_os_str()), ("FAKETIME", "-70y".as_ref())])
        .output()
        .unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("set the clock") && !said.contains("panicked"), "{said}");
}

#[test]
fn the_name_in_the_certificate_counts_and_can_be_given() {
    let Some(server) = TlsServer::start("redis.cabinet.example", "no", |_| {}) else { return };
    let ca = server.ca();
    let flags = [("redis_queue.tls.ca", ca.as_str())];
    refused(&server.url(), &flags, &["for another name", "redis_queue.tls.server_name"]);
    server.serves(&[
        ("redis_queue.tls.ca", &ca),
        ("redis_queue.tls.server_name", "redis.cabinet.example"),
    ]);
}

#[test]
fn plain_text_to_a_tls_port_is_told_what_to_do() {
    let Some(server) = TlsServer::ordinary() else { return };
    let url = format!("redis://127.0.0.1:{}/0", server.plain.deployed_port());
    refused(&url, &[], &["rediss://"]);
}

#[test]
fn tls_to_a_plain_port_is_told_what_to_do() {
    let Some(server) = TlsServer::ordinary() else { return };
    let url = format!("rediss://127.0.0.1:{}/0", server.plain.port);
    let ca = server.ca();
    let flags = [("redis_queue.tls.ca", ca.as_str()), ("redis_queue.timeout", "2")];
    refused(&url, &flags, &["TLS", "redis://"]);
}

#[test]
fn a_file_that_is_no_certificate_is_named() {
    let Some(server) = TlsServer::ordinary() else { return };
    let key = server.certificates.path("server.key");
    refused(&server.url(), &[("redis_queue.tls.ca", &key)], &["redis_queue.tls.ca", "server.key"]);
    let gone = server.certificates.path("gone.pem");
    refused(&server.url(), &[("redis_queue.tls.ca", &gone)], &["redis_queue.tls.ca", "gone.pem"]);
}
