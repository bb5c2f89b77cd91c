//! A Cluster: keys on different nodes, failing nodes, moving slots.

use std::sync::Arc;

use framepress::config::Loader;
use framepress::internals::base::{Fault, limits};
use framepress::internals::camera::shard_of;
use framepress::internals::engine::Hooks;
use framepress::internals::metrics::Counter;
use framepress::internals::wire::proto::{ImageData, ProcessedFrame, ProcessedFrameBatch};
use parking_lot::Mutex;
use prost::Message;

use crate::support::{
    Cluster, GROUP, Load, RunningEngine, Server, assert_every_entry_once, config, is_done,
    start_fault, wait_until,
};

/// Streams of one slot.
const INPUT: &str = "{road}:frames";
const OUTPUT: &str = "{road}:results";
const TOGETHER: [(&str, &str); 2] =
    [("redis_queue.input_queue", INPUT), ("redis_queue.output_queue", OUTPUT)];

/// Asserts that every entry of the two streams has exactly one result, on any node; returns the
/// count.
#[track_caller]
fn every_entry_once(cluster: &Cluster, input: &str, output: &str) -> usize {
    let (inputs, outputs) = (&mut cluster.connect(input), &mut cluster.connect(output));
    assert_every_entry_once((inputs, input), (outputs, output))
}

#[test]
fn a_killed_primary_is_replaced_and_nothing_that_survives_is_lost_or_doubled() {
    let mut cluster = Cluster::start();
    let config = config(&cluster.url(), &TOGETHER);
    let engine = RunningEngine::start(&config);
    let load = Load::start(&config);
    load.wait_for_more(200);
    let owner = cluster.owner(INPUT).unwrap();
    cluster.nodes[owner].kill();
    wait_until("a replica takes over", || cluster.owner(INPUT).is_some_and(|new| new != owner));
    let mark = engine.view.metrics.ledger.read().out;
    wait_until("results again", || engine.view.metrics.ledger.read().out > mark + 20);
    load.wait_for_more(200);
    let sent = load.stop();
    wait_until("every entry done", || cluster.is_done(INPUT));
    let survived = every_entry_once(&cluster, INPUT, OUTPUT);
    println!("failover: {sent} frames confirmed, {survived} survived");
    assert!(engine.view.metrics.get(Counter::Reconnects) > 0);
    engine.stop();
}

