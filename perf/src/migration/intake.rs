//! The producer of frames: JSON with base64 into Kafka, or protobuf into Redis.

use std::time::Duration;

use framepress::internals::base::Stop;
use framepress::internals::camera::{Full, Outbound, Producer, ProducerOptions};
use framepress::internals::image::{Format, InputImage};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::coded::{CodedFrames, FrameCoding};
use super::kafka::{KafkaNode, MESSAGE_BYTES_MAX};
use super::ports::Role;
use super::store::RedisNode;
use crate::Outcome;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A connected producer.
pub enum Intake {
    Kafka { producer: BaseProducer, topic: String, text: String },
    Redis { producer: Box<Producer> },
}

impl Intake {
    pub fn into_kafka(kafka: &KafkaNode, is_counted: bool, topic: &str) -> Outcome<Intake> {
        let producer = kafka
            .client(Role::Producer, is_counted)
            .set("message.max.bytes", MESSAGE_BYTES_MAX)
            .set("linger.ms", "0")
            .create()?;
        Ok(Intake::Kafka { producer, topic: topic.to_owned(), text: String::new() })
    }

    pub fn into_redis(redis: &RedisNode, is_counted: bool, stream: &str) -> Outcome<Intake> {
        let options = ProducerOptions {
            topology: redis.address(Role::Producer, is_counted).into(),
            streams: vec![stream.to_owned()],
            length_max: 0,
            wait_replicas: 0,
            timeout: TIMEOUT,
            retry: false,
            full: Full::Block,
            ring: None,
        };
        let producer = Box::new(Producer::connect(options, &Stop::default())?);
        Ok(Intake::Redis { producer })
    }

    /// Sends frame `number`, due at `due`, as one of `cameras`. Each camera shows the same scene, a
    /// moment later than the one before.
    pub fn send(
        &mut self,
        frames: &CodedFrames,
        number: u64,
        due: f64,
        cameras: u64,
    ) -> Outcome<()> {
        let camera = number % cameras;
        let at = (number / cameras + camera) as usize % frames.files.len();
        let (camera_id, frame_id) = (format!("camera-{camera}"), format!("frame-{number:08}"));
        match self {
            Intake::Kafka { producer, topic, text } => {
                text.clear();
                text.push_str(&format!(
                    r#"{{"frame_id":"{frame_id}","camera_id":"{camera_id}","timestamp":{due:.6},"image_base64":""#
                ));
                text.push_str(&frames.texts[at]);
                text.push_str("\"}");
                let mut record = BaseRecord::to(topic)
                    .partition(i32::try_from(camera)?)
                    .key(&camera_id)
                    .payload(text.as_str());
                while let Err((error, back)) = producer.send(record) {
                    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                        return Err(error.into());
                    }
                    producer.poll(Duration::from_millis(1));
                    record = back;
                }
                producer.poll(Duration::ZERO);
            }
            Intake::Redis { producer } => {
                let format = match frames.coding {
                    FrameCoding::Jpeg => Format::Jpeg,
                    FrameCoding::Png => Format::Png,
                };
                producer.send(&Outbound {
                    frame_id: &frame_id,
                    camera_id: &camera_id,
                    timestamp: due,
                    picture: InputImage {
                        format,
                        width: frames.size.width,
                        height: frames.size.height,
                        channels: 3,
                        layout: Default::default(),
                        bytes: &frames.files[at],
                    },
                    quality: 0,
                })?;
            }
        }
        Ok(())
    }

    /// Waits until the broker has all frames.
    pub fn flush(&self) -> Result<(), KafkaError> {
        match self {
            Intake::Kafka { producer, .. } => producer.flush(TIMEOUT),
            Intake::Redis { .. } => Ok(()),
        }
    }
}
