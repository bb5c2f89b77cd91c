//! Kafka to Redis.

use std::time::Duration;

use framepress::internals::redis::{Address, Control, PlaceKeys, PlacedBatch};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use redis::cmd;
use rustix::process::Signal;

use crate::common::{INPUT, OUTPUT, RunningEngine, wait_until};
use crate::support::{Broker, Carried, LONG, Message, available, frames, send, shared};

/// A group that notices a lost member within a second and a half.
const SHORT_SESSION: &str = r#"{"session.timeout.ms": 1500, "heartbeat.interval.ms": 300}"#;

#[test]
fn frames_arrive_once_in_order_and_with_their_headers() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 3);
    let mut sent = frames(0, 60, 3);
    sent[0] = sent[0]
        .clone()
        .header("traceparent", "00-11-22-01")
        .header("data", "not this")
        .header("ring", "nor this");
    send(broker, &carried.input, &sent);
    carried.catch_up("kafka-to-redis");
    carried.assert_once_and_in_order(60);
    let (_, first) = carried
        .server
        .range(INPUT)
        .into_iter()
        .find(|(_, fields)| fields["kafka_partition"] == b"0" && fields["kafka_offset"] == b"0")
        .unwrap();
    assert_eq!(Some(&first["data"]), sent[0].value.as_ref(), "the value as it came");
    assert_eq!(first["kafka_topic"], carried.input.as_bytes());
    assert_eq!(first["traceparent"], b"00-11-22-01");
    assert!(!first.contains_key("ring"));
    let key = format!("{{camera_frames}}:bridge:{}", carried.input);
    let places: Vec<Option<u64>> = carried.server.ask(cmd("HMGET").arg(key).arg(&["0", "1", "2"]));
    assert_eq!(places, [Some(20), Some(20), Some(20)]);

    // Another start continues after them, and Kafka's own tools show the offset.
    send(broker, &carried.input, &frames(60, 30, 3));
    carried.catch_up("kafka-to-redis");
    carried.catch_up("kafka-to-redis");
    carried.assert_once_and_in_order(90);
    assert_eq!(committed(broker, &format!("bridge-{}", carried.input), &carried.input), Some(30));

    // The engine reads these frames. A message that is not a frame becomes a dead letter with its
    // offset.
    send(broker, &carried.input, &[Message::new("no frame").partition(1)]);
    carried.catch_up("kafka-to-redis");
    let engine = RunningEngine::start(&carried.server, &[]);
    carried.server.wait_for_outputs(90);
    assert!(engine.stop().balanced);
    let traced =
        carried.server.range(OUTPUT).into_iter().any(|(_, fields)| {
            fields.get("traceparent").is_some_and(|value| value == b"00-11-22-01")
        });
    assert!(traced, "the trace goes through");
    let letters = carried.server.dead_letters();
    let place = ["kafka_topic", "kafka_partition", "kafka_offset"].map(|it| letters[0].text(it));
    assert_eq!(place, [carried.input.clone(), "1".into(), "30".into()]);
}

/// Committed offset of a group in partition 0 of a topic.
fn committed(broker: &Broker, group: &str, topic: &str) -> Option<i64> {
    let consumer: BaseConsumer = broker.client().set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    let found = consumer.committed_offsets(list, LONG).unwrap();
    found.find_partition(topic, 0).unwrap().offset().to_raw().filter(|offset| *offset >= 0)
}

