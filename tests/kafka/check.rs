//! `check --for bridge`, the statistics, and `bridge compare`.

use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::common::{RunningEngine, free_port, wait_until};
use crate::support::{Broker, Carried, LONG, Message, available, frames, send, shared};

fn findings(carried: &Carried, code: i32) -> Vec<Json> {
    let said = carried.start(&["check", "--for", "bridge", "--json"]).ends_with(code);
    // Standard error follows it.
    let mut values = serde_json::Deserializer::from_str(&said).into_iter::<Json>();
    let report = values.next().and_then(Result::ok).unwrap_or_else(|| panic!("{said}"));
    report["findings"].as_array().unwrap().clone()
}

#[track_caller]
fn finding<'a>(all: &'a [Json], code: &str, severity: &str) -> &'a Json {
    let found = all.iter().find(|it| it["code"] == code && it["severity"] == severity);
    found.unwrap_or_else(|| panic!("no {severity} {code} in {all:#?}"))
}

#[test]
fn what_a_bridge_needs_is_looked_at_before_frames_fail() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 2);
    let all = findings(&carried, 0);
    finding(&all, "kafka.brokers", "ok");
    let topic = finding(&all, "kafka.topic", "ok");
    assert!(topic["what"].as_str().unwrap().contains("2 partitions"), "{topic}");

    // Results larger than the topic accepts.
    let small = format!("{}-small", carried.output);
    broker.create_topic(&small, 1, &[("max.message.bytes", "500")]);
    send(broker, &carried.input, &frames(0, 3, 1));
    carried.catch_up("kafka-to-redis");
    let engine =
        RunningEngine::start(&carried.server, &[("redis_queue.output_queue", &carried.results)]);
    wait_until("results", LONG, || carried.server.len(&carried.results) == 3);
    engine.stop();
    let carried = carried.into_topic(&small).with("KAFKA__IMAGE", "base64");
    let all = findings(&carried, 1);
    let size = finding(&all, "kafka.output_size", "error");
    assert!(size["do"].as_str().unwrap().contains("max.message.bytes"), "{size}");

    let missing = Carried::between(broker, "not-there", "nor-this");
    let all = findings(&missing, 1);
    let topic = finding(&all, "kafka.topic", "error");
    assert!(topic["what"].as_str().unwrap().contains("not-there"), "{topic}");

    let nowhere = format!("127.0.0.1:{}", free_port());
    let away = Carried::new(broker, 1).with("KAFKA__BOOTSTRAP_SERVERS", &nowhere);
    let all = findings(&away, 1);
    let brokers = finding(&all, "kafka.brokers", "error");
    assert!(brokers["what"].as_str().unwrap().contains("Connection refused"), "{brokers}");

    let wrong = Carried::new(broker, 1)
        .with("KAFKA__PROPERTIES", r#"{"no.such.thing": "hunter2", "linger.ms": 5}"#);
    let all = findings(&wrong, 1);
    let property = finding(&all, "kafka.configuration", "error");
    let text = property.to_string();
    assert!(text.contains("no.such.thing") && !text.contains("hunter2"), "{text}");
}

