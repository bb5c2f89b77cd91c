//! Faulty input as cameras and old producers send it. The tables of docs/inputs.md are generated
//! from these cases, so each of their rows is tested.

mod cases;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use framepress::internals::image::{Format, Orientation, tag};
use framepress::internals::metrics::Counter;
use framepress::internals::wire::proto::{ImageData, ProcessedFrame};

use crate::support::{
    Fields, Output, RedisServer, RunningEngine, Sample, data, decoded, mean_difference, protobuf_of,
};

const WIDTH: usize = 96;
const HEIGHT: usize = 64;

/// Largest mean difference after a lossy codec.
const DIFFERENCE_MAX: f64 = 4.0;

/// Expected outcome of a case.
enum Want {
    /// Exactly the result of the intact JPEG, bit by bit.
    Same,
    /// A result with this picture.
    Like(Sample),
    /// A dead letter: reason, and words of the detail.
    Refused(&'static str, &'static str),
}

struct Case {
    /// Heading of the table.
    table: &'static str,
    /// Description in the table.
    what: &'static str,
    entry: Fields,
    want: Want,
}

fn sample() -> Sample {
    Sample::colour(WIDTH, HEIGHT, 4)
}

fn jpeg() -> Vec<u8> {
    sample().encode(Format::Jpeg)
}

fn find(file: &[u8], pair: [u8; 2]) -> usize {
    file.windows(2).position(|found| found == pair).expect("a marker")
}

fn with(file: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&file[..at], bytes, &file[at..]].concat()
}

/// A frame of the default size with `bytes`, labelled as `format`.
fn called(bytes: Vec<u8>, format: &str) -> Fields {
    raw(format, bytes, |_| {})
}

fn raw(format: &str, bytes: Vec<u8>, change: impl FnOnce(&mut ImageData)) -> Fields {
    let mut image = ImageData {
        compressed_data: bytes,
        width: WIDTH as i32,
        height: HEIGHT as i32,
        channels: 3,
        compression_format: format.to_owned(),
        ..Default::default()
    };
    change(&mut image);
    protobuf_of("f", "cam", image)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Legacy JSON with the intact JPEG; `beside` goes before the picture.
fn json(beside: &str, picture: &str) -> String {
    format!(r#"{{"frame_id":"f","camera_id":"cam","timestamp":1700000000.25{beside},{picture}}}"#)
}

fn base64() -> String {
    base64_simd::STANDARD.encode_to_string(jpeg())
}

fn without_tables(mut file: Vec<u8>, marker: u8) -> Vec<u8> {
    while let Some(at) = file.windows(2).position(|pair| pair == [0xff, marker]) {
        let len = usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        file.drain(at..at + 2 + len);
    }
    file
}

fn turned(format: Format) -> (Vec<u8>, Sample) {
    let mut file = sample().encode(format);
    tag(&mut file, format, (WIDTH, HEIGHT), Orientation::new(6).unwrap());
    let upright = sample();
    let mut pixels = Vec::new();
    for y in 0..WIDTH {
        for x in 0..HEIGHT {
            let from = 3 * ((HEIGHT - 1 - x) * WIDTH + y);
            pixels.extend_from_slice(&upright.pixels[from..from + 3]);
        }
    }
    (file, Sample { width: HEIGHT, height: WIDTH, channels: 3, pixels })
}

#[test]
fn every_case_becomes_what_the_tables_say() {
    let server = RedisServer::start();
    // One worker, so that one decoder decodes every file, also after a faulty one.
    let engine = RunningEngine::start(&server, &[("engine.workers", "1")]);
    let cases = cases::all();
    let sound = server.add(&called(jpeg(), "jpeg"));
    let ids = server.add_all(cases.iter().map(|case| &case.entry));
    server.wait_until_done();
    let (outputs, letters) = (server.outputs(), server.dead_letters());
    let output_of = |id: &str| outputs.iter().find(|output| output.source_id() == id);
    let picture = |output: &Output| output.frame.original_image.clone().unwrap();
    let sound = picture(output_of(&sound).expect("a result of the sound file"));
    let mut faults = String::new();
    for (case, id) in cases.iter().zip(&ids) {
        let letter = letters.iter().find(|letter| &letter.text("original_id") == id);
        let fault = match (&case.want, output_of(id), letter) {
            (Want::Refused(reason, detail), None, Some(letter)) => {
                (letter.text("reason") != *reason || !letter.text("detail").contains(detail))
                    .then(|| format!("{}: {}", letter.text("reason"), letter.text("detail")))
            }
            (Want::Same, Some(output), None) => {
                let picture = picture(output);
                let time = output.frame.timestamp;
                let right = picture == sound
                    && ["f", "f0", "123"].contains(&&*output.frame.frame_id)
                    && output.frame.camera_id == "cam"
                    && (time - 1_700_000_000.25).abs() < 1e-6;
                (!right).then(|| format!("another result, of {time}: {:?}", output.frame.frame_id))
            }
            (Want::Like(sample), Some(output), None) => {
                let picture = decoded(&picture(output));
                let same_size = (picture.width, picture.height) == (sample.width, sample.height);
                let off = if same_size { mean_difference(sample, &picture) } else { 255.0 };
                (off > DIFFERENCE_MAX).then(|| format!("mean difference {off}"))
            }
            (_, Some(_), _) => Some("a result".to_owned()),
            (_, None, letter) => Some(letter.map_or_else(
                || "nothing".to_owned(),
                |letter| format!("{}: {}", letter.text("reason"), letter.text("detail")),
            )),
        };
        if let Some(fault) = fault {
            writeln!(faults, "{}: {}: {fault}", case.table, case.what).unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
    let account = engine.stop();
    assert_eq!((account.read, account.in_flight), (1 + cases.len() as u64, 0));
}

/// The tables of the document, from the cases.
fn tables() -> String {
    let mut text = String::new();
    let mut table = "";
    for case in cases::all() {
        if case.table != table {
            table = case.table;
            write!(text, "\n### {table}\n\n| what comes | what becomes of it |\n| --- | --- |\n")
                .unwrap();
        }
        let becomes = match case.want {
            Want::Same | Want::Like(_) => "a result".to_owned(),
            Want::Refused(reason, _) => format!("refused, `{reason}`"),
        };
        writeln!(text, "| {} | {becomes} |", case.what).unwrap();
    }
    text
}

#[test]
fn the_document_lists_every_case() {
    const BEGIN: &str = "<!-- from tests/it/odd_inputs.rs -->\n";
    const END: &str = "\n<!-- end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/inputs.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = document.split_once(BEGIN).expect("the beginning of the tables");
    let (written, tail) = rest.split_once(END).expect("their end");
    let wanted = tables();
    if std::env::var_os("FRAMEPRESS_WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{wanted}{END}{tail}")).unwrap();
        return;
    }
    assert_eq!(
        written, wanted,
        "FRAMEPRESS_WRITE_DOCS=1 with this test writes docs/inputs.md anew"
    );
}

#[test]
fn damaged_pictures_are_taken_if_so_configured_and_counted() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[("limits.damaged_images", "accept")]);
    let file = jpeg();
    let cut = [&file[..file.len() * 8 / 10], b"\xff\xd9"].concat();
    let png = sample().encode(Format::Png);
    server.add(&called(cut, "jpeg"));
    server.add(&called(png[..png.len() * 3 / 4].to_vec(), "png"));
    server.add(&called(file, "jpeg"));
    server.add(&called(b"\xff\xd8\xff\xe0".to_vec(), "jpeg"));
    server.wait_for_outputs(3);
    server.wait_until_done();
    assert_eq!(engine.count(Counter::DamagedAccepted), 2);
    let cameras = engine.cameras();
    let status = cameras.status("cam").unwrap();
    assert_eq!((status.frames_processed, status.frames_damaged, status.frames_rejected), (3, 2, 1));
    for output in server.outputs() {
        let picture = decoded(&output.frame.original_image.unwrap());
        assert_eq!((picture.width, picture.height), (WIDTH, HEIGHT));
    }
    let account = engine.stop();
    assert_eq!((account.out, account.dead_lettered), (3, 1));
}

