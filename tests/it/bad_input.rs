//! Bad input gets a clear error, and no frame is lost.

use framepress::internals::image::Format;
use framepress::internals::metrics::clock::unix_seconds;
use framepress::internals::wire::proto::{ImageData, ProcessedFrame};
use prost::Message;

use crate::support::{
    DEAD_LETTERS, DeadLetter, Fields, INPUT, LONG, RedisServer, RunningEngine, Sample, data,
    json_array, json_base64, protobuf, protobuf_of, wait_until,
};

/// An entry that the engine must refuse.
struct Case {
    name: &'static str,
    entry: Fields,
    reason: &'static str,
    stage: &'static str,
}

fn case(name: &'static str, entry: Fields, reason: &'static str, stage: &'static str) -> Case {
    Case { name, entry, reason, stage }
}

/// Sends every case between good frames. Asserts that each case becomes a dead letter with all its
/// fields, that all good frames come out, and that nothing stays pending.
#[track_caller]
fn are_refused(cases: &[Case], flags: &[(&str, &str)]) -> Vec<DeadLetter> {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, flags);
    let began = unix_seconds();
    let mut ids = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        server.add(&protobuf(&format!("good-{index}"), "cam"));
        ids.push(server.add(&case.entry));
    }
    server.add(&protobuf("the last", "cam"));
    server.wait_for_outputs(cases.len() + 1);
    let what = format!("{} dead letters", cases.len());
    wait_until(&what, LONG, || server.len(DEAD_LETTERS) >= cases.len());
    server.wait_until_done();

    let letters = server.dead_letters();
    assert_eq!(letters.len(), cases.len());
    for (case, id) in cases.iter().zip(&ids) {
        let letter = letters.iter().find(|letter| &letter.text("original_id") == id);
        let letter = letter.unwrap_or_else(|| panic!("{}: no dead letter", case.name));
        check(case, letter, began);
    }
    let frames: Vec<_> = server.outputs().into_iter().map(|out| out.frame.frame_id).collect();
    assert_eq!(frames.len(), cases.len() + 1, "{frames:?}");
    assert_eq!(frames.last().map(String::as_str), Some("the last"));
    let account = engine.stop();
    let (good, bad) = (cases.len() as u64 + 1, cases.len() as u64);
    assert_eq!((account.out, account.dead_lettered), (good, bad), "{account:?}");
    assert_eq!(server.pending(), 0);
    letters
}

fn check(case: &Case, letter: &DeadLetter, began: f64) {
    let name = case.name;
    let mut wanted: std::collections::BTreeMap<_, _> = case.entry.iter().cloned().collect();
    let added = ["original_id", "queue", "reason", "detail", "stage", "deliveries", "failed_at"];
    let mut kept = letter.fields.clone();
    kept.retain(|field, _| !added.contains(&&**field));
    wanted.retain(|field, _| !added.contains(&&**field));
    assert_eq!(kept, wanted, "{name}: every original field, and no other");
    assert_eq!(letter.text("reason"), case.reason, "{name}: {}", letter.text("detail"));
    assert_eq!(letter.text("stage"), case.stage, "{name}");
    assert_eq!(letter.text("queue"), INPUT, "{name}");
    assert_eq!(letter.text("deliveries"), "1", "{name}");
    assert!(letter.text("detail").len() > 5, "{name}: {:?}", letter.text("detail"));
    let failed_at: f64 = letter.text("failed_at").parse().unwrap();
    assert!(failed_at >= began && failed_at <= unix_seconds(), "{name}: {failed_at}");
}

fn json_text(text: &str) -> Fields {
    data(text)
}

fn image(bytes: Vec<u8>, size: (i32, i32, i32), format: &str) -> Fields {
    let (width, height, channels) = size;
    let compression_format = format.to_owned();
    let image = ImageData {
        compressed_data: bytes,
        width,
        height,
        channels,
        compression_format,
        quality: 0,
        ..Default::default()
    };
    protobuf_of("bad", "cam", image)
}

/// A truncated file.
fn cut(format: Format) -> Vec<u8> {
    let mut file = Sample::colour(96, 64, 1).encode(format);
    file.truncate(file.len() / 2);
    file
}