#[test]
fn it_begins_where_the_old_processor_stands() {
    let Some(broker) = shared() else { return };
    for (begin, stands, wanted) in
        [("group", Some(7), 3), ("group", None, 10), ("earliest", Some(7), 10), ("latest", None, 0)]
    {
        let carried = Carried::new(broker, 1).with("KAFKA__BEGIN", begin);
        send(broker, &carried.input, &frames(0, 10, 1));
        if let Some(offset) = stands {
            let group = format!("old-{}", carried.input);
            let consumer: BaseConsumer = broker.client().set("group.id", group).create().unwrap();
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&carried.input, 0, Offset::Offset(offset)).unwrap();
            consumer.commit(&list, CommitMode::Sync).unwrap();
        }
        carried.catch_up("kafka-to-redis");
        assert_eq!(carried.server.len(INPUT), wanted, "{begin}, {stands:?}");
        // From here on the stored position counts, also if nothing was read.
        send(broker, &carried.input, &frames(10, 2, 1));
        carried.catch_up("kafka-to-redis");
        assert_eq!(carried.server.len(INPUT), wanted + 2, "{begin}, {stands:?}");
    }
}

#[test]
fn what_no_reader_could_take_goes_to_the_dead_letters_with_its_place() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1).with("LIMITS__MAX_PAYLOAD_BYTES", "2000");
    let mut sent = frames(0, 4, 1);
    sent[1].value = None;
    sent[2] = Message::new(vec![b'x'; 3000]).partition(0).header("camera_id", "large");
    send(broker, &carried.input, &sent);
    let said = carried.catch_up("kafka-to-redis");
    assert!(said.contains("2 messages, 2 refused"), "{said}");
    let offsets: Vec<i64> = carried.frames().into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(offsets, [0, 3]);
    let letters = carried.server.dead_letters();
    let told: Vec<_> = letters
        .iter()
        .map(|it| ["reason", "original_id", "kafka_offset"].map(|name| it.text(name)))
        .collect();
    let id = |offset: u8| format!("{}/0/{offset}", carried.input);
    assert_eq!(told[0], ["undecodable".to_owned(), id(1), "1".into()]);
    assert_eq!(told[1], ["too_large".to_owned(), id(2), "2".into()]);
    assert_eq!(letters[1].text("camera_id"), "large");
    assert!(letters[1].text("detail").contains("3000 bytes"), "{}", letters[1].text("detail"));
    assert!(!letters[1].fields.contains_key("data"));
    let listed = carried.start(&["dlq", "list"]).ends_with(0);
    assert!(listed.contains("too_large"), "{listed}");
}

#[test]
fn frames_of_ten_megabytes_of_base64_pass() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    let large = |number: u8| {
        let picture = "A".repeat(10_000_000);
        let text = format!(
            r#"{{"frame_id": "{number}", "camera_id": "cam", "timestamp": 1, "image_base64": "{picture}"}}"#
        );
        Message::new(text).partition(0)
    };
    send(broker, &carried.input, &(0..6).map(large).collect::<Vec<_>>());
    carried.catch_up("kafka-to-redis");
    carried.assert_once_and_in_order(6);
}

/// Another client has moved the position: entries before it are not added again.
#[test]
fn another_bridge_is_fenced_by_the_place() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    send(broker, &carried.input, &frames(0, 5, 1));
    let mut bridge = carried.bridge("kafka-to-redis");
    carried.wait_for_frames(5);
    let mut control = Control::new(Address::parse(&carried.server.url()).unwrap(), LONG);
    let keys = PlaceKeys::of(INPUT, "camera_frames:dlq", &carried.input);
    let batch =
        PlacedBatch { keys: &keys, partition: 0, expected: Some(5), behind: 8, entries: &[] };
    control.add_placed(&[batch], 1, 0).unwrap().pop().unwrap().unwrap();
    send(broker, &carried.input, &frames(5, 5, 1));
    carried.wait_for_frames(7);
    wait_until("the place", LONG, || control.places(&keys, &[0]).unwrap() == [Some(10)]);
    let offsets: Vec<i64> = carried.frames().into_iter().map(|(_, offset, _)| offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 8, 9]);
    bridge.signal(Signal::TERM);
    let said = bridge.ends_with(0);
    assert!(said.contains("1 fenced") && said.contains("another bridge is running"), "{said}");
}