#[test]
fn frames_of_other_nodes_keep_flowing_past_one_that_is_silent() {
    // No failover happens within this test.
    let mut cluster = Cluster::with_node_timeout("600000");
    let shards = 4;
    let input = |shard: usize| format!("camera_frames:{{{shard}}}");
    let output = |shard: usize| format!("processed_frames:{{{shard}}}");
    let victim = cluster.owner(&input(1)).unwrap();
    let (held, free): (Vec<usize>, Vec<usize>) =
        (0..shards).partition(|shard| cluster.owner(&input(*shard)) == Some(victim));
    assert!(!held.is_empty() && free.len() >= 2, "the example is one: {held:?}, {free:?}");
    let cameras = |of: &[usize]| -> Vec<String> {
        let names = (0..64).map(|number| format!("camera-{number}"));
        names.filter(|camera| of.contains(&shard_of(camera, shards))).collect()
    };
    let flags = [("redis_queue.shards", "4"), ("redis_queue.timeout", "3")];
    let config = config(&cluster.url(), &flags);

    let length = |cluster: &Cluster, stream: &str| -> usize {
        redis::cmd("XLEN").arg(stream).query(&mut cluster.connect(stream)).unwrap()
    };
    let pending = |cluster: &Cluster, shard: usize| -> usize {
        let mut command = redis::cmd("XPENDING");
        command.arg(input(shard)).arg(GROUP);
        type Summary = (usize, redis::Value, redis::Value, redis::Value);
        command.query::<Summary>(&mut cluster.connect(&input(shard))).unwrap().0
    };
    let results = |cluster: &Cluster| -> usize {
        free.iter().map(|shard| length(cluster, &output(*shard))).sum()
    };

    // No frame ends before the silence.
    let gate = Arc::new(Mutex::new(()));
    let passed = Arc::clone(&gate);
    let probe = move |_: &str| drop(passed.lock());
    let hooks = Hooks { probe: Some(Arc::new(probe)), ..Hooks::default() };
    let engine = RunningEngine::with_hooks(&config, hooks);
    let shut = gate.lock();
    // A backlog on the node that falls silent: its frames occupy every slot they can get.
    let backlog = 400;
    let picture = crate::support::picture();
    let mut producer =
        crate::support::producer(&config, &framepress::internals::base::Stop::default());
    for (number, camera) in cameras(&held).iter().cycle().take(backlog).enumerate() {
        let frame_id = format!("early-{number}");
        producer.send(&crate::support::frame(&frame_id, camera, &picture)).unwrap();
    }
    let load = Load::of(&config, cameras(&free));
    let places = limits::SLOTS_MIN + limits::READ_LANE_FRAMES;
    wait_until("every place is taken", || {
        held.iter().all(|shard| pending(&cluster, *shard) >= places)
    });
    let in_hand: usize = held.iter().map(|shard| pending(&cluster, *shard)).sum();
    for shard in &held {
        let (waiting, done) = (input(*shard), output(*shard));
        assert_eq!(length(&cluster, &done), 0, "{done}: silent before the first result");
        let more = length(&cluster, &waiting) > pending(&cluster, *shard);
        assert!(more, "{waiting}: there is more than fits in hand");
    }
    cluster.silence(victim);
    drop(shut);

    let failures = || engine.view.metrics.get(Counter::Errors);
    wait_until("several attempts at the silent node", || failures() >= 5);
    let mark = results(&cluster);
    wait_until("results of the other nodes", || results(&cluster) >= mark + 300);
    println!(
        "{in_hand} frames in hand at the silence; {} results of the other nodes during it",
        results(&cluster)
    );
    let fault = start_fault(&cluster.url(), &flags);
    assert!(matches!(fault, Fault::Connection { .. }), "an engine that needs all nodes: {fault}");
    cluster.wake();
    let sent = load.stop();
    wait_until("every entry done", || (0..shards).all(|shard| cluster.is_done(&input(shard))));
    let entries: usize =
        (0..shards).map(|shard| every_entry_once(&cluster, &input(shard), &output(shard))).sum();
    assert_eq!(entries, backlog + sent);
    engine.stop();
}

/// Reads entries for a consumer that then dies, from the node that is importing the slot; returns
/// how many.
fn give_to_the_dead(node: &mut redis::Connection, wanted: usize) -> usize {
    let mut given = 0;
    while given < wanted {
        let _: () = redis::cmd("ASKING").query(node).unwrap();
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg("dead").arg("COUNT").arg(wanted - given);
        // This consumer must queue behind the engine.
        command.arg("BLOCK").arg(1000).arg("STREAMS").arg(INPUT).arg(">");
        let reply: Option<redis::streams::StreamReadReply> = command.query(node).unwrap();
        given += reply.map_or(0, |reply| reply.keys.iter().map(|key| key.ids.len()).sum());
    }
    given
}

/// Moves the slot under load, and lets an engine work for a while on the importing node.
#[track_caller]
fn a_moving_slot_costs_nothing(cluster: &Cluster, flags: &[(&str, &str)]) {
    let config = config(&cluster.url(), &[&TOGETHER, flags].concat());
    let engine = RunningEngine::start(&config);
    let load = Load::start(&config);
    load.wait_for_more(100);
    let from = cluster.owner(INPUT).unwrap();
    let is_primary = |node: &usize| {
        cluster.nodes[*node].ask::<String>(&["INFO", "replication"]).contains("role:master")
    };
    let to = (0..6).filter(is_primary).find(|node| *node != from).unwrap();
    let count = |counter| engine.view.metrics.get(counter);
    let more_results = |more: u64| {
        let mark = engine.view.metrics.ledger.read().out;
        wait_until("more results", || engine.view.metrics.ledger.read().out >= mark + more);
    };
    let while_it_asks = |node: &mut redis::Connection| {
        // More than the engine had in flight, so these were read from the new node.
        more_results(100);
        let (opened, claimed) = (count(Counter::ConnectionsOpened), count(Counter::Claimed));
        let given = give_to_the_dead(node, 10) as u64;
        wait_until("they are taken over", || count(Counter::Claimed) >= claimed + given);
        more_results(100);
        // The engine claims entries on a separate connection, which it closes afterwards.
        let made = count(Counter::ConnectionsOpened) - opened;
        assert!(made <= 2, "{made} connections are made anew");
    };
    cluster.migrate(INPUT, to, || load.wait_for_more(50), while_it_asks);
    assert_eq!(cluster.owner(INPUT), Some(to));
    load.wait_for_more(100);
    let sent = load.stop();
    wait_until("every entry done", || cluster.is_done(INPUT));
    assert_eq!(every_entry_once(cluster, INPUT, OUTPUT), sent);
    let account = engine.stop();
    assert_eq!((account.out as usize, account.dead_lettered), (sent, 0));
}

