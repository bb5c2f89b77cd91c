//! Converts results to messages: the fields of the old processor as JSON, or the unchanged
//! `ProcessedFrame`.

use prost::Message;
use serde::Serialize;

use crate::config::{KafkaConfig, ResultFormat, ResultImage};
use crate::redis::Record;
use crate::wire::proto::{ImageData, ProcessedFrame};

/// A message to send.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct KafkaMessage {
    /// The camera: messages of one camera go to one partition.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// Headers: names and values.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

impl KafkaMessage {
    /// Approximate size in Kafka, in bytes.
    pub fn len(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// The fields of the old processor in its order, and the image if requested.
#[derive(Debug, Serialize)]
struct OldResult<'a> {
    frame_id: &'a str,
    camera_id: &'a str,
    timestamp: f64,
    quality_score: f32,
    vehicle_density: f32,
    congestion_level: &'a str,
    weather_conditions: &'a str,
    lighting_conditions: &'a str,
    processing_time_ms: f32,
    validation_passed: bool,
    source_hash: &'a str,
    #[serde(flatten)]
    image: Option<OldImage<'a>>,
}

#[derive(Debug, Serialize)]
struct OldImage<'a> {
    image_base64: String,
    width: i32,
    height: i32,
    compression_format: &'a str,
}

/// Converts an entry of the output stream to a message.
///
/// # Errors
/// The reason why the entry is not a result.
pub(super) fn message((_, fields): &Record, kafka: &KafkaConfig) -> Result<KafkaMessage, String> {
    let data = fields.get("data").ok_or("the entry has no field data")?;
    let side = |name: &str| fields.get(name).cloned().filter(|value| !value.is_empty());
    let mut camera = side("camera_id");
    let mut frame_id = side("frame_id");
    let value = match kafka.format {
        ResultFormat::Protobuf => data.clone(),
        ResultFormat::Json => {
            let frame = ProcessedFrame::decode(data.as_slice())
                .map_err(|error| format!("no ProcessedFrame: {error}"))?;
            camera.get_or_insert_with(|| frame.camera_id.clone().into_bytes());
            frame_id.get_or_insert_with(|| frame.frame_id.clone().into_bytes());
            old_json(&frame, kafka.image)
                .map_err(|error| format!("cannot be written as JSON: {error}"))?
        }
    };
    let headers = [
        ("frame_id", frame_id),
        ("source_id", side("source_id")),
        ("traceparent", side("traceparent")),
    ];
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    Ok(KafkaMessage { key: camera.unwrap_or_default(), value, headers })
}

fn old_json(frame: &ProcessedFrame, image: ResultImage) -> serde_json::Result<Vec<u8>> {
    let quality = frame.quality_metrics.unwrap_or_default();
    let traffic = frame.traffic_features.clone().unwrap_or_default();
    let picture = frame.processed_image.as_ref().filter(|_| image == ResultImage::Base64);
    serde_json::to_vec(&OldResult {
        frame_id: &frame.frame_id,
        camera_id: &frame.camera_id,
        timestamp: frame.timestamp,
        quality_score: quality.quality_score,
        vehicle_density: traffic.vehicle_density,
        congestion_level: &traffic.congestion_level,
        weather_conditions: &traffic.weather_conditions,
        lighting_conditions: &traffic.lighting_conditions,
        processing_time_ms: frame.processing_time_ms,
        validation_passed: frame.validation_passed,
        source_hash: &frame.source_hash,
        image: picture.map(old_image),
    })
}

fn old_image(picture: &ImageData) -> OldImage<'_> {
    OldImage {
        image_base64: base64_simd::STANDARD.encode_to_string(&picture.compressed_data),
        width: picture.width,
        height: picture.height,
        compression_format: &picture.compression_format,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::config::Config;
    use crate::frame::EntryId;
    use crate::wire::proto::{QualityMetrics, TrafficFeatures};

    fn record() -> Record {
        let frame = ProcessedFrame {
            frame_id: "f \"1\"".into(),
            camera_id: "cam".into(),
            timestamp: 1_700_000_000.25,
            processed_image: Some(ImageData {
                compressed_data: vec![0xff, 0xd8, 1],
                width: 640,
                height: 480,
                compression_format: "jpeg".into(),
                ..ImageData::default()
            }),
            quality_metrics: Some(QualityMetrics { quality_score: 0.7, ..Default::default() }),
            traffic_features: Some(TrafficFeatures {
                vehicle_density: 0.125,
                congestion_level: "low".into(),
                weather_conditions: "clear".into(),
                lighting_conditions: "normal".into(),
                ..Default::default()
            }),
            processing_time_ms: 4.5,
            validation_passed: true,
            source_hash: "00ff".into(),
            ..ProcessedFrame::default()
        };
        let fields = [
            ("data", frame.encode_to_vec()),
            ("source_id", b"5-0".to_vec()),
            ("traceparent", b"00-1-2-01".to_vec()),
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        (EntryId::default(), fields.collect::<HashMap<_, _>>())
    }

    #[test]
    fn json_has_exactly_the_old_fields() {
        let mut kafka = Config::builtin().kafka;
        let message = message(&record(), &kafka).unwrap();
        let text = String::from_utf8(message.value).unwrap();
        assert_eq!(
            text,
            r#"{"frame_id":"f \"1\"","camera_id":"cam","timestamp":1700000000.25,"quality_score":0.7,"vehicle_density":0.125,"congestion_level":"low","weather_conditions":"clear","lighting_conditions":"normal","processing_time_ms":4.5,"validation_passed":true,"source_hash":"00ff"}"#
        );
        assert_eq!(message.key, b"cam");
        let headers: Vec<_> = message.headers.iter().map(|(name, _)| *name).collect();
        assert_eq!(headers, ["frame_id", "source_id", "traceparent"]);

        kafka.image = ResultImage::Base64;
        let with_picture = super::message(&record(), &kafka).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&with_picture.value).unwrap();
        assert_eq!(value["image_base64"], "/9gB");
        assert_eq!((&value["width"], &value["compression_format"]), (&640.into(), &"jpeg".into()));
    }

    #[test]
    fn protobuf_goes_as_it_is_and_what_is_no_result_is_said() {
        let mut kafka = Config::builtin().kafka;
        kafka.format = ResultFormat::Protobuf;
        let record = record();
        assert_eq!(message(&record, &kafka).unwrap().value, record.1["data"]);
        kafka.format = ResultFormat::Json;
        let mut broken = record.clone();
        broken.1.insert("data".into(), b"{}".to_vec());
        assert!(message(&broken, &kafka).unwrap_err().starts_with("no ProcessedFrame"));
        broken.1.remove("data");
        assert!(message(&broken, &kafka).is_err());
    }
}
