//! Three primaries with a replica each, created by `redis-cli --cluster create`.

use std::process::Command;

use framepress::internals::redis::slot_of;
use redis::Connection;

use super::{Certificates, Server, wait_until};

/// The whole deployment.
pub struct Cluster {
    pub nodes: Vec<Server>,
    /// A silenced node, which must not be asked, as it does not answer.
    silent: Option<usize>,
    certificates: Option<Certificates>,
}

impl Cluster {
    pub fn start() -> Cluster {
        Cluster::with_node_timeout("2000")
    }

    /// A Cluster whose nodes count as failed after this many milliseconds.
    pub fn with_node_timeout(node_timeout_ms: &str) -> Cluster {
        Cluster::of(None, node_timeout_ms)
    }

    /// A Cluster with TLS for clients and between nodes.
    pub fn encrypted() -> Cluster {
        Cluster::of(Some(Certificates::of_this_machine()), "2000")
    }

    fn of(certificates: Option<Certificates>, node_timeout_ms: &str) -> Cluster {
        let options = [
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            node_timeout_ms,
            "--repl-diskless-sync-delay",
            "0",
        ];
        let encrypting = ["--tls-cluster", "yes", "--tls-replication", "yes"];
        let node = |_| match &certificates {
            None => Server::start(&options),
            Some(theirs) => Server::encrypted(theirs, &[&options[..], &encrypting].concat()),
        };
        let nodes: Vec<Server> = (0..6).map(node).collect();
        let mut command = Command::new("redis-cli");
        if let Some(certificates) = &certificates {
            command.args(["--tls", "--cacert", &certificates.ca()]);
        }
        command.args(["--cluster", "create"]);
        command.args(nodes.iter().map(|node| format!("127.0.0.1:{}", node.deployed_port())));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let made = command.output().expect("redis-cli comes with redis-server");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let cluster = Cluster { nodes, silent: None, certificates };
        let in_order = |node: &Server| {
            let told: String = node.ask(&["CLUSTER", "INFO"]);
            told.contains("cluster_state:ok") && told.contains("cluster_slots_ok:16384")
        };
        wait_until("the Cluster is in order", || cluster.nodes.iter().all(in_order));
        let with_replica = |node: &&Server| {
            let told: String = node.ask(&["INFO", "replication"]);
            told.contains("role:master") && told.contains("state=online")
        };
        wait_until("every primary has a replica", || {
            cluster.nodes.iter().filter(with_replica).count() == 3
        });
        cluster
    }

    /// `redis-cluster://` with two of the nodes.
    pub fn url(&self) -> String {
        let ports = (self.nodes[0].deployed_port(), self.nodes[5].deployed_port());
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", ports.0, ports.1)
    }

    /// Index of the node that owns the slot of a key; asks a live node.
    pub fn owner(&self, key: &str) -> Option<usize> {
        let slot = i64::from(slot_of(key));
        let awake = self.nodes.iter().enumerate().filter(|(at, _)| Some(*at) != self.silent);
        let ranges = awake.map(|(_, node)| node).find_map(|node| {
            let mut connection = node.try_connect().ok()?;
            let mut command = redis::cmd("CLUSTER");
            command.arg("SLOTS").query::<Vec<Vec<redis::Value>>>(&mut connection).ok()
        })?;
        let range = ranges.iter().find(|range| {
            matches!(range[..], [redis::Value::Int(first), redis::Value::Int(last), ..]
                if (first..=last).contains(&slot))
        })?;
        let redis::Value::Array(primary) = &range[2] else { return None };
        let redis::Value::Int(port) = primary[1] else { return None };
        self.nodes.iter().position(|node| i64::from(node.port) == port)
    }

    /// The file of the CA certificate of an encrypted Cluster.
    pub fn ca(&self) -> String {
        self.certificates.as_ref().expect("its nodes encrypt").ca()
    }

    /// Silences a node.
    pub fn silence(&mut self, node: usize) {
        self.nodes[node].silence();
        self.silent = Some(node);
    }

    /// Resumes the silenced node.
    pub fn wake(&mut self) {
        if let Some(node) = self.silent.take() {
            self.nodes[node].wake();
        }
    }

    /// A connection to the node that has a key.
    #[track_caller]
    pub fn connect(&self, key: &str) -> Connection {
        self.nodes[self.owner(key).expect("every slot has an owner")].connect()
    }

    /// Like [`super::is_done`], on whichever node has the stream.
    pub fn is_done(&self, input: &str) -> bool {
        let owner = self.owner(input).and_then(|owner| self.nodes[owner].try_connect().ok());
        owner.is_some_and(|mut connection| super::is_done(&mut connection, input))
    }

    /// Moves the slot of `key`, with all keys in it, to node `to`, while clients keep working.
    /// Calls `between` when the target has begun to import the slot and no key has moved yet, and
    /// `arrived` when all keys have moved and the slot still has its old owner.
    pub fn migrate(
        &self,
        key: &str,
        to: usize,
        between: impl FnOnce(),
        arrived: impl FnOnce(&mut Connection),
    ) {
        let from = self.owner(key).unwrap();
        let slot = slot_of(key).to_string();
        let id = |node: usize| self.nodes[node].ask::<String>(&["CLUSTER", "MYID"]);
        let (from_id, to_id) = (id(from), id(to));
        let set = |node: usize, words: &[&str]| {
            let mut all = vec!["CLUSTER", "SETSLOT", &slot];
            all.extend(words);
            let _: () = self.nodes[node].ask(&all);
        };
        set(to, &["IMPORTING", &from_id]);
        set(from, &["MIGRATING", &to_id]);
        between();
        let port = self.nodes[to].deployed_port().to_string();
        loop {
            let keys: Vec<String> =
                self.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]);
            let Some(key) = keys.first() else { break };
            let _: String =
                self.nodes[from].ask(&["MIGRATE", "127.0.0.1", &port, key, "0", "20000"]);
        }
        arrived(&mut self.nodes[to].connect());
        set(to, &["NODE", &to_id]);
        set(from, &["NODE", &to_id]);
        for node in 0..self.nodes.len() {
            if self.nodes[node].ask::<String>(&["INFO", "replication"]).contains("role:master") {
                set(node, &["NODE", &to_id]);
            }
        }
    }
}
