//! Pictures, and the forms in which cameras send them.

use framepress::internals::frame::View;
use framepress::internals::image::{
    Bounds, Decoder, Encoder, Format, InputImage, Needs, Picture, Target,
};
use framepress::internals::wire::proto::{ImageData, ProcessedFrame};
use prost::Message;

use super::{Fields, data};

/// Interleaved pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub pixels: Vec<u8>,
}

impl Sample {
    /// A smooth colourful picture with a few edges, which differs with `seed`.
    pub fn colour(width: usize, height: usize, seed: usize) -> Sample {
        let wave = |at: usize, of: usize, phase: f64| {
            let angle = at as f64 / of.max(64) as f64 * std::f64::consts::TAU;
            (128.0 + 80.0 * (angle + phase + seed as f64).sin()) as u8
        };
        let mut pixels = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let edge = if (x / 16 + y / 16 + seed).is_multiple_of(5) { 24 } else { 0 };
                pixels.extend([
                    wave(x, width, 0.0) + edge,
                    wave(y, height, 1.0) + edge,
                    wave(x + y, width + height, 2.0) + edge,
                ]);
            }
        }
        Sample { width, height, channels: 3, pixels }
    }

    /// The green channel of [`Sample::colour`].
    pub fn gray(width: usize, height: usize, seed: usize) -> Sample {
        let colour = Sample::colour(width, height, seed);
        let pixels = colour.pixels.chunks_exact(3).map(|pixel| pixel[1]).collect();
        Sample { width, height, channels: 1, pixels }
    }

    /// Encodes to a file of `format`, at quality 95, so that any visible loss is the engine's.
    pub fn encode(&self, format: Format) -> Vec<u8> {
        let view = View {
            width: self.width,
            height: self.height,
            channels: self.channels,
            interleaved: Some(&self.pixels),
            planes: None,
        };
        let target = Target { format, quality: 95, webp_method: 2 };
        let mut out = Vec::new();
        Encoder::new().unwrap().encode(&view, &target, &mut out).unwrap();
        out
    }

    /// The sample as the picture of a message.
    pub fn image(&self, format: Format) -> ImageData {
        ImageData {
            compressed_data: self.encode(format),
            width: self.width as i32,
            height: self.height as i32,
            channels: self.channels as i32,
            compression_format: format.name().to_owned(),
            quality: 95,
            ..Default::default()
        }
    }
}

/// The pixels of a picture from the engine.
pub fn decoded(image: &ImageData) -> Sample {
    let source = InputImage {
        format: Format::from_name(&image.compression_format).expect("a known format"),
        width: image.width as u32,
        height: image.height as u32,
        channels: image.channels as u32,
        layout: Default::default(),
        bytes: &image.compressed_data,
    };
    let mut store = Picture::default();
    let needs = Needs { planes: false, interleaved: true };
    let mut decoder = Decoder::new(Bounds { pixels_max: 1 << 24 }).unwrap();
    let view = decoder.decode(&source, needs, &mut store).expect("a picture of the engine");
    let View { width, height, channels, .. } = view;
    Sample { width, height, channels, pixels: view.interleaved.unwrap().to_vec() }
}

/// Mean absolute difference of the samples; a gray picture is compared as one of equal colours.
#[track_caller]
pub fn mean_difference(a: &Sample, b: &Sample) -> f64 {
    assert_eq!((a.width, a.height), (b.width, b.height), "same size");
    let at = |sample: &Sample, index: usize| match sample.channels {
        1 => sample.pixels[index / 3],
        _ => sample.pixels[index],
    };
    let count = a.width * a.height * 3;
    let sum: u64 = (0..count).map(|index| u64::from(at(a, index).abs_diff(at(b, index)))).sum();
    sum as f64 / count as f64
}

/// An entry with a protobuf frame that holds a small JPEG.
pub fn protobuf(frame_id: &str, camera_id: &str) -> Fields {
    protobuf_of(frame_id, camera_id, Sample::colour(48, 32, 1).image(Format::Jpeg))
}

/// An entry with a protobuf frame that holds a picture, taken at second 1700000000.25.
pub fn protobuf_of(frame_id: &str, camera_id: &str, image: ImageData) -> Fields {
    let frame = ProcessedFrame {
        frame_id: frame_id.to_owned(),
        camera_id: camera_id.to_owned(),
        timestamp: 1_700_000_000.25,
        original_image: Some(image),
        ..Default::default()
    };
    data(frame.encode_to_vec())
}

/// An entry with a legacy frame that holds a file in base64.
pub fn json_base64(frame_id: &str, camera_id: &str, file: &[u8]) -> Fields {
    let text = base64_simd::STANDARD.encode_to_string(file);
    json(frame_id, camera_id, "image_base64", serde_json::Value::String(text))
}

/// An entry with a legacy frame that holds rows of pixels.
pub fn json_array(frame_id: &str, camera_id: &str, rows: serde_json::Value) -> Fields {
    json(frame_id, camera_id, "image_array", rows)
}

fn json(frame_id: &str, camera_id: &str, key: &str, picture: serde_json::Value) -> Fields {
    let mut frame = serde_json::json!({
        "frame_id": frame_id, "camera_id": camera_id, "timestamp": 1_700_000_000.25,
    });
    frame[key] = picture;
    data(frame.to_string())
}

/// Rows of pixels of three numbers.
pub fn rgb_array(sample: &Sample) -> serde_json::Value {
    let rows = sample.pixels.chunks_exact(sample.width * 3);
    rows.map(|row| row.chunks_exact(3).collect::<Vec<_>>()).collect::<Vec<_>>().into_json()
}

/// Rows of numbers.
pub fn gray_array(sample: &Sample) -> serde_json::Value {
    sample.pixels.chunks_exact(sample.width).collect::<Vec<_>>().into_json()
}

trait IntoJson {
    fn into_json(self) -> serde_json::Value;
}

impl<T: serde::Serialize> IntoJson for T {
    fn into_json(self) -> serde_json::Value {
        serde_json::to_value(self).unwrap()
    }
}
