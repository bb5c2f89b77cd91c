//! Every kind of input to every kind of output: pixels, fields and metadata.

use framepress::internals::image::Format;
use framepress::internals::metrics::clock::unix_seconds;
use framepress::internals::wire::proto::{ImageData, ProcessedFrame, ProcessingStage};
use prost::Message;

use crate::support::{
    Fields, Output, RedisServer, RunningEngine, Sample, data, decoded, gray_array, json_array,
    json_base64, mean_difference, protobuf_of, rgb_array,
};

/// Largest mean difference of pixels after a lossy codec.
const DIFFERENCE_MAX: f64 = 4.0;

/// One input: its entry, the bytes of its picture, and the picture.
struct Case {
    name: &'static str,
    entry: Fields,
    image: Vec<u8>,
    sample: Sample,
    lossless: bool,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, entry, image: Vec<u8>, sample: &Sample, lossless| {
        cases.push(Case { name, entry, image, sample: sample.clone(), lossless });
    };
    for (name, format, sample) in [
        ("protobuf-raw-rgb", Format::Raw, Sample::colour(96, 64, 1)),
        ("protobuf-raw-gray", Format::Raw, Sample::gray(96, 64, 2)),
        ("protobuf-raw-in-many-pieces", Format::Raw, Sample::colour(480, 320, 11)),
        ("protobuf-raw-odd", Format::Raw, Sample::colour(97, 63, 3)),
        ("protobuf-jpeg", Format::Jpeg, Sample::colour(96, 64, 4)),
        ("protobuf-jpeg-gray", Format::Jpeg, Sample::gray(96, 64, 5)),
        ("protobuf-png", Format::Png, Sample::colour(96, 64, 6)),
        ("protobuf-webp", Format::Webp, Sample::colour(96, 64, 7)),
    ] {
        let image = sample.image(format);
        let bytes = image.compressed_data.clone();
        let lossless = matches!(format, Format::Raw | Format::Png);
        add(name, protobuf_of(name, "cam", image), bytes, &sample, lossless);
    }
    for (name, format) in [
        ("json-base64-jpeg", Format::Jpeg),
        ("json-base64-png", Format::Png),
        ("json-base64-webp", Format::Webp),
    ] {
        let sample = Sample::colour(96, 64, 8);
        let file = sample.encode(format);
        add(name, json_base64(name, "cam", &file), file, &sample, format == Format::Png);
    }
    let (name, sample) = ("json-array-rgb", Sample::colour(40, 30, 9));
    add(name, json_array(name, "cam", rgb_array(&sample)), sample.pixels.clone(), &sample, true);
    let (name, sample) = ("json-array-gray", Sample::gray(40, 30, 10));
    add(name, json_array(name, "cam", gray_array(&sample)), sample.pixels.clone(), &sample, true);
    cases
}

fn every_input_becomes(format: Format) {
    let server = RedisServer::start();
    let flag = match format {
        Format::Raw => ("redis_queue.enable_compression", "false"),
        other => ("redis_queue.compression_format", other.name()),
    };
    let engine = RunningEngine::start(&server, &[flag]);
    let began = unix_seconds();
    let cases = cases();
    let ids = server.add_all(cases.iter().map(|case| &case.entry));
    server.wait_for_outputs(cases.len());
    let outputs = server.outputs();
    assert_eq!(outputs.len(), cases.len());
    for ((case, id), output) in cases.iter().zip(&ids).zip(&outputs) {
        check(case, id, output, format, began);
    }
    let account = engine.stop();
    assert_eq!((account.read, account.out), (cases.len() as u64, cases.len() as u64));
    assert_eq!(server.pending(), 0);
}

