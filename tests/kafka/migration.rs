//! docs/migration.md, step by step and back, with frames flowing all the time.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use redis::{Value, cmd};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::common::{INPUT, OUTPUT, RaisedAtEnd, RedisServer, root, wait_until};
use crate::support::{Broker, LONG, Message, available, frames, java};

/// The page, and the programs started from its commands.
struct Guide {
    text: String,
    folder: tempfile::TempDir,
    started: Mutex<Vec<Child>>,
}

impl Guide {
    fn new() -> Guide {
        let text = std::fs::read_to_string(root().join("docs/migration.md")).unwrap();
        Guide { text, folder: tempfile::tempdir().unwrap(), started: Mutex::default() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// A command; fails if the page does not have it.
    fn command(&self, line: &str) -> Command {
        assert!(self.text.contains(line), "docs/migration.md does not say: {line}");
        let mut words = line.split_whitespace().peekable();
        let mut command = Command::new(env!("CARGO_BIN_EXE_framepress"));
        while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
            command.env(name, value);
            words.next();
        }
        assert_eq!(words.next(), Some("framepress"));
        command.args(words).current_dir(self.folder.path());
        command.env("STATS__ADDR", "null");
        command.env("KAFKA__STATS__KAFKA_TO_REDIS", "null");
        command.env("KAFKA__STATS__REDIS_TO_KAFKA", "null");
        command
    }

    /// Runs the command to its end.
    fn run(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{line}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Starts the command and leaves it running; returns its process id.
    fn start(&self, line: &str) -> u32 {
        let log = std::fs::File::create(self.path(&format!("{}.log", self.started.lock().len())))
            .unwrap();
        let child = self.command(line).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let id = child.id();
        self.started.lock().push(child);
        id
    }

    /// Ends the process with SIGTERM; returns its output.
    fn stop(&self, id: u32) -> String {
        let (index, mut child) = {
            let mut started = self.started.lock();
            let index = started.iter().position(|child| child.id() == id).unwrap();
            // Keep the index occupied, as the log names depend on it.
            let stand_in = Command::new("true").spawn().unwrap();
            (index, std::mem::replace(&mut started[index], stand_in))
        };
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        let said = self.said(index);
        assert!(status.success(), "{said}");
        said
    }

    fn said(&self, index: usize) -> String {
        std::fs::read_to_string(self.path(&format!("{index}.log"))).unwrap()
    }

    fn wait_until_said(&self, id: u32, what: &str) {
        let index = self.started.lock().iter().position(|child| child.id() == id).unwrap();
        wait_until(what, LONG, || self.said(index).contains(what));
    }
}

impl Drop for Guide {
    fn drop(&mut self) {
        for (index, child) in self.started.lock().iter_mut().enumerate() {
            let _ = child.kill();
            let _ = child.wait();
            if std::thread::panicking() {
                eprintln!("{index} said:\n{}", self.said(index));
            }
        }
    }
}

/// Where producers send to and consumers read from.
const KAFKA: u8 = 0;
const REDIS: u8 = 1;
const NOWHERE: u8 = 2;

/// One producer for all messages.
struct Sender(BaseProducer);

impl Sender {
    fn new(broker: &Broker) -> Sender {
        Sender(broker.client().create().unwrap())
    }

    fn send(&self, topic: &str, message: &Message) {
        let record = BaseRecord::to(topic)
            .key(message.key.as_ref().unwrap())
            .payload(message.value.as_ref().unwrap());
        let record = match message.partition {
            Some(partition) => record.partition(partition),
            None => record,
        };
        assert!(self.0.send(record).is_ok());
        self.0.flush(LONG).unwrap();
    }
}

/// The old processor: reads frames in its group, and writes a result for each.
fn process(broker: &Broker, stop: &AtomicBool) {
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "its")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&["camera_frames"]).unwrap();
    let sender = Sender::new(broker);
    while !stop.load(Ordering::Relaxed) {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) else { continue };
        let frame: Json = serde_json::from_slice(message.payload().unwrap()).unwrap();
        let result = json!({
            "frame_id": frame["frame_id"], "camera_id": frame["camera_id"],
            "timestamp": frame["timestamp"], "quality_score": 0.5, "vehicle_density": 0.0,
            "congestion_level": "free_flow", "weather_conditions": "clear",
            "lighting_conditions": "normal", "processing_time_ms": 20.0,
            "validation_passed": true, "source_hash": "",
        });
        let result = Message::new(result.to_string())
            .key(frame["camera_id"].as_str().unwrap().as_bytes().to_vec());
        sender.send("processed_frames", &result);
        consumer.commit_message(&message, CommitMode::Sync).unwrap();
    }
}

