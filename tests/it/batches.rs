//! Entries that hold a `ProcessedFrameBatch`: one result per frame, one acknowledgement per batch.

use std::collections::BTreeMap;
use std::time::Duration;

use framepress::internals::engine::Hooks;
use framepress::internals::image::Format;
use framepress::internals::metrics::Counter;
use framepress::internals::redis::Operation;
use framepress::internals::wire::proto::{ProcessedFrame, ProcessedFrameBatch};
use prost::Message;
use redis::cmd;

use crate::support::{
    FramepressProcess, GROUP, HeldCommits, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, Sample,
    data, wait_until,
};

fn frame(frame_id: &str, camera_id: &str, file: Option<Vec<u8>>) -> ProcessedFrame {
    let sample = Sample::colour(48, 32, frame_id.len());
    let mut image = sample.image(Format::Jpeg);
    image.compressed_data = file.unwrap_or(image.compressed_data);
    ProcessedFrame {
        frame_id: frame_id.into(),
        camera_id: camera_id.into(),
        timestamp: 1_700_000_000.0,
        original_image: Some(image),
        ..Default::default()
    }
}

fn batch(frames: Vec<ProcessedFrame>) -> Vec<u8> {
    let batch_size = i32::try_from(frames.len()).unwrap();
    ProcessedFrameBatch { frames, batch_id: "b".into(), batch_timestamp: 1.0, batch_size }
        .encode_to_vec()
}

/// Frames `name-0`, `name-1` and so on, alternately of two cameras.
fn mixed(name: &str, count: usize) -> Vec<u8> {
    let camera = |index: usize| if index.is_multiple_of(2) { "left" } else { "right" };
    let frames = (0..count).map(|index| frame(&format!("{name}-{index}"), camera(index), None));
    batch(frames.collect())
}

/// Every batch has each of its results once, in order and next to each other.
#[track_caller]
fn assert_once(server: &RedisServer, batches: &[(String, String)], frames: usize) {
    let outputs = server.outputs();
    assert_eq!(outputs.len(), batches.len() * frames);
    for (name, id) in batches {
        let of_batch: Vec<_> = outputs
            .iter()
            .enumerate()
            .filter(|(_, output)| &output.source_id() == id)
            .map(|(at, output)| (at, output.frame.frame_id.clone()))
            .collect();
        let first = of_batch[0].0;
        let wanted: Vec<_> =
            (0..frames).map(|index| (first + index, format!("{name}-{index}"))).collect();
        assert_eq!(of_batch, wanted);
    }
}

fn add_batches(server: &RedisServer, names: &str, count: usize) -> Vec<(String, String)> {
    let named = (0..count).map(|index| format!("{names}{index}"));
    named.map(|name| (name.clone(), server.add(&data(mixed(&name, 5))))).collect()
}

#[test]
fn each_frame_of_a_batch_is_a_result_whatever_the_delivery_and_the_retention() {
    for delivery in ["exactly_once", "at_least_once"] {
        for retention in ["keep", "delete", "trim_acked"] {
            let server = RedisServer::start();
            let flags = [("redis_queue.delivery", delivery), ("redis_queue.retention", retention)];
            let engine = RunningEngine::start(&server, &flags);
            let batches = add_batches(&server, "batch", 4);
            server.wait_for_outputs(20);
            wait_until("nothing is pending", LONG, || server.pending() == 0);
            assert_once(&server, &batches, 5);
            let cameras = engine.cameras();
            let frames = ["left", "right"].map(|id| cameras.status(id).unwrap().frames_processed);
            assert_eq!(frames, [12, 8]);
            assert_eq!(engine.count(Counter::Results), 20);
            let account = engine.stop();
            assert_eq!((account.read, account.out, account.in_flight), (4, 4, 0), "{account:?}");
            if retention == "delete" {
                assert_eq!(server.len(INPUT), 0);
            }
        }
    }
}

#[test]
fn a_refused_frame_refuses_its_batch_and_the_dead_letter_says_which_it_was() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let broken = vec![frame("a", "cam", None), frame("b", "cam", Some(b"\xff\xd8\xff\xd9".into()))];
    let mut bare = frame("c", "cam", None);
    bare.original_image = None;
    server.add(&data(batch(broken)));
    server.add(&data(batch(vec![frame("a", "cam", None), frame("b", "cam", None), bare])));
    server.wait_until_done();
    let letters = server.dead_letters();
    let details: Vec<_> = letters.iter().map(|letter| letter.text("detail")).collect();
    assert!(details[0].starts_with("frame 2 of 2 in the batch: "), "{details:?}");
    assert_eq!(details[1], "frame 3 of 3 in the batch: not a ProcessedFrame: no original_image");
    assert!(server.outputs().is_empty());
    let account = engine.stop();
    assert_eq!((account.read, account.dead_lettered), (2, 2));
}

