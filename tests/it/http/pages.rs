//! Routes: which exist, and who may see them.

use framepress::internals::image::Format;
use framepress::internals::wire::proto::ImageData;
use redis::cmd;

use super::{Site, address_of, ask};
use crate::support::{
    DEAD_LETTERS, FramepressProcess, LONG, OUTPUT, RedisServer, RunningEngine, Sample, data,
    decoded, mean_difference, protobuf, protobuf_of, wait_until,
};

const NASTY: &str = "<script>alert(1)</script>/../\"x\" %41";

/// Like a browser's encodeURIComponent.
fn encoded(id: &str) -> String {
    let all = percent_encoding::NON_ALPHANUMERIC;
    percent_encoding::utf8_percent_encode(id, all).to_string()
}

#[test]
fn every_page_answers_and_carries_its_safeguards() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, None);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/assets/page.css", "text/css; charset=utf-8"),
        ("/assets/page.js", "text/javascript; charset=utf-8"),
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4"),
        ("/api/v1/system/metrics?x=1", "application/json"),
        ("/api/v1/cameras", "application/json"),
        ("/api/v1/history", "application/json"),
        ("/api/v1/dead-letters", "application/json"),
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, kind), "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("connection"), "close", "{path}");
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "{path}");

        let head = site.ask("HEAD", path, &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
}

#[test]
fn what_is_not_there_is_said_so_and_nothing_can_be_changed() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, None);
    for path in [
        "/nothing",
        "/api",
        "/api/v1/cameras/unseen",
        "/api/v1/cameras/unseen/latest.jpg",
        "/api/v1/cameras/unseen/other",
        "/../../../etc/passwd",
        "/assets/../../Cargo.toml",
        "/assets/%2e%2e%2f%2e%2e%2fCargo.toml",
        "/%00",
        "/%ff%fe",
        "/%",
    ] {
        let answer = site.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/json"));
        assert!(answer.json()["error"].is_string(), "{path}: {}", answer.text());
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PURGE"] {
        let answer = site.ask(method, "/api/v1/cameras", &[("Content-Length", "5")]);
        assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method}");
        assert!(answer.json()["error"].is_string());
    }
}

#[test]
fn figures_need_the_token_and_the_page_that_asks_for_it_does_not() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, Some("secret"));
    for path in ["/livez", "/readyz", "/", "/assets/page.css", "/assets/page.js"] {
        assert_eq!(site.get(path).status, 200, "{path}");
    }
    for path in ["/metrics", "/api/v1/system/metrics", "/api/v1/cameras/x/latest.jpg", "/unknown"] {
        let without = site.get(path);
        assert_eq!(without.status, 401, "{path}");
        assert!(without.header("www-authenticate").starts_with("Bearer"), "{path}");
        for wrong in ["Bearer secre", "Bearer secrets", "Basic secret", "secret", "Bearer"] {
            let answer = site.ask("GET", path, &[("Authorization", wrong)]);
            assert_eq!(answer.status, 401, "{path} with {wrong}");
        }
    }
    for right in ["Bearer secret", "bearer secret"] {
        let answer = site.ask("GET", "/api/v1/cameras", &[("Authorization", right)]);
        assert_eq!(answer.status, 200, "{right}");
    }
}

#[test]
fn an_address_others_can_reach_without_a_token_is_warned_of() {
    let server = RedisServer::start();
    let process = FramepressProcess::run(&server, &[("STATS__ADDR", "0.0.0.0:0")]);
    wait_until("it warns", LONG, || process.said().contains("without a token"));
    assert!(process.said().contains("WARN"), "{}", process.said());

    // No warning if there is a token, or if only this machine can connect.
    for environment in [
        &[("STATS__ADDR", "0.0.0.0:0"), ("STATS__TOKEN", "secret")][..],
        &[("STATS__ADDR", "127.0.0.1:0")],
    ] {
        let process = FramepressProcess::run(&server, environment);
        let addr = address_of(&process);
        wait_until("it serves", LONG, || {
            ask(addr, "GET", "/livez", &[]).is_some_and(|answer| answer.status == 200)
        });
        assert!(!process.said().contains("without a token"), "{}", process.said());
    }
}

#[test]
fn a_camera_may_be_called_anything() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, None);
    server.add(&protobuf("f1", NASTY));
    wait_until("the frame is out", LONG, || engine.account().out == 1);

    let path = format!("/api/v1/cameras/{}", encoded(NASTY));
    assert_eq!(site.get(&path).json()["camera_id"], NASTY);
    let metrics = site.get("/metrics");
    let label = r#"camera="<script>alert(1)</script>/../\"x\" %41""#;
    assert!(metrics.text().contains(label), "{}", metrics.text());
    assert!(!site.get("/").text().contains("alert(1)"), "the page itself holds no names");
}

