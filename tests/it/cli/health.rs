//! `health` tells a script whether an engine is alive, and whether it is ready.

use super::{complains, says};
use crate::support::{FramepressProcess, LONG, RedisServer, free_port, wait_until};

#[test]
fn an_engine_that_waits_for_its_server_is_alive_and_not_ready() {
    let server = RedisServer::start();
    let address = format!("127.0.0.1:{}", free_port());
    let environment = [("STATS__ADDR", &*address), ("STATS__TOKEN", "open-sesame")];
    let _engine = FramepressProcess::run(&server, &environment);
    wait_until("the engine listens", LONG, || std::net::TcpStream::connect(&address).is_ok());
    let asked = |more: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_framepress"))
            .args([&["health", "--url", &address], more].concat())
            .output()
            .unwrap();
        output.status.code()
    };
    wait_until("it is ready", LONG, || asked(&["--ready"]) == Some(0));
    assert_eq!(says(0, &["health", "--url", &address]).trim(), "ok");
    drop(server);
    wait_until("it is not ready", LONG, || asked(&["--ready"]) == Some(1));
    let why = complains(1, &["health", "--ready", "--url", &address]);
    assert!(why.contains(&format!("http://{address}/readyz: status 503: ")), "{why}");
    assert_eq!(asked(&[]), Some(0), "it lives, and tries again");
}

#[test]
fn an_address_without_a_server_is_a_failure() {
    let address = format!("127.0.0.1:{}", free_port());
    let said = complains(1, &["health", "--url", &address]);
    assert!(said.contains(&format!("no answer from http://{address}")), "{said}");
    let said = complains(2, &["health", "--url", "https://127.0.0.1:1"]);
    assert!(said.contains("valid: http://HOST:PORT"), "{said}");
}