fn check(case: &Case, id: &str, output: &Output, format: Format, began: f64) {
    let name = case.name;
    let frame = &output.frame;
    assert_eq!((&*frame.frame_id, &*frame.camera_id), (name, "cam"));
    assert_eq!(frame.timestamp.to_bits(), 1_700_000_000.25_f64.to_bits(), "{name}");
    assert_eq!(frame.processing_stage(), ProcessingStage::Output, "{name}");
    assert_eq!(frame.version, "1.0", "{name}");
    assert!(frame.validation_passed, "{name}");
    assert_eq!(frame.source_hash, hash(&case.image), "{name}");
    let (received, processed) = (frame.received_timestamp, frame.processed_timestamp);
    assert!(began <= received && received <= processed, "{name}: {began} {received} {processed}");
    assert!(processed <= unix_seconds(), "{name}");
    let between = (processed - received) * 1000.0;
    let told = f64::from(frame.processing_time_ms);
    assert!(told > 0.0 && (told - between).abs() < 0.01, "{name}: {told} ms, {between} ms");

    let image = frame.original_image.as_ref().expect("a picture");
    let sample = &case.sample;
    let (width, height) = (sample.width as i32, sample.height as i32);
    assert_eq!((image.width, image.height), (width, height), "{name}");
    assert_eq!(image.channels, sample.channels as i32, "{name}");
    assert_eq!(image.compression_format, format.name(), "{name}");
    let quality = if matches!(format, Format::Jpeg | Format::Webp) { 85 } else { 0 };
    assert_eq!(image.quality, quality, "{name}");
    let pixels = decoded(image);
    let difference = mean_difference(sample, &pixels);
    if case.lossless && matches!(format, Format::Png | Format::Raw) {
        assert_eq!(pixels.pixels, sample.pixels, "{name}: lossless all the way");
    }
    assert!(difference <= DIFFERENCE_MAX, "{name}: mean difference {difference}");

    let figures = frame.quality_metrics.as_ref().expect("figures");
    for share in [
        figures.quality_score,
        figures.blur_score,
        figures.brightness_score,
        figures.contrast_score,
        figures.noise_level,
    ] {
        assert!((0.0..=1.0).contains(&share), "{name}: {figures:?}");
    }
    let traffic = frame.traffic_features.as_ref().expect("features");
    assert!(["free_flow", "medium", "high"].contains(&&*traffic.congestion_level), "{traffic:?}");
    assert!(!traffic.weather_conditions.is_empty(), "{name}: {traffic:?}");
    assert!(!traffic.lighting_conditions.is_empty(), "{name}: {traffic:?}");
    assert!(frame.processed_image.is_none() && frame.thumbnail.is_none(), "{name}: not asked for");

    assert_eq!(output.text("frame_id"), name);
    assert_eq!(output.text("camera_id"), "cam", "{name}");
    let timestamp: f64 = output.text("timestamp").parse().unwrap();
    assert_eq!(timestamp.to_bits(), frame.timestamp.to_bits(), "{name}");
    assert_eq!(output.source_id(), id, "{name}");
    assert!(!output.fields.contains_key("traceparent"), "{name}: none came in");
}

fn hash(bytes: &[u8]) -> String {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(bytes))
}

#[test]
fn every_input_becomes_jpeg() {
    every_input_becomes(Format::Jpeg);
}

#[test]
fn every_input_becomes_webp() {
    every_input_becomes(Format::Webp);
}

#[test]
fn every_input_becomes_png() {
    every_input_becomes(Format::Png);
}

#[test]
fn every_input_becomes_raw() {
    every_input_becomes(Format::Raw);
}

/// The result of one entry, with an engine configured by `flags`.
fn result_of(entry: &Fields, flags: &[(&str, &str)]) -> Output {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, flags);
    server.add(entry);
    server.wait_for_outputs(1);
    engine.stop();
    server.outputs().remove(0)
}