#[test]
fn times_that_cannot_be_understood_are_counted_and_replaced_by_that_of_the_entry() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let picture = format!(r#""image":"{}""#, base64());
    let odd = json("", &picture).replace("1700000000.25", r#""last Tuesday""#);
    let mut beside = data(jpeg());
    beside.push(("timestamp".to_owned(), b"14.11.2023".to_vec()));
    let mut iso = data(jpeg());
    iso.push(("timestamp".to_owned(), b"2023-11-14T22:13:20Z".to_vec()));
    let mut mended = data(odd.clone());
    mended.push(("timestamp".to_owned(), b"1700000000".to_vec()));
    let ids = server.add_all([&data(odd), &beside, &iso, &mended]);
    server.wait_for_outputs(4);
    let outputs = server.outputs();
    for (index, id) in ids.iter().enumerate() {
        let output = outputs.iter().find(|output| &output.source_id() == id).unwrap();
        let entry: f64 = id.split('-').next().unwrap().parse().unwrap();
        let want = if index < 2 { entry / 1000.0 } else { 1_700_000_000.0 };
        assert!(
            (output.frame.timestamp - want).abs() < 1e-3,
            "{index}: {}",
            output.frame.timestamp
        );
    }
    assert_eq!(engine.count(Counter::TimesNotUnderstood), 2);
    engine.stop();
}

#[test]
fn gzip_is_unpacked_within_the_limit_of_a_payload() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[("limits.max_payload_bytes", "100000")]);
    let bomb = gzip(&json("", &format!(r#""image":"{}""#, "A".repeat(1 << 20))).into_bytes());
    assert!(bomb.len() < 10_000);
    let mut entry = data(bomb);
    entry.push(("camera_id".to_owned(), b"beside".to_vec()));
    server.add(&entry);
    server.add(&data(gzip(&jpeg())));
    server.wait_for_outputs(1);
    server.wait_until_done();
    let letters = server.dead_letters();
    assert_eq!((letters.len(), letters[0].text("reason")), (1, "too_large".into()));
    assert!(letters[0].text("detail").contains("max_payload_bytes"));
    engine.stop();
}

/// The results of entries, in their order.
fn results(entries: &[Fields], flags: &[(&str, &str)]) -> Vec<ProcessedFrame> {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, flags);
    let ids = server.add_all(entries.iter());
    server.wait_for_outputs(entries.len());
    engine.stop();
    let outputs = server.outputs();
    let of = |id: &String| outputs.iter().find(|output| &output.source_id() == id).unwrap();
    ids.iter().map(|id| of(id).frame.clone()).collect()
}

#[test]
fn a_result_says_nothing_of_an_orientation_that_was_applied_and_hands_on_one_that_was_not() {
    let formats = [Format::Jpeg, Format::Png, Format::Webp];
    let entries = formats.map(|format| called(turned(format).0, format.name()));
    for format in formats {
        for (rule, size) in [("apply", (HEIGHT, WIDTH)), ("ignore", (WIDTH, HEIGHT))] {
            let flags = [
                ("engine.orientation", rule),
                ("redis_queue.compression_format", format.name()),
                ("analysis.ml_image", "true"),
            ];
            for frame in results(&entries, &flags) {
                let image = frame.original_image.unwrap();
                let what = format!("{rule} to {}", format.name());
                assert_eq!((image.width, image.height), (size.0 as i32, size.1 as i32), "{what}");
                let has_tag = ["Exif\0\0MM", "eXIf", "EXIF"].iter().any(|tag| {
                    image.compressed_data.windows(tag.len()).any(|w| w == tag.as_bytes())
                });
                assert_eq!(has_tag, rule == "ignore", "{what}");
                // The decoder applies the file's orientation, so the picture is upright in both
                // cases.
                let (_, upright) = turned(Format::Png);
                let off = mean_difference(&upright, &decoded(&image));
                assert!(off < DIFFERENCE_MAX, "{what}: {off}");
            }
        }
    }
}

#[test]
fn only_the_picture_of_a_kept_jpeg_leaves_and_a_turned_one_is_coded_anew() {
    let file = jpeg();
    let gps = b"\xff\xe1\0\x12Exif\0\0GPS 52N 5E";
    let odd = [
        with(&file, 20, gps),
        with(&file, 20, &[&b"\xff\xfe\xea\x62"[..], &[b'c'; 60_000]].concat()),
        [&file[..], &[7; 20_000]].concat(),
        without_tables(file.clone(), 0xc4),
    ];
    let flags = [("engine.reencode", "when_smaller"), ("redis_queue.compression_quality", "96")];
    let mut entries: Vec<_> = odd.into_iter().map(|file| called(file, "jpeg")).collect();
    entries.push(called(turned(Format::Jpeg).0, "jpeg"));
    let frames = results(&entries, &flags);
    for frame in &frames[..3] {
        assert!(frame.original_image.as_ref().unwrap().compressed_data == file, "as it was coded");
    }
    let filled = frames[3].original_image.as_ref().unwrap();
    assert!(filled.compressed_data.windows(2).any(|pair| pair == [0xff, 0xc4]));
    assert_eq!((filled.quality, decoded(filled)), (95, decoded(&sample().image(Format::Jpeg))));
    let turned = frames[4].original_image.as_ref().unwrap();
    assert_eq!((turned.width, turned.quality), (HEIGHT as i32, 96));
}

#[test]
fn lossless_pixels_do_not_depend_on_the_analysis() {
    let entries =
        [turbojpeg::Subsamp::Sub2x2, turbojpeg::Subsamp::Sub2x1, turbojpeg::Subsamp::None].map(
            |subsampling| {
                let sample = Sample::colour(97, 63, 2);
                let image = turbojpeg::Image {
                    pixels: &sample.pixels[..],
                    width: 97,
                    pitch: 3 * 97,
                    height: 63,
                    format: turbojpeg::PixelFormat::RGB,
                };
                turbojpeg::compress(image, 80, subsampling).unwrap().to_vec()
            },
        );
    let decoder_says: Vec<Vec<u8>> = entries
        .iter()
        .map(|file| turbojpeg::decompress(file, turbojpeg::PixelFormat::RGB).unwrap().pixels)
        .collect();
    let entries = entries.map(|file| called(file, "jpeg"));
    for format in ["png", "raw"] {
        let flag = match format {
            "png" => ("redis_queue.compression_format", "png"),
            _ => ("redis_queue.enable_compression", "false"),
        };
        for analysis in ["true", "false"] {
            let frames = results(&entries, &[flag, ("analysis.enabled", analysis)]);
            for (frame, want) in frames.iter().zip(&decoder_says) {
                let got = decoded(frame.original_image.as_ref().unwrap());
                assert!(&got.pixels == want, "{format}, analysis {analysis}");
            }
        }
    }
}
