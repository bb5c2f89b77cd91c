//! A Cluster and Sentinels far away: every server announces the port of a proxy in front of it.

use std::time::Duration;

use framepress::internals::metrics::{Counter, WindowStage};
use framepress_proxy::{Link, Proxy};

use crate::support::{
    Cluster, INPUT, Load, OUTPUT, RunningEngine, SERVICE, Sentinels, Server,
    assert_every_entry_once, config, is_done, wait_until,
};

const ROUND_TRIP: Duration = Duration::from_millis(100);

/// Puts a proxy in front of each node; the nodes announce its port to clients.
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

/// Round trip to Sentinels and their servers.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(300);

fn networks(servers: &[Server]) -> Vec<Proxy> {
    let link = Link::with_round_trip(LONG_ROUND_TRIP);
    servers.iter().map(|it| Proxy::before_port(it.deployed_port(), link).unwrap()).collect()
}

/// The Sentinels watch the servers through proxies, and announce the ports of those.
fn move_servers_away(deployment: &Sentinels) -> Vec<Proxy> {
    let proxies = networks(&deployment.servers);
    let ports: Vec<String> = proxies.iter().map(|proxy| proxy.port().to_string()).collect();
    for (server, port) in deployment.servers.iter().zip(&ports) {
        let _: () = server.ask(&["CONFIG", "SET", "replica-announce-ip", "127.0.0.1"]);
        let _: () = server.ask(&["CONFIG", "SET", "replica-announce-port", port]);
    }
    for replica in &deployment.servers[1..] {
        let _: () = replica.ask(&["REPLICAOF", "NO", "ONE"]);
        let _: () = replica.ask(&["REPLICAOF", "127.0.0.1", &ports[0]]);
    }
    for sentinel in &deployment.sentinels {
        let _: () = sentinel.ask(&["SENTINEL", "REMOVE", SERVICE]);
        let _: () = sentinel.ask(&["SENTINEL", "MONITOR", SERVICE, "127.0.0.1", &ports[0], "2"]);
        for (name, value) in [("down-after-milliseconds", "3000"), ("failover-timeout", "10000")] {
            let _: () = sentinel.ask(&["SENTINEL", "SET", SERVICE, name, value]);
        }
    }
    wait_until("the Sentinels know all", || {
        deployment.sentinels.iter().all(|sentinel| {
            let told: std::collections::HashMap<String, String> =
                sentinel.ask(&["SENTINEL", "MASTER", SERVICE]);
            told["num-other-sentinels"] == "2" && told["num-slaves"] == "2"
        })
    });
    proxies
}

#[test]
fn a_failover_far_away_is_followed_and_nothing_that_survives_is_lost_or_doubled() {
    let deployment = Sentinels::start();
    let servers = move_servers_away(&deployment);
    let sentinels = networks(&deployment.sentinels);
    let nodes: Vec<_> = sentinels.iter().map(|it| format!("127.0.0.1:{}", it.port())).collect();
    let url = format!("redis-sentinel://{}/{SERVICE}", nodes.join(","));
    let config = config(&url, &[]);
    let engine = RunningEngine::start(&config);
    // Each frame waits for its confirmation.
    let load = Load::start(&config);
    load.wait_for_more(20);
    let before = deployment.primary_port();
    let at = |port| servers.iter().position(|proxy| proxy.port() == port).unwrap();
    deployment.fail_over();
    wait_until("another primary", || deployment.primary_port() != before);
    load.wait_for_more(40);
    load.stop();
    let primary = &deployment.servers[at(deployment.primary_port())];
    let (mut input, mut output) = (primary.connect(), primary.connect());
    wait_until("every entry done", || is_done(&mut input, INPUT));
    let survived = assert_every_entry_once((&mut input, INPUT), (&mut output, OUTPUT));
    assert!(survived >= 40, "{survived}");
    assert!(engine.view.metrics.get(Counter::Reconnects) > 0);
    engine.stop();
}