#[test]
fn a_slot_that_moves_under_load_costs_nothing() {
    a_moving_slot_costs_nothing(&Cluster::start(), &[]);
}

#[test]
fn frames_in_transit_to_a_slot_that_moves_keep_their_order() {
    const CAMERAS: usize = 8;
    let cluster = Cluster::start();
    let config = config(&cluster.url(), &TOGETHER);
    let stop = framepress::internals::base::Stop::default();
    let mut producer = crate::support::producer(&config, &stop);
    let from = cluster.owner(INPUT).unwrap();
    let is_primary = |node: &usize| {
        cluster.nodes[*node].ask::<String>(&["INFO", "replication"]).contains("role:master")
    };
    let to = (0..6).filter(is_primary).find(|node| *node != from).unwrap();
    let handed_over = std::sync::atomic::AtomicUsize::new(0);
    let over = std::sync::atomic::AtomicBool::new(false);
    let count = || handed_over.load(std::sync::atomic::Ordering::SeqCst);
    let wait_for_more = |more: usize| {
        let goal = count() + more;
        wait_until("more frames", || count() >= goal);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let picture = crate::support::picture();
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                let number = count();
                let (frame, camera) =
                    (format!("frame-{number}"), format!("camera-{}", number % CAMERAS));
                producer.enqueue(&crate::support::frame(&frame, &camera, &picture)).unwrap();
                producer.settle().unwrap();
                handed_over.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            assert_eq!(producer.flush(limits::CONNECT_LIMIT * 5), 0);
        });
        wait_for_more(500);
        cluster.migrate(INPUT, to, || wait_for_more(200), |_| wait_for_more(200));
        wait_for_more(500);
        over.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    let sendings = producer.counts().sendings;
    println!("{sendings:?}");
    assert_eq!((sendings.confirmed as usize, sendings.failed), (count(), 0));
    assert!(sendings.sent_again > 200, "the node that has the keys is asked: {sendings:?}");
    let mut range = redis::cmd("XRANGE");
    let entries: redis::streams::StreamRangeReply =
        range.arg(INPUT).arg("-").arg("+").query(&mut cluster.connect(INPUT)).unwrap();
    let number = |id: String| -> usize { id["frame-".len()..].parse().unwrap() };
    let numbers = entries.ids.iter().map(|entry| number(entry.get("frame_id").unwrap()));
    assert!(numbers.eq(0..count()), "each once, in the order in which they were handed over");
}

#[test]
fn a_slot_that_moves_costs_nothing_where_the_length_of_the_output_is_asked_for() {
    let flags = [("redis_queue.output_full", "block"), ("redis_queue.max_queue_length", "100000")];
    a_moving_slot_costs_nothing(&Cluster::start(), &flags);
}

#[test]
fn nodes_that_encrypt_are_followed_over_tls_to_where_they_send_us() {
    if !Server::knows_tls() {
        return;
    }
    let cluster = Cluster::encrypted();
    a_moving_slot_costs_nothing(&cluster, &[("redis_queue.tls.ca", &cluster.ca())]);
}

