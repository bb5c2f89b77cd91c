//! librdkafka as the bridge uses it: its configuration, and what it says.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message};
use rdkafka::metadata::MetadataPartition;

use crate::base::{Fault, text, threads};
use crate::config::{Choice, Kafka, KafkaProtocol, is_secret_property};
use crate::metrics::clock::Tick;

/// Longest wait for one answer of a broker.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Most messages, in KiB, that the library holds for a partition, and for all of them: what has been
/// fetched waits here while Redis is busy.
const FETCHED_KIB_MAX: &str = "32768";

/// What every client of the bridge has in common.
pub(super) fn configuration(kafka: &Kafka) -> ClientConfig {
    let brokers: Vec<String> = kafka.bootstrap_servers.iter().map(ToString::to_string).collect();
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", brokers.join(","))
        .set("client.id", "framepress-bridge")
        .set("security.protocol", kafka.security_protocol.name())
        .set("log_level", "5")
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("reconnect.backoff.max.ms", "3000");
    let is_sasl =
        matches!(kafka.security_protocol, KafkaProtocol::SaslPlaintext | KafkaProtocol::SaslSsl);
    if is_sasl {
        client.set("sasl.mechanism", kafka.sasl_mechanism.name());
    }
    let files = [
        ("ssl.ca.location", &kafka.ssl_cafile),
        ("ssl.certificate.location", &kafka.ssl_certfile),
        ("ssl.key.location", &kafka.ssl_keyfile),
    ];
    for (name, file) in files {
        if let Some(file) = file {
            client.set(name, file.to_string_lossy());
        }
    }
    if let Some(user) = &kafka.sasl_username {
        client.set("sasl.username", user);
    }
    if let Some(password) = &kafka.sasl_password {
        client.set("sasl.password", password.expose());
    }
    for (name, value) in &kafka.properties {
        client.set(name, value.expose());
    }
    client
}

/// The same for one that reads.
pub(super) fn consumer(kafka: &Kafka, group: &str) -> ClientConfig {
    let mut client = configuration(kafka);
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // A place that is gone is a loss to be counted, not to be passed over.
        .set("auto.offset.reset", "error")
        // Of requests. The library wants it below `fetch.max.bytes`; larger messages come all the same.
        .set("message.max.bytes", "1000000")
        .set("partition.assignment.strategy", "range,roundrobin")
        .set("isolation.level", "read_committed");
    let bounds = [
        ("queued.max.messages.kbytes", FETCHED_KIB_MAX),
        ("fetch.message.max.bytes", "8388608"),
        ("fetch.max.bytes", "16777216"),
        ("receive.message.max.bytes", "1100000000"),
        ("fetch.wait.max.ms", "100"),
        ("fetch.error.backoff.ms", "100"),
    ];
    for (name, value) in bounds {
        if !kafka.properties.contains_key(name) {
            client.set(name, value);
        }
    }
    client
}

/// The partitions of a topic; none if there is no such topic, or if the account may not see it.
pub(super) fn partitions<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
) -> Result<Vec<i32>, Fault> {
    let what = || format!("looking for the topic {topic}");
    let found = consumer
        .fetch_metadata(Some(topic), ANSWER_LIMIT)
        .map_err(|error| fault(what(), &error))?;
    let Some(found) = found.topics().iter().find(|it| it.name() == topic) else {
        return Ok(Vec::new());
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
        Some(code) => return Err(Fault::Kafka { what: what(), detail: code.to_string() }),
    }
    Ok(found.partitions().iter().map(MetadataPartition::id).collect())
}

/// The partitions of a topic that has to be there.
pub(super) fn topic<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
) -> Result<Vec<i32>, Fault> {
    let found = partitions(consumer, topic)?;
    if found.is_empty() {
        let what = format!("looking for the topic {topic}");
        return Err(Fault::Kafka { what, detail: "there is no such topic".into() });
    }
    Ok(found)
}

/// The headers of a message, at most so many. The library panics on a name that is not UTF-8; that header
/// is left out.
pub(super) fn headers(message: &impl Message, most: usize) -> Vec<Header<'_, &[u8]>> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let header = |index| threads::caught(|| headers.try_get(index)).flatten();
    (0..headers.count().min(most)).filter_map(header).collect()
}