#[test]
fn frames_below_the_threshold_leave_a_gap_in_their_batch_and_no_more() {
    let server = RedisServer::start();
    let flags = [("analysis.below_threshold", "drop"), ("analysis.quality_threshold", "0.45")];
    let engine = RunningEngine::start(&server, &flags);
    let flat = Sample { width: 48, height: 32, channels: 3, pixels: vec![0; 48 * 32 * 3] };
    let dark = frame("dark", "cam", Some(flat.encode(Format::Jpeg)));
    let id = server.add(&data(batch(vec![frame("a", "cam", None), dark.clone()])));
    server.add(&data(batch(vec![dark.clone(), dark])));
    server.wait_until_done();
    let outputs = server.outputs();
    let scores = outputs.iter().map(|o| o.frame.quality_metrics.as_ref().unwrap().quality_score);
    assert_eq!(
        (outputs.len(), &*outputs[0].frame.frame_id),
        (1, "a"),
        "{:?}",
        scores.collect::<Vec<_>>()
    );
    assert_eq!(outputs[0].source_id(), id);
    let account = engine.stop();
    assert_eq!((account.read, account.out, account.rejected), (2, 1, 1), "{account:?}");
}

#[test]
fn the_results_of_a_batch_stay_within_the_limit_of_a_payload() {
    let server = RedisServer::start();
    let flags =
        [("redis_queue.enable_compression", "false"), ("limits.max_payload_bytes", "20000")];
    let engine = RunningEngine::start(&server, &flags);
    server.add(&data(mixed("large", 6))); // 4,608 bytes of raw pixels each
    server.add(&data(mixed("small", 3)));
    server.wait_until_done();
    let letters = server.dead_letters();
    assert_eq!((letters.len(), letters[0].text("reason")), (1, "too_large".into()));
    let detail = letters[0].text("detail");
    assert!(detail.contains("frame 5 of 6 in the batch: the results"), "{detail}");
    assert_eq!(server.len(OUTPUT), 3);
    engine.stop();
}

#[test]
fn a_batch_of_an_engine_that_was_killed_comes_out_once() {
    let server = RedisServer::start();
    let environment =
        [("REDIS_QUEUE__CLAIM_IDLE_MS", "1000"), ("REDIS_QUEUE__RETRY_ATTEMPTS", "100")];
    let mut batches = Vec::new();
    for round in 0..6 {
        let mut engine = FramepressProcess::run(&server, &environment);
        batches.extend(add_batches(&server, &format!("round{round}-"), 20));
        server.wait_for_outputs(round * 100 + 10);
        engine.kill();
    }
    let engine = FramepressProcess::run(&server, &environment);
    server.wait_until_done();
    assert_once(&server, &batches, 5);
    drop(engine);
}

#[test]
fn a_batch_whose_answer_was_lost_with_the_group_is_not_doubled() {
    for delivery in ["exactly_once", "at_least_once"] {
        let server = RedisServer::start();
        let commits = HeldCommits::default();
        let fault_point = commits.fault_point(Operation::Read);
        let flags = [("redis_queue.delivery", delivery)];
        let engine =
            RunningEngine::launch(&server, &flags, Hooks { fault_point, ..Hooks::default() });
        wait_until("the engine is ready", LONG, || engine.is_ready());
        let mut batches = add_batches(&server, "before", 2);
        server.wait_for_outputs(10);
        server.wait_until_done();

        engine.wait_until_heard();
        commits.hold();
        batches.extend(add_batches(&server, "lost", 6));
        wait_until("a result", LONG, || server.len(OUTPUT) > 10);
        std::thread::sleep(Duration::from_millis(200));
        let _: i64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
        commits.cut();
        commits.release();
        server.wait_for_outputs(40);
        server.wait_until_done();
        assert_once(&server, &batches, 5);
        let account = engine.stop();
        assert_eq!(account.out, 8, "{delivery}: {account:?}");
    }
}

#[test]
fn a_batch_waits_until_all_of_it_fits_a_full_output() {
    let server = RedisServer::start();
    let flags = [("redis_queue.output_full", "block"), ("redis_queue.max_queue_length", "8")];
    let engine = RunningEngine::start(&server, &flags);
    add_batches(&server, "batch", 2);
    server.wait_for_outputs(5);
    wait_until("the output is full", LONG, || engine.count(Counter::OutputFullWaits) > 0);
    assert_eq!(server.len(OUTPUT), 5);
    let _: i64 = server.ask(cmd("XTRIM").arg(OUTPUT).arg("MAXLEN").arg(3));
    server.wait_for_outputs(8);
    server.wait_until_done();
    assert_eq!(engine.stop().out, 2);
}

