//! A hostile page in the browser of an operator.

use framepress::config::HostPort;
use framepress::internals::base::Stop;
use framepress::internals::http::Listener;

use crate::http::ask;
use crate::support::{RedisServer, RunningEngine};

#[test]
fn only_addresses_localhost_and_configured_names_are_answered() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    server.add_frames("cam", 1);
    server.wait_for_outputs(1);
    let addr = HostPort { host: "127.0.0.1".into(), port: 0 };
    let listener = Listener::bind(&addr).unwrap().with_hosts(&["cabinet-7.example".to_owned()]);
    let addr = listener.addr();
    let _serving = listener.serve(engine.view().clone(), None, &Stop::default()).unwrap();
    let status = |path: &str, headers: &[(&str, &str)]| {
        ask(addr, "GET", path, headers).expect("an answer").status
    };
    let paths = [
        "/",
        "/metrics",
        "/api/v1/system/metrics",
        "/api/v1/cameras",
        "/livez",
        "/readyz",
        "/api/v1/cameras/cam/latest.jpg",
        "/assets/page.js",
    ];
    for path in paths {
        for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "x@127.0.0.1"] {
            assert_eq!(status(path, &[("Host", host)]), 421, "{host} {path}");
        }
        for host in ["127.0.0.1", "[::1]:80", "LOCALHOST:1", "cabinet-7.example", "10.1.2.3:8080"] {
            assert!(status(path, &[("Host", host)]) < 405, "{host} {path}");
        }
        // The host name is right, but another page sends the request.
        let of = |origin| [("Host", "127.0.0.1"), ("Origin", origin)];
        assert_eq!(status(path, &of("http://evil.example")), 403, "{path}");
        let embedded = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
        assert_eq!(status(path, &embedded), 403, "{path}");
    }
    assert_eq!(status("http://evil.example/metrics", &[]), 421, "the target counts as well");
    let linked = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    assert_eq!(status("/", &linked), 200, "a link leads to the page");
    // A forwarded name is ignored.
    assert_eq!(status("/livez", &[("X-Forwarded-Host", "evil.example")]), 200);
    let refused = ask(addr, "GET", "/metrics", &[("Host", "evil.example")]).unwrap();
    assert!(refused.text().contains("stats.hosts") && !refused.text().contains("framepress_"));
}
