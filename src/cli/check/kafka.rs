//! Judges the brokers and topics that `bridge` needs.

use super::finding::Finding;
use crate::config::Config;

#[cfg(not(feature = "kafka"))]
pub(super) fn judge(_config: &Config) -> Vec<Finding> {
    let what = "this build has no bridge; build it with --features kafka";
    vec![Finding::error("kafka.bridge", what)]
}

#[cfg(feature = "kafka")]
pub(super) fn judge(config: &Config) -> Vec<Finding> {
    use crate::base::{Fault, Stop};
    use crate::bridge::{Setup, try_out};
    use crate::engine;

    let found =
        engine::find_server(&config.redis_queue, &Stop::default()).and_then(|(topology, _)| {
            try_out(&Setup {
                streams: engine::all_streams(config),
                config: config.clone(),
                topology,
                until_caught_up: false,
            })
        });
    match found {
        Ok(found) => described(&found, config),
        Err(fault @ Fault::Unusable(_)) => vec![
            Finding::error("kafka.configuration", fault.to_string())
                .why("the bridge cannot start with this configuration")
                .mend("correct the section kafka of the configuration"),
        ],
        Err(fault) => vec![
            Finding::error("kafka.brokers", fault.to_string())
                .why("without a broker the bridge cannot move messages; it keeps trying")
                .mend(
                    "check kafka.bootstrap_servers, security_protocol, the account, and the \
                     addresses that the brokers advertise (advertised.listeners)",
                ),
        ],
    }
}

/// Overhead of a message beside key and value: headers and the head of its batch.
#[cfg(feature = "kafka")]
const HEAD_BYTES: usize = 300;

#[cfg(feature = "kafka")]
fn described(found: &crate::bridge::KafkaFound, config: &Config) -> Vec<Finding> {
    use crate::bridge::TopicFacts;
    use crate::cli::output::human_bytes;

    let mut findings =
        vec![Finding::ok("kafka.brokers", format!("{} Kafka brokers answer", found.brokers))];
    for (topic, direction) in [(&found.input, "kafka-to-redis"), (&found.output, "redis-to-kafka")]
    {
        let TopicFacts { name, partitions, refusal, .. } = topic;
        findings.push(match (partitions, refusal) {
            (1.., None) => {
                let what = format!("the topic {name} is there, with {partitions} partitions");
                Finding::ok("kafka.topic", what)
            }
            (_, refusal) => {
                let why = refusal.as_deref().unwrap_or("there is no such topic");
                Finding::error("kafka.topic", format!("the topic {name} cannot be used: {why}"))
                    .why(format!("{direction} waits until the topic can be used"))
                    .mend(format!(
                        "create it, or let the account read and write it; or change the name in the \
                         section kafka ({name})"
                    ))
            }
        });
    }
    if let Some(why) = &found.group {
        findings.push(
            Finding::error("kafka.group", why)
                .why("kafka-to-redis reads in this group")
                .mend("let the account read the group kafka.bridge_group"),
        );
    }
    let compact = found.positions.cleanup_policy.as_deref();
    if found.positions.partitions > 0 && compact.is_some_and(|policy| policy != "compact") {
        let what = format!("the topic {} is not compacted", found.positions.name);
        findings.push(
            Finding::error("kafka.positions", what)
                .why(
                    "Kafka would delete the stored positions of redis-to-kafka after retention.ms, \
                     and the bridge would send results again",
                )
                .mend("kafka-configs --alter --add-config cleanup.policy=compact for that topic"),
        );
    }
    let payload = config.limits.max_payload_bytes;
    if let Some(most) = found.input.message_bytes_max.filter(|most| *most > payload) {
        let what = format!(
            "{} takes messages of {}, and limits.max_payload_bytes is {}",
            found.input.name,
            human_bytes(most as u64),
            human_bytes(payload as u64)
        );
        findings.push(
            Finding::note("kafka.input_size", what)
                .why("larger frames go to the dead letters")
                .mend("raise limits.max_payload_bytes if there are such frames"),
        );
    }
    if let (Some(most), Some(largest)) = (found.output.message_bytes_max, found.result_bytes_max) {
        let what = format!(
            "the largest of the last results is a message of {}; {} takes {}",
            human_bytes(largest as u64),
            found.output.name,
            human_bytes(most as u64)
        );
        findings.push(if largest + HEAD_BYTES > most {
            Finding::error("kafka.output_size", what)
                .why("the brokers would refuse it, and it would go to the dead letters")
                .mend(
                    "raise max.message.bytes of the topic, or message.max.bytes and \
                     replica.fetch.max.bytes of the brokers; or leave the picture out (image: none)",
                )
        } else {
            Finding::ok("kafka.output_size", what)
        });
    }
    findings
}
