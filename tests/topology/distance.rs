//! A Cluster far away: every node is announced by the port of a network in front of it.

use std::time::Duration;

use framepress::metrics::{Counter, WindowStage};
use framepress_proxy::{Link, Proxy};

use crate::support::{
    Cluster, Load, RunningEngine, assert_every_entry_once, config, is_done, wait_until,
};

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// A network in front of each node; the nodes tell clients its port.
fn move_away(cluster: &Cluster) -> Vec<Proxy> {
    let proxies: Vec<Proxy> = cluster
        .nodes
        .iter()
        .map(|node| {
            let link = Link::with_round_trip(ROUND_TRIP);
            let proxy = Proxy::before_port(node.deployed_port(), link).unwrap();
            let port = proxy.port().to_string();
            let _: () = node.ask(&["CONFIG", "SET", "cluster-announce-port", &port]);
            proxy
        })
        .collect();
    let knows_all = |told: &str| {
        proxies.iter().all(|proxy| told.contains(&format!("127.0.0.1:{}@", proxy.port())))
    };
    wait_until("every node knows where the others are", || {
        cluster.nodes.iter().all(|node| knows_all(&node.ask::<String>(&["CLUSTER", "NODES"])))
    });
    proxies
}

#[test]
fn each_node_of_a_cluster_far_away_has_a_window_and_a_cut_costs_nothing() {
    let cluster = Cluster::start();
    let input = |shard: usize| format!("camera_frames:{{{shard}}}");
    let output = |shard: usize| format!("processed_frames:{{{shard}}}");
    let owners = [0, 1, 2].map(|shard| cluster.owner(&input(shard)).unwrap());
    let proxies = move_away(&cluster);
    let url = format!("redis-cluster://127.0.0.1:{}", proxies[0].port());
    let config = config(&url, &[("redis_queue.shards", "3")]);
    let engine = RunningEngine::start(&config);
    let load = Load::start(&config);
    load.wait_for_more(60);
    let requests = || engine.view.metrics.windows.read(WindowStage::Read).0;
    wait_until("requests wait at every node", || requests() > 30);
    proxies.iter().for_each(Proxy::cut);
    load.wait_for_more(60);
    load.stop();
    let mut seen = 0;
    for (shard, owner) in owners.into_iter().enumerate() {
        let mut node = cluster.nodes[owner].connect();
        wait_until("every entry done", || is_done(&mut node, &input(shard)));
        let mut other = cluster.nodes[owner].connect();
        seen += assert_every_entry_once((&mut node, &input(shard)), (&mut other, &output(shard)));
    }
    assert!(seen >= 120, "{seen}");
    assert!(engine.view.metrics.get(Counter::Reconnects) > 0);
    engine.stop();
}
