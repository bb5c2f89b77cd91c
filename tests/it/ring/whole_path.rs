//! From a producer's slot to the result.

use std::collections::BTreeSet;

use framepress::internals::camera::{Full, Reuse};
use framepress::internals::image::{Format, InputImage, PixelLayout};
use framepress::internals::metrics::Counter;
use framepress::internals::ring::{Ring, Rings};
use redis::cmd;

use super::{frame, pixels, producer, raw, ring, rings_folder};
use crate::support::{
    FramepressProcess, INPUT, LONG, RedisServer, RunningEngine, Sample, program, wait_until,
};

const RGB: usize = 64 * 48 * 3;

#[test]
fn a_frame_has_the_same_result_by_either_path() {
    let folder = rings_folder();
    let file = Sample::colour(64, 48, 1).encode(Format::Jpeg);
    let [rgb, planes, gray] = [RGB, RGB / 2, RGB / 3].map(|len| pixels(len, 3));
    for delivery in ["exactly_once", "at_least_once"] {
        for retention in ["keep", "delete", "trim_acked"] {
            let server = RedisServer::start();
            let dir = folder.path().display().to_string();
            let flags = [
                ("redis_queue.delivery", delivery),
                ("redis_queue.retention", retention),
                ("ring.dir", &*dir),
            ];
            let engine = RunningEngine::start(&server, &flags);
            let by_ring = Some(ring(folder.path(), "cam", 8));
            let mut by_ring = producer(&server, by_ring, Reuse::Freshest, Full::Block);
            let mut by_redis = producer(&server, None, Reuse::Freshest, Full::Block);
            let pictures = [
                ("rgb", raw(PixelLayout::Rgb24, &rgb)),
                ("planes", raw(PixelLayout::Yuv420p, &planes)),
                ("nv12", raw(PixelLayout::Nv12, &planes)),
                ("gray", raw(PixelLayout::Gray, &gray)),
                ("file", InputImage::file(Format::Jpeg, &file)),
            ];
            for (name, picture) in pictures {
                by_redis.send(&frame(name, picture)).unwrap();
                by_ring.send(&frame(name, picture)).unwrap();
            }
            server.wait_for_outputs(10);
            wait_until("nothing is pending", LONG, || server.pending() == 0);
            assert_eq!(by_ring.counts().in_ring, 5);
            assert_eq!(engine.count(Counter::RingFrames), 5);
            let outputs = server.outputs();
            for pair in outputs.chunks(2) {
                let [one, other] = [&pair[0].frame, &pair[1].frame];
                assert_eq!(one.frame_id, other.frame_id);
                assert_eq!(one.original_image, other.original_image, "{}", one.frame_id);
                assert_eq!(one.source_hash, other.source_hash, "{}", one.frame_id);
                assert_eq!(one.quality_metrics, other.quality_metrics, "{}", one.frame_id);
            }
            let account = engine.stop();
            assert_eq!((account.read, account.out), (10, 10), "{account:?}");
            if retention == "delete" {
                assert_eq!(server.len(INPUT), 0);
            }
        }
    }
}

#[test]
fn a_frame_that_was_overwritten_is_lost_and_counted() {
    let server = RedisServer::start();
    let folder = rings_folder();
    let by_ring = Some(ring(folder.path(), "cam", 2));
    let mut camera = producer(&server, by_ring, Reuse::Freshest, Full::Block);
    let rgb = pixels(RGB, 0);
    for number in 0..5 {
        let name = format!("frame-{number}");
        camera.send(&frame(&name, raw(PixelLayout::Rgb24, &rgb))).unwrap();
    }
    let dir = folder.path().display().to_string();
    let engine = RunningEngine::start(&server, &[("ring.dir", &dir)]);
    server.wait_until_done();
    let named: Vec<_> = server.outputs().into_iter().map(|output| output.frame.frame_id).collect();
    assert_eq!(named, ["frame-3", "frame-4"]);
    assert_eq!(engine.cameras().status("cam").unwrap().frames_overwritten, 3);
    let rings = engine.view().metrics.rings.all();
    let counted: Vec<_> = rings
        .iter()
        .map(|ring| (&*ring.name, ring.slots, ring.waiting, ring.frames, ring.overwritten))
        .collect();
    assert_eq!(counted, [("cam", 2, 0, 2, 3)]);
    let account = engine.stop();
    assert_eq!((account.read, account.out, account.overwritten, account.lost), (5, 2, 3, 3));
    assert_eq!(server.pending(), 0);
    assert!(server.dead_letters().is_empty());
}

#[test]
fn lossless_slots_wait_for_their_entries_to_go() {
    let server = RedisServer::start();
    let folder = rings_folder();
    let dir = folder.path().display().to_string();
    let flags = [("ring.dir", &*dir), ("redis_queue.retention", "delete")];
    let rgb = pixels(RGB, 0);
    let by_ring = || Some(ring(folder.path(), "cam", 3));

    let mut dropping = producer(&server, by_ring(), Reuse::Lossless, Full::Drop);
    let sent = (0..20).filter(|number| {
        let name = format!("early-{number}");
        dropping.enqueue(&frame(&name, raw(PixelLayout::Rgb24, &rgb))).unwrap().is_some()
    });
    assert_eq!(sent.count(), 3, "no engine reads");
    assert_eq!(dropping.flush(LONG), 0);
    assert_eq!(dropping.counts().dropped, 17);

    let engine = RunningEngine::start(&server, &flags);
    server.wait_for_outputs(3);
    drop(dropping);
    let mut blocking = producer(&server, by_ring(), Reuse::Lossless, Full::Block);
    for number in 0..200 {
        let name = format!("frame-{number}");
        let ticket = blocking.enqueue(&frame(&name, raw(PixelLayout::Rgb24, &rgb))).unwrap();
        assert!(ticket.is_some());
    }
    assert_eq!(blocking.flush(LONG), 0);
    server.wait_for_outputs(203);
    wait_until("all are gone from the stream", LONG, || server.len(INPUT) == 0);
    let named: Vec<_> = server.outputs().into_iter().map(|output| output.frame.frame_id).collect();
    let wanted = (0..3).map(|number| format!("early-{number}"));
    let wanted: Vec<_> = wanted.chain((0..200).map(|number| format!("frame-{number}"))).collect();
    assert_eq!(named, wanted, "each once, in order");
    let account = engine.stop();
    assert_eq!((account.read, account.out, account.lost), (203, 203, 0), "{account:?}");
}

