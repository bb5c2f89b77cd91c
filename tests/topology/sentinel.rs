//! A primary watched by Sentinels, and the failover.

use framepress::internals::metrics::Counter;
use framepress::internals::metrics::clock::Tick;

use crate::support::{
    INPUT, Load, OUTPUT, RunningEngine, SERVICE, Sentinels, Server, assert_every_entry_once,
    black_hole, config, frame_ids, is_done, start_fault, wait_until,
};

/// What happened to the frames whose sending was confirmed.
struct Outcome {
    lost: usize,
    /// Confirmed by the primary alone before the failover.
    on_one_server: usize,
}

/// Runs a load through a failover that `fail` causes, with `more` frames after it, then calls
/// `mend` and sends as many again. Returns what has survived.
#[track_caller]
fn survives(
    deployment: &mut Sentinels,
    flags: &[(&str, &str)],
    more: usize,
    fail: impl FnOnce(&mut Sentinels),
    mend: impl FnOnce(&mut Sentinels),
) -> Outcome {
    let config = config(&deployment.url(&[]), flags);
    let engine = RunningEngine::start(&config);
    let load = Load::start(&config);
    load.wait_for_more(200);
    let before = deployment.primary_port();
    let on_one_server = load.replica_acks_missing();
    fail(deployment);
    let failed = Tick::now();
    deployment.wait_for_other_primary(before);
    // Results on the new primary, not those that the old one still accepts and then loses.
    let results =
        || -> usize { redis::cmd("XLEN").arg(OUTPUT).query(&mut deployment.primary()).unwrap() };
    let mark = results();
    wait_until("results after the failover", || results() > mark);
    let resumed = failed.elapsed();
    load.wait_for_more(more);
    mend(deployment);
    load.wait_for_more(more);
    let sent = load.stop();

    wait_until("every entry done", || is_done(&mut deployment.primary(), INPUT));
    let (inputs, outputs) = (&mut deployment.primary(), &mut deployment.primary());
    let survived = assert_every_entry_once((inputs, INPUT), (outputs, OUTPUT));
    let frames = frame_ids(inputs, INPUT);
    let lost = (0..sent).filter(|number| !frames.contains(&format!("frame-{number}"))).count();
    println!(
        "failover: {sent} frames confirmed, of which {lost} lost; {survived} entries survived, of \
         which {} sent twice; results again after {resumed:?}, of which down-after is {} ms",
        survived - frames.len(),
        crate::support::DOWN_AFTER_MS,
    );
    assert!(engine.view.metrics.get(Counter::Reconnects) > 0);
    engine.stop();
    Outcome { lost, on_one_server }
}

#[test]
fn an_ordered_failover_under_load_neither_loses_nor_doubles_what_survives() {
    survives(&mut Sentinels::start(), &[], 200, |deployment| deployment.fail_over(), |_| {});
}

#[test]
fn a_killed_primary_under_load_is_replaced_and_nothing_that_survives_is_lost_or_doubled() {
    survives(&mut Sentinels::start(), &[], 200, |deployment| deployment.servers[0].kill(), |_| {});
}

#[test]
fn a_primary_that_falls_silent_is_left_as_soon_as_the_sentinels_name_another() {
    // No client gives up by timeout within this test: each must be told of the new primary.
    let flags = [("redis_queue.timeout", "600"), ("redis_queue.block_time_ms", "1000")];
    let silence = |deployment: &mut Sentinels| deployment.servers[0].silence();
    // The old primary executes what it was sent long ago, and then learns that it is a replica.
    let wake = |deployment: &mut Sentinels| {
        deployment.servers[0].wake();
        wait_until("the old primary is a replica in step", || {
            let told = deployment.servers[0].try_ask::<String>(&["INFO", "replication"]);
            told.is_ok_and(|it| it.contains("role:slave") && it.contains("master_link_status:up"))
        });
    };
    survives(&mut Sentinels::start(), &flags, 200, silence, wake);
}

