//! Extreme sizes through every codec and the whole analysis.

use framepress::internals::image::Format;
use framepress::internals::wire::proto::ImageData;

use crate::support::{Fields, Output, RedisServer, RunningEngine, Sample, decoded, protobuf_of};

/// Everything on, with a region that no small picture contains.
const EVERYTHING: [(&str, &str); 3] = [
    ("analysis.ml_image", "true"),
    ("analysis.thumbnail", "true"),
    (
        "cameras",
        r#"[{"id": "cam", "roi_boxes": [
            {"x": 0, "y": 0, "width": 1, "height": 1, "label": "first"},
            {"x": 5, "y": 5, "width": 100, "height": 100, "label": "far"}]}]"#,
    ),
];

/// One pixel, odd sizes, one row, one column, and all black.
fn samples() -> Vec<Sample> {
    let sizes = [(1, 1), (2, 1), (1, 2), (3, 3), (31, 17), (1, 300), (300, 1), (65, 1), (1, 65)];
    let mut samples = Vec::new();
    for (width, height) in sizes {
        samples.push(Sample::colour(width, height, 1));
        samples.push(Sample::gray(width, height, 2));
    }
    let black = |width, height, channels: usize| {
        let pixels = vec![0; width * height * channels];
        Sample { width, height, channels, pixels }
    };
    samples.extend([black(64, 48, 3), black(63, 47, 3), black(64, 48, 1)]);
    samples
}

fn entries() -> (Vec<Fields>, Vec<Sample>) {
    let formats = [Format::Raw, Format::Jpeg, Format::Png, Format::Webp];
    let all: Vec<_> = samples()
        .into_iter()
        .flat_map(|sample| formats.map(|format| (sample.image(format), sample.clone())))
        .collect();
    let name = |image: &ImageData| {
        format!("{}x{}x{} {}", image.width, image.height, image.channels, image.compression_format)
    };
    all.into_iter()
        .map(|(image, sample)| (protobuf_of(&name(&image), "cam", image), sample))
        .unzip()
}

fn all_pass(format: &str) {
    let (entries, samples) = entries();
    let mut flags = EVERYTHING.to_vec();
    flags.push(match format {
        "raw" => ("redis_queue.enable_compression", "false"),
        other => ("redis_queue.compression_format", other),
    });
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &flags);
    server.add_all(&entries);
    server.wait_until_done();
    let account = engine.stop();
    let letters: Vec<_> = server.dead_letters().iter().map(|l| l.text("detail")).collect();
    assert_eq!(account.out, entries.len() as u64, "{letters:?}");
    for (output, sample) in server.outputs().iter().zip(&samples) {
        check(output, sample);
    }
}

fn check(output: &Output, sample: &Sample) {
    let frame = &output.frame;
    let name = &frame.frame_id;
    let image = frame.original_image.as_ref().unwrap();
    assert_eq!((image.width, image.height), (sample.width as i32, sample.height as i32), "{name}");
    let pixels = decoded(image);
    assert_eq!((pixels.width, pixels.height), (sample.width, sample.height), "{name}");
    if sample.pixels.iter().all(|&value| value == 0) {
        assert!(pixels.pixels.iter().all(|&value| value <= 2), "{name}: black stays black");
    }
    for (picture, side) in [(&frame.processed_image, 640), (&frame.thumbnail, 128)] {
        let picture = decoded(picture.as_ref().unwrap());
        assert_eq!((picture.width, picture.height), (side, side), "{name}");
    }
    let quality = frame.quality_metrics.as_ref().unwrap();
    assert!((0.0..=1.0).contains(&quality.quality_score), "{name}: {quality:?}");
    let traffic = frame.traffic_features.as_ref().unwrap();
    assert!((0.0..=1.0).contains(&traffic.vehicle_density), "{name}: {traffic:?}");
    assert!((0.0..=1.0).contains(&traffic.motion_intensity), "{name}: {traffic:?}");
    assert_eq!(frame.roi_features.len(), 2, "{name}");
    for region in &frame.roi_features {
        assert!((0.0..=1.0).contains(&region.density), "{name}: {region:?}");
        assert!((0.0..=255.0).contains(&region.brightness), "{name}: {region:?}");
    }
}

#[test]
fn extreme_sizes_become_jpeg() {
    all_pass("jpeg");
}

#[test]
fn extreme_sizes_become_webp() {
    all_pass("webp");
}

#[test]
fn extreme_sizes_become_png() {
    all_pass("png");
}

#[test]
fn extreme_sizes_become_raw() {
    all_pass("raw");
}

/// Frames of the maximum width of a format, and wider: a result, or a dead letter with the reason.
#[test]
fn the_widest_frames_have_a_result_or_a_reason() {
    let gray = |width| Sample { width, height: 1, channels: 1, pixels: vec![90; width] };
    let colour = |width| Sample { width, height: 1, channels: 3, pixels: vec![90; 3 * width] };
    let entries = [
        ("jpeg 65500", colour(65_500).image(Format::Jpeg)),
        ("webp 16383", colour(16_383).image(Format::Webp)),
        ("png 65500", colour(65_500).image(Format::Png)),
        ("raw 65500", colour(65_500).image(Format::Raw)),
        ("gray 65500", gray(65_500).image(Format::Raw)),
        ("png 65535", colour(65_535).image(Format::Png)),
        ("raw 65535", colour(65_535).image(Format::Raw)),
        ("gray 65535", gray(65_535).image(Format::Raw)),
    ]
    .map(|(name, image)| protobuf_of(name, "cam", image));
    let outcome = |format: &str, analysis: bool| {
        let mut flags = vec![("redis_queue.compression_format", format)];
        if analysis {
            flags.extend(EVERYTHING);
        } else {
            flags.push(("analysis.enabled", "false"));
        }
        let server = RedisServer::start();
        let engine = RunningEngine::start(&server, &flags);
        server.add_all(&entries);
        server.wait_until_done();
        let account = engine.stop();
        assert_eq!(account.out + account.dead_lettered, entries.len() as u64, "{account:?}");
        let mut names: Vec<_> =
            server.outputs().into_iter().map(|output| output.frame.frame_id).collect();
        names.sort_unstable();
        let mut reasons: Vec<_> =
            server.dead_letters().iter().map(|letter| letter.text("reason")).collect();
        reasons.sort_unstable();
        reasons.dedup();
        (names, reasons)
    };
    let up_to_65500 = ["gray 65500", "jpeg 65500", "png 65500", "raw 65500", "webp 16383"];
    // With analysis, colour of width 65535 has no planes. Gray has planes, but no JPEG.
    let (names, reasons) = outcome("jpeg", true);
    assert_eq!(names, up_to_65500);
    assert_eq!(reasons, ["encode_failed", "unsupported_image"]);
    let (names, reasons) = outcome("jpeg", false);
    assert_eq!(names, up_to_65500);
    assert_eq!(reasons, ["encode_failed"]);
    let (names, reasons) = outcome("webp", false);
    assert_eq!(names, ["webp 16383"]);
    assert_eq!(reasons, ["encode_failed"]);
    let (names, _) = outcome("png", false);
    assert_eq!(names.len(), entries.len(), "PNG has no such limit: {names:?}");
}