#[test]
fn a_killed_engine_loses_no_frame_of_a_lossless_ring() {
    let server = RedisServer::start();
    let folder = rings_folder();
    let dir = folder.path().display().to_string();
    let variables = [
        ("RING__DIR", &*dir),
        ("REDIS_QUEUE__RETENTION", "delete"),
        ("REDIS_QUEUE__CONSUMER_NAME", "engine"),
        ("REDIS_QUEUE__COMPRESSION_FORMAT", "webp"),
        ("REDIS_QUEUE__WEBP_METHOD", "6"),
    ];
    let by_ring = Some(ring(folder.path(), "cam", 16));
    let mut camera = producer(&server, by_ring, Reuse::Lossless, Full::Drop);
    let mut sent = BTreeSet::new();
    let mut send = |camera: &mut framepress::Producer| {
        let name = format!("frame-{}", sent.len());
        let rgb = pixels(RGB, sent.len());
        if camera.enqueue(&frame(&name, raw(PixelLayout::Rgb24, &rgb))).unwrap().is_some() {
            sent.insert(name);
        }
        sent.len()
    };
    for round in 1..=4 {
        let mut engine = FramepressProcess::run(&server, &variables);
        wait_until("frames go through", LONG, || send(&mut camera) >= 60 * round);
        engine.kill();
    }
    let engine = FramepressProcess::run(&server, &variables);
    assert_eq!(camera.flush(LONG), 0);
    wait_until("everything has ended", LONG, || server.len(INPUT) == 0);
    let named: Vec<_> = server.outputs().into_iter().map(|output| output.frame.frame_id).collect();
    let once: BTreeSet<_> = named.iter().cloned().collect();
    assert_eq!(named.len(), once.len(), "a frame twice");
    assert_eq!(once, sent);
    drop(engine);
}

#[test]
fn a_dead_letter_takes_the_pixels_along_and_can_be_replayed() {
    let folder = rings_folder();
    let dir = folder.path().display().to_string();
    for delivery in ["exactly_once", "at_least_once"] {
        let server = RedisServer::start();
        let flags = [
            ("ring.dir", &*dir),
            ("redis_queue.delivery", delivery),
            ("limits.max_pixels", "1000"),
        ];
        let engine = RunningEngine::start(&server, &flags);
        let by_ring = Some(ring(folder.path(), "cam", 2));
        let mut camera = producer(&server, by_ring, Reuse::Freshest, Full::Block);
        let rgb = pixels(RGB, 5);
        camera.send(&frame("kept", raw(PixelLayout::Rgb24, &rgb))).unwrap();
        server.wait_until_done();
        engine.stop();
        for _ in 0..4 {
            camera.send(&frame("later", raw(PixelLayout::Rgb24, &pixels(RGB, 6)))).unwrap();
        }
        let _: () = server.ask(cmd("XTRIM").arg(INPUT).arg("MAXLEN").arg(0));

        let letters = server.dead_letters();
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].text("reason"), "too_large");
        assert_eq!(letters[0].text("frame_id"), "kept");
        assert!(!letters[0].fields.contains_key("ring"), "the slot holds another frame");
        assert!(letters[0].fields["data"].windows(RGB).any(|part| part == rgb));

        let engine = RunningEngine::start(&server, &[("ring.dir", &*dir)]);
        let output = std::process::Command::new(program())
            .args(["dlq", "replay", "--all", "--redis-url", &server.url()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server.wait_for_outputs(1);
        let frame = server.outputs().remove(0).frame;
        assert_eq!(frame.frame_id, "kept");
        assert_eq!(frame.source_hash, format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&rgb)));
        engine.stop();
    }
}

#[test]
fn frames_that_wait_in_a_ring_are_seen() {
    let folder = rings_folder();
    let mut writer = Ring::create(&ring(folder.path(), "cam", 4)).unwrap();
    let mut reader = Rings::new(folder.path().to_owned());
    let mut bytes = vec![0; RGB];
    let mut waiting_after = |reference| {
        reader.read(reference, &mut bytes).unwrap();
        reader.last_used().unwrap().1
    };
    let written: Vec<_> =
        (0..4).map(|slot| writer.write(slot, &pixels(RGB, slot as usize)).unwrap()).collect();
    assert_eq!(waiting_after(&written[0]), 0, "what was there before does not count");
    let written: Vec<_> =
        (0..3).map(|slot| writer.write(slot, &pixels(RGB, slot as usize)).unwrap()).collect();
    // The slots are looked at once a second.
    wait_until("two frames wait", LONG, || waiting_after(&written[0]) == 2);
    wait_until("one frame waits", LONG, || waiting_after(&written[1]) == 1);
    wait_until("none waits", LONG, || waiting_after(&written[2]) == 0);
}