#[test]
fn two_bridges_share_the_partitions_and_one_takes_over() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 4).with("KAFKA__PROPERTIES", SHORT_SESSION);
    let mut bridges = vec![carried.bridge("kafka-to-redis"), carried.bridge("kafka-to-redis")];
    let mut sent = 0;
    for round in 0..6 {
        send(broker, &carried.input, &frames(sent, 100, 4));
        sent += 100;
        match round {
            1 => bridges.remove(0).kill(),
            3 => bridges.push(carried.bridge("kafka-to-redis")),
            4 => bridges[0].signal(Signal::TERM),
            _ => {}
        }
        carried.wait_for_frames(sent - 50);
    }
    carried.wait_for_frames(sent);
    carried.assert_once_and_in_order(sent);
    assert!(bridges.pop().unwrap().is_running());
}

/// The group has given the partitions to another bridge while this one was stopped. It resumes with
/// messages in memory.
#[test]
fn a_zombie_adds_nothing_twice() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 2).with("KAFKA__PROPERTIES", SHORT_SESSION);
    let mut first = carried.bridge("kafka-to-redis");
    send(broker, &carried.input, &frames(0, 20, 2));
    carried.wait_for_frames(20);
    // Enough messages that the stop comes in the middle.
    send(broker, &carried.input, &frames(20, 4000, 2));
    carried.wait_for_frames(30);
    first.signal(Signal::STOP);
    let mut second = carried.bridge("kafka-to-redis");
    carried.wait_for_frames(4020);
    first.signal(Signal::CONT);
    send(broker, &carried.input, &frames(4020, 200, 2));
    carried.wait_for_frames(4220);
    carried.assert_once_and_in_order(4220);
    for bridge in [&mut first, &mut second] {
        bridge.signal(Signal::TERM);
        bridge.ends_with(0);
    }
    carried.assert_once_and_in_order(4220);
}

#[test]
fn it_waits_for_room_and_stays_in_its_group() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1)
        .with("KAFKA__MAX_STREAM_LENGTH", "300")
        .with(
            "KAFKA__PROPERTIES",
            r#"{"session.timeout.ms": 1500, "heartbeat.interval.ms": 300, "max.poll.interval.ms": 2000}"#,
        );
    send(broker, &carried.input, &frames(0, 3000, 1));
    let mut bridge = carried.bridge("kafka-to-redis");
    carried.wait_for_frames(300);
    // Longer than the session timeout of a member.
    std::thread::sleep(Duration::from_secs(4));
    let waiting = carried.server.len(INPUT);
    assert!(waiting <= 310, "{waiting} frames although there is room for 300");
    assert!(bridge.said().contains("paused: "), "{}", bridge.said());
    assert_eq!(bridge.said().matches("from offset").count(), 1, "it was never thrown out");
    // A bridge that starts while there is no room takes nothing either.
    bridge.signal(Signal::TERM);
    bridge.ends_with(0);
    let mut bridge = carried.bridge("kafka-to-redis");
    wait_until("its begin", LONG, || bridge.said().contains("from offset"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(carried.server.len(INPUT), waiting);
    let engine = RunningEngine::start(&carried.server, &[]);
    carried.server.wait_for_outputs(3000);
    assert!(engine.stop().balanced);
    bridge.signal(Signal::TERM);
    let said = bridge.ends_with(0);
    assert!(said.contains("0 refused, 0 fenced, 0 lost"), "{said}");
    // The engine keeps finished entries (retention: keep); the bridge keeps them from filling the
    // memory.
    let kept = carried.server.len(INPUT);
    assert!(kept < 2000, "{kept} entries are kept");
}

#[test]
fn a_redis_without_memory_is_waited_for() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    carried.server.configure("maxmemory", "3mb");
    send(broker, &carried.input, &frames(0, 4000, 1));
    let mut bridge = carried.bridge("kafka-to-redis");
    wait_until("a pause", LONG, || bridge.said().contains("paused: Redis has no memory left"));
    assert!(carried.server.len(INPUT) < 4000);
    carried.server.configure("maxmemory", "0");
    carried.wait_for_frames(4000);
    carried.assert_once_and_in_order(4000);
    assert!(bridge.is_running());
}