/// A file with a valid header and corrupt data.
fn corrupt(format: Format) -> Vec<u8> {
    let mut file = Sample::colour(96, 64, 1).encode(format);
    let len = file.len();
    match format {
        // A marker in the middle of the entropy-coded data ends the picture early.
        Format::Jpeg => file[len / 2..len / 2 + 2].copy_from_slice(&[0xff, 0xd9]),
        _ => file[len / 2..].fill(0xff),
    }
    file
}

#[test]
fn entries_that_are_no_frame_become_dead_letters() {
    let whole = protobuf("cut", "cam").remove(0).1;
    let no_image = ProcessedFrame { frame_id: "f".into(), ..Default::default() };
    let mut with_others = vec![
        ("camera_id".to_owned(), b"cam".to_vec()),
        ("anything".to_owned(), vec![0, 255, 10, 13]),
    ];
    let no_data = with_others.clone();
    with_others.extend(data("{not json"));
    are_refused(
        &[
            case("no data", no_data, "undecodable", "read"),
            case("truncated protobuf", data(&whole[..whole.len() / 2]), "undecodable", "decode"),
            case("no protobuf at all", data([0xff; 64]), "undecodable", "decode"),
            case("empty data", data([]), "undecodable", "decode"),
            case("no original_image", data(no_image.encode_to_vec()), "undecodable", "decode"),
            case("broken JSON, other fields", with_others, "undecodable", "decode"),
            case("JSON without a picture", json_text("{}"), "undecodable", "decode"),
            case("wrong base64", json_text(r#"{"image_base64":"@@@@"}"#), "undecodable", "decode"),
            case(
                "base64 of no picture",
                json_base64("f", "cam", b"hello, this is no picture"),
                "undecodable",
                "decode",
            ),
            case(
                "ragged array",
                json_array("f", "cam", serde_json::json!([[1, 2], [3]])),
                "undecodable",
                "decode",
            ),
            case(
                "array out of range",
                json_array("f", "cam", serde_json::json!([[1, 256]])),
                "undecodable",
                "decode",
            ),
            case(
                "array below range",
                json_array("f", "cam", serde_json::json!([[[1, 2, -3]]])),
                "undecodable",
                "decode",
            ),
        ],
        &[],
    );
}

#[test]
fn raw_pictures_that_contradict_themselves_become_dead_letters() {
    let unsupported = |name, entry| case(name, entry, "unsupported_image", "decode");
    are_refused(
        &[
            unsupported("too short", image(vec![0; 99], (10, 10, 1), "raw")),
            unsupported("too long", image(vec![0; 301], (10, 10, 3), "raw")),
            unsupported("no width", image(vec![0; 30], (0, 10, 3), "raw")),
            unsupported("no height", image(vec![0; 30], (10, 0, 3), "raw")),
            unsupported("negative width", image(vec![0; 300], (-10, 10, 3), "raw")),
            unsupported("negative height", image(vec![0; 300], (10, -10, 3), "raw")),
            unsupported("two channels", image(vec![0; 200], (10, 10, 2), "raw")),
            unsupported("four channels", image(vec![0; 400], (10, 10, 4), "raw")),
            unsupported("no channels", image(vec![0; 200], (10, 10, 0), "raw")),
            unsupported("negative channels", image(vec![0; 100], (10, 10, -1), "raw")),
            unsupported("unknown format", image(vec![1, 2, 3, 4], (2, 2, 1), "tiff")),
        ],
        &[],
    );
}

#[test]
fn damaged_files_become_dead_letters() {
    let formats = [
        (Format::Jpeg, "cut jpeg", "corrupt jpeg"),
        (Format::Png, "cut png", "corrupt png"),
        (Format::Webp, "cut webp", "corrupt webp"),
    ];
    let mut cases = Vec::new();
    for (format, cut_name, corrupt_name) in formats {
        let size = (96, 64, 3);
        let damaged = [(cut_name, cut(format)), (corrupt_name, corrupt(format))];
        for (name, file) in damaged {
            if name == "corrupt webp" {
                // WebP has no checksum, so the rest of the picture still decodes. Corrupt the
                // header instead.
                let mut file = Sample::colour(96, 64, 1).encode(format);
                file[20..32].fill(0xff);
                cases.push(case(name, image(file, size, "webp"), "undecodable", "decode"));
                continue;
            }
            cases.push(case(name, image(file, size, format.name()), "undecodable", "decode"));
        }
    }
    cases.push(case(
        "cut jpeg in JSON",
        json_base64("f", "c", &cut(Format::Jpeg)),
        "undecodable",
        "decode",
    ));
    are_refused(&cases, &[]);
}

#[test]
fn headers_that_declare_too_many_pixels_are_refused_unseen() {
    let too_large = |name, entry| case(name, entry, "too_large", "decode");
    // The header says 60000 x 60000, but almost no data follows.
    let mut jpeg = Sample::colour(16, 16, 1).encode(Format::Jpeg);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame header");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    let mut png = Sample::colour(16, 16, 1).encode(Format::Png);
    png[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    let mut webp = Sample::colour(16, 16, 1).encode(Format::Webp);
    let start = webp.windows(3).position(|code| code == [0x9d, 0x01, 0x2a]).expect("a key frame");
    webp[start + 3..start + 7].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    let rows: Vec<Vec<u8>> = vec![vec![7; 400]; 300];
    are_refused(
        &[
            too_large("jpeg", image(jpeg, (16, 16, 3), "jpeg")),
            too_large("png", image(png, (16, 16, 3), "png")),
            too_large("webp", image(webp, (16, 16, 3), "webp")),
            too_large("raw", image(vec![0; 64], (60_000, 60_000, 3), "raw")),
            too_large("array", json_array("f", "cam", serde_json::json!(rows))),
        ],
        &[("limits.max_pixels", "100000")],
    );
}

/// The checksum of PNG chunks: CRC-32 of ISO 3309, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    !sum
}

#[test]
fn a_payload_above_the_limit_is_never_read_and_still_kept_whole() {
    let large = image(vec![3; 300_000], (316, 316, 3), "raw");
    let letters = are_refused(
        &[
            case("payload", large, "too_large", "read"),
            case("text", data("{".repeat(200_000)), "too_large", "read"),
        ],
        &[("limits.max_payload_bytes", "100000")],
    );
    assert!(letters.iter().all(|letter| letter.text("detail").contains("max_payload_bytes")));
}

#[test]
fn a_panic_costs_one_frame() {
    let server = RedisServer::start();
    let engine = RunningEngine::probed(&server, &[], |frame_id| {
        assert!(frame_id != "cam-7", "this frame is cursed");
    });
    let ids = server.add_frames("cam", 20);
    server.wait_for_outputs(19);
    server.wait_until_done();
    let letters = server.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].text("original_id"), ids[7]);
    assert_eq!(letters[0].text("reason"), "panic");
    assert!(letters[0].text("detail").contains("this frame is cursed"), "{letters:?}");
    let frames: Vec<_> = server.outputs().into_iter().map(|out| out.frame.frame_id).collect();
    let wanted: Vec<_> =
        (0..20).filter(|index| *index != 7).map(|index| format!("cam-{index}")).collect();
    assert_eq!(frames, wanted, "the others are unaffected, and in order");
    let account = engine.stop();
    assert_eq!((account.out, account.dead_lettered), (19, 1));
}

#[test]
fn without_a_dead_letter_stream_refused_frames_are_counted() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[("redis_queue.dead_letter_queue", "false")]);
    for _ in 0..3 {
        server.add(&data("{not json"));
    }
    server.add_frames("cam", 2);
    server.wait_for_outputs(2);
    server.wait_until_done();
    assert_eq!(server.len(DEAD_LETTERS), 0);
    let account = engine.stop();
    assert_eq!((account.rejected, account.out, account.dead_lettered), (3, 2, 0));
}

#[test]
fn frames_below_the_threshold_are_dropped_if_so_configured() {
    let server = RedisServer::start();
    let flags = [("analysis.quality_threshold", "1.0"), ("analysis.below_threshold", "drop")];
    let engine = RunningEngine::start(&server, &flags);
    server.add_frames("cam", 4);
    wait_until("4 frames dropped", LONG, || engine.account().rejected == 4);
    server.wait_until_done();
    assert_eq!((server.outputs().len(), server.len(DEAD_LETTERS)), (0, 0));
    engine.stop();
}