#[test]
fn fields_beside_data_stand_in_for_those_the_frame_lacks() {
    let image = Sample::colour(32, 32, 1).image(Format::Png);
    let frame = ProcessedFrame { original_image: Some(image), ..Default::default() };
    let mut entry = data(frame.encode_to_vec());
    for (name, value) in [
        ("frame_id", "beside"),
        ("camera_id", "cam-beside"),
        ("timestamp", "12.5"),
        ("priority", "high"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        entry.push((name.to_owned(), value.into()));
    }
    let output = result_of(&entry, &[]);
    assert_eq!((&*output.frame.frame_id, &*output.frame.camera_id), ("beside", "cam-beside"));
    assert_eq!(output.frame.timestamp.to_bits(), 12.5_f64.to_bits());
    assert_eq!((&*output.text("frame_id"), &*output.text("camera_id")), ("beside", "cam-beside"));
    assert_eq!(
        output.text("traceparent"),
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    );
    assert!(!output.fields.contains_key("priority"), "not one of the fields of a result");
}

#[test]
fn fields_in_the_frame_win_over_those_beside_it() {
    let mut entry = protobuf_of("inside", "cam-inside", Sample::gray(16, 16, 1).image(Format::Raw));
    entry.insert(0, ("frame_id".to_owned(), b"beside".to_vec()));
    entry.push(("camera_id".to_owned(), b"beside".to_vec()));
    let output = result_of(&entry, &[]);
    assert_eq!((&*output.frame.frame_id, &*output.frame.camera_id), ("inside", "cam-inside"));
    assert_eq!(output.text("camera_id"), "cam-inside");
}

#[test]
fn the_version_of_the_producer_is_kept() {
    let frame = ProcessedFrame {
        version: "7.2-beta".to_owned(),
        original_image: Some(Sample::gray(16, 16, 1).image(Format::Raw)),
        ..Default::default()
    };
    assert_eq!(result_of(&data(frame.encode_to_vec()), &[]).frame.version, "7.2-beta");
}

#[test]
fn ml_image_and_thumbnail_are_made_when_asked_for() {
    let entry = protobuf_of("f", "cam", Sample::colour(320, 180, 1).image(Format::Jpeg));
    let flags = [("analysis.ml_image", "true"), ("analysis.thumbnail", "true")];
    let frame = result_of(&entry, &flags).frame;
    let size = |image: &Option<ImageData>| {
        let image = image.as_ref().expect("a picture");
        let pixels = decoded(image);
        assert_eq!(pixels.width as i32, image.width);
        assert_eq!(pixels.height as i32, image.height);
        assert_eq!(image.compression_format, "jpeg");
        (image.width, image.height, image.quality)
    };
    assert_eq!(size(&frame.processed_image), (640, 640, 85));
    let (width, height, quality) = size(&frame.thumbnail);
    assert!(width.max(height) == 128 && quality == 90, "{width}x{height} at {quality}");
}

#[test]
fn regions_of_a_camera_have_figures_of_their_own() {
    let cameras = r#"[{"id": "cam", "quality_threshold": 1.0, "roi_boxes": [
        {"x": 0, "y": 0, "width": 40, "height": 20, "label": "left"},
        {"x": 40, "y": 20, "width": 30, "height": 30, "label": "right"}]}]"#;
    let entry = protobuf_of("f", "cam", Sample::colour(96, 64, 1).image(Format::Raw));
    let frame = result_of(&entry, &[("cameras", cameras)]).frame;
    let boxes: Vec<_> = frame
        .roi_features
        .iter()
        .map(|roi| (&*roi.roi_id, roi.x, roi.y, roi.width, roi.height))
        .collect();
    assert_eq!(boxes, [("left", 0, 0, 40, 20), ("right", 40, 20, 30, 30)]);
    assert!(frame.roi_features.iter().all(|roi| (1.0..=254.0).contains(&roi.brightness)));
    assert!(!frame.validation_passed, "nothing reaches a quality of 1.0");
}

#[test]
fn without_analysis_there_are_no_figures() {
    let entry = protobuf_of("f", "cam", Sample::colour(96, 64, 1).image(Format::Raw));
    let frame = result_of(&entry, &[("analysis.enabled", "false")]).frame;
    assert!(frame.quality_metrics.is_none() && frame.traffic_features.is_none());
    assert!(frame.validation_passed && frame.original_image.is_some());
}

#[test]
fn a_jpeg_that_is_small_already_passes_through_untouched() {
    let image = Sample::colour(96, 64, 1).image(Format::Jpeg);
    let file = image.compressed_data.clone();
    let flags = [("engine.reencode", "when_smaller"), ("redis_queue.compression_quality", "96")];
    let frame = result_of(&protobuf_of("f", "cam", image), &flags).frame;
    let out = frame.original_image.unwrap();
    assert_eq!(out.compressed_data, file);
    assert_eq!(out.quality, 95);
}