#[test]
fn statistics_say_how_a_direction_stands() {
    if !available() {
        return;
    }
    let mut broker = Broker::start();
    broker.create_topic("frames", 1, &[]);
    send(&broker, "frames", &frames(0, 10, 1));
    let addr = format!("127.0.0.1:{}", free_port());
    let carried = Carried::between(&broker, "frames", "results").with("STATS__TOKEN", "secret");
    let mut bridge = carried.start(&["bridge", "kafka-to-redis", "--stats-addr", &addr]);
    carried.wait_for_frames(10);
    let get = |path: &str| {
        let url = format!("http://{addr}{path}");
        let request = ureq::get(&url).header("Authorization", "Bearer secret");
        let answer = request.config().http_status_as_error(false).build().call();
        answer.map_or((0, String::new()), |mut answer| {
            (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
        })
    };
    wait_until("ready", LONG, || get("/readyz").0 == 200);
    wait_until("the lag", LONG, || get("/metrics").1.contains("framepress_bridge_lag"));
    let (_, metrics) = get("/metrics");
    for series in [
        "framepress_bridge_messages_total{direction=\"kafka-to-redis\"} 10",
        "framepress_bridge_refused_total{direction=\"kafka-to-redis\"} 0",
        "framepress_bridge_fenced_total{direction=\"kafka-to-redis\"} 0",
        "framepress_bridge_lost_total{direction=\"kafka-to-redis\"} 0",
        "framepress_bridge_lag{direction=\"kafka-to-redis\"} 0",
        "framepress_bridge_paused{direction=\"kafka-to-redis\"} 0",
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series} in\n{metrics}");
    }
    assert!(metrics.contains("framepress_bridge_bytes_total"));
    let (_, page) = get("/api/v1/bridge");
    let page: Json = serde_json::from_str(&page).unwrap();
    assert_eq!((&page["messages"], &page["problem"]), (&10.into(), &Json::Null));
    let bare =
        ureq::get(format!("http://{addr}/metrics")).config().http_status_as_error(false).build();
    assert_eq!(bare.call().unwrap().status().as_u16(), 401);
    // Without a broker the bridge is alive, is not ready, and says why.
    broker.kill();
    wait_until("not ready", LONG, || {
        let (status, why) = get("/readyz");
        status == 503 && !why.is_empty()
    });
    assert_eq!(get("/livez").0, 200);
    // The library's own end waits minutes for brokers that are gone.
    let began = framepress::internals::metrics::clock::Tick::now();
    bridge.signal(Signal::TERM);
    bridge.ends_with(0);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

#[test]
fn results_of_both_systems_are_compared_frame_by_frame() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    let mut comparing = carried.start(&["bridge", "compare", "--seconds", "4", "--json"]);
    // Frames from before its start do not count as missing.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let engine =
        RunningEngine::start(&carried.server, &[("redis_queue.output_queue", &carried.results)]);
    let picture = crate::common::protobuf("shared", "cam-1");
    carried.server.add(&picture);
    carried.server.add(&crate::common::protobuf("only-new", "cam-1"));
    wait_until("results", LONG, || carried.server.len(&carried.results) == 2);
    let old = |id: &str| {
        let text = json!({
            "frame_id": id, "camera_id": "cam-1", "timestamp": 1_700_000_000.25,
            "quality_score": 5.0, "congestion_level": "jammed", "validation_passed": true,
        });
        Message::new(text.to_string())
    };
    let from_redis = old("shared").header("source_id", "1-1");
    send(broker, &carried.output, &[old("shared"), old("only-old"), from_redis]);
    let said = comparing.ends_with(0);
    engine.stop();
    let found: Json = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!((&found["both"], &found["old"]["results"]), (&1.into(), &2.into()), "{found:#}");
    assert_eq!(found["new"]["missing_frames"], json!(["only-old"]));
    assert_eq!(found["old"]["missing_frames"], json!(["only-new"]));
    let differences = found["differences"].as_array().unwrap();
    assert!(differences.iter().any(|it| it["name"] == "quality_score"), "{found:#}");
    assert!(differences.iter().any(|it| it["old"] == "jammed"), "{found:#}");
    let table = carried.start(&["bridge", "compare", "--seconds", "1"]).ends_with(0);
    assert!(table.contains("latency p99, ms"), "{table}");
}

#[test]
fn a_broker_that_is_back_is_not_blamed_for_having_been_away() {
    if !available() {
        return;
    }
    let mut broker = Broker::start();
    broker.kill();
    let addr = format!("127.0.0.1:{}", free_port());
    let carried = Carried::between(&broker, "not-there-yet", "none")
        .with("KAFKA__PROPERTIES", r#"{"topic.metadata.refresh.interval.ms": 500}"#);
    let _bridge = carried.start(&["bridge", "kafka-to-redis", "--stats-addr", &addr]);
    let why = || {
        let answer = ureq::get(format!("http://{addr}/readyz"))
            .config()
            .http_status_as_error(false)
            .build()
            .call();
        answer.map_or(String::new(), |mut it| it.body_mut().read_to_string().unwrap_or_default())
    };
    wait_until("the broker is away", LONG, || why().contains("Connect to"));
    broker.start_again();
    wait_until("the topic is not there", LONG, || {
        let why = why();
        why.contains("topic") && !why.contains("Connect to")
    });
}
