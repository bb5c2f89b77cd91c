//! What `check --for bridge` asks the brokers. It changes nothing there and does not disturb a
//! running bridge.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::consumer::Consumer;

use super::client::{self, ANSWER_LIMIT, QueryContext};
use super::{Setup, has_brokers, positions, result};
use crate::base::Fault;
use crate::redis::Control;

/// Number of recent results looked at for their size.
const RESULTS: usize = 20;

/// The state of Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaFound {
    /// Number of brokers.
    pub brokers: usize,
    /// The topic of frames.
    pub input: TopicFacts,
    /// The topic of results.
    pub output: TopicFacts,
    /// The topic of places; it does not exist before the first start.
    pub positions: TopicFacts,
    /// The reason why the bridge's group may not be used, if so.
    pub group: Option<String>,
    /// Size in bytes of the largest recent result as a message.
    pub result_bytes_max: Option<usize>,
}

/// The state of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// Number of partitions; 0 if the topic does not exist or may not be seen.
    pub partitions: usize,
    /// The brokers' refusal, if any.
    pub refusal: Option<String>,
    /// Its `max.message.bytes`, if visible to the account.
    pub message_bytes_max: Option<usize>,
    /// Its `cleanup.policy`, if visible to the account.
    pub cleanup_policy: Option<String>,
}

/// Asks the brokers about everything that a bridge needs.
///
/// # Errors
/// [`Fault::Kafka`] if no broker can be reached; [`Fault::Unusable`] for a configuration that the
/// library rejects.
pub fn try_out(setup: &Setup) -> Result<KafkaFound, Fault> {
    has_brokers(&setup.config)?;
    let kafka = &setup.config.kafka;
    let asking = client::asking(kafka, &kafka.bridge_group)?;
    let all = asking.fetch_metadata(None, ANSWER_LIMIT).map_err(|error| {
        // The library reports the reason only when polled, and with a delay.
        for _ in 0..20 {
            let _ = asking.poll(Duration::from_millis(50));
            if asking.context().words.last().is_some() {
                break;
            }
        }
        asking.context().words.explain(client::fault("reaching a broker", &error))
    })?;
    let admin: AdminClient<QueryContext> = client::configuration(kafka)
        .create_with_context(QueryContext::default())
        .map_err(client::unusable)?;
    let topic = |name: &str| {
        let mut facts = TopicFacts { name: name.to_owned(), ..TopicFacts::default() };
        match client::partitions(&asking, name) {
            Ok(found) => facts.partitions = found.len(),
            Err(fault) => facts.refusal = Some(fault.to_string()),
        }
        if facts.partitions > 0 {
            let options = AdminOptions::new().request_timeout(Some(ANSWER_LIMIT));
            let asked = [ResourceSpecifier::Topic(name)];
            let answer = client::within_limit(admin.describe_configs(&asked, &options));
            let all = answer.and_then(Result::ok);
            let settings = all.and_then(|mut all| all.pop()).and_then(Result::ok);
            let value = |key: &str| settings.as_ref()?.get(key)?.value.clone();
            facts.message_bytes_max = value("max.message.bytes").and_then(|it| it.parse().ok());
            facts.cleanup_policy = value("cleanup.policy");
        }
        facts
    };
    let [input, output, positions] =
        [&kafka.input_topic, &kafka.output_topic, positions::TOPIC].map(topic);
    let group = (input.partitions > 0)
        .then(|| {
            let mut list = TopicPartitionList::new();
            list.add_partition(&kafka.input_topic, 0);
            asking.committed_offsets(list, ANSWER_LIMIT).err()
        })
        .flatten()
        .map(|error| client::fault(&kafka.bridge_group, &error).to_string());
    Ok(KafkaFound {
        brokers: all.brokers().len(),
        input,
        output,
        positions,
        group,
        result_bytes_max: largest_result(setup),
    })
}

/// Size of the largest recent result as a message; `None` if there is none.
fn largest_result(setup: &Setup) -> Option<usize> {
    let mut control = Control::new(setup.topology.clone(), ANSWER_LIMIT);
    let streams = setup.streams.iter().map(|streams| &streams.output);
    let results = streams.filter_map(|output| control.before(output, None, RESULTS).ok()).flatten();
    let sizes = results
        .filter_map(|record| Some(result::message(&record, &setup.config.kafka).ok()?.len()));
    sizes.max()
}