#[test]
fn with_at_least_once_the_streams_may_lie_on_different_nodes() {
    let cluster = Cluster::start();
    let (input, output) = ("camera_frames", "processed_frames");
    assert_ne!(cluster.owner(input), cluster.owner(output), "the example is one");
    for key in [input, output, INPUT] {
        let slot: u16 = cluster.nodes[0].ask(&["CLUSTER", "KEYSLOT", key]);
        assert_eq!(slot, framepress::internals::redis::slot_of(key), "{key}");
    }
    let flags = [("redis_queue.delivery", "at_least_once"), ("redis_queue.retention", "keep")];
    let config = config(&cluster.url(), &flags);
    let engine = RunningEngine::start(&config);
    let load = Load::start(&config);
    load.wait_for_more(50);
    let sent = load.stop();
    let bad = b"no frame at all";
    let mut command = redis::cmd("XADD");
    command.arg(input).arg("*").arg("note").arg("kept").arg("data").arg(&bad[..]);
    let bad_id: String = command.query(&mut cluster.connect(input)).unwrap();
    wait_until("every entry done", || is_done(&mut cluster.connect(input), input));
    let account = engine.stop();
    assert_eq!((account.out as usize, account.dead_lettered), (sent, 1));

    let results = crate::support::results(&mut cluster.connect(output), output);
    assert!(results.len() == sent && results.values().all(|count| *count == 1), "undisturbed");
    // The dead letter lies on a third key, with the original fields first.
    let dead = "camera_frames:dlq";
    let mut command = redis::cmd("XRANGE");
    let letters: Vec<(String, Vec<String>)> =
        command.arg(dead).arg("-").arg("+").query(&mut cluster.connect(dead)).unwrap();
    let fields = &letters[0].1;
    assert_eq!(fields[..4], ["note", "kept", "data", "no frame at all"]);
    let at = fields.iter().position(|field| field == "original_id").unwrap();
    assert_eq!((letters.len(), &fields[at + 1]), (1, &bad_id));
}

#[test]
fn exactly_once_across_slots_is_refused_with_names_that_would_do() {
    let load = |flags: &[(&str, &str)]| {
        let mut loader = Loader::new().flag("redis_queue.url", "redis-cluster://127.0.0.1:1");
        for (key, value) in flags {
            loader = loader.flag(*key, *value);
        }
        loader.load()
    };
    let error = load(&[]).unwrap_err().to_string();
    for part in [
        "camera_frames in slot 1250,",
        "processed_frames in slot 13014,",
        "camera_frames:dlq in slot 2340;",
        "input_queue: \"{camera_frames}\"",
        "output_queue: \"{camera_frames}:processed_frames\"",
    ] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let named = [
        ("redis_queue.input_queue", "{camera_frames}"),
        ("redis_queue.output_queue", "{camera_frames}:processed_frames"),
    ];
    assert!(load(&named).is_ok(), "the names it proposes");
    assert!(load(&[("redis_queue.shards", "3")]).is_ok());
    assert!(load(&[("redis_queue.delivery", "at_least_once")]).is_ok());
}

#[test]
fn a_batch_comes_out_whole_where_input_and_output_lie_apart() {
    let cluster = Cluster::start();
    let output = "results";
    let names = (0..64).map(|number| format!("frames-{number}"));
    let mut apart = names.filter(|input| cluster.owner(input) != cluster.owner(output));
    let input = &apart.next().unwrap();
    let flags = [
        ("redis_queue.input_queue", &**input),
        ("redis_queue.output_queue", output),
        ("redis_queue.delivery", "at_least_once"),
    ];
    let engine = RunningEngine::start(&config(&cluster.url(), &flags));
    let frame = |index: usize| ProcessedFrame {
        frame_id: index.to_string(),
        camera_id: "cam".into(),
        original_image: Some(ImageData {
            compressed_data: crate::support::picture(),
            ..Default::default()
        }),
        ..Default::default()
    };
    for of in 0..4 {
        let frames = (5 * of..5 * of + 5).map(frame).collect();
        let batch = ProcessedFrameBatch { frames, ..Default::default() }.encode_to_vec();
        let mut add = redis::cmd("XADD");
        add.arg(input).arg("*").arg("data").arg(batch);
        add.query::<String>(&mut cluster.connect(input)).unwrap();
    }
    wait_until("every batch done", || {
        cluster.is_done(input) && engine.view.metrics.ledger.read().out == 4
    });
    type Entries = Vec<(String, std::collections::BTreeMap<String, redis::Value>)>;
    let mut range = redis::cmd("XRANGE");
    let stored: Entries =
        range.arg(output).arg("-").arg("+").query(&mut cluster.connect(output)).unwrap();
    let ids: Vec<String> = stored
        .iter()
        .map(|(_, fields)| redis::from_redis_value(fields["frame_id"].clone()).unwrap())
        .collect();
    assert_eq!(ids, (0..20).map(|index| index.to_string()).collect::<Vec<_>>());
    engine.stop();
}
