//! The figures of a result: scene classes, density and motion, regions, thresholds.

use framepress::internals::image::Format;
use framepress::internals::metrics::Counter;
use framepress::internals::wire::proto::ProcessedFrame;

use crate::support::{Fields, RedisServer, RunningEngine, Sample, protobuf_of};

const WIDTH: usize = 96;
const HEIGHT: usize = 64;

/// The results of entries, in order, with an engine configured by `flags`.
fn results(entries: &[Fields], flags: &[(&str, &str)]) -> Vec<ProcessedFrame> {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, flags);
    server.add_all(entries);
    server.wait_until_done();
    engine.stop();
    server.outputs().into_iter().map(|output| output.frame).collect()
}

/// A gray picture, pixel by pixel.
fn drawn(level: impl Fn(usize, usize) -> u8) -> Sample {
    let pixels = (0..WIDTH * HEIGHT).map(|at| level(at % WIDTH, at / WIDTH)).collect();
    Sample { width: WIDTH, height: HEIGHT, channels: 1, pixels }
}

/// The same in three channels.
fn in_colour(sample: &Sample) -> Sample {
    let pixels = sample.pixels.iter().flat_map(|&level| [level; 3]).collect();
    Sample { channels: 3, pixels, ..*sample }
}

fn entry(id: &str, sample: &Sample) -> Fields {
    protobuf_of(id, "cam", sample.image(Format::Raw))
}

#[test]
fn light_and_weather_are_told_from_level_and_contrast() {
    let stripes =
        |dark: u8, bright: u8| drawn(move |x, _| if x / 8 % 2 == 0 { dark } else { bright });
    let cases = [
        (stripes(40, 40), "dark", "foggy"),
        (stripes(70, 90), "dim", "foggy"),
        (stripes(10, 120), "dim", "overcast"),
        (stripes(100, 120), "normal", "partly_cloudy"),
        (stripes(20, 250), "normal", "clear"),
        (stripes(200, 220), "bright", "partly_cloudy"),
    ];
    let mut entries = Vec::new();
    for (sample, ..) in &cases {
        entries.push(entry("gray", sample));
        entries.push(entry("colour", &in_colour(sample)));
        let jpeg = in_colour(sample).image(Format::Jpeg);
        entries.push(protobuf_of("jpeg", "cam", jpeg));
    }
    let frames = results(&entries, &[]);
    assert_eq!(frames.len(), entries.len());
    for (frames, (_, light, weather)) in frames.chunks(3).zip(&cases) {
        for frame in frames {
            let traffic = frame.traffic_features.as_ref().unwrap();
            assert_eq!(traffic.lighting_conditions, *light, "{}", frame.frame_id);
            assert_eq!(traffic.weather_conditions, *weather, "{}", frame.frame_id);
        }
    }
}

/// A road that is empty for a while, then vehicles cover its left part.
fn filling(covered: usize) -> Vec<Fields> {
    let empty = drawn(|_, _| 90);
    let full = drawn(|x, _| if x < covered { 200 } else { 90 });
    let mut entries: Vec<_> = (0..40).map(|_| entry("empty", &empty)).collect();
    entries.push(entry("full", &full));
    entries
}

#[test]
fn density_congestion_and_motion_follow_what_covers_the_road() {
    let cases = [(0, "free_flow"), (12, "low"), (36, "medium"), (66, "high")];
    for (covered, congestion) in cases {
        let frame = results(&filling(covered), &[]).pop().unwrap();
        let traffic = frame.traffic_features.unwrap();
        let share = covered as f32 / WIDTH as f32;
        let density = traffic.vehicle_density;
        assert!((density - share).abs() < 0.001, "{covered} columns: {density}");
        assert_eq!(traffic.congestion_level, congestion, "{covered} columns: {density}");
        let motion = (share * 110.0 / 32.0).min(1.0);
        assert!((traffic.motion_intensity - motion).abs() < 0.001, "{covered}: {traffic:?}");
    }
}

#[test]
fn each_region_has_density_brightness_and_congestion_of_its_own() {
    let cameras = r#"[{"id": "cam", "roi_boxes": [
        {"x": 0, "y": 0, "width": 36, "height": 64, "label": "full"},
        {"x": 24, "y": 10, "width": 24, "height": 20, "label": "half"},
        {"x": 60, "y": 0, "width": 36, "height": 64, "label": "empty"},
        {"x": 84, "y": 32, "width": 500, "height": 500, "label": "beyond"}]}]"#;
    let frame = results(&filling(36), &[("cameras", cameras)]).pop().unwrap();
    let figures: Vec<_> = frame
        .roi_features
        .iter()
        .map(|roi| (&*roi.roi_id, roi.density, roi.brightness, &*roi.congestion))
        .collect();
    assert_eq!(
        figures,
        [
            ("full", 1.0, 200.0, "high"),
            ("half", 0.5, 145.0, "medium"),
            ("empty", 0.0, 90.0, "free_flow"),
            ("beyond", 0.0, 90.0, "free_flow"),
        ]
    );
}

/// A sharp picture and a blank one: good and bad.
fn good_and_bad(camera: &str) -> [Fields; 2] {
    let good = drawn(|x, y| if (x / 2 + y / 2) % 2 == 0 { 40 } else { 200 });
    let bad = drawn(|_, _| 5);
    [("good", good), ("bad", bad)]
        .map(|(id, sample)| protobuf_of(id, camera, sample.image(Format::Raw)))
}

#[test]
fn a_frame_below_the_threshold_is_marked_or_dropped_and_counted() {
    let threshold = ("analysis.quality_threshold", "0.5");
    let passed = |frames: Vec<ProcessedFrame>| -> Vec<_> {
        frames.into_iter().map(|frame| (frame.frame_id, frame.validation_passed)).collect()
    };
    let emitted = results(&good_and_bad("cam"), &[threshold]);
    assert_eq!(passed(emitted), [("good".into(), true), ("bad".into(), false)]);

    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[threshold, ("analysis.below_threshold", "drop")]);
    server.add_all(&good_and_bad("cam"));
    server.wait_until_done();
    let camera = engine.cameras().statuses().remove(0);
    assert_eq!((camera.frames_processed, camera.frames_dropped), (1, 1), "{camera:?}");
    assert_eq!(engine.count(Counter::CamerasEvicted), 0);
    let account = engine.stop();
    assert_eq!((account.read, account.out, account.rejected), (2, 1, 1), "{account:?}");
    let left = server.outputs().into_iter().map(|output| output.frame).collect();
    assert_eq!(passed(left), [("good".into(), true)]);
    assert!(server.dead_letters().is_empty(), "a poor picture is no error");
}

#[test]
fn a_camera_may_have_a_threshold_of_its_own() {
    let cameras = r#"[{"id": "lenient", "quality_threshold": 0.0},
                      {"id": "strict", "quality_threshold": 1.0}]"#;
    let entries = ["lenient", "ordinary", "strict"].map(good_and_bad).concat();
    let flags = [("analysis.quality_threshold", "0.5"), ("cameras", cameras)];
    let frames = results(&entries, &flags);
    let passed: Vec<_> = frames
        .iter()
        .map(|frame| (&*frame.camera_id, &*frame.frame_id, frame.validation_passed))
        .collect();
    let mut expected = vec![
        ("lenient", "good", true),
        ("lenient", "bad", true),
        ("ordinary", "good", true),
        ("ordinary", "bad", false),
        ("strict", "good", false),
        ("strict", "bad", false),
    ];
    let mut passed = passed;
    passed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(passed, expected);
}
