//! Section `kafka`: the brokers that `bridge` connects to. It takes the keys that files of the Kafka
//! version have, as they are.

use super::choice::Choice;
use super::given::{Given, Parsed, Problem};
use super::lists;
use super::model::{Kafka, KafkaStats};
use super::reader::Reader;
use super::secret::{HIDDEN, Secret, names_a_secret};
use super::url::HostPort;
use super::valid;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Port of a broker that names none.
const PORT: u16 = 9092;
/// Longest stream, in entries.
const ENTRIES_MAX: u64 = 1_000_000_000_000;
/// Longest name of a topic; Kafka's own limit.
const TOPIC_BYTES_MAX: usize = 249;

/// Properties of librdkafka that would break what the bridge promises, or that have a key of their own.
const OWN_PROPERTIES: [&str; 19] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "group.protocol",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "plugin.library.paths",
    "request.required.acks",
    "sasl.password",
    "ssl.key.password",
    "statistics.interval.ms",
    "transaction.timeout.ms",
    "transactional.id",
];

/// The keys of the section that are one value each, in the order of the documentation.
pub(super) const KEYS: [&str; 20] = [
    "bootstrap_servers",
    "input_topic",
    "output_topic",
    "consumer_group",
    "bridge_group",
    "begin",
    "format",
    "image",
    "max_stream_length",
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "sasl_password_file",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
    "properties",
    "stats.kafka_to_redis",
    "stats.redis_to_kafka",
];

/// Reads the section.
pub(super) fn kafka(r: &mut Reader, d: Kafka) -> Kafka {
    let (sasl_password, sasl_password_file) =
        valid::secret(r, "kafka.sasl_password", "kafka.sasl_password_file");
    Kafka {
        bootstrap_servers: r.parsed("kafka.bootstrap_servers", d.bootstrap_servers, brokers),
        input_topic: r.read("kafka.input_topic", d.input_topic, topic),
        output_topic: r.read("kafka.output_topic", d.output_topic, topic),
        consumer_group: r.name("kafka.consumer_group", d.consumer_group),
        bridge_group: r.name("kafka.bridge_group", d.bridge_group),
        begin: r.choice("kafka.begin", d.begin),
        format: r.choice("kafka.format", d.format),
        image: r.choice("kafka.image", d.image),
        max_stream_length: r.whole("kafka.max_stream_length", d.max_stream_length, 1..=ENTRIES_MAX),
        security_protocol: r.choice("kafka.security_protocol", d.security_protocol),
        sasl_mechanism: r.choice("kafka.sasl_mechanism", d.sasl_mechanism),
        sasl_username: r.guarded("kafka.sasl_username", d.sasl_username, |given| given.name()),
        sasl_password,
        sasl_password_file,
        ssl_cafile: r.guarded("kafka.ssl_cafile", d.ssl_cafile, valid::path),
        ssl_certfile: r.guarded("kafka.ssl_certfile", d.ssl_certfile, valid::path),
        ssl_keyfile: r.guarded("kafka.ssl_keyfile", d.ssl_keyfile, valid::path),
        properties: r.parsed("kafka.properties", d.properties, properties),
        stats: KafkaStats {
            kafka_to_redis: r.nullable(
                "kafka.stats.kafka_to_redis",
                d.stats.kafka_to_redis,
                valid::address,
            ),
            redis_to_kafka: r.nullable(
                "kafka.stats.redis_to_kafka",
                d.stats.redis_to_kafka,
                valid::address,
            ),
        },
    }
}

/// The section as a file has it.
pub(super) fn section(kafka: &Kafka, exposed: bool) -> Vec<(&'static str, Value)> {
    let path = |path: &Option<PathBuf>| json!(path.as_ref().map(|path| path.display().to_string()));
    let secret = |secret: &Secret| match exposed {
        true => secret.expose().to_owned(),
        false => secret.to_string(),
    };
    let addr = |addr: &Option<HostPort>| json!(addr.as_ref().map(HostPort::to_string));
    let password = match (&kafka.sasl_password_file, &kafka.sasl_password) {
        (Some(file), _) => ("sasl_password_file", json!(file)),
        (None, password) => ("sasl_password", json!(password.as_ref().map(secret))),
    };
    let property = |(name, value): (&String, &Secret)| (name.clone(), shown(name, value, exposed));
    let properties: Map<String, Value> = kafka.properties.iter().map(property).collect();
    vec![
        (
            "bootstrap_servers",
            kafka.bootstrap_servers.iter().map(|broker| json!(broker.to_string())).collect(),
        ),
        ("input_topic", json!(kafka.input_topic)),
        ("output_topic", json!(kafka.output_topic)),
        ("consumer_group", json!(kafka.consumer_group)),
        ("bridge_group", json!(kafka.bridge_group)),
        ("begin", kafka.begin.name().into()),
        ("format", kafka.format.name().into()),
        ("image", kafka.image.name().into()),
        ("max_stream_length", json!(kafka.max_stream_length)),
        ("security_protocol", kafka.security_protocol.name().into()),
        ("sasl_mechanism", kafka.sasl_mechanism.name().into()),
        ("sasl_username", json!(kafka.sasl_username)),
        password,
        ("ssl_cafile", path(&kafka.ssl_cafile)),
        ("ssl_certfile", path(&kafka.ssl_certfile)),
        ("ssl_keyfile", path(&kafka.ssl_keyfile)),
        ("properties", Value::Object(properties)),
        (
            "stats",
            json!({
                "kafka_to_redis": addr(&kafka.stats.kafka_to_redis),
                "redis_to_kafka": addr(&kafka.stats.redis_to_kafka),
            }),
        ),
    ]
}

