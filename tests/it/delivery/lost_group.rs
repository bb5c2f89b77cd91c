//! A consumer group that is lost while frames are in flight: order, position and account are kept.

use std::collections::BTreeMap;
use std::time::Duration;

use framepress::internals::image::Format;
use framepress::internals::metrics::Counter;
use redis::cmd;

use crate::support::{
    GROUP, INPUT, LONG, OUTPUT, RedisServer, RunningEngine, Sample, protobuf, protobuf_of,
    wait_until,
};

fn destroy_group(server: &RedisServer) {
    let _: i64 = server.ask(cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP));
}

/// Number of results stored after a later one of the same camera. Frame ids end with their number.
fn out_of_order(server: &RedisServer) -> usize {
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = 0;
    for output in server.outputs() {
        let (camera, number) = output.frame.frame_id.rsplit_once('-').unwrap();
        let number: usize = number.parse().unwrap();
        let before = last.entry(camera.to_owned()).or_insert(number);
        count += usize::from(number < *before);
        *before = number;
    }
    count
}

#[test]
fn frames_keep_their_order_when_the_group_is_lost_again_and_again() {
    let server = RedisServer::start();
    let flags = [("redis_queue.compression_format", "webp"), ("redis_queue.webp_method", "4")];
    let engine = RunningEngine::start(&server, &flags);
    let picture = Sample::colour(640, 480, 1);
    const ROUNDS: usize = 8;
    const FRAMES: usize = 24;
    for round in 0..ROUNDS {
        let entries: Vec<_> = (0..FRAMES)
            .map(|index| {
                let id = format!("cam-{}", round * FRAMES + index);
                protobuf_of(&id, "cam", picture.image(Format::Raw))
            })
            .collect();
        server.add_all(&entries);
        let some = round * FRAMES + 4 + round;
        wait_until("some are stored, some are in hand", LONG, || server.len(OUTPUT) >= some);
        destroy_group(&server);
        server.wait_for_outputs((round + 1) * FRAMES);
    }
    server.wait_until_done();
    assert_eq!(out_of_order(&server), 0);
    server.assert_every_entry_once();
    let account = engine.stop();
    assert_eq!((account.out, account.lost), ((ROUNDS * FRAMES) as u64, 0), "{account:?}");
}

#[test]
fn a_group_lost_in_the_middle_of_small_frames_costs_neither_order_nor_account() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    for round in 0..12 {
        for camera in ["a", "b", "c"] {
            let entries: Vec<_> = (0..40)
                .map(|index| protobuf(&format!("{camera}-{}", round * 40 + index), camera))
                .collect();
            server.add_all(&entries);
        }
        wait_until("some results", LONG, || server.len(OUTPUT) >= round * 120 + 10);
        destroy_group(&server);
    }
    server.wait_for_outputs(12 * 120);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(out_of_order(&server), 0);
    let account = engine.stop();
    assert_eq!((account.out, account.lost), (12 * 120, 0), "{account:?}");
}

#[test]
fn an_engine_that_has_just_started_knows_the_place_of_its_group() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    server.add_frames("cam", 200);
    server.wait_for_outputs(200);
    server.wait_until_done();
    engine.stop();

    let engine = RunningEngine::start(&server, &[]);
    destroy_group(&server);
    server.add_frames("later", 5);
    wait_until("the group is restored", LONG, || engine.count(Counter::GroupRecreated) == 1);
    server.wait_for_outputs(205);
    server.wait_until_done();
    server.assert_every_entry_once();
    let account = engine.stop();
    assert_eq!((account.read, account.out), (5, 5), "{account:?}");
}

#[test]
fn a_stream_made_anew_with_older_ids_is_read_from_its_beginning() {
    let server = RedisServer::start();
    let engine = RunningEngine::start(&server, &[]);
    server.add_frames("before", 5);
    server.wait_for_outputs(5);
    server.wait_until_done();
    let last = server.range(INPUT).pop().unwrap().0;
    let (millis, _) = last.split_once('-').unwrap();
    let millis: u64 = millis.parse().unwrap();

    let mut all = redis::pipe();
    all.atomic().cmd("FLUSHALL").ignore();
    // Ten ids of a clock that is behind, and three of a correct one.
    let ids =
        (0..10).map(|index| millis - 60_000 + index).chain((1..4).map(|index| millis + index));
    for (index, id) in ids.enumerate() {
        let fields = protobuf(&format!("cam-{index}"), "cam");
        all.cmd("XADD").arg(INPUT).arg(format!("{id}-7"));
        for (name, value) in &fields {
            all.arg(name).arg(&value[..]);
        }
        all.ignore();
    }
    let _: () = all.query(&mut server.connect()).unwrap();
    server.wait_for_outputs(13);
    server.wait_until_done();
    server.assert_every_entry_once();
    assert_eq!(out_of_order(&server), 0);
    assert_eq!(engine.stop().out, 18);
}

#[test]
fn frames_in_hand_at_a_flush_are_counted_as_lost_with_their_group() {
    let server = RedisServer::start();
    let engine = RunningEngine::probed(&server, &[], |_| {
        std::thread::sleep(Duration::from_millis(20));
    });
    for round in 0..3 {
        server.add_frames(&format!("cam{round}"), 60);
        let before = engine.account().out;
        wait_until("some results", LONG, || engine.account().out >= before + 10);
        let _: () = server.ask(&cmd("FLUSHALL"));
        wait_until("the group is restored", LONG, || engine.count(Counter::GroupRecreated) > round);
    }
    server.add_frames("after", 20);
    server.wait_until_done();
    let account = engine.stop();
    assert_eq!(account.superseded, 0, "there is no other engine: {account:?}");
    assert!(account.lost_with_group > 0, "{account:?}");
    let sum = account.out + account.lost_with_group + account.abandoned + account.lost_to_trim;
    assert_eq!(account.read, sum, "{account:?}");
}

#[test]
fn a_group_replaced_within_one_step_is_noticed_by_what_it_does_not_know() {
    let server = RedisServer::start();
    let engine = RunningEngine::probed(&server, &[], |_| {
        std::thread::sleep(Duration::from_millis(10));
    });
    server.add_frames("cam", 60);
    wait_until("some results", LONG, || server.len(OUTPUT) >= 10);
    // As another engine restores the group: positioned after the entries that this engine holds.
    let mut both = redis::pipe();
    both.atomic();
    both.cmd("XGROUP").arg("DESTROY").arg(INPUT).arg(GROUP).ignore();
    both.cmd("XGROUP").arg("CREATE").arg(INPUT).arg(GROUP).arg("$").ignore();
    let _: () = both.query(&mut server.connect()).unwrap();
    server.add_frames("later", 20);
    wait_until("the frames in hand are stored all the same", LONG, || {
        let account = engine.account();
        account.in_flight == 0 && account.out == account.read && account.out > 30
    });
    server.wait_until_done();
    assert_eq!(out_of_order(&server), 0);
    let account = engine.stop();
    assert_eq!(account.lost, 0, "{account:?}");
    let results: Vec<_> = server.outputs().into_iter().map(|output| output.source_id()).collect();
    assert_eq!(results.len() as u64, account.out, "each once");
}
