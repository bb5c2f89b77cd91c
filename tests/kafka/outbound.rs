//! Redis to Kafka.

use std::collections::BTreeSet;

use framepress::internals::wire::proto::{ImageData, ProcessedFrame, QualityMetrics};
use prost::Message as _;
use redis::{Value, cmd};
use rustix::process::Signal;
use serde_json::Value as Json;

use crate::common::wait_until;
use crate::support::{
    Broker, Carried, Isolation, LONG, Stored, available, read, read_until, shared,
};

/// Adds results of two cameras with a picture of `bytes` bytes; `from` is the number of the first
/// one.
fn add_results(carried: &Carried, from: usize, count: usize, bytes: usize) {
    let mut connection = carried.server.connect();
    for number in from..from + count {
        let (frame_id, camera_id) = (format!("frame-{number:06}"), format!("cam-{}", number % 2));
        let frame = ProcessedFrame {
            frame_id: frame_id.clone(),
            camera_id: camera_id.clone(),
            timestamp: 1_700_000_000.25,
            processed_image: Some(ImageData {
                compressed_data: vec![0xab; bytes],
                width: 640,
                height: 480,
                compression_format: "jpeg".into(),
                ..ImageData::default()
            }),
            quality_metrics: Some(QualityMetrics { quality_score: 0.75, ..Default::default() }),
            validation_passed: true,
            ..ProcessedFrame::default()
        };
        let mut command = cmd("XADD");
        command.arg(&carried.results).arg("*").arg("data").arg(frame.encode_to_vec());
        command.arg("frame_id").arg(frame_id).arg("camera_id").arg(camera_id);
        command.arg("source_id").arg(format!("5-{number}")).arg("traceparent").arg("00-11-22-01");
        command.query::<Value>(&mut connection).unwrap();
    }
}

/// The frame ids of messages in JSON, in the order of each partition.
fn frame_ids(found: &[Stored]) -> Vec<String> {
    let id = |stored: &Stored| {
        let value: Json = serde_json::from_slice(stored.value.as_ref().unwrap()).unwrap();
        value["frame_id"].as_str().unwrap().to_owned()
    };
    found.iter().map(id).collect()
}

/// Every result is in the topic once, and those of a camera are in order.
#[track_caller]
pub fn assert_once_and_in_order(found: &[Stored], count: usize) {
    let ids = frame_ids(found);
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!((ids.len(), distinct.len()), (count, count), "all results, each once");
    let mut last: std::collections::HashMap<Vec<u8>, String> = std::collections::HashMap::new();
    for (stored, id) in found.iter().zip(ids) {
        let before = last.insert(stored.key.clone().unwrap(), id.clone());
        assert!(before.as_ref() < Some(&id), "{id} behind {before:?}");
    }
}

#[test]
fn results_become_messages_of_the_old_form_once_and_in_order() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 3);
    add_results(&carried, 0, 50, 100);
    carried.catch_up("redis-to-kafka");
    let found = read(broker, &carried.output, Isolation::Committed, LONG);
    assert_once_and_in_order(&found, 50);
    let first = found.iter().find(|it| it.get("source_id") == Some(b"5-0")).unwrap();
    assert_eq!(first.get("frame_id"), Some(&b"frame-000000"[..]));
    assert_eq!(first.get("traceparent"), Some(&b"00-11-22-01"[..]));
    let value: Json = serde_json::from_slice(first.value.as_ref().unwrap()).unwrap();
    let fields: BTreeSet<&str> = value.as_object().unwrap().keys().map(|key| &**key).collect();
    let old = "frame_id camera_id timestamp quality_score vehicle_density congestion_level \
               weather_conditions lighting_conditions processing_time_ms validation_passed source_hash";
    assert_eq!(fields, old.split_whitespace().collect());
    assert_eq!((&value["quality_score"], &value["camera_id"]), (&0.75.into(), &"cam-0".into()));

    // A restart sends nothing again, and the group in Redis has advanced.
    add_results(&carried, 50, 10, 100);
    carried.catch_up("redis-to-kafka");
    carried.catch_up("redis-to-kafka");
    assert_once_and_in_order(&read(broker, &carried.output, Isolation::Committed, LONG), 60);
    let groups: redis::streams::StreamInfoGroupsReply =
        carried.server.ask(cmd("XINFO").arg("GROUPS").arg(&carried.results));
    assert_eq!(groups.groups[0].name, format!("bridge-{}", carried.input));
    let last: Vec<Value> = carried.server.ask(
        cmd("XREAD").arg("STREAMS").arg(&carried.results).arg(&groups.groups[0].last_delivered_id),
    );
    assert!(last.is_empty(), "nothing is behind the group");
}