#[test]
fn a_redis_that_is_away_is_waited_for() {
    let Some(broker) = shared() else { return };
    let mut carried = Carried::new(broker, 2);
    carried.server = crate::common::RedisServer::durable();
    let mut bridge = carried.bridge("kafka-to-redis");
    let mut sent = 0;
    for _ in 0..3 {
        send(broker, &carried.input, &frames(sent, 500, 2));
        carried.wait_for_frames(sent + 10);
        sent += 500;
        carried.server.kill();
        std::thread::sleep(Duration::from_millis(300));
        carried.server.restart();
    }
    carried.wait_for_frames(sent);
    carried.assert_once_and_in_order(sent);
    bridge.signal(Signal::TERM);
    let said = bridge.ends_with(0);
    assert!(said.contains("works again"), "{said}");
}

#[test]
fn a_topic_that_is_not_there_is_waited_for_and_said() {
    let Some(broker) = shared() else { return };
    let input = format!("{}-later", broker.new_topic("frames", 1));
    let carried = Carried::between(broker, &input, "none")
        .with("KAFKA__PROPERTIES", r#"{"topic.metadata.refresh.interval.ms": 500}"#);
    let said = carried.start(&["bridge", "kafka-to-redis", "--until-caught-up"]).ends_with(1);
    assert!(said.contains("there is no such topic"), "{said}");
    let mut bridge = carried.bridge("kafka-to-redis");
    wait_until("a word", LONG, || bridge.said().contains("the bridge tries again"));
    broker.create_topic(&input, 1, &[]);
    send(broker, &input, &frames(0, 5, 1));
    carried.wait_for_frames(5);
    assert!(bridge.is_running());
}

#[test]
fn messages_that_kafka_deleted_are_counted_as_lost() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    send(broker, &carried.input, &frames(0, 5, 1));
    carried.catch_up("kafka-to-redis");
    send(broker, &carried.input, &frames(5, 20, 1));
    let admin: AdminClient<DefaultClientContext> = broker.client().create().unwrap();
    let mut until = TopicPartitionList::new();
    until.add_partition_offset(&carried.input, 0, Offset::Offset(15)).unwrap();
    pollster::block_on(admin.delete_records(&until, &AdminOptions::new())).unwrap();
    let said = carried.catch_up("kafka-to-redis");
    assert!(said.contains("10 messages, 0 refused, 0 fenced, 10 lost"), "{said}");
    assert!(said.contains("from offset 5 on are gone"), "{said}");
    assert_eq!(carried.server.len(INPUT), 15);
}

#[test]
fn shards_have_places_of_their_own() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1).with("REDIS_QUEUE__SHARDS", "3");
    // One partition, with cameras of all shards.
    let sent: Vec<Message> =
        frames(0, 300, 30).into_iter().map(|message| message.partition(0)).collect();
    send(broker, &carried.input, &sent);
    carried.catch_up("kafka-to-redis");
    carried.catch_up("kafka-to-redis");
    let streams = [0, 1, 2].map(|shard| format!("camera_frames:{{{shard}}}"));
    let lengths = streams.clone().map(|stream| carried.server.len(&stream));
    assert_eq!(lengths.iter().sum::<usize>(), 300);
    assert!(lengths.iter().all(|length| *length > 0), "{lengths:?}");
    for stream in streams {
        let offsets: Vec<i64> = carried
            .server
            .range(&stream)
            .iter()
            .map(|(_, fields)| String::from_utf8_lossy(&fields["kafka_offset"]).parse().unwrap())
            .collect();
        assert!(offsets.is_sorted(), "{stream}: {offsets:?}");
    }
}

