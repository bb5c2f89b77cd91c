//! A bridge between a broker and a Redis, with its own topics and streams.

use std::time::Duration;

use super::{Broker, Message};
use crate::common::{FramepressProcess, RedisServer, Sample, json_base64, wait_until};

/// Time limit of bridge operations that usually take a moment.
const LIMIT: Duration = Duration::from_secs(60);

/// Topics and streams that no other test uses.
pub struct Carried {
    pub server: RedisServer,
    pub input: String,
    pub output: String,
    /// The output stream: positions and transactional ids derive from its name.
    pub results: String,
    settings: Vec<(String, String)>,
}

impl Carried {
    /// Topics with `partitions` partitions.
    pub fn new(broker: &Broker, partitions: usize) -> Carried {
        let input = broker.new_topic("frames", partitions);
        let output = broker.new_topic("results", partitions);
        Carried::between(broker, &input, &output)
    }

    /// Topics that may not exist yet.
    pub fn between(broker: &Broker, input: &str, output: &str) -> Carried {
        Carried::at(&broker.bootstrap(), input, output)
    }

    /// The same for any bootstrap servers.
    pub fn at(bootstrap: &str, input: &str, output: &str) -> Carried {
        let settings = vec![("KAFKA__BOOTSTRAP_SERVERS".to_owned(), bootstrap.to_owned())];
        Carried {
            server: RedisServer::start(),
            input: input.to_owned(),
            output: output.to_owned(),
            results: format!("results-of-{output}"),
            settings,
        }
    }

    /// The same with a setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Carried {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with another topic of results.
    #[must_use]
    pub fn into_topic(mut self, output: &str) -> Carried {
        output.clone_into(&mut self.output);
        self
    }

    /// The configuration as environment variables.
    pub fn environment(&self) -> Vec<(String, String)> {
        let own = [
            ("REDIS_QUEUE__URL", self.server.url()),
            ("REDIS_QUEUE__TIMEOUT", "5".to_owned()),
            ("REDIS_QUEUE__BLOCK_TIME_MS", "100".to_owned()),
            ("REDIS_QUEUE__OUTPUT_QUEUE", self.results.clone()),
            ("KAFKA__INPUT_TOPIC", self.input.clone()),
            ("KAFKA__OUTPUT_TOPIC", self.output.clone()),
            ("KAFKA__CONSUMER_GROUP", format!("old-{}", self.input)),
            ("KAFKA__BRIDGE_GROUP", format!("bridge-{}", self.input)),
            ("KAFKA__STATS__KAFKA_TO_REDIS", "null".to_owned()),
            ("KAFKA__STATS__REDIS_TO_KAFKA", "null".to_owned()),
            ("STATS__ADDR", "null".to_owned()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.settings.clone()).collect()
    }

    /// A command of the program with this configuration.
    pub fn start(&self, arguments: &[&str]) -> FramepressProcess {
        let environment = self.environment();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        FramepressProcess::start(arguments, &environment)
    }

    /// Runs one direction until stopped.
    pub fn bridge(&self, direction: &str) -> FramepressProcess {
        self.start(&["bridge", direction])
    }

    /// Runs one direction until it has caught up; returns its output.
    #[track_caller]
    pub fn catch_up(&self, direction: &str) -> String {
        self.start(&["bridge", direction, "--until-caught-up"]).ends_with(0)
    }

    /// The frames in the input stream with their origin in Kafka: partition, offset, frame id.
    pub fn frames(&self) -> Vec<(i32, i64, String)> {
        let entries = self.server.range("camera_frames").into_iter();
        let of_entry = |(_, fields): (String, std::collections::BTreeMap<String, Vec<u8>>)| {
            let number = |name: &str| {
                String::from_utf8_lossy(&fields[name]).parse::<i64>().expect("a number")
            };
            let frame: serde_json::Value = serde_json::from_slice(&fields["data"]).expect("JSON");
            let id = frame["frame_id"].as_str().expect("an id").to_owned();
            let partition = i32::try_from(number("kafka_partition")).expect("a partition");
            (partition, number("kafka_offset"), id)
        };
        entries.map(of_entry).collect()
    }

    /// Waits for `count` frames in the input stream.
    #[track_caller]
    pub fn wait_for_frames(&self, count: usize) {
        let what =
            format!("{count} frames in Redis; there are {}", self.server.len("camera_frames"));
        wait_until(&what, LIMIT, || self.server.len("camera_frames") >= count);
    }

    /// Every frame is there once, and those of a partition are in order.
    #[track_caller]
    pub fn assert_once_and_in_order(&self, count: usize) {
        let frames = self.frames();
        let mut ids: Vec<&str> = frames.iter().map(|(_, _, id)| &**id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((frames.len(), ids.len()), (count, count), "all frames, each once");
        let mut last = std::collections::HashMap::new();
        for (partition, offset, id) in &frames {
            let before = last.insert(*partition, *offset);
            assert!(before < Some(*offset), "{id}: {partition}/{offset} behind {before:?}");
        }
    }
}

/// Frames of as many cameras as partitions, one partition each; `from` is the number of the first
/// frame.
pub fn frames(from: usize, count: usize, partitions: usize) -> Vec<Message> {
    let picture = Sample::colour(48, 32, 1).encode(framepress::internals::image::Format::Jpeg);
    let frame = |number: usize| {
        let camera = format!("cam-{}", number % partitions);
        let fields = json_base64(&format!("frame-{number:06}"), &camera, &picture);
        Message::new(fields[0].1.clone())
            .partition(i32::try_from(number % partitions).expect("a partition"))
            .key(camera)
    };
    (from..from + count).map(frame).collect()
}
