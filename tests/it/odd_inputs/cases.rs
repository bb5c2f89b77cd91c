//! The tables: inputs and their expected outcomes.

use framepress::internals::image::Format;
use framepress::internals::wire::proto::{ImageData, ProcessedFrame, ProcessedFrameBatch};
use prost::Message;

use super::{
    Case, HEIGHT, WIDTH, Want, base64, called, find, gzip, jpeg, json, raw, sample, turned, with,
    without_tables,
};
use crate::support::{Sample, data};

/// Every case, table by table.
pub(super) fn all() -> Vec<Case> {
    [jpegs(), other_files(), raws(), jsons(), entries()].into_iter().flatten().collect()
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
            what: "gzip with zeros behind it, or in several members",
            entry: beside(
                [gzip(&jpeg()[..300]), vec![0; 9], gzip(&jpeg()[300..]), vec![0; 50]].concat(),
            ),
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
            what: "a `ProcessedFrameBatch` of more than 256 frames",
            entry: data(batch(257)),
            want: Want::Refused("too_large", "ProcessedFrameBatch of 257 frames, more than 256"),
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