#[test]
fn the_latest_picture_is_there_for_any_client() {
    // People get a JPEG, whatever the format of the results.
    for flags in [
        &[][..],
        &[("redis_queue.compression_format", "webp")],
        &[("redis_queue.enable_compression", "false"), ("analysis.enabled", "false")],
    ] {
        let server = RedisServer::start();
        let engine = RunningEngine::start(&server, flags);
        let site = Site::of(&engine, None);
        let path = format!("/api/v1/cameras/{}/latest.jpg", encoded(NASTY));
        assert_eq!(site.get(&path).status, 404, "no such camera yet");

        let image = Sample::colour(64, 48, 3).image(Format::Raw);
        server.add(&protobuf_of("f1", NASTY, image.clone()));
        wait_until("the frame is out", LONG, || engine.account().out == 1);
        let early = site.get(&path);
        assert_eq!((early.status, early.header("retry-after")), (404, "1"), "nobody had asked");
        assert_eq!(site.get(&format!("{path}?missing=204")).status, 204);

        server.add(&protobuf_of("f2", NASTY, image));
        wait_until("the frame is out", LONG, || engine.account().out == 2);
        let picture = site.get(&path);
        assert_eq!((picture.status, picture.header("content-type")), (200, "image/jpeg"));
        let outputs = server.outputs();
        let stored = outputs[1].frame.original_image.clone().unwrap();
        if flags.is_empty() {
            assert!(stored.compressed_data == picture.body, "the picture as it went out");
        }
        let photo = ImageData {
            compressed_data: picture.body.clone(),
            compression_format: "jpeg".into(),
            ..stored.clone()
        };
        let difference = mean_difference(&decoded(&photo), &decoded(&stored));
        assert!(difference < 6.0, "the same picture: {difference} with {flags:?}");
        let tag = picture.header("etag");
        let again = site.ask("GET", &path, &[("If-None-Match", tag)]);
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
}

#[test]
fn dead_letters_are_listed_with_their_reasons_and_without_their_frames() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let site = Site::of(&engine, None);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut entry = data(vec![b'x'; 100_000]);
    entry.push(("camera_id".into(), NASTY.into()));
    entry.push(("traceparent".into(), trace.into()));
    let id = server.add(&entry);
    let letters = || site.get("/api/v1/dead-letters").json()["latest"].clone();
    wait_until("the dead letter is listed", LONG, || !letters().as_array().unwrap().is_empty());
    let letter = &letters()[0];
    assert_eq!(letter["reason"], "undecodable");
    assert_eq!(letter["camera_id"], NASTY);
    assert_eq!(letter["traceparent"], trace);
    assert_eq!(letter["original_id"], id);
    assert!(letter["bytes"].as_u64().unwrap() > 100_000, "{letter}");
    assert!(letter.to_string().len() < 2_000, "the frame stays where it is: {letter}");

    let mut connection = server.connect();
    cmd("DEL").arg(DEAD_LETTERS).exec(&mut connection).unwrap();
    wait_until("the list is empty again", LONG, || letters().as_array().unwrap().is_empty());
    assert_eq!(server.len(OUTPUT), 0);
}

#[test]
fn a_trace_goes_into_the_log_line_of_a_refused_frame() {
    let server = RedisServer::start();
    let process = FramepressProcess::run(&server, &[]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut entry = data("no frame");
    entry.push(("traceparent".into(), trace.into()));
    server.add(&entry);
    wait_until("the refusal is told", LONG, || process.said().contains("frame refused"));
    let said = process.said();
    let line = said.lines().find(|line| line.contains("frame refused")).unwrap();
    assert!(line.contains(trace), "{line}");
}

#[test]
fn an_engine_that_waits_for_redis_at_its_start_is_alive_and_not_ready() {
    let mut server = RedisServer::durable();
    server.kill();
    let environment = [("STATS__ADDR", "127.0.0.1:0"), ("STATS__TOKEN", "secret")];
    let process = FramepressProcess::run(&server, &environment);
    let addr = address_of(&process);
    let get = |path: &str| ask(addr, "GET", path, &[("Authorization", "Bearer secret")]);
    let get = |path: &str| get(path).expect("an answer");
    assert_eq!(get("/livez").status, 200);
    let ready = get("/readyz");
    assert_eq!((ready.status, ready.text()), (503, "starting: waiting for Redis\n"));
    for path in ["/", "/assets/page.css", "/assets/page.js"] {
        assert_eq!(get(path).status, 200, "{path}");
    }
    for path in ["/metrics", "/api/v1/system/metrics", "/api/v1/cameras/a/latest.jpg"] {
        let answer = get(path);
        assert_eq!(answer.status, 503, "{path}");
        assert_eq!(answer.json()["error"], "starting: waiting for Redis", "{path}");
        assert_eq!(ask(addr, "GET", path, &[]).unwrap().status, 401, "{path}");
    }

    server.restart();
    wait_until("it is ready", LONG, || get("/readyz").status == 200);
    assert_eq!(get("/api/v1/system/metrics").json()["health"]["ready"], true);
}
