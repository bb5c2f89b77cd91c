//! Foreign text that would control a terminal or change its reading order.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::internals::base::text::is_unsafe;

use super::{Guest, limited, run, said};
use crate::http::Site;
use crate::support::{
    DEAD_LETTERS, LONG, OUTPUT, RaisedAtEnd, RedisServer, RunningEngine, protobuf, wait_until,
};

/// Sets the title, clears the screen (by ESC and by C1), reverses the text direction, hides a word,
/// and adds text in tag characters.
const HOSTILE: &str =
    "\x1b]0;owned\x07\x1b[2J\u{9b}31m\u{202e}evil\u{2066}\u{200b}\u{feff}\u{e0041}\u{2028}\u{7f}";

#[track_caller]
fn assert_clean(what: &str, text: &str) {
    let bad: Vec<_> = text.chars().filter(|&c| is_unsafe(c) && c != '\n').collect();
    assert!(bad.is_empty(), "{what} holds {bad:?}: {text:?}");
}

/// A server that answers every command with a hostile error.
fn with_hostile_server(act: impl FnOnce(&str)) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Whatever happens, the other threads end.
        let _end = RaisedAtEnd(&over);
        let over = &over;
        scope.spawn(move || {
            let mut clients = Vec::new();
            let answer = format!("-ERR {HOSTILE} you\r\n").repeat(8);
            while !over.load(Ordering::Relaxed) {
                if let Ok((client, _)) = listener.accept() {
                    client.set_nonblocking(true).unwrap();
                    clients.push(client);
                }
                for client in &mut clients {
                    if matches!(client.read(&mut [0; 4096]), Ok(1..)) {
                        let _ = client.write_all(answer.as_bytes());
                    }
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        act(&url);
    });
}

#[test]
fn what_a_hostile_server_answers_steers_no_terminal() {
    with_hostile_server(|url| {
        for arguments in [
            &["inspect", "--redis-url", url][..],
            &["inspect", "--json", "--redis-url", url],
            &["dlq", "list", "--redis-url", url],
            &["dlq", "replay", "--all", "--redis-url", url],
            &["check", "--redis-url", url],
            &["check", "--json", "--redis-url", url],
            &["ingest", "--camera", "a", "--source", "synthetic", "--redis-url", url],
            &["bench", "--frames", "1", "--size", "64x48", "--redis-url", url],
        ] {
            let mut environment = vec![("REDIS_QUEUE__RETRY_ON_FAILURE", "false")];
            environment.extend([("CLICOLOR_FORCE", "0"), ("REDIS_QUEUE__TIMEOUT", "2")]);
            let output = run(arguments, &environment);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
            assert!(said(&output).contains("evil"), "{arguments:?}: {}", said(&output));
            assert_clean(&format!("{arguments:?}"), &said(&output));
        }
        for format in ["text", "json"] {
            let environment = [
                ("REDIS_QUEUE__URL", url),
                ("LOG__FORMAT", format),
                ("LOG__LEVEL", "debug"),
                ("STATS__ADDR", "null"),
            ];
            let mut engine = Guest::start(limited(":", &["run"], &environment));
            wait_until("it complains", LONG, || {
                engine.said().contains("evil") || !engine.is_running()
            });
            engine.kill();
            assert!(engine.said().contains("evil"));
            assert_clean(format, &engine.said());
            // The final message about an engine that does not start is not a log line.
            let said = engine.said();
            let logged = said.lines().filter(|line| !line.starts_with("framepress: "));
            for line in logged.filter(|_| format == "json") {
                let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(parsed["message"].is_string(), "{line}");
            }
        }
    });
}

#[test]
fn names_of_cameras_and_entries_steer_nothing() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let camera = format!("{HOSTILE}\ncam");
    server.add(&protobuf(&format!("frame{HOSTILE}"), &camera));
    server.wait_for_outputs(1);
    // An entry that no engine wrote, and dead letters with arbitrary field names.
    let mut command = redis::cmd("XADD");
    let data = [b"\x0a\x05".as_slice(), HOSTILE.as_bytes()].concat();
    command.arg(OUTPUT).arg("*").arg("data").arg(data).arg(HOSTILE).arg(HOSTILE);
    let _: String = server.ask(&command);
    let mut command = redis::cmd("XADD");
    command.arg(DEAD_LETTERS).arg("*").arg("data").arg("x").arg(HOSTILE).arg(HOSTILE);
    for field in ["reason", "detail", "stage", "camera_id", "failed_at", "original_id"] {
        command.arg(field).arg(format!("{HOSTILE}\n{field}"));
    }
    let letter: String = server.ask(&command);
    let url = server.url();
    for arguments in [
        &["inspect"][..],
        &["inspect", "--json"],
        &["dlq", "list"],
        &["dlq", "show", &letter],
        &["check"],
        &["check", "--json"],
    ] {
        let output = run(&[arguments, &["--redis-url", &url]].concat(), &[]);
        assert!(said(&output).contains("evil") || arguments[0] == "check", "{arguments:?}");
        assert_clean(&format!("{arguments:?}"), &said(&output));
    }
    let output = run(&["inspect", "--json", "--count", "2", "--redis-url", &url], &[]);
    let line = String::from_utf8(output.stdout).unwrap();
    let first: serde_json::Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(first["camera_id"], camera, "to a parser it is what it was");

    let site = Site::of(&engine, None);
    let cameras = site.get("/api/v1/cameras");
    assert_clean("/api/v1/cameras", cameras.text());
    assert_eq!(cameras.json()["cameras"][0]["camera_id"], camera);
    wait_until("the dead letter is known", LONG, || {
        site.get("/api/v1/dead-letters").text().contains("evil")
    });
    for path in ["/metrics", "/api/v1/system/metrics", "/api/v1/dead-letters", "/readyz"] {
        let answer = site.get(path);
        assert_eq!(answer.status, 200, "{path}");
        assert_clean(path, answer.text());
    }
    let metrics = site.get("/metrics");
    assert!(metrics.text().contains(r"\\u{1b}]0;owned"), "{}", metrics.text());
    engine.stop();
}

#[test]
fn keys_and_arguments_steer_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.json");
    let text = serde_json::json!({ HOSTILE: 1, "log": { HOSTILE: HOSTILE, "level": HOSTILE } });
    std::fs::write(&path, text.to_string()).unwrap();
    let yaml = folder.path().join("a.yaml");
    std::fs::write(&yaml, format!("\"{}\": 1\n\"{0}\": 2\n", "\\e]0;x\\u202e")).unwrap();
    let strange = folder.path().join(format!("{HOSTILE}.yaml"));
    for arguments in [
        &["check", "--config", path.to_str().unwrap()][..],
        &["check", "--json", "--config", path.to_str().unwrap()],
        &["check", "--config", yaml.to_str().unwrap()],
        &["check", "--config", strange.to_str().unwrap()],
        &["run", HOSTILE],
        &["bench", "--size", HOSTILE],
        &["dlq", "show", HOSTILE, "--redis-url", "redis://127.0.0.1:1"],
        &["ingest", "--camera", "a", "--source", HOSTILE, "--redis-url", "redis://127.0.0.1:1"],
    ] {
        let output = run(arguments, &[]);
        assert!(!output.status.success());
        assert_clean(&format!("{arguments:?}"), &said(&output));
    }
}
