//! Entries that are a `ProcessedFrameBatch`: a result of each frame, one acknowledgement of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use framepress::engine::Hooks;
use framepress::image::Format;
use framepress::metrics::Counter;
use framepress::redis::{Operation, Seam};
use framepress::wire::proto::{ProcessedFrame, ProcessedFrameBatch};
use prost::Message;
use redis::cmd;

use crate::support::{
    FramepressProcess, GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, Sample, data,
    wait_until,
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

/// Frames `name-0` and on, of two cameras in turn.
fn mixed(name: &str, count: usize) -> Vec<u8> {
    let camera = |index: usize| if index.is_multiple_of(2) { "left" } else { "right" };
    let frames = (0..count).map(|index| frame(&format!("{name}-{index}"), camera(index), None));
    batch(frames.collect())
}

/// Every batch has its results once, in its order, next to each other.
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
    let flags = [("analysis.below_threshold", "drop"), ("analysis.quality_threshold", "0.3")];
    let engine = RunningEngine::start(&server, &flags);
    let flat = Sample { width: 48, height: 32, channels: 3, pixels: vec![0; 48 * 32 * 3] };
    let dark = frame("dark", "cam", Some(flat.encode(Format::Jpeg)));
    let id = server.add(&data(batch(vec![frame("a", "cam", None), dark.clone()])));
    server.add(&data(batch(vec![dark.clone(), dark])));
    server.wait_until_done();
    let outputs = server.outputs();
    let scores = outputs.iter().map(|o| o.frame.quality_metrics.as_ref().unwrap().quality_score);
    assert_eq!((outputs.len(), &*outputs[0].frame.frame_id), (1, "a"), "{:?}", scores.collect::<Vec<_>>());
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
        let [deaf, cut] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (is_deaf, is_cut) = (Arc::clone(&deaf), Arc::clone(&cut));
        let seam = Seam::new(move |operation| {
            let thread = std::thread::current();
            let commits = thread.name().is_some_and(|name| name.starts_with("fp-commit"));
            while commits && operation == Operation::Read && is_deaf.load(Ordering::SeqCst) {
                if is_cut.swap(false, Ordering::SeqCst) {
                    return Err(std::io::Error::other("cut"));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        let flags = [("redis_queue.delivery", delivery)];
        let engine = RunningEngine::launch(&server, &flags, Hooks { seam, ..Hooks::default() });
        wait_until("the engine is ready", LONG, || engine.is_ready());
        let mut batches = add_batches(&server, "before", 2);
        server.wait_for_outputs(10);
        server.wait_until_done();

        deaf.store(true, Ordering::SeqCst);
        batches.extend(add_batches(&server, "lost", 6));
        wait_until("a result", LONG, || server.len(OUTPUT) > 10);
        std::thread::sleep(Duration::from_millis(200));
        // A consumer deletes what it has read: the last result of the batch is still there.
        let _: i64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
        cut.store(true, Ordering::SeqCst);
        wait_until("the answer is cut off", LONG, || !cut.load(Ordering::SeqCst));
        deaf.store(false, Ordering::SeqCst);
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