#[test]
fn pictures_go_along_and_protobuf_stays_as_it_is() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    add_results(&carried, 0, 1, 3);
    carried
        .start(&["bridge", "redis-to-kafka", "--until-caught-up", "--image", "base64"])
        .ends_with(0);
    let found = read(broker, &carried.output, Isolation::Committed, LONG);
    let value: Json = serde_json::from_slice(found[0].value.as_ref().unwrap()).unwrap();
    assert_eq!((&value["image_base64"], &value["width"]), (&"q6ur".into(), &640.into()));
    add_results(&carried, 1, 1, 3);
    carried
        .start(&["bridge", "redis-to-kafka", "--until-caught-up", "--format", "protobuf"])
        .ends_with(0);
    let found = read(broker, &carried.output, Isolation::Committed, LONG);
    let frame = ProcessedFrame::decode(&found[1].value.as_ref().unwrap()[..]).unwrap();
    assert_eq!((frame.frame_id.as_str(), found.len()), ("frame-000001", 2));
    let said = carried.start(&["bridge", "redis-to-kafka", "--format", "xml"]).ends_with(2);
    assert!(said.contains("valid: json, protobuf"), "{said}");
}

#[test]
fn a_second_bridge_fences_the_first() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    let mut first = carried.bridge("redis-to-kafka");
    add_results(&carried, 0, 20, 10);
    read_until(broker, &carried.output, Isolation::Committed, 20, LONG);
    let mut second = carried.bridge("redis-to-kafka");
    wait_until("the second to begin", LONG, || second.said().contains("behind "));
    add_results(&carried, 20, 20, 10);
    let said = first.ends_with(1);
    assert!(said.contains("another redis-to-kafka bridge"), "{said}");
    read_until(broker, &carried.output, Isolation::Committed, 40, LONG);
    second.signal(Signal::TERM);
    second.ends_with(0);
    assert_once_and_in_order(&read(broker, &carried.output, Isolation::Committed, LONG), 40);
}

#[test]
fn a_message_that_the_broker_refuses_goes_to_the_dead_letters_and_the_others_pass() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1).with("KAFKA__IMAGE", "base64");
    let small = format!("{}-small", carried.output);
    broker.create_topic(&small, 1, &[("max.message.bytes", "20000")]);
    let carried = carried.into_topic(&small);
    add_results(&carried, 0, 5, 100);
    add_results(&carried, 5, 1, 30_000);
    add_results(&carried, 6, 5, 100);
    let said = carried.catch_up("redis-to-kafka");
    assert!(said.contains("10 messages, 1 refused"), "{said}");
    let found = read(broker, &carried.output, Isolation::Committed, LONG);
    assert_once_and_in_order(&found, 10);
    let letters = carried.server.range(&format!("{}:dlq", carried.results));
    assert_eq!(letters.len(), 1);
    let text = |name: &str| String::from_utf8_lossy(&letters[0].1[name]).into_owned();
    assert_eq!((text("frame_id"), text("reason")), ("frame-000005".into(), "too_large".into()));
    assert!(!letters[0].1["data"].is_empty(), "it can be looked at");

    // An entry that is not a result is refused too.
    let mut command = cmd("XADD");
    let _: Value =
        carried.server.ask(command.arg(&carried.results).arg("*").arg("data").arg("rubbish"));
    add_results(&carried, 11, 1, 100);
    carried.catch_up("redis-to-kafka");
    assert_once_and_in_order(&read(broker, &carried.output, Isolation::Committed, LONG), 11);
    assert_eq!(carried.server.len(&format!("{}:dlq", carried.results)), 2);
}

#[test]
fn results_that_were_trimmed_before_they_were_read_are_counted() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    add_results(&carried, 0, 10, 10);
    carried.catch_up("redis-to-kafka");
    add_results(&carried, 10, 30, 10);
    let mut command = cmd("XTRIM");
    let _: Value = carried.server.ask(command.arg(&carried.results).arg("MAXLEN").arg("=").arg(5));
    let said = carried.catch_up("redis-to-kafka");
    assert!(said.contains("5 messages, 0 refused, 0 fenced, 25 lost"), "{said}");
}

