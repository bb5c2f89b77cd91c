//! Valid input of every kind, the starting point of fuzzing and property tests.

use framepress::internals::frame::View;
use framepress::internals::image::{Encoder, Format, Orientation, Target, tag};
use framepress::internals::ring::{Reference, RingHeader};
use framepress::internals::wire::proto::{ImageData, ProcessedFrame, ProcessedFrameBatch};
use prost::Message as _;

/// Valid `data` of entries as protobuf, one for each format.
pub fn protobuf() -> Vec<Vec<u8>> {
    let formats = [Format::Jpeg, Format::Png, Format::Webp, Format::Raw];
    let frame = |format| ProcessedFrame {
        frame_id: "frame-1".into(),
        camera_id: "camera-1".into(),
        timestamp: 1_700_000_000.25,
        original_image: Some(picture(format, 48, 34)),
        ..Default::default()
    };
    let mut all: Vec<_> = formats.map(|format| frame(format).encode_to_vec()).into();
    let mut layouts = frame(Format::Raw);
    if let Some(image) = &mut layouts.original_image {
        // Luma of 34 rows and chroma of 17, each row of 52 bytes.
        image.compressed_data = (0..52 * (34 + 17)).map(|at| (at * 7) as u8).collect();
        image.compression_format = "nv12".into();
        image.row_stride = 52;
        image.color_range = "full".into();
        image.color_matrix = "bt709".into();
    }
    all.push(layouts.encode_to_vec());
    for format in [Format::Jpeg, Format::Png, Format::Webp] {
        let mut turned = frame(format);
        if let Some(image) = &mut turned.original_image {
            let right = Orientation::new(6).unwrap();
            tag(&mut image.compressed_data, format, (48, 34), right);
        }
        all.push(turned.encode_to_vec());
    }
    let batch = ProcessedFrameBatch {
        frames: vec![frame(Format::Jpeg), frame(Format::Webp)],
        batch_id: "batch-1".into(),
        batch_timestamp: 1_700_000_000.5,
        batch_size: 2,
    };
    all.push(batch.encode_to_vec());
    all
}

/// Valid `data` of entries that is only a picture file.
pub fn files() -> Vec<Vec<u8>> {
    [Format::Jpeg, Format::Png, Format::Webp]
        .map(|format| picture(format, 48, 34).compressed_data)
        .into()
}

/// Valid `data` of entries as JSON: each format in base64, and rows of pixels, colour and gray.
pub fn json() -> Vec<Vec<u8>> {
    let coded = |format| {
        let file = picture(format, 48, 34).compressed_data;
        let text = base64_simd::STANDARD.encode_to_string(file);
        json_frame("image_base64", serde_json::Value::String(text))
    };
    let mut all: Vec<_> = [Format::Jpeg, Format::Png, Format::Webp].map(coded).into();
    let pixels = pixels(12, 9);
    let rows = |channels: usize| {
        let of_row = |row: &[u8]| match channels {
            1 => serde_json::to_value(row.iter().step_by(3).collect::<Vec<_>>()).unwrap(),
            _ => serde_json::to_value(row.chunks_exact(3).collect::<Vec<_>>()).unwrap(),
        };
        serde_json::Value::Array(pixels.chunks_exact(36).map(of_row).collect())
    };
    let odd = String::from_utf8(all[0].clone()).unwrap();
    let odd = odd
        .replace("1700000000.25", "\"2023-11-14T22:13:20.25Z\"")
        .replace("image_base64", "image");
    all.push(
        odd.replacen('{', "\u{feff}{\"gps\":[NaN,-Infinity],\"camera_id\":7,", 1).into_bytes(),
    );
    all.push(json_frame("image_array", rows(3)));
    all.push(json_frame("image_array", rows(1)));
    all
}

/// Replies of a server as the data plane reads them, each after the byte that gives the piece size.
pub fn resp() -> Vec<Vec<u8>> {
    let bulk = |bytes: &str| format!("${}\r\n{bytes}\r\n", bytes.len());
    let entry = format!(
        "*2\r\n{}*4\r\n{}{}{}{}",
        bulk("1700000000000-0"),
        bulk("data"),
        bulk(&"x".repeat(300)),
        bulk("camera_id"),
        bulk("camera-1"),
    );
    let read = format!("*1\r\n*2\r\n{}*2\r\n{entry}{entry}", bulk("camera_frames"));
    let pending = format!("*1\r\n*4\r\n{}{}:40\r\n:1\r\n", bulk("1700000000000-0"), bulk("engine"));
    let answers = [
        read,
        pending,
        "*-1\r\n$-1\r\n*0\r\n:1\r\n:0\r\n+OK\r\n+QUEUED\r\n*2\r\n$3\r\n1-1\r\n:1\r\n".into(),
        "-NOGROUP No such key\r\n-OOM command not allowed\r\n:-42\r\n".into(),
        format!("*1\r\n*2\r\n{}*1\r\n*2\r\n{}*-1\r\n", bulk("in"), bulk("1-1")),
        format!("${}\r\n{}\r\n:1\r\n", 20_000, "y".repeat(20_000)),
    ];
    let pieces = [0, 6, 255].into_iter().cycle();
    let with_piece = |(piece, answer): (u8, &String)| [&[piece][..], answer.as_bytes()].concat();
    pieces.zip(&answers).map(with_piece).collect()
}

fn json_frame(key: &str, picture: serde_json::Value) -> Vec<u8> {
    let mut frame = serde_json::json!({
        "frame_id": "frame-1", "camera_id": "camera-1", "timestamp": 1_700_000_000.25,
    });
    frame[key] = picture;
    frame.to_string().into_bytes()
}

fn picture(format: Format, width: usize, height: usize) -> ImageData {
    let pixels = pixels(width, height);
    let view = View { width, height, channels: 3, interleaved: Some(&pixels), planes: None };
    let target = Target { format, quality: 85, webp_method: 0 };
    let mut compressed_data = Vec::new();
    Encoder::new().unwrap().encode(&view, &target, &mut compressed_data).unwrap();
    ImageData {
        compressed_data,
        width: width as i32,
        height: height as i32,
        channels: 3,
        compression_format: format.name().to_owned(),
        quality: 85,
        ..Default::default()
    }
}

/// Interleaved RGB with gradients and a texture.
fn pixels(width: usize, height: usize) -> Vec<u8> {
    let texture = |x: usize, y: usize| ((x * 31) ^ (y * 17)) % 61;
    let pixel =
        |x: usize, y: usize| [(x + texture(x, y)) as u8, (y + texture(x, y)) as u8, (x + y) as u8];
    (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect()
}

/// References to frame rings, and headers of rings followed by a slot number.
pub fn ring() -> Vec<Vec<u8>> {
    let reference = Reference {
        name: "cam-1".into(),
        epoch: 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f,
        slot: 3,
        generation: 4,
        length: 3_110_400,
        hash: 0xfedc_ba98_7654_3210,
    };
    let header = RingHeader {
        slots: 16,
        room: 3_112_960,
        epoch: reference.epoch,
        boot_id: 7,
        made_at_micros: 1_700_000_000_000_000,
    };
    let with_slot = |slot: u32| [&header.encode()[..], &slot.to_le_bytes()].concat();
    let short = Reference { name: "0".into(), hash: 0, ..reference.clone() };
    let texts = [reference, short].map(|reference| reference.to_string().into_bytes());
    texts.into_iter().chain([with_slot(15), with_slot(16)]).collect()
}
