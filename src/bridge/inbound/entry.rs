//! Converts a message to an entry of the input stream.

use rdkafka::message::Message;

use super::super::{client, dead_letter};
use crate::base::Reason;
use crate::camera::shard_of;
use crate::config::Config;
use crate::redis::PlacedEntry;
use crate::wire;

/// Maximum number of headers of a message that become fields.
const HEADERS_MAX: usize = 64;

/// Fields that no header may set: they say where the pixels are or where the message came from.
const OWN_FIELDS: [&str; 5] = ["data", "ring", "kafka_topic", "kafka_partition", "kafka_offset"];

/// Converts a message to an entry and chooses its shard.
pub(super) fn entry_of(
    message: &impl Message,
    config: &Config,
    shards: usize,
) -> (usize, PlacedEntry) {
    let payload = message.payload().unwrap_or_default();
    let most = config.limits.max_payload_bytes;
    let refusal = match payload.len() {
        0 => Some((Reason::Undecodable, "the message is empty".to_owned())),
        len if len > most => {
            Some((Reason::TooLarge, format!("{len} bytes; limits.max_payload_bytes is {most}")))
        }
        _ => None,
    };
    let mut fields: Vec<Vec<u8>> = Vec::new();
    let mut field =
        |name: &str, value: &[u8]| fields.extend([name.as_bytes().to_vec(), value.to_vec()]);
    if refusal.is_none() {
        field("data", payload);
    }
    let (partition, offset) = (message.partition().to_string(), message.offset().to_string());
    field("kafka_topic", message.topic().as_bytes());
    field("kafka_partition", partition.as_bytes());
    field("kafka_offset", offset.as_bytes());
    for header in client::headers(message, HEADERS_MAX) {
        if !OWN_FIELDS.contains(&header.key) {
            field(header.key, header.value.unwrap_or_default());
        }
    }
    if let Some((reason, detail)) = &refusal {
        let id = format!("{}/{partition}/{offset}", message.topic());
        for (name, value) in dead_letter(&id, &config.redis_queue.input_queue, *reason, detail) {
            field(name, value.as_bytes());
        }
    }
    // If the camera cannot be read, any shard will do: the engine refuses the frame.
    let camera = if shards > 1 { wire::camera_of(payload, most) } else { None };
    let shard = camera.map_or(0, |camera| shard_of(&camera, shards));
    (shard, PlacedEntry { after: message.offset() + 1, is_dead_letter: refusal.is_some(), fields })
}