#[test]
fn rights_that_are_refused_are_said_and_waited_for() {
    if !available() {
        return;
    }
    let broker = Broker::secured();
    broker.create_topic("frames", 1, &[]);
    broker.create_topic("results", 1, &[]);
    let password = Broker::password("bridge");
    let carried = Carried::between(&broker, "frames", "results")
        .with("KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT")
        .with("KAFKA__SASL_USERNAME", "bridge")
        .with("KAFKA__SASL_PASSWORD", &password);
    let mut command = cmd("XADD");
    let _: Value =
        carried.server.ask(command.arg(&carried.results).arg("*").arg("data").arg("rubbish"));
    add_results(&carried, 0, 3, 10);
    let mut bridge = carried.bridge("redis-to-kafka");
    wait_until("a word", LONG, || bridge.said().contains("uthorization failed"));
    let id = format!("framepress-bridge-{}", carried.results);
    broker.allow("bridge", &["--operation", "All", "--transactional-id", &id]);
    broker.allow("bridge", &["--operation", "All", "--topic", "framepress_bridge_positions"]);
    // The bridge retries the transaction, and stores the result that it refuses only once.
    broker.allow("bridge", &["--operation", "Describe", "--topic", "results"]);
    broker.allow("bridge", &["--operation", "Create", "--cluster"]);
    broker.allow("bridge", &["--operation", "Read", "--group", "bridge-frames"]);
    wait_until("a refusal", LONG, || carried.server.len(&format!("{}:dlq", carried.results)) > 0);
    std::thread::sleep(std::time::Duration::from_secs(2));
    broker.allow("bridge", &["--operation", "All", "--topic", "results"]);
    assert_eq!(read_until(&broker, "results", Isolation::Committed, 3, LONG).len(), 3);
    assert_eq!(carried.server.len(&format!("{}:dlq", carried.results)), 1);
    bridge.signal(Signal::TERM);
    let said = bridge.ends_with(0);
    assert!(!said.contains(&password), "{said}");

    let wrong = Carried::between(&broker, "frames", "results")
        .with("KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT")
        .with("KAFKA__SASL_USERNAME", "bridge")
        .with("KAFKA__SASL_PASSWORD", "hunter2");
    for direction in ["kafka-to-redis", "redis-to-kafka"] {
        let mut bridge = wrong.bridge(direction);
        wait_until("a word", LONG, || bridge.said().contains("uthentication"));
        bridge.signal(Signal::TERM);
        let said = bridge.ends_with(0);
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// A Redis whose ids are before the stored position: its clock was set back, or it lost its latest
/// writes.
#[test]
fn results_whose_ids_would_be_before_the_place_are_seen() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    add_results(&carried, 0, 3, 10);
    carried.catch_up("redis-to-kafka");
    let _: Value = carried.server.ask(&cmd("FLUSHALL"));
    let mut command = cmd("XADD");
    let _: Value =
        carried.server.ask(command.arg(&carried.results).arg("5-1").arg("data").arg("old"));
    let mut bridge = carried.bridge("redis-to-kafka");
    wait_until("a word", LONG, || bridge.said().contains("new results get ids above"));
    add_results(&carried, 3, 4, 10);
    let found = read_until(broker, &carried.output, Isolation::Committed, 7, LONG);
    assert_once_and_in_order(&found, 7);
    bridge.signal(Signal::TERM);
    bridge.ends_with(0);
}

/// The topic of positions is shared: an open transaction there hides later records of other
/// bridges.
#[test]
fn an_open_transaction_of_another_bridge_hides_no_place() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    add_results(&carried, 0, 5, 10);
    let mut bridge = carried.bridge("redis-to-kafka");
    read_until(broker, &carried.output, Isolation::Committed, 5, LONG);
    let other: BaseProducer = broker
        .client()
        .set("transactional.id", format!("other-{}", carried.output))
        .set("transaction.timeout.ms", "4000")
        .create()
        .unwrap();
    other.init_transactions(LONG).unwrap();
    other.begin_transaction().unwrap();
    let record = BaseRecord::to("framepress_bridge_positions").key("another stream").payload("1-1");
    assert!(other.send(record).is_ok());
    other.flush(LONG).unwrap();
    add_results(&carried, 5, 5, 10);
    read_until(broker, &carried.output, Isolation::Committed, 10, LONG);
    bridge.kill();
    carried.catch_up("redis-to-kafka");
    assert_once_and_in_order(&read(broker, &carried.output, Isolation::Committed, LONG), 10);
}

/// An account with write access to the topic of positions could otherwise stop the output stream
/// forever.
#[test]
fn a_place_that_no_result_can_have_had_is_refused() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    for (place, why) in [
        ("18446744073709551615-18446744073709551615", "more than a year ahead"),
        ("abc", "is not an entry id"),
    ] {
        if !available() {
            return;
        }
        let broker = Broker::start();
        let carried = Carried::new(&broker, 1);
        add_results(&carried, 0, 5, 10);
        carried.catch_up("redis-to-kafka");
        let other: BaseProducer = broker.client().create().unwrap();
        let stream = &carried.results;
        let record =
            BaseRecord::to("framepress_bridge_positions").key(stream.as_str()).payload(place);
        assert!(other.send(record).is_ok());
        other.flush(LONG).unwrap();
        let mut bridge = carried.bridge("redis-to-kafka");
        wait_until("a word", LONG, || bridge.said().contains(why));
        add_results(&carried, 5, 5, 10);
        bridge.signal(Signal::TERM);
        bridge.ends_with(0);
        assert_eq!(
            read(&broker, &carried.output, Isolation::Committed, LONG).len(),
            5,
            "none twice"
        );
    }
}
