//! One transaction: messages and the place after them.

use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders, ToBytes};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::super::PAUSE;
use super::super::client::{self, ANSWER_LIMIT, Words};
use super::super::positions;
use super::super::result::KafkaMessage;
use super::{BLOCK, OutboundBridge};
use crate::base::Fault;
use crate::frame::EntryId;
use crate::metrics::clock::Tick;

/// Context of the producer; keeps the error of the first undelivered message.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    pub words: Words,
    pub failure: Mutex<Option<RDKafkaErrorCode>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.words.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.words.error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // A message purged together with another one does not show the reason.
        if let Err((error, _)) = result
            && let Some(code) = error.rdkafka_error_code()
            && !matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
        {
            self.failure.lock().get_or_insert(code);
        }
    }
}

/// Waits until every message has an answer, for at most [`PAUSE`]. The library's own wait always
/// lasts until its limit, and keeps a core busy for the last millisecond of it.
fn delivered(producer: &BaseProducer<Deliveries>) {
    let began = Tick::now();
    loop {
        producer.poll(Duration::ZERO);
        if producer.in_flight_count() == 0 || began.elapsed() > PAUSE {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Why a transaction is not in Kafka.
pub(super) enum Failed {
    /// It was aborted; the same entries may be tried again.
    Aborted(Fault),
    /// The broker refuses one of its messages as too large.
    TooLarge,
    /// The producer is unusable.
    Broken(Fault),
    /// Another bridge has started.
    Fenced(Fault),
}

impl OutboundBridge {
    pub(super) fn transact(
        &self,
        index: usize,
        messages: &[KafkaMessage],
        place: EntryId,
    ) -> Result<(), Failed> {
        let Some(producer) = &self.producer else { return Ok(()) };
        producer.context().failure.lock().take();
        let failed = |error: KafkaError| self.failed(producer, error);
        producer.begin_transaction().map_err(failed)?;
        let topic = &self.config.kafka.output_topic;
        for KafkaMessage { key, value, headers } in messages {
            let mut given = OwnedHeaders::new_with_capacity(headers.len());
            for (name, value) in headers {
                given = given.insert(Header { key: name, value: Some(value) });
            }
            let record = BaseRecord::to(topic).payload(value).headers(given);
            let record = if key.is_empty() { record } else { record.key(key) };
            self.send(producer, record).map_err(failed)?;
        }
        let (stream, place) = (&self.sources[index].stream, place.to_string());
        let record = BaseRecord::to(positions::TOPIC).key(stream).payload(&place);
        self.send(producer, record).map_err(failed)?;
        self.commit(producer)
    }

    fn send<K: ToBytes + ?Sized, P: ToBytes + ?Sized>(
        &self,
        producer: &BaseProducer<Deliveries>,
        mut record: BaseRecord<'_, K, P>,
    ) -> Result<(), KafkaError> {
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, again)) => {
                    let is_full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                    if !is_full || self.stop.is_draining() {
                        return Err(error);
                    }
                    record = again;
                    self.status.beat();
                    producer.poll(BLOCK);
                }
            }
        }
    }

    fn commit(&self, producer: &BaseProducer<Deliveries>) -> Result<(), Failed> {
        let limit = Duration::from_millis(self.config.engine.drain_timeout_ms);
        let mut draining: Option<Tick> = None;
        loop {
            self.status.beat();
            delivered(producer);
            let error = match producer.commit_transaction(PAUSE) {
                Ok(()) => {
                    producer.context().words.are_answered();
                    return Ok(());
                }
                Err(error) => error,
            };
            let may_go_on = match &error {
                KafkaError::Flush(_) => producer.context().failure.lock().is_none(),
                KafkaError::Transaction(error) => error.is_retriable(),
                _ => false,
            };
            if !may_go_on {
                return Err(self.failed(producer, error));
            }
            if self.stop.is_draining() {
                let since = *draining.get_or_insert_with(Tick::now);
                if self.stop.is_now() || since.elapsed() > limit {
                    return Err(Failed::Broken(client::fault("committing", &error)));
                }
            } else if let Some(last) = producer.context().words.last() {
                self.status.suffers(format!("Kafka: committing: {last}"));
            }
        }
    }

    /// Aborts the transaction if possible. Returns what the failure means.
    fn failed(&self, producer: &BaseProducer<Deliveries>, error: KafkaError) -> Failed {
        let of_message = producer.context().failure.lock().take();
        let code = match &error {
            KafkaError::Transaction(error) => Some(error.code()),
            error => error.rdkafka_error_code(),
        };
        // A later error only says that a fatal one came before; use that one.
        let code = producer.client().fatal_error().map(|(code, _)| code).or(code);
        let fault = match of_message {
            Some(code) => Fault::Kafka {
                what: format!("writing to {}", self.config.kafka.output_topic),
                detail: code.to_string(),
            },
            None => client::fault("writing a transaction", &error),
        };
        if matches!(
            code,
            Some(
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        ) {
            return Failed::Fenced(Fault::Unusable(
                "another redis-to-kafka bridge for the same output_queue has begun; there may be one"
                    .into(),
            ));
        }
        if matches!(&error, KafkaError::Transaction(error) if error.is_fatal()) {
            return Failed::Broken(fault);
        }
        let began = Tick::now();
        loop {
            self.status.beat();
            match producer.abort_transaction(PAUSE) {
                Ok(()) => break,
                Err(KafkaError::Transaction(error)) if !error.is_retriable() => {
                    return Failed::Broken(fault);
                }
                // Purged messages also have answers to wait for.
                Err(KafkaError::Transaction(_) | KafkaError::Flush(_))
                    if began.elapsed() < ANSWER_LIMIT && !self.stop.is_draining() =>
                {
                    delivered(producer);
                }
                Err(_) => return Failed::Broken(fault),
            }
        }
        // The library also has its own limit and reports it at once.
        let is_too_large =
            [code, of_message].contains(&Some(RDKafkaErrorCode::MessageSizeTooLarge));
        if is_too_large { Failed::TooLarge } else { Failed::Aborted(fault) }
    }
}
