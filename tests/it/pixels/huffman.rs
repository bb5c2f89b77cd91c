//! Huffman tables of results: they adapt to the camera, and no pixel changes.

use framepress::internals::image::{Format, count_symbols, jpeg_quality, standard_tables};
use framepress::internals::metrics::{Counter, Gauge};

use super::pictures::result_of;
use crate::support::{LONG, RedisServer, RunningEngine, Sample, decoded, protobuf_of, wait_until};

/// Files of a camera that repeats one picture; each frame is sent after the previous result.
fn files(sample: &Sample, frames: usize, flags: &[(&str, &str)]) -> (Vec<Vec<u8>>, u64) {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, flags);
    for number in 0..frames {
        let id = format!("{number:03}");
        server.add(&protobuf_of(&id, "cam", sample.image(Format::Raw)));
        server.wait_for_outputs(number + 1);
        if number == 0 && flags.is_empty() {
            wait_until("tables are learnt", LONG, || {
                engine.count(Counter::HuffmanTablesLearnt) > 0
            });
        }
    }
    let learnt = engine.count(Counter::HuffmanTablesLearnt);
    engine.stop();
    let file = |frame: framepress::internals::wire::proto::ProcessedFrame| {
        frame.original_image.unwrap().compressed_data
    };
    (server.outputs().into_iter().map(|output| file(output.frame)).collect(), learnt)
}

#[test]
fn files_of_a_camera_get_smaller_after_its_first_frame_and_show_the_same() {
    let sample = Sample::colour(640, 400, 3);
    let (standard, learnt) = files(&sample, 2, &[("redis_queue.jpeg_huffman", "standard")]);
    assert_eq!(learnt, 0);
    let (adaptive, learnt) = files(&sample, 6, &[]);
    assert_eq!(learnt, 1, "the camera stays as it is");
    let (best, _) = files(&sample, 2, &[("redis_queue.jpeg_huffman", "optimised")]);
    let len = |files: &[Vec<u8>]| files.last().unwrap().len();
    assert!(adaptive[1].len() <= adaptive[0].len());
    assert!(len(&best) < len(&adaptive) && len(&adaptive) < len(&standard));
    assert!(len(&adaptive) as f64 <= 1.05 * len(&best) as f64);
    let want = count_symbols(&standard[0]).unwrap();
    for file in adaptive.iter().chain(&best) {
        let found = count_symbols(file).unwrap();
        assert_eq!((found.dc, found.ac), (want.dc, want.ac));
    }
    let head = standard_tables().bytes(false);
    assert!(head == 432 && standard[0] == standard[1]);
}

#[test]
fn pictures_of_few_bytes_are_coded_in_two_passes() {
    let sample = Sample::colour(128, 96, 3);
    let (adaptive, learnt) = files(&sample, 2, &[("redis_queue.jpeg_huffman", "adaptive")]);
    let (best, _) = files(&sample, 2, &[("redis_queue.jpeg_huffman", "optimised")]);
    assert_eq!(learnt, 0);
    assert!(adaptive == best);
    // A picture whose file is small although its pixel count is not.
    let sample = Sample { width: 320, height: 240, channels: 3, pixels: vec![90; 3 * 320 * 240] };
    let (adaptive, _) = files(&sample, 3, &[]);
    let (best, _) = files(&sample, 3, &[("redis_queue.jpeg_huffman", "optimised")]);
    assert!(adaptive[0] != best[0] && adaptive[1..] == best[1..]);
}

#[test]
fn a_forgotten_camera_forgets_its_tables() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[("engine.max_concurrent_streams", "1")]);
    let sample = Sample::colour(320, 240, 3);
    for (number, camera) in ["one", "other", "one"].into_iter().enumerate() {
        server.add(&protobuf_of("f", camera, sample.image(Format::Raw)));
        server.wait_for_outputs(number + 1);
        let learnt = number as u64 + 1;
        wait_until("a new camera learns", LONG, || {
            engine.count(Counter::HuffmanTablesLearnt) == learnt
        });
    }
    engine.stop();
}

#[test]
fn lossless_keeps_every_coefficient_in_fewer_bytes() {
    let sample = Sample::colour(320, 240, 5);
    let mut image = sample.image(Format::Jpeg);
    let plain = image.compressed_data.clone();
    // Metadata as cameras and phones write it.
    let comment = [&plain[..2], b"\xff\xfe\0\x08secret", &plain[2..]].concat();
    image.compressed_data = comment;
    let flags = [("engine.reencode", "lossless"), ("redis_queue.compression_quality", "20")];
    let out = result_of(&protobuf_of("f", "cam", image), &flags).original_image.unwrap();
    let (got, want) =
        (count_symbols(&out.compressed_data).unwrap(), count_symbols(&plain).unwrap());
    assert_eq!((got.dc, got.ac), (want.dc, want.ac));
    assert!(out.compressed_data.len() < plain.len());
    assert_eq!(Some(u8::try_from(out.quality).unwrap()), jpeg_quality(&plain));
    assert!(!out.compressed_data.windows(6).any(|window| window == b"secret"));
    assert_eq!((out.width, out.height), (320, 240));
    assert_eq!(decoded(&out).pixels.len(), sample.pixels.len());
}

#[test]
fn effort_rises_on_an_idle_machine() {
    let server = RedisServer::start();
    let flags = [
        ("redis_queue.compression_format", "webp"),
        ("redis_queue.webp_method", "auto"),
        ("engine.latency_target_ms", "5000"),
    ];
    let engine = RunningEngine::start(&server, &flags);
    let sample = Sample::colour(64, 48, 5);
    let mut sent = 0;
    wait_until("method 6 is taken", LONG, || {
        sent += 1;
        server.add(&protobuf_of("f", "cam", sample.image(Format::Raw)));
        server.wait_for_outputs(sent);
        engine.view().metrics.level(Gauge::WebpMethod) == 6
    });
    engine.stop();
}