#[test]
fn a_failover_of_servers_and_sentinels_that_all_encrypt_costs_no_more() {
    if !Server::knows_tls() {
        return;
    }
    let mut deployment = Sentinels::encrypted();
    let ca = deployment.ca();
    let kill = |deployment: &mut Sentinels| deployment.servers[0].kill();
    survives(&mut deployment, &[("redis_queue.tls.ca", &ca)], 200, kill, |_| {});
    // The encrypted ports do not answer plain connections.
    let fault = start_fault(&deployment.url(&[]), &[]).to_string();
    assert!(fault.contains("rediss://"), "{fault}");
}

#[test]
fn frames_that_every_replica_has_confirmed_are_not_lost_by_a_killed_primary() {
    let mut deployment = Sentinels::start();
    let flags = [("redis_queue.wait_replicas", "2")];
    // Few frames afterwards: one replica is dead, so each frame waits for it until a timeout.
    let kill = |deployment: &mut Sentinels| deployment.servers[0].kill();
    let Outcome { lost, on_one_server } = survives(&mut deployment, &flags, 5, kill, |_| {});
    assert!(lost <= on_one_server, "{lost} lost, {on_one_server} were on one server only");
}

#[test]
fn replicas_that_are_missing_are_counted_and_hold_nothing_up() {
    let mut deployment = Sentinels::start();
    deployment.servers[1].kill();
    deployment.servers[2].kill();
    let config = config(&deployment.url(&[]), &[("redis_queue.wait_replicas", "1")]);
    let engine = RunningEngine::start(&config);
    let load = Load::start(&config);
    load.wait_for_more(2);
    load.stop();
    wait_until("every entry done", || is_done(&mut deployment.primary(), INPUT));
    assert!(engine.view.metrics.get(Counter::ReplicaAcksMissing) > 0);
    engine.stop();
}

#[test]
fn sentinels_that_are_silent_or_gone_are_passed_over() {
    let deployment = Sentinels::start();
    let silent = black_hole();
    let gone = crate::support::free_port();
    let url = deployment.url(&[silent.local_addr().unwrap().port(), gone]);
    let engine = RunningEngine::start(&config(&url, &[]));
    let load = Load::start(&config(&url, &[]));
    load.wait_for_more(20);
    let sent = load.stop();
    wait_until("every entry done", || is_done(&mut deployment.primary(), INPUT));
    assert_eq!(engine.stop().out as usize, sent);
}

#[test]
fn sentinels_may_stand_beside_the_url_and_have_a_password_of_their_own() {
    let deployment = Sentinels::with_password(Some("0pen"));
    let nodes: Vec<String> = deployment
        .sentinels
        .iter()
        .map(|it| format!("{{\"host\": \"127.0.0.1\", \"port\": {}}}", it.port))
        .collect();
    let nodes = format!("[{}]", nodes.join(","));
    let flags = [
        ("redis_queue.sentinel_nodes", nodes.as_str()),
        ("redis_queue.sentinel_service_name", SERVICE),
        ("redis_queue.sentinel_password", "0pen"),
    ];
    let url = "redis://127.0.0.1:1/0";
    RunningEngine::start(&config(url, &flags)).stop();

    let fault = start_fault(url, &flags[..2]).to_string();
    assert!(fault.contains("NOAUTH"), "{fault}");
    let wrong = [flags[0], flags[1], ("redis_queue.sentinel_password", "wr0ng")];
    let fault = start_fault(url, &wrong).to_string();
    assert!(fault.contains("WRONGPASS") && !fault.contains("wr0ng"), "{fault}");
}

#[test]
fn a_name_that_no_sentinel_knows_is_said_so() {
    let deployment = Sentinels::start();
    let url = deployment.url(&[]).replace(SERVICE, "garage");
    let fault = start_fault(&url, &[]).to_string();
    assert!(fault.contains("garage") && fault.contains("sentinel_service_name"), "{fault}");
}

#[test]
fn a_replica_is_not_taken_for_the_primary() {
    // A fake Sentinel that names the wrong server.
    let deployment = Sentinels::start();
    let replica = deployment.servers[1].port;
    let liar = Sentinels::lying(replica);
    let url = format!("redis-sentinel://127.0.0.1:{}/{SERVICE}", liar.local_addr().unwrap().port());
    let fault = start_fault(&url, &[]).to_string();
    assert!(fault.contains("READONLY") && fault.contains("not the primary"), "{fault}");
}
