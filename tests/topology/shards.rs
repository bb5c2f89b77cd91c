//! Several streams instead of one, on several nodes.

use std::process::Command;

use framepress::internals::camera::shard_of;

use crate::support::{
    Cluster, GROUP, Load, RunningEngine, Server, assert_every_entry_once, config, is_done,
    wait_until,
};

fn input(shard: usize) -> String {
    format!("camera_frames:{{{shard}}}")
}

fn output(shard: usize) -> String {
    format!("processed_frames:{{{shard}}}")
}

#[test]
fn producers_in_every_language_agree_on_the_shard_of_a_camera() {
    // XXH3-64 of the id, seed 0, modulo the number of shards; tests/python checks the same table.
    let table = include_str!("shards.tsv");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("camera_id\txxh3_64\tof_2\tof_3\tof_4\tof_16"));
    let mut count = 0;
    for line in lines {
        let columns: Vec<&str> = line.split('\t').collect();
        let camera = columns[0];
        let hash = xxhash_rust::xxh3::xxh3_64(camera.as_bytes());
        assert_eq!(columns[1], format!("{hash:016x}"), "{camera}");
        for (shards, column) in [2, 3, 4, 16].into_iter().zip(&columns[2..]) {
            assert_eq!(*column, shard_of(camera, shards).to_string(), "{camera} of {shards}");
        }
        count += 1;
    }
    assert!(count >= 6);
}

#[test]
fn one_engine_reads_all_shards_on_all_nodes() {
    let cluster = Cluster::start();
    let flags = [("redis_queue.shards", "4"), ("redis_queue.retention", "trim_acked")];
    let config = config(&cluster.url(), &flags);
    let nodes: std::collections::BTreeSet<_> =
        (0..4).filter_map(|shard| cluster.owner(&input(shard))).collect();
    assert!(nodes.len() > 1, "the example concerns several nodes");
    let engine = RunningEngine::start(&config);
    let load = Load::start(&config);
    load.wait_for_more(200);
    let sent = load.stop();
    wait_until("every entry done", || (0..4).all(|shard| cluster.is_done(&input(shard))));
    let results: usize = (0..4)
        .map(|shard| {
            let output = output(shard);
            let results = crate::support::results(&mut cluster.connect(&output), &output);
            assert!(results.values().all(|count| *count == 1), "{output}");
            results.len()
        })
        .sum();
    assert_eq!(results, sent);
    // The watcher sees all shards together.
    let queues = || *engine.view.queues.lock();
    wait_until("the queues are seen", || queues().output.depth as usize == sent);
    assert_eq!((queues().input.lag, queues().input.pending), (Some(0), 0));
    assert_eq!(engine.stop().out as usize, sent);
}

#[test]
fn two_engines_share_the_shards_by_subset_and_by_group() {
    let server = Server::start(&[]);
    let url = format!("redis://127.0.0.1:{}", server.port);
    let with = |flags: &[(&str, &str)]| {
        let mut all = vec![("redis_queue.shards", "3")];
        all.extend(flags);
        config(&url, &all)
    };
    let first = RunningEngine::start(&with(&[("redis_queue.shard_subset", "[2, 0]")]));
    let load = Load::start(&with(&[]));
    load.wait_for_more(60);
    wait_until("its shards are done", || {
        [0, 2].iter().all(|shard| is_done(&mut server.connect(), &input(*shard)))
    });
    let groups: redis::RedisResult<redis::Value> =
        redis::cmd("XINFO").arg("GROUPS").arg(input(1)).query(&mut server.connect());
    let untouched = matches!(&groups, Ok(redis::Value::Array(groups)) if groups.is_empty());
    assert!(untouched, "nobody has asked for shard 1: {groups:?}");

    // The other shard, and a share of one that the first engine has.
    let second = RunningEngine::start(&with(&[
        ("redis_queue.shard_subset", "[0, 1]"),
        ("redis_queue.consumer_name", "second"),
    ]));
    load.wait_for_more(60);
    let sent = load.stop();
    wait_until("all shards are done", || {
        (0..3).all(|shard| is_done(&mut server.connect(), &input(shard)))
    });
    let entries: usize = (0..3)
        .map(|shard| {
            let (inputs, outputs) = (&mut server.connect(), &mut server.connect());
            assert_every_entry_once((inputs, &input(shard)), (outputs, &output(shard)))
        })
        .sum();
    assert_eq!(entries, sent);
    assert_eq!((first.stop().out + second.stop().out) as usize, sent);
    let consumers: Vec<std::collections::HashMap<String, redis::Value>> =
        server.ask(&["XINFO", "CONSUMERS", &input(1), GROUP]);
    let named = |consumer: &&std::collections::HashMap<String, redis::Value>| {
        let name: String = redis::from_redis_value_ref(&consumer["name"]).unwrap();
        !framepress::internals::redis::Control::is_identity(&name)
    };
    assert_eq!(consumers.iter().filter(named).count(), 1, "{consumers:?}");
}

#[test]
fn dead_letters_are_listed_and_put_back_and_results_shown_over_all_shards() {
    let cluster = Cluster::start();
    let config = config(&cluster.url(), &[("redis_queue.shards", "2")]);
    let engine = RunningEngine::start(&config);
    for shard in 0..2 {
        let mut command = redis::cmd("XADD");
        command.arg(input(shard)).arg("*").arg("data").arg(format!("rubbish {shard}"));
        let _: String = command.query(&mut cluster.connect(&input(shard))).unwrap();
    }
    let letters = |shard: usize| -> usize {
        let key = format!("{}:dlq", input(shard));
        redis::cmd("XLEN").arg(&key).query(&mut cluster.connect(&key)).unwrap()
    };
    wait_until("both dead letters", || letters(0) + letters(1) == 2);
    let load = Load::start(&config);
    load.wait_for_more(20);
    let sent = load.stop();
    wait_until("every entry done", || (0..2).all(|shard| cluster.is_done(&input(shard))));
    engine.stop();

    let said = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_framepress"));
        command.env("REDIS_QUEUE__URL", cluster.url()).env("REDIS_QUEUE__SHARDS", "2");
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let listed = said(&["dlq", "list"]);
    for shard in 0..2 {
        assert!(
            listed.contains(&format!("camera_frames:{{{shard}}}:dlq: 1, the last 1")),
            "{listed}"
        );
    }
    said(&["dlq", "replay", "--all"]);
    assert_eq!(letters(0) + letters(1), 0);
    let shown = said(&["inspect", "--json", "--count", "1000"]);
    assert_eq!(shown.lines().count(), sent);
}