/// The end of what the library does by itself in a thread of its own; `None` if it takes longer than a
/// broker may.
pub(super) fn within_limit<F: Future>(work: F) -> Option<F::Output> {
    let (mut work, began) = (pin!(work), Tick::now());
    // There are few of these, at a start.
    let mut context = Context::from_waker(Waker::noop());
    while began.elapsed() < ANSWER_LIMIT + ANSWER_LIMIT / 10 {
        if let Poll::Ready(end) = work.as_mut().poll(&mut context) {
            return Some(end);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Why a client could not be made. A value may be a secret, and so is never said.
pub(super) fn unusable(error: KafkaError) -> Fault {
    match error {
        KafkaError::ClientConfig(_, said, name, value) => {
            let said = match is_secret_property(&name) && !value.is_empty() {
                true => "not valid".into(),
                false => said,
            };
            Fault::Unusable(text::line(&format!("kafka.properties.{name}: {said}")))
        }
        error => fault("starting a client", &error),
    }
}

/// An error of the library as a fault of ours.
pub(super) fn fault(what: impl Into<String>, error: &KafkaError) -> Fault {
    let detail = match (error, error.rdkafka_error_code()) {
        (KafkaError::Transaction(error), _) => error.string(),
        (_, Some(code)) => code.to_string(),
        (error, None) => error.to_string(),
    };
    Fault::Kafka { what: what.into(), detail: text::line(&detail) }
}

/// What the library says, into our log; and why it cannot reach a broker.
#[derive(Debug, Default)]
pub(super) struct Words {
    last: Mutex<Option<String>>,
    /// How the last connection failed.
    failure: Mutex<Option<String>>,
}

impl Words {
    /// Why no broker can be reached, as long as that is so.
    pub fn last(&self) -> Option<String> {
        self.last.lock().clone()
    }

    /// A broker answers.
    pub fn are_answered(&self) {
        self.last.lock().take();
    }

    /// A fault, with why no broker can be reached.
    pub fn explain(&self, fault: Fault) -> Fault {
        match (fault, self.last()) {
            (Fault::Kafka { what, detail }, Some(last)) if detail != last => {
                Fault::Kafka { what, detail: format!("{detail} ({last})") }
            }
            (fault, _) => fault,
        }
    }

    /// The fault of a call, with why no broker can be reached. An error that a broker gave shows that one
    /// can: its code is positive, those of the library are negative.
    pub fn fault(&self, what: impl Into<String>, error: &KafkaError) -> Fault {
        if error.rdkafka_error_code().is_some_and(|code| code as i32 > 0) {
            self.are_answered();
        }
        self.explain(fault(what, error))
    }

    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The library says where in its source it is; a person has no use for that.
        let message = message.split_once("]: ").map_or(message, |(_, message)| message);
        let message = text::line(message);
        if facility == "FAIL" {
            // A broker hangs up at once on a client that speaks another protocol.
            let hint = match message.contains("in state APIVERSION_QUERY") {
                true => "; is kafka.security_protocol right?",
                false => "",
            };
            *self.failure.lock() = Some(format!("{message}{hint}"));
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::warn!("librdkafka: {message}"),
            RDKafkaLogLevel::Warning => tracing::info!("librdkafka: {message}"),
            _ => tracing::debug!("librdkafka: {facility}: {message}"),
        }
    }

    pub fn error(&self, error: &KafkaError, reason: &str) {
        let reason = text::line(reason);
        tracing::debug!("librdkafka: {error}: {reason}");
        let is_away = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::Authentication
                    | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::SSL
            )
        );
        if is_away {
            // That all are away says less than why one is.
            let is_bare = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
            let why = if is_bare { self.failure.lock().clone() } else { None };
            *self.last.lock() = Some(why.unwrap_or(reason));
        }
    }
}

/// The context of clients that only ask.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// What the library said.
    pub words: Words,
}

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.words.error(&error, reason);
    }
}

impl ConsumerContext for Asking {}

/// A client that only asks, in the name of a group.
pub(super) fn asking(kafka: &Kafka, group: &str) -> Result<BaseConsumer<Asking>, Fault> {
    consumer(kafka, group).create_with_context(Asking::default()).map_err(unusable)
}