/// Results by frame: how many came from Kafka, and how many from Redis.
type Seen = Mutex<BTreeMap<String, [usize; 2]>>;

fn consume(broker: &Broker, server: &RedisServer, side: &AtomicU8, seen: &Seen, stop: &AtomicBool) {
    let consumer: BaseConsumer = broker
        .client()
        .set("group.id", "dashboards")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .create()
        .unwrap();
    consumer.subscribe(&["processed_frames"]).unwrap();
    let mut connection = server.connect();
    let mut place: Option<String> = None;
    while !stop.load(Ordering::Relaxed) {
        // Kafka is read to its end also after the consumers have moved.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
            let result: Json = serde_json::from_slice(message.payload().unwrap()).unwrap();
            let id = result["frame_id"].as_str().unwrap().to_owned();
            seen.lock().entry(id).or_default()[0] += 1;
        }
        if side.load(Ordering::Relaxed) == KAFKA {
            place = None;
            continue;
        }
        let from = place.clone().unwrap_or_else(|| "0".into());
        let reply: Option<redis::streams::StreamReadReply> =
            cmd("XREAD").arg("STREAMS").arg(OUTPUT).arg(from).query(&mut connection).unwrap();
        for entry in reply.into_iter().flat_map(|it| it.keys).flat_map(|it| it.ids) {
            let id: String = entry.get("frame_id").unwrap();
            seen.lock().entry(id).or_default()[1] += 1;
            place = Some(entry.id);
        }
    }
}

