//! The pictures of a result: their encoding, and the content of the small ones.

use framepress::internals::image::{Format, jpeg_quality};
use framepress::internals::wire::proto::ProcessedFrame;

use crate::support::{
    Fields, RedisServer, RunningEngine, Sample, decoded, mean_difference, protobuf_of,
};

pub(super) fn result_of(entry: &Fields, flags: &[(&str, &str)]) -> ProcessedFrame {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, flags);
    server.add(entry);
    server.wait_for_outputs(1);
    engine.stop();
    server.outputs().remove(0).frame
}

#[test]
fn every_webp_method_gives_the_picture_and_more_effort_no_larger_file() {
    let sample = Sample::colour(320, 240, 3);
    let entry = protobuf_of("f", "cam", sample.image(Format::Raw));
    let mut sizes = Vec::new();
    for method in ["0", "1", "2", "3", "4", "5", "6"] {
        let flags =
            [("redis_queue.compression_format", "webp"), ("redis_queue.webp_method", method)];
        let image = result_of(&entry, &flags).original_image.unwrap();
        assert_eq!(Format::sniff(&image.compressed_data), Some(Format::Webp));
        let difference = mean_difference(&sample, &decoded(&image));
        assert!(difference < 3.0, "method {method}: {difference}");
        sizes.push(image.compressed_data.len());
    }
    assert!(sizes[6] < sizes[0], "{sizes:?}");
}

/// Mean of one channel over a box of `left..right` columns and `top..bottom` rows.
fn mean(sample: &Sample, [left, right]: [usize; 2], [top, bottom]: [usize; 2], of: usize) -> f64 {
    let mut sum = 0.0;
    for y in top..bottom {
        for x in left..right {
            sum += f64::from(sample.pixels[(y * sample.width + x) * sample.channels + of]);
        }
    }
    sum / ((right - left) * (bottom - top)) as f64
}

/// A picture of four quarters: red, green, blue, white.
fn quarters(width: usize, height: usize) -> Sample {
    let colour = |at: usize| match (at % width < width / 2, at / width < height / 2) {
        (true, true) => [220, 30, 30],
        (false, true) => [30, 200, 30],
        (true, false) => [30, 30, 220],
        (false, false) => [230, 230, 230],
    };
    let pixels = (0..width * height).flat_map(colour).collect();
    Sample { width, height, channels: 3, pixels }
}

#[test]
fn the_ml_image_is_letterboxed_in_gray_and_the_thumbnail_shows_all_of_the_picture() {
    let flags = [("analysis.ml_image", "true"), ("analysis.thumbnail", "true")];
    // Size, and where the picture lies in the square.
    let cases = [
        ((320, 180), [0, 640], [140, 500]),
        ((1280, 960), [0, 640], [80, 560]),
        ((640, 480), [0, 640], [80, 560]),
        ((180, 320), [140, 500], [0, 640]),
    ];
    for ((width, height), [left, right], [top, bottom]) in cases {
        for format in [Format::Raw, Format::Jpeg] {
            let what = format!("{width}x{height} {format:?}");
            let entry = protobuf_of("f", "cam", quarters(width, height).image(format));
            let frame = result_of(&entry, &flags);
            let square = decoded(frame.processed_image.as_ref().unwrap());
            assert_eq!((square.width, square.height), (640, 640), "{what}");
            let is = |x: [usize; 2], y: [usize; 2], colour: [f64; 3]| {
                for (of, level) in colour.into_iter().enumerate() {
                    let got = mean(&square, x, y, of);
                    assert!((got - level).abs() < 3.0, "{what}: {got} at {x:?} {y:?}, not {level}");
                }
            };
            // The quarters, and the gray bars beside them, up to eight pixels from each edge.
            let (middle_x, middle_y) = (usize::midpoint(left, right), usize::midpoint(top, bottom));
            is([left + 8, middle_x - 8], [top + 8, middle_y - 8], [220.0, 30.0, 30.0]);
            is([middle_x + 8, right - 8], [top + 8, middle_y - 8], [30.0, 200.0, 30.0]);
            is([left + 8, middle_x - 8], [middle_y + 8, bottom - 8], [30.0, 30.0, 220.0]);
            is([middle_x + 8, right - 8], [middle_y + 8, bottom - 8], [230.0; 3]);
            if top > 0 {
                is([0, 640], [0, top - 8], [114.0; 3]);
                is([0, 640], [bottom + 8, 640], [114.0; 3]);
            } else {
                is([0, left - 8], [0, 640], [114.0; 3]);
                is([right + 8, 640], [0, 640], [114.0; 3]);
            }

            let image = frame.thumbnail.as_ref().unwrap();
            assert_eq!(jpeg_quality(&image.compressed_data), Some(90), "{what}");
            let small = decoded(image);
            assert_eq!((small.width, small.height), (128, 128), "{what}");
            let corner =
                |x: usize, y: usize| [0, 1, 2].map(|of| mean(&small, [x, x + 40], [y, y + 40], of));
            for (got, want) in [
                (corner(8, 8), [220.0, 30.0, 30.0]),
                (corner(80, 8), [30.0, 200.0, 30.0]),
                (corner(8, 80), [30.0, 30.0, 220.0]),
                (corner(80, 80), [230.0; 3]),
            ] {
                let off = got.iter().zip(want).map(|(got, want)| (got - want).abs());
                assert!(off.fold(0.0, f64::max) < 4.0, "{what}: {got:?}, not {want:?}");
            }
        }
    }
}

#[test]
fn a_jpeg_is_kept_only_if_no_table_is_finer_than_the_target() {
    let sample = Sample::colour(96, 64, 1);
    let at = |quality: i32, subsampling| {
        let image = turbojpeg::Image {
            pixels: &sample.pixels[..],
            width: 96,
            pitch: 288,
            height: 64,
            format: turbojpeg::PixelFormat::RGB,
        };
        turbojpeg::compress(image, quality, subsampling).unwrap().to_vec()
    };
    let flags = [("engine.reencode", "when_smaller"), ("redis_queue.compression_quality", "80")];
    for subsampling in
        [turbojpeg::Subsamp::Sub2x2, turbojpeg::Subsamp::None, turbojpeg::Subsamp::Gray]
    {
        for (quality, kept) in [(40, true), (79, true), (80, true), (81, false), (95, false)] {
            let file = at(quality, subsampling);
            let mut image = sample.image(Format::Jpeg);
            image.compressed_data.clone_from(&file);
            let out = result_of(&protobuf_of("f", "cam", image), &flags).original_image.unwrap();
            let what = format!("{subsampling:?} at {quality}");
            let (is_kept, len) = (out.compressed_data == file, out.compressed_data.len());
            // The engine's own subsampling takes less space, so the other file may not be worth
            // keeping.
            let may_be_smaller = kept && subsampling == turbojpeg::Subsamp::None;
            assert!(is_kept == kept || may_be_smaller && len < file.len(), "{what}");
            assert_eq!(out.quality, if is_kept { quality } else { 80 }, "{what}");
            assert_eq!((out.width, out.height), (96, 64), "{what}");
        }
    }
}
