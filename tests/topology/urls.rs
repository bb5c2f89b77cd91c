//! The URLs that can name one server.

use crate::support::{Load, RunningEngine, Server, config, start_fault, wait_until};

/// Frames sent to `url` come out.
#[track_caller]
fn serves(url: &str) {
    let config = config(url, &[]);
    let engine = RunningEngine::start(&config);
    let load = Load::start(&config);
    load.wait_for_more(10);
    let sent = load.stop();
    let out = || engine.view.metrics.ledger.read().out as usize;
    wait_until("every result", || out() == sent);
    let shown = format!("{:?} {}", engine.view.topology, engine.view.topology);
    assert!(!shown.contains("s3cret"), "{shown}");
    engine.stop();
}

#[test]
fn a_user_a_password_and_a_database_are_said_to_the_server() {
    let server = Server::start(&[]);
    let rights = ["on", ">s3cret", "~*", "&*", "+@all"];
    let _: () = server.ask(&[&["ACL", "SETUSER", "engine"][..], &rights].concat());
    serves(&format!("redis://engine:s3cret@127.0.0.1:{}/3", server.port));
    let told: String = server.ask(&["INFO", "keyspace"]);
    assert!(told.contains("db3:") && !told.contains("db0:"), "{told}");

    let wrong = format!("redis://engine:s3cret2@127.0.0.1:{}/3", server.port);
    let fault = start_fault(&wrong, &[]).to_string();
    assert!(fault.contains("WRONGPASS") && !fault.contains("s3cret"), "{fault}");
}

#[test]
fn a_unix_socket_and_ipv6_are_addresses() {
    let folder = tempfile::Builder::new().prefix("framepress-urls-").tempdir().unwrap();
    let socket = folder.path().join("redis.sock").display().to_string();
    let server = Server::start(&["--unixsocket", &socket, "--bind", "127.0.0.1 -::1"]);
    serves(&format!("redis+unix://{socket}?db=2"));
    if std::net::TcpStream::connect(("::1", server.port)).is_ok() {
        serves(&format!("redis://[::1]:{}", server.port));
    } else {
        eprintln!("SKIPPED: this machine has no IPv6");
    }
}

/// A stopped server accepts no connection. If its backlog is full, even connecting blocks.
#[test]
fn a_unix_socket_that_accepts_nothing_is_given_up() {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    };
    let folder = tempfile::Builder::new().prefix("framepress-urls-").tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let path = socket.display().to_string();
    let server = Server::start(&["--unixsocket", &path, "--tcp-backlog", "1"]);
    server.silence();
    let address = SocketAddrUnix::new(&socket).unwrap();
    let waiting: Vec<_> = std::iter::from_fn(|| {
        let flags = SocketFlags::NONBLOCK;
        let unix = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        connect(&unix, &address).is_ok().then_some(unix)
    })
    .collect();
    assert!(!waiting.is_empty());
    let flags = [("redis_queue.timeout", "1")];
    let began = framepress::internals::metrics::clock::Tick::now();
    let fault = start_fault(&format!("redis+unix://{path}"), &flags).to_string();
    assert!(fault.contains("accepted no connection") && fault.contains(&path), "{fault}");
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn an_embedded_server_is_started_and_used() {
    let config = config("embedded://", &[]);
    let engine = RunningEngine::start(&config);
    let mut control = framepress::internals::redis::Control::new(
        &engine.view.topology,
        std::time::Duration::from_secs(5),
    );
    control.ping().unwrap();
    engine.stop();
}