/// Sends a frame every few milliseconds to the currently active side.
fn produce(
    broker: &Broker,
    server: &RedisServer,
    side: &AtomicU8,
    sent: &AtomicUsize,
    stop: &AtomicBool,
) {
    let mut connection = server.connect();
    let sender = Sender::new(broker);
    while !stop.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed);
        let to = side.load(Ordering::Relaxed);
        if to == NOWHERE {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        let frame = frames(number, 1, 3).remove(0);
        if to == KAFKA {
            sender.send("camera_frames", &frame);
        } else {
            let mut command = cmd("XADD");
            command.arg(INPUT).arg("*").arg("data").arg(frame.value.unwrap());
            command.query::<Value>(&mut connection).unwrap();
        }
        sent.store(number + 1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs Kafka's own tool with a command of the page.
fn consumer_groups(guide: &Guide, broker: &Broker, line: &str) -> String {
    assert!(guide.text.contains(line), "docs/migration.md does not say: {line}");
    let line = line.replace("kafka1:9092", &broker.bootstrap());
    let (words, into) = match line.split_once(" > ") {
        Some((words, file)) => (words, Some(file)),
        None => (&*line, None),
    };
    let mut words = words.split_whitespace();
    assert_eq!(words.next(), Some("kafka-consumer-groups"));
    let mut command =
        java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", guide.folder.path());
    let output = command.args(words).current_dir(guide.folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    if let Some(file) = into {
        // The tool prints other lines on standard output as well.
        let rows: Vec<&str> = said
            .lines()
            .filter(|line| {
                line.starts_with("\"camera_frames\"") || line.starts_with("camera_frames,")
            })
            .collect();
        assert!(!rows.is_empty(), "{said}");
        std::fs::write(guide.path(file), rows.join("\n") + "\n").unwrap();
    }
    said
}

fn replace_in(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from} in\n{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn the_guide_leads_to_redis_and_back_and_loses_nothing() {
    if !available() {
        return;
    }
    let broker = Broker::start();
    broker.create_topic("camera_frames", 3, &[]);
    broker.create_topic("processed_frames", 3, &[]);
    let server = RedisServer::start();
    let guide = Guide::new();
    let [producers, consumers] = [AtomicU8::new(KAFKA), AtomicU8::new(KAFKA)];
    let (sent, seen) = (AtomicUsize::new(0), Seen::default());
    let [stop, old_stops, old_stops_again] = [(); 3].map(|()| AtomicBool::new(false));
    let flow = || {
        let from = sent.load(Ordering::Relaxed);
        wait_until("frames to flow", LONG, || sent.load(Ordering::Relaxed) >= from + 100);
    };
    let results = |count: usize| {
        wait_until("results", LONG, || seen.lock().len() >= count);
    };
    std::thread::scope(|scope| {
        // Whatever happens, every thread ends.
        let _stops = [&stop, &old_stops, &old_stops_again].map(RaisedAtEnd);
        scope.spawn(|| produce(&broker, &server, &producers, &sent, &stop));
        scope.spawn(|| consume(&broker, &server, &consumers, &seen, &stop));
        scope.spawn(|| process(&broker, &old_stops));
        flow();

        // The initial state.
        let old = format!(
            "kafka:\n  bootstrap_servers: ['{}']\n  input_topic: camera_frames\n  \
             output_topic: processed_frames\n  consumer_group: its\n",
            broker.bootstrap()
        );
        std::fs::write(guide.path("old.yaml"), old).unwrap();
        let converted = guide.run("framepress migrate-config old.yaml");
        let config = guide.path("framepress.yaml");
        std::fs::write(&config, converted).unwrap();
        replace_in(&config, "redis://localhost:6379/0", &server.url());
        guide.run("framepress check --for bridge --config framepress.yaml");

        // Steps 3 and 4: both systems run and are compared.
        let to_redis = guide.start("framepress bridge kafka-to-redis --config framepress.yaml");
        let engine = guide.start("framepress run --config framepress.yaml");
        flow();
        let compared = guide
            .run("framepress bridge compare --config framepress.yaml --seconds 10")
            .replace(' ', "");
        assert!(compared.contains("missing00"), "{compared}");

        // Step 5: processing moves.
        let to_kafka = guide
            .start("KAFKA__BEGIN=latest framepress bridge redis-to-kafka --config framepress.yaml");
        guide.wait_until_said(to_kafka, "behind ");
        flow();
        old_stops.store(true, Ordering::Relaxed);
        flow();
        let alone = sent.load(Ordering::Relaxed);

        // Step 6: consumers move. Step 7: producers move.
        consumers.store(REDIS, Ordering::Relaxed);
        flow();
        guide.stop(to_kafka);
        producers.store(REDIS, Ordering::Relaxed);
        flow();
        guide.stop(to_redis);
        guide.run("framepress bridge kafka-to-redis --until-caught-up --config framepress.yaml");
        results(sent.load(Ordering::Relaxed) - 50);

        // Roll back from steps 7, 6 and 5.
        let to_redis = guide.start("framepress bridge kafka-to-redis --config framepress.yaml");
        producers.store(KAFKA, Ordering::Relaxed);
        flow();
        let to_kafka = guide.start("framepress bridge redis-to-kafka --config framepress.yaml");
        consumers.store(KAFKA, Ordering::Relaxed);
        flow();
        guide.stop(to_redis);
        let until = "kafka-consumer-groups --bootstrap-server kafka1:9092 --group framepress_bridge \
                     --topic camera_frames --reset-offsets --to-current --export > places.csv";
        consumer_groups(&guide, &broker, until);
        let begin = "kafka-consumer-groups --bootstrap-server kafka1:9092 --group its \
                     --reset-offsets --from-file places.csv --execute";
        consumer_groups(&guide, &broker, begin);
        scope.spawn(|| process(&broker, &old_stops_again));
        wait_until("the engine to have no lag", LONG, || {
            let groups: redis::streams::StreamInfoGroupsReply =
                server.ask(cmd("XINFO").arg("GROUPS").arg(INPUT));
            let its = groups.groups.into_iter().find(|group| group.name == "its");
            its.is_some_and(|its| its.pending == 0 && its.lag == Some(0))
        });
        guide.stop(to_kafka);
        guide.run("framepress bridge redis-to-kafka --config framepress.yaml --until-caught-up");
        guide.stop(engine);
        flow();

        // The last frames.
        producers.store(NOWHERE, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(200));
        let all = sent.load(Ordering::Relaxed);
        results(all);
        let seen = seen.lock();
        let missing: Vec<usize> =
            (0..all).filter(|number| !seen.contains_key(&format!("frame-{number:06}"))).collect();
        assert!(missing.is_empty(), "of {all}: {missing:?}");
        // After the old processor's first stop, Kafka has each result once.
        let not_once: Vec<usize> =
            (alone..all).filter(|number| seen[&format!("frame-{number:06}")][0] != 1).collect();
        assert!(not_once.is_empty(), "of {alone} to {all}: {not_once:?}");
    });
}
