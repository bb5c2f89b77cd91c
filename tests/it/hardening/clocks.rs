//! A clock that is wrong by decades.

use super::{Guest, limited};
use crate::support::{LONG, RedisServer, faketime, wait_until};

#[test]
fn a_request_ends_no_engine_whatever_the_clock_says() {
    let Some(library) = faketime() else { return };
    for (offset, year) in [("-70y", "1970"), ("+8000y", "9999"), ("+0", "20")] {
        let server = RedisServer::start();
        let environment = [
            ("REDIS_QUEUE__URL", &*server.url()),
            ("STATS__ADDR", "127.0.0.1:0"),
            ("REDIS_QUEUE__BLOCK_TIME_MS", "100"),
        ];
        let mut command = limited(":", &["run"], &environment);
        command.env("LD_PRELOAD", &library).env("FAKETIME", offset);
        let mut engine = Guest::start(command);
        let address = || {
            let said = engine.said();
            let (_, rest) = said.split_once("statistics on http://")?;
            rest.split_once(char::is_whitespace)?.0.parse().ok()
        };
        wait_until("it says where its statistics are", LONG, || address().is_some());
        let address = address().unwrap();
        for path in ["/livez", "/readyz", "/metrics", "/api/v1/system/metrics", "/", "/none"] {
            let answer = crate::http::ask(address, "GET", path, &[]).expect("an answer");
            assert!([200, 404, 503].contains(&answer.status), "{path}: {}", answer.status);
            assert!(answer.header("date").contains(year), "{offset}: {}", answer.header("date"));
        }
        server.add_frames("cam", 3);
        server.wait_for_outputs(3);
        assert!(engine.is_running());
        assert!(!engine.said().contains("panicked"), "{}", engine.said());
    }
}