/// A property as it may be printed.
fn shown(name: &str, value: &Secret, exposed: bool) -> Value {
    if exposed || !is_secret(name) { value.expose().into() } else { HIDDEN.into() }
}

/// Whether the value of a property of librdkafka is a secret.
pub fn is_secret(name: &str) -> bool {
    names_a_secret(name) || name.ends_with(".pem") || name.contains("jaas")
}

/// `host:port`, one or several, as a list or with commas between.
fn brokers(given: Given) -> Parsed<Vec<HostPort>> {
    const VALID: &str = "a list of host:port such as [kafka1:9092]";
    lists::words(given, VALID, |text| {
        HostPort::parse(text, Some(PORT)).map_err(|valid| format!("valid: {valid}"))
    })
}

fn topic(given: Given) -> Result<String, String> {
    const VALID: &str = "valid: letters, digits, \".\", \"_\" and \"-\", at most 249";
    let name = given.text().map_err(|_| VALID)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_topic = (1..=TOPIC_BYTES_MAX).contains(&name.len())
        && name.chars().all(is_plain)
        && !matches!(name, "." | "..");
    if is_topic { Ok(name.to_owned()) } else { Err(VALID.into()) }
}

/// Names and values for librdkafka.
fn properties(given: Given) -> Parsed<BTreeMap<String, Secret>> {
    const VALID: &str = "valid: a mapping of librdkafka's names and values";
    let parsed;
    let value = match given.value.as_str() {
        Some(text) if given.is_text => {
            parsed = super::file::parse_json(text).map_err(|_| vec![hidden(VALID)])?;
            &parsed
        }
        _ => given.value,
    };
    let map = match value {
        Value::Null => return Ok(BTreeMap::new()),
        Value::Object(map) => map,
        _ => return Err(vec![hidden(VALID)]),
    };
    let mut properties = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, value) in map {
        let at = format!(".{}", super::secret::shown_key(name));
        let text = match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            _ => None,
        };
        let own = OWN_PROPERTIES.contains(&name.as_str());
        match text.filter(|text| !text.contains('\0')) {
            _ if own => problems.push(Problem {
                at,
                part: None,
                message: "the bridge sets it itself, or there is a key of section kafka for it"
                    .into(),
            }),
            Some(text) => drop(properties.insert(name.clone(), Secret::new(text))),
            None => {
                let message = "valid: text, a number, true or false".into();
                problems.push(Problem { at, part: None, message });
            }
        }
    }
    if problems.is_empty() { Ok(properties) } else { Err(problems) }
}

/// A fault whose value is not shown: it may hold secrets.
fn hidden(message: &str) -> Problem {
    Problem { at: ".*".into(), part: None, message: message.into() }
}

impl Kafka {
    /// The built-in values.
    pub(super) fn builtin() -> Kafka {
        use super::choice::{Begin, KafkaProtocol, ResultFormat, ResultImage, SaslMechanism};
        let local = |port| Some(HostPort { host: "127.0.0.1".into(), port });
        Kafka {
            bootstrap_servers: Vec::new(),
            input_topic: "camera_frames".into(),
            output_topic: "processed_frames".into(),
            consumer_group: "stream_processor".into(),
            bridge_group: "framepress_bridge".into(),
            begin: Begin::Group,
            format: ResultFormat::Json,
            image: ResultImage::None,
            max_stream_length: 5_000,
            security_protocol: KafkaProtocol::Plaintext,
            sasl_mechanism: SaslMechanism::Plain,
            sasl_username: None,
            sasl_password: None,
            sasl_password_file: None,
            ssl_cafile: None,
            ssl_certfile: None,
            ssl_keyfile: None,
            properties: BTreeMap::new(),
            stats: KafkaStats { kafka_to_redis: local(8082), redis_to_kafka: local(8083) },
        }
    }
}