#[test]
fn a_stop_is_heard_while_no_broker_answers() {
    if !available() {
        return;
    }
    let mut broker = Broker::start();
    broker.create_topic("frames", 1, &[]);
    broker.kill();
    let carried = Carried::between(&broker, "frames", "results");
    let mut bridge = carried.bridge("kafka-to-redis");
    let mut other = carried.bridge("redis-to-kafka");
    for bridge in [&mut bridge, &mut other] {
        wait_until("a word", LONG, || bridge.said().contains("Connection refused"));
        bridge.signal(Signal::TERM);
        bridge.ends_with(0);
    }
}

/// A right is revoked while the bridge works: the position cannot be moved, so nothing may be
/// added.
#[test]
fn without_the_right_to_move_the_place_nothing_is_added() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    let mut command = cmd("ACL");
    command.arg("SETUSER").arg("bridge").arg(&["on", ">word", "~*", "+@all"]);
    let _: redis::Value = carried.server.ask(&command);
    let url = format!("redis://bridge:word@127.0.0.1:{}/0", carried.server.port());
    let carried = carried.with("REDIS_QUEUE__URL", &url);
    let mut bridge = carried.bridge("kafka-to-redis");
    send(broker, &carried.input, &frames(0, 5, 1));
    carried.wait_for_frames(5);
    let mut command = cmd("ACL");
    let _: redis::Value = carried.server.ask(command.arg("SETUSER").arg("bridge").arg("-hset"));
    send(broker, &carried.input, &frames(5, 5, 1));
    wait_until("a word", LONG, || bridge.said().contains("refused XADD"));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(carried.server.len(INPUT), 5);
    let mut command = cmd("ACL");
    let _: redis::Value = carried.server.ask(command.arg("SETUSER").arg("bridge").arg("+hset"));
    carried.wait_for_frames(10);
    carried.assert_once_and_in_order(10);
    assert!(bridge.is_running());
}

#[test]
fn a_partition_that_comes_later_is_read_from_its_beginning() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1).with("KAFKA__BEGIN", "latest");
    send(broker, &carried.input, &frames(0, 5, 1));
    carried.catch_up("kafka-to-redis");
    assert_eq!(carried.server.len(INPUT), 0);
    let admin: AdminClient<DefaultClientContext> = broker.client().create().unwrap();
    let more = rdkafka::admin::NewPartitions::new(&carried.input, 2);
    pollster::block_on(admin.create_partitions([&more], &AdminOptions::new())).unwrap();
    let later: Vec<Message> = frames(5, 3, 1).into_iter().map(|it| it.partition(1)).collect();
    wait_until("the partition", LONG, || {
        crate::support::try_send(broker.client(), &carried.input, &later[..1]).is_ok()
    });
    send(broker, &carried.input, &later[1..]);
    carried.catch_up("kafka-to-redis");
    assert_eq!(carried.server.len(INPUT), 3);
}

#[test]
fn a_place_that_is_no_number_is_said_and_not_asked_for_without_pause() {
    let Some(broker) = shared() else { return };
    let carried = Carried::new(broker, 1);
    send(broker, &carried.input, &frames(0, 5, 1));
    let mut bridge = carried.bridge("kafka-to-redis");
    carried.wait_for_frames(5);
    let places = format!("{{camera_frames}}:bridge:{}", carried.input);
    let _: redis::Value = carried.server.ask(redis::cmd("HSET").arg(&places).arg(0).arg("abc"));
    send(broker, &carried.input, &frames(5, 5, 1));
    wait_until("a word", LONG, || bridge.said().contains("is not a number: abc"));
    let commands = || -> u64 {
        let info: String = carried.server.ask(redis::cmd("INFO").arg("stats"));
        let line = info.lines().find_map(|it| it.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = commands();
    std::thread::sleep(Duration::from_secs(2));
    assert!(commands() - before < 200, "{}", commands() - before);
    // After a manual repair the bridge continues.
    let _: redis::Value = carried.server.ask(redis::cmd("HSET").arg(&places).arg(0).arg(5));
    carried.wait_for_frames(10);
    bridge.signal(Signal::TERM);
    bridge.ends_with(0);
}
