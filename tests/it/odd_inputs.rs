//! What cameras and old producers send that is not as it should be. The tables of docs/inputs.md are
//! written from these cases, so that each of their rows is one that was tried.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use framepress::image::{Format, Orientation, tag};
use framepress::metrics::Counter;
use framepress::wire::proto::{ImageData, ProcessedFrame, ProcessedFrameBatch};
use prost::Message;

use crate::support::{
    Fields, Output, RedisServer, RunningEngine, Sample, data, decoded, mean_difference, protobuf_of,
};

const WIDTH: usize = 96;
const HEIGHT: usize = 64;

/// Largest mean difference where a codec with loss is on the way.
const DIFFERENCE_MAX: f64 = 4.0;

/// What becomes of a case.
enum Want {
    /// The result of the sound JPEG, to the bit.
    Same,
    /// A result with this picture.
    Like(Sample),
    /// A dead letter: reason, and words of the detail.
    Refused(&'static str, &'static str),
}

struct Case {
    /// Heading of the table.
    table: &'static str,
    /// As the table says it.
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

/// A frame with `bytes` called `format`, of the ordinary size.
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

/// Legacy JSON with the sound JPEG; `beside` stands in front of the picture.
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

fn jpegs() -> Vec<Case> {
    let table = "JPEG files";
    let file = jpeg();
    let scan = find(&file, [0xff, 0xda]);
    let body = || file[..file.len() - 2].to_vec();
    let changed = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let same = |what, bytes| Case { table, what, entry: called(bytes, "jpeg"), want: Want::Same };
    let refused = |what, bytes, reason, detail| Case {
        table,
        what,
        entry: called(bytes, "jpeg"),
        want: Want::Refused(reason, detail),
    };
    let mut cmyk = turbojpeg::Compressor::new().unwrap();
    cmyk.set_subsamp(turbojpeg::Subsamp::None).unwrap();
    let pixels = vec![90; 4 * 16 * 16];
    let format = turbojpeg::PixelFormat::CMYK;
    let image = turbojpeg::Image { pixels: &pixels[..], width: 16, pitch: 64, height: 16, format };
    let second = {
        let first = find(&file, [0xff, 0xdb]) + 2;
        first + find(&file[first..], [0xff, 0xdb])
    };
    let mut one_table = file.clone();
    one_table.drain(second..second + 69);
    let (upright, want) = turned(Format::Jpeg);
    vec![
        same("as it should be", file.clone()),
        same("JFIF version 0.00, or any other", changed(11, &[0, 0])),
        same(
            "an unknown Adobe transform",
            with(&file, 2, b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x03"),
        ),
        same("stray bytes between two segments", with(&file, scan, b"abc")),
        same("stray bytes behind the start marker", with(&file, 2, b"\0\0")),
        same("wrong `Ss` and `Se` in a baseline scan", changed(scan + 11, &[0, 0, 0])),
        same("stray bytes before the end marker", with(&file, file.len() - 2, &[0; 6])),
        same("no end marker, every block there", body()),
        same("zeros in place of the end marker", [body(), vec![0; 512]].concat()),
        same(
            "other bytes in place of the end marker",
            [body(), b"\x01\xff\x02zz".to_vec()].concat(),
        ),
        same("the start marker twice", with(&file, 0, &[0xff, 0xd8])),
        same(
            "the head of a multipart part in front",
            with(&file, 0, b"--myboundary\r\nContent-Type: image/jpeg\r\n\r\n"),
        ),
        same("anything behind the end marker", [file.clone(), vec![7; 3000]].concat()),
        same("no Huffman tables: the standard ones are meant", without_tables(file.clone(), 0xc4)),
        Case {
            table,
            what: "an EXIF orientation: turned upright",
            entry: called(upright, "jpeg"),
            want: Want::Like(want),
        },
        refused(
            "blocks missing, with or without an end marker",
            [&file[..scan + (file.len() - scan) * 8 / 10], b"\xff\xd9"].concat(),
            "undecodable",
            "Corrupt JPEG data",
        ),
        refused(
            "a harmless fault and a loss behind it",
            [&changed(11, &[0, 0])[..scan + (file.len() - scan) / 2], b"\xff\xd9"].concat(),
            "undecodable",
            "premature end of data segment",
        ),
        refused(
            "a quantisation table missing, whatever was decoded before",
            one_table,
            "undecodable",
            "Quantization table 0x01 was not defined",
        ),
        refused(
            "four components (CMYK, YCCK)",
            cmyk.compress_to_vec(image).unwrap(),
            "unsupported_image",
            "4 components",
        ),
    ]
}

fn other_files() -> Vec<Case> {
    let table = "PNG, WebP and other files";
    let (png, upright) = turned(Format::Png);
    let (webp, _) = turned(Format::Webp);
    let plain = sample().encode(Format::Png);
    let mut animated = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0".to_vec();
    animated.extend([9, 0, 0, 9, 0, 0]);
    let like = |what, entry, want| Case { table, what, entry, want: Want::Like(want) };
    let other = |what, bytes: &[u8], detail| Case {
        table,
        what,
        entry: called(bytes.to_vec(), "jpeg"),
        want: Want::Refused("unsupported_image", detail),
    };
    vec![
        like("PNG called `jpeg`: the bytes count", called(plain.clone(), "jpeg"), sample()),
        like("PNG with an EXIF orientation: turned", called(png, "png"), upright.clone()),
        like("WebP with an EXIF orientation: turned", called(webp, "webp"), upright),
        Case {
            table,
            what: "PNG or WebP cut off",
            entry: called(plain[..plain.len() / 2].to_vec(), "png"),
            want: Want::Refused("undecodable", ""),
        },
        other("animated WebP", &animated, "animated WebP"),
        other("BMP", b"BM\x36\x84\x03\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "BMP file"),
        other("GIF", b"GIF89a\x60\0\x40\0\0\0\0", "GIF file"),
        other("TIFF", b"II\x2a\0\x08\0\0\0\0\0", "TIFF file"),
        other("AVIF", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF file"),
        other("an HTML page", b"<!DOCTYPE html><html><title>401</title>", "HTML page"),
        other("gzip in place of the picture", &gzip(b"x"), "gzip"),
        Case {
            table,
            what: "raw pixels called `jpeg`",
            entry: called(sample().pixels, "jpeg"),
            want: Want::Refused("undecodable", "compression_format is raw"),
        },
    ]
}

fn jsons() -> Vec<Case> {
    let table = "Legacy JSON";
    let text = base64();
    let named = |picture: &str| format!(r#""image_base64":"{picture}""#);
    let lines = text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap());
    let lines = lines.collect::<Vec<_>>().join("\\r\\n");
    let url_safe = text.replace('+', "-").replace('/', "_");
    let plain = json("", &named(&text));
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let small = Sample::gray(4, 2, 1);
    let floats: Vec<String> = small
        .pixels
        .chunks(4)
        .map(|row| {
            format!("[{}]", row.iter().map(|v| format!("[{v}.0]")).collect::<Vec<_>>().join(","))
        })
        .collect();
    let same = |what, json: String| Case { table, what, entry: data(json), want: Want::Same };
    let refused = |what, json: String, detail| Case {
        table,
        what,
        entry: data(json),
        want: Want::Refused("undecodable", detail),
    };
    vec![
        same("base64 in lines", json("", &named(&lines))),
        same("base64 without padding", json("", &named(text.trim_end_matches('=')))),
        same("the URL-safe alphabet", json("", &named(&url_safe))),
        same("a data URL", json("", &named(&format!("data:image/jpeg;base64,{text}")))),
        same("`image` in place of `image_base64`", json("", &format!(r#""image":"{text}""#))),
        same(
            "`NaN` and `Infinity` in other fields",
            json(r#","g":NaN,"h":[-Infinity]"#, &named(&text)),
        ),
        same("a byte order mark", format!("\u{feff}{plain}")),
        same("trailing NUL bytes", format!("{plain}\0\0")),
        same(
            "equal keys: the last counts",
            json(r#","camera_id":"x","camera_id":"cam""#, &named(&text)),
        ),
        same("numbers as ids", json("", &named(&text)).replace(r#""f""#, "123")),
        same(
            "the time as ISO 8601 or in a string",
            json("", &named(&text)).replace("1700000000.25", r#""2023-11-14T22:13:20.25Z""#),
        ),
        Case { table, what: "UTF-16 and UTF-32", entry: data(utf16), want: Want::Same },
        Case {
            table,
            what: "gzip, within `limits.max_payload_bytes` when unpacked",
            entry: data(gzip(plain.as_bytes())),
            want: Want::Same,
        },
        Case {
            table,
            what: "floats and H x W x 1 in `image_array`",
            entry: data(json("", &format!(r#""image_array":[{}]"#, floats.join(",")))),
            want: Want::Like(small),
        },
        refused("broken JSON", "{not json".into(), "broken JSON"),
        refused("no picture", json("", r#""image":null"#), "neither image_base64 nor image_array"),
        refused(
            "an id that is neither text nor number",
            json(r#","camera_id":[1]"#, &named(&text)),
            "camera_id",
        ),
        refused(
            "a number above 255 in `image_array`",
            json("", r#""image_array":[[256]]"#),
            "0 to 255",
        ),
        refused("rows that differ in length", json("", r#""image_array":[[1,2],[3]]"#), "ragged"),
    ]
}

/// Luma and chroma of a picture, limited range, as three planes.
fn planes(sample: &Sample) -> [Vec<u8>; 3] {
    let pixel = |x: usize, y: usize| {
        let at = 3 * (y * sample.width + x);
        let [r, g, b] = [0, 1, 2].map(|of| f64::from(sample.pixels[at + of]));
        let luma = 0.299 * r + 0.587 * g + 0.114 * b;
        [
            16.0 + luma * 219.0 / 255.0,
            128.0 + (b - luma) / 1.772 * 224.0 / 255.0,
            128.0 + (r - luma) / 1.402 * 224.0 / 255.0,
        ]
    };
    let plane = |of: usize, step: usize| {
        let mut plane = Vec::new();
        for y in (0..sample.height).step_by(step) {
            for x in (0..sample.width).step_by(step) {
                let count = (step * step) as f64;
                let all = (0..step * step).map(|at| pixel(x + at % step, y + at / step)[of]);
                plane.push((all.sum::<f64>() / count).round() as u8);
            }
        }
        plane
    };
    [plane(0, 1), plane(1, 2), plane(2, 2)]
}

fn raws() -> Vec<Case> {
    let table = "Raw pixels";
    let sample = sample();
    let rgb = sample.pixels.clone();
    let swapped: Vec<u8> = rgb.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0]]).collect();
    let with_alpha: Vec<u8> = rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 9]).collect();
    let bgra: Vec<u8> = rgb.chunks_exact(3).flat_map(|p| [p[2], p[1], p[0], 0]).collect();
    let gray = Sample::gray(WIDTH, HEIGHT, 4);
    let [luma, cb, cr] = planes(&sample);
    let pairs: Vec<u8> = cb.iter().zip(&cr).flat_map(|(cb, cr)| [*cb, *cr]).collect();
    let yuyv: Vec<u8> = (0..WIDTH * HEIGHT / 2)
        .flat_map(|at| {
            let (x, y) = (at % (WIDTH / 2), at / (WIDTH / 2));
            let chroma = y / 2 * WIDTH / 2 + x;
            [luma[2 * at], cb[chroma], luma[2 * at + 1], cr[chroma]]
        })
        .collect();
    let padded: Vec<u8> =
        swapped.chunks(3 * WIDTH).flat_map(|row| [row, &[0xee; 32]].concat()).collect();
    let like = |what, entry| Case { table, what, entry, want: Want::Like(sample.clone()) };
    let refused = |what, entry, detail| Case {
        table,
        what,
        entry,
        want: Want::Refused("unsupported_image", detail),
    };
    let keep = |_: &mut ImageData| {};
    vec![
        like("`raw`, 3 channels: `rgb24`", raw("raw", rgb.clone(), keep)),
        like(
            "`channels` 0 where the length says what it is",
            raw("raw", rgb.clone(), |i| i.channels = 0),
        ),
        like("`rgb24`", raw("rgb24", rgb.clone(), keep)),
        like("`bgr24`", raw("bgr24", swapped.clone(), keep)),
        like("`rgba`, alpha ignored", raw("rgba", with_alpha, keep)),
        like("`bgra`, alpha ignored", raw("bgra", bgra, keep)),
        Case {
            table,
            what: "`gray`",
            entry: raw("gray", gray.pixels.clone(), keep),
            want: Want::Like(gray),
        },
        like(
            "`yuv420p`, limited range",
            raw("yuv420p", [luma.clone(), cb.clone(), cr.clone()].concat(), keep),
        ),
        like(
            "`yuvj420p` with `color_range` limited",
            raw("yuvj420p", [luma.clone(), cb, cr].concat(), |image| {
                image.color_range = "limited".into();
            }),
        ),
        like("`nv12`", raw("nv12", [luma, pairs].concat(), keep)),
        like("`yuyv422`", raw("yuyv422", yuyv, keep)),
        like(
            "rows with padding (`row_stride`)",
            raw("bgr24", padded, |image| image.row_stride = 3 * WIDTH as i32 + 32),
        ),
        Case {
            table,
            what: "a JPEG, PNG or WebP file called `raw`",
            entry: raw("raw", jpeg(), keep),
            want: Want::Same,
        },
        refused(
            "more or fewer bytes than the size takes",
            raw("bgr24", rgb[3..].to_vec(), keep),
            "needs 18432 bytes",
        ),
        refused(
            "a `row_stride` shorter than a row",
            raw("bgra", rgb.clone(), |i| i.row_stride = 3),
            "row_stride",
        ),
        refused(
            "an unknown `color_matrix` or `color_range`",
            raw("nv12", rgb.clone(), |i| i.color_matrix = "bt2020".into()),
            "bt2020",
        ),
        refused("an unknown format", raw("p010le", rgb, keep), "unknown image format"),
    ]
}

fn entries() -> Vec<Case> {
    let table = "What `data` is";
    let frame = |id: &str| ProcessedFrame {
        frame_id: id.into(),
        camera_id: "cam".into(),
        timestamp: 1_700_000_000.25,
        original_image: Some(sample().image(Format::Jpeg)),
        ..Default::default()
    };
    let beside = |bytes: Vec<u8>| {
        let mut entry = data(bytes);
        for (name, value) in
            [("frame_id", "f"), ("camera_id", "cam"), ("timestamp", "1700000000.25")]
        {
            entry.push((name.to_owned(), value.into()));
        }
        entry
    };
    let batch = |count: usize| {
        let frames = (0..count).map(|index| frame(&format!("f{index}"))).collect();
        ProcessedFrameBatch { frames, batch_id: "b".into(), ..Default::default() }.encode_to_vec()
    };
    let like = |what, entry| Case { table, what, entry, want: Want::Like(sample()) };
    vec![
        Case {
            table,
            what: "a JPEG file by itself: ids and time from the fields beside it",
            entry: beside(jpeg()),
            want: Want::Same,
        },
        like("a PNG file by itself", beside(sample().encode(Format::Png))),
        like("a WebP file by itself", beside(sample().encode(Format::Webp))),
        Case {
            table,
            what: "gzip of a frame or a file",
            entry: beside(gzip(&jpeg())),
            want: Want::Same,
        },
        Case {
            table,
            what: "a `ProcessedFrameBatch` of one frame",
            entry: data(batch(1)),
            want: Want::Same,
        },
        Case {
            table,
            what: "a `ProcessedFrameBatch` of several",
            entry: data(batch(2)),
            want: Want::Refused("undecodable", "ProcessedFrameBatch of 2 frames"),
        },
        Case {
            table,
            what: "gzip within gzip",
            entry: data(gzip(&gzip(&jpeg()))),
            want: Want::Refused("undecodable", "gzip within gzip"),
        },
        Case {
            table,
            what: "gzip that is damaged or cut off",
            entry: data(&gzip(&jpeg())[..500]),
            want: Want::Refused("undecodable", "gzip is damaged"),
        },
        Case {
            table,
            what: "a file of another kind",
            entry: data(b"GIF89a\x60\0\x40\0\0\0\0".to_vec()),
            want: Want::Refused("unsupported_image", "GIF file"),
        },
        Case {
            table,
            what: "anything else",
            entry: data(b"hello".to_vec()),
            want: Want::Refused("undecodable", "not a ProcessedFrame"),
        },
    ]
}

fn all() -> Vec<Case> {
    [jpegs(), other_files(), raws(), jsons(), entries()].into_iter().flatten().collect()
}

#[test]
fn every_case_becomes_what_the_tables_say() {
    let server = RedisServer::start();
    // One worker, so that every file is decoded by what decoded all before it.
    let engine = RunningEngine::start(&server, &[("engine.workers", "1")]);
    let cases = all();
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
    for case in all() {
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
                // The decoder applies what the file says, so either way it is upright.
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