#[test]
fn a_batch_keeps_its_place_among_the_frames_of_its_camera_also_with_shards() {
    for shards in ["1", "2"] {
        let server = RedisServer::start();
        let flags = [("redis_queue.shards", shards), ("engine.workers", "4")];
        let of_shard = |stream: &str| match shards {
            "1" => stream.to_owned(),
            _ => format!("{stream}:{{1}}"),
        };
        let add = |bytes: Vec<u8>| {
            let (stream, mut add) = (of_shard(INPUT), cmd("XADD"));
            let _: String = server.ask(add.arg(stream).arg("*").arg("data").arg(bytes));
        };
        let mut wanted = Vec::new();
        for round in 0..20 {
            let names = [0, 1, 2, 3].map(|index| format!("{round}-{index}"));
            add(frame(&names[0], "cam", None).encode_to_vec());
            add(batch(vec![frame(&names[1], "cam", None), frame(&names[2], "other", None)]));
            add(frame(&names[3], "cam", None).encode_to_vec());
            wanted.extend(names);
        }
        let engine = RunningEngine::start(&server, &flags);
        wait_until("all are out", LONG, || engine.count(Counter::Results) == 80);
        let stored = server.range(&of_shard(OUTPUT));
        let text = |fields: &BTreeMap<String, Vec<u8>>, name: &str| {
            String::from_utf8(fields[name].clone()).unwrap()
        };
        let names: Vec<_> = stored.iter().map(|(_, fields)| text(fields, "frame_id")).collect();
        assert_eq!(names, wanted);
        assert!(engine.cameras().status("b").is_none(), "the id of a batch is no camera");
        let account = engine.stop();
        assert_eq!((account.read, account.out), (60, 60), "{account:?}");
    }
}

#[test]
fn frames_of_a_batch_that_are_alike_are_results_of_their_own() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    let mut entry = data(batch(vec![frame("same", "cam", None), frame("same", "cam", None)]));
    entry.push(("traceparent".into(), b"00-1-2-01".to_vec()));
    server.add(&entry);
    server.wait_for_outputs(2); // there is no order between cameras
    let nameless = vec![frame("", "", None), frame("a", "", None)];
    let mut beside = data(batch(nameless));
    beside.push(("camera_id".into(), b"beside".to_vec()));
    beside.push(("frame_id".into(), b"stands-in".to_vec()));
    server.add(&beside);
    server.wait_until_done();
    let outputs = server.outputs();
    let named: Vec<_> = outputs.iter().map(|o| (&*o.frame.camera_id, &*o.frame.frame_id)).collect();
    let wanted = [("cam", "same"), ("cam", "same"), ("beside", "stands-in"), ("beside", "a")];
    assert_eq!(named, wanted);
    assert_eq!([0, 1].map(|at| outputs[at].text("traceparent")), ["00-1-2-01"; 2]);
    assert_eq!(engine.stop().out, 2);
}

#[test]
fn as_many_frames_as_an_entry_may_have_and_large_ones_are_stored_in_one_step() {
    let server = RedisServer::start();
    let flags = [("redis_queue.enable_compression", "false")];
    let engine = RunningEngine::start(&server, &flags);
    let most = add_one(&server, mixed("most", 256));
    let large = Sample::colour(2000, 1400, 1);
    let picture = || Some(large.encode(Format::Jpeg));
    // 8.4 MB of pixels each: more than one pipelined commit holds.
    let frames = (0..3).map(|at| frame(&format!("large-{at}"), "cam", picture())).collect();
    let large = add_one(&server, batch(frames));
    let one = add_one(&server, batch(vec![frame("one", "cam", None)]));
    let mut emptied = ProcessedFrameBatch::decode(&*batch(vec![])).unwrap();
    emptied.batch_size = 3;
    add_one(&server, emptied.encode_to_vec());
    server.wait_until_done();
    let of = |id: &String| server.outputs().iter().filter(|o| &o.source_id() == id).count();
    assert_eq!([of(&most), of(&large), of(&one)], [256, 3, 1]);
    let account = engine.stop();
    assert_eq!((account.read, account.out, account.dead_lettered), (4, 3, 1), "{account:?}");
}

fn add_one(server: &RedisServer, bytes: Vec<u8>) -> String {
    server.add(&data(bytes))
}

#[test]
fn a_panic_over_one_frame_of_a_batch_refuses_the_batch_and_no_other() {
    let server = RedisServer::start();
    let engine = RunningEngine::probed(&server, &[], |id| assert!(id != "bad-1", "a trap"));
    server.add(&data(mixed("good", 3)));
    server.add(&data(mixed("bad", 3)));
    server.add(&data(mixed("later", 3)));
    server.wait_until_done();
    let letters = server.dead_letters();
    assert_eq!((letters.len(), letters[0].text("reason")), (1, "panic".into()));
    let detail = letters[0].text("detail");
    assert!(detail.starts_with("frame 2 of 3 in the batch: "), "{detail}");
    assert_eq!(server.len(OUTPUT), 6);
    let account = engine.stop();
    assert_eq!((account.out, account.dead_lettered), (2, 1), "{account:?}");
}
