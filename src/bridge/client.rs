//! librdkafka for the bridge: its configuration and its messages.

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
use crate::config::{Choice, KafkaConfig, KafkaProtocol, is_secret_property};
use crate::metrics::clock::Tick;

/// Maximum wait for one answer of a broker.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Maximum size of fetched messages, in KiB, that the library holds for a partition and for all
/// partitions while Redis is busy.
const FETCHED_KIB_MAX: &str = "32768";

/// The settings that all clients of the bridge share.
pub(super) fn configuration(kafka: &KafkaConfig) -> ClientConfig {
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

/// The settings of a consumer.
pub(super) fn consumer(kafka: &KafkaConfig, group: &str) -> ClientConfig {
    let mut client = configuration(kafka);
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        // If the offset does not exist, messages were lost: report an error so that they are
        // counted.
        .set("auto.offset.reset", "error")
        // Limits requests. The library requires less than `fetch.max.bytes`; larger messages still
        // arrive.
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

/// The partitions of a topic; none if the topic does not exist or the account may not see it.
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

/// The partitions of a topic that must exist.
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

/// The first `most` headers of a message. Headers whose name is not UTF-8 are left out, because the
/// library panics on them.
pub(super) fn headers(message: &impl Message, most: usize) -> Vec<Header<'_, &[u8]>> {
    let Some(headers) = message.headers() else { return Vec::new() };
    let header = |index| threads::caught(|| headers.try_get(index)).flatten();
    (0..headers.count().min(most)).filter_map(header).collect()
}

/// Polls a future of the library, whose own thread does the work, until it completes. `None` if it
/// takes longer than a broker may.
pub(super) fn within_limit<F: Future>(work: F) -> Option<F::Output> {
    let (mut work, began) = (pin!(work), Tick::now());
    // Polling is acceptable: this happens a few times at a start.
    let mut context = Context::from_waker(Waker::noop());
    while began.elapsed() < ANSWER_LIMIT + ANSWER_LIMIT / 10 {
        if let Poll::Ready(end) = work.as_mut().poll(&mut context) {
            return Some(end);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Why a client could not be created. A value may be a secret and is never shown.
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

/// Converts an error of the library to a fault.
pub(super) fn fault(what: impl Into<String>, error: &KafkaError) -> Fault {
    let detail = match (error, error.rdkafka_error_code()) {
        (KafkaError::Transaction(error), _) => error.string(),
        (_, Some(code)) => code.to_string(),
        (error, None) => error.to_string(),
    };
    Fault::Kafka { what: what.into(), detail: text::line(&detail) }
}

/// Forwards the library's messages to the log, and remembers why no broker can be reached.
#[derive(Debug, Default)]
pub(super) struct Words {
    last: Mutex<Option<String>>,
    /// The reason of the last failed connection.
    failure: Mutex<Option<String>>,
}

impl Words {
    /// Why no broker can be reached; `None` while one can.
    pub fn last(&self) -> Option<String> {
        self.last.lock().clone()
    }

    /// Records that a broker answers.
    pub fn are_answered(&self) {
        self.last.lock().take();
    }

    /// Adds the reason why no broker can be reached to a fault.
    pub fn explain(&self, fault: Fault) -> Fault {
        match (fault, self.last()) {
            (Fault::Kafka { what, detail }, Some(last)) if detail != last => {
                Fault::Kafka { what, detail: format!("{detail} ({last})") }
            }
            (fault, _) => fault,
        }
    }

    /// The fault of a call, with the reason why no broker can be reached. Error codes from a broker
    /// are positive and show that one can be reached; the library's own codes are negative.
    pub fn fault(&self, what: impl Into<String>, error: &KafkaError) -> Fault {
        if error.rdkafka_error_code().is_some_and(|code| code as i32 > 0) {
            self.are_answered();
        }
        self.explain(fault(what, error))
    }

    pub fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Drop the position in the library's source, which is of no use to an operator.
        let message = message.split_once("]: ").map_or(message, |(_, message)| message);
        let message = text::line(message);
        if facility == "FAIL" {
            // A broker hangs up at once on a client with another security protocol.
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
            // The failure of one connection says more than the fact that all brokers are down.
            let is_bare = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
            let why = if is_bare { self.failure.lock().clone() } else { None };
            *self.last.lock() = Some(why.unwrap_or(reason));
        }
    }
}

/// Context of clients that only query.
#[derive(Debug, Default)]
pub(super) struct QueryContext {
    /// Messages of the library.
    pub words: Words,
}

impl ClientContext for QueryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.words.error(&error, reason);
    }
}

impl ConsumerContext for QueryContext {}

/// A client that only queries, in the name of a group.
pub(super) fn asking(
    kafka: &KafkaConfig,
    group: &str,
) -> Result<BaseConsumer<QueryContext>, Fault> {
    consumer(kafka, group).create_with_context(QueryContext::default()).map_err(unusable)
}
