//! The servers of an episode, and a finder for the one that has the streams.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use framepress::internals::redis::slot_of;

use super::clock::Clock;
use super::draw::{Setup, Topology};
use super::names::{OTHER_PASSWORD, PASSWORD, Streams, USER};
use super::node::{Link, Node, until};
use crate::Outcome;

/// The Sentinels' name of the primary.
pub const SERVICE: &str = "cabinet";
/// Silence after which the Sentinels count a primary as down, in milliseconds.
const DOWN_AFTER_MS: u64 = 500;
/// How often the finder asks for the primary: a replaced one accepts writes until it is demoted.
const LOOK: Duration = Duration::from_millis(250);
/// Time limit of one command of the producer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The servers; dropping the value ends them.
pub struct World {
    pub topology: Topology,
    pub nodes: Vec<Node>,
    pub sentinels: Vec<Node>,
    pub streams: Streams,
    /// Folder of the frame rings.
    pub rings: PathBuf,
}

impl World {
    pub fn start(setup: &Setup, folder: &Path) -> Outcome<World> {
        let streams = Streams::new(setup.topology == Topology::Cluster);
        let mut world = World {
            topology: setup.topology,
            nodes: Vec::new(),
            sentinels: Vec::new(),
            streams,
            rings: folder.join("rings"),
        };
        match setup.topology {
            Topology::Single => {
                let clock = if setup.clocks { Some(Clock::new(folder, "server")?) } else { None };
                let lines = format!(
                    "appendonly yes\nappendfsync always\n\
                     user {USER} on >{PASSWORD} >{OTHER_PASSWORD} ~* &* +@all\n"
                );
                world.nodes.push(Node::server(&lines, clock)?);
            }
            Topology::Sentinel => world.start_sentinels()?,
            Topology::Cluster => world.start_cluster()?,
        }
        Ok(world)
    }

    fn start_sentinels(&mut self) -> Outcome<()> {
        let primary = Node::server("", None)?;
        let port = primary.port;
        self.nodes.push(primary);
        for _ in 0..2 {
            self.nodes.push(Node::server(&format!("replicaof 127.0.0.1 {port}\n"), None)?);
        }
        let nodes = &self.nodes;
        until("the replicas are in step", || nodes[1..].iter().all(is_in_step))?;
        let lines = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {SERVICE} 5000\n"
        );
        for _ in 0..3 {
            self.sentinels.push(Node::sentinel(&lines)?);
        }
        self.wait_for_sentinels()
    }

    /// Waits until all Sentinels know each other and two live replicas.
    fn wait_for_sentinels(&self) -> Outcome<()> {
        let knows_all = |sentinel: &Node| {
            type Told = std::collections::HashMap<String, String>;
            let told: Told =
                sentinel.link().run(&["SENTINEL", "MASTER", SERVICE]).unwrap_or_default();
            let says = |key: &str| told.get(key).is_some_and(|count| count == "2");
            says("num-other-sentinels") && says("num-slaves")
        };
        until("the Sentinels know all", || self.sentinels.iter().all(knows_all))
    }

    /// Waits until every server except the primary is a replica in sync with it.
    pub fn wait_for_replicas(&self) -> Outcome<()> {
        until("all but one server are replicas in step", || {
            let running = self.nodes.iter().filter(|node| node.is_running()).count();
            self.nodes.iter().filter(|node| is_in_step(node)).count() + 1 == running
        })
    }

    fn start_cluster(&mut self) -> Outcome<()> {
        for _ in 0..3 {
            let lines = "cluster-enabled yes\ncluster-node-timeout 3000\n";
            self.nodes.push(Node::server(lines, None)?);
        }
        let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
        let first = self.nodes[0].port.to_string();
        for (node, (from, to)) in self.nodes.iter().zip(slots) {
            let mut link = node.link();
            link.insist::<String>(&["CLUSTER", "ADDSLOTSRANGE", from, to])?;
            if node.port != self.nodes[0].port {
                link.insist::<String>(&["CLUSTER", "MEET", "127.0.0.1", &first])?;
            }
        }
        // Each node needs its own config epoch before slots may move.
        let in_order = |node: &Node| {
            let told: String = node.link().run(&["CLUSTER", "INFO"]).unwrap_or_default();
            told.contains("cluster_state:ok")
                && told.contains("cluster_slots_ok:16384")
                && told.contains("cluster_known_nodes:3")
        };
        let nodes = &self.nodes;
        until("the Cluster is in order", || nodes.iter().all(in_order))
    }

    /// The URL for an engine, with the port of its proxy.
    pub fn url(&self, proxy: u16) -> String {
        let list = |nodes: &[Node]| {
            let nodes: Vec<String> =
                nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
            nodes.join(",")
        };
        match self.topology {
            Topology::Single => format!("redis://{USER}:{PASSWORD}@127.0.0.1:{proxy}/0"),
            Topology::Sentinel => format!("redis-sentinel://{}/{SERVICE}", list(&self.sentinels)),
            Topology::Cluster => format!("redis-cluster://{}", list(&self.nodes)),
        }
    }

    /// A new finder of the streams.
    pub fn finder(&self) -> Finder {
        let asked = match self.topology {
            Topology::Sentinel => &self.sentinels,
            Topology::Single | Topology::Cluster => &self.nodes,
        };
        Finder {
            topology: self.topology,
            ports: asked.iter().map(|node| node.port).collect(),
            slot: i64::from(slot_of(&self.streams.input)),
            link: None,
            looked: Instant::now(),
        }
    }

    /// Index of the server that has the streams at present.
    pub fn holder(&self) -> Outcome<usize> {
        let port = self.finder().find()?;
        let at = self.nodes.iter().position(|node| node.port == port);
        Ok(at.ok_or("the streams are on a server that is not known")?)
    }
}

/// Whether it is a replica in sync with its primary.
pub fn is_in_step(node: &Node) -> bool {
    let told: String = node.link().run(&["INFO", "replication"]).unwrap_or_default();
    told.contains("role:slave") && told.contains("master_link_status:up")
}

/// Finds the server that has the streams, and keeps a connection to it.
pub struct Finder {
    topology: Topology,
    /// Servers or Sentinels to ask.
    ports: Vec<u16>,
    slot: i64,
    link: Option<Link>,
    looked: Instant,
}

impl Finder {
    /// The connection.
    pub fn primary(&mut self) -> Outcome<&mut Link> {
        let mut known = self.link.take();
        if self.topology == Topology::Sentinel && self.looked.elapsed() > LOOK {
            self.looked = Instant::now();
            let port = self.find()?;
            known = known.filter(|link| link.port() == port);
        }
        let link = match known {
            Some(link) => link,
            None => Link::with_patience(self.find()?, PATIENCE),
        };
        Ok(self.link.insert(link))
    }

    /// Drops a failed connection, so that the next call searches again.
    pub fn lost(&mut self) {
        // A single server does not move.
        if self.topology != Topology::Single {
            self.link = None;
        }
    }

    fn find(&self) -> Outcome<u16> {
        let found = match self.topology {
            Topology::Single => self.ports.first().copied(),
            Topology::Sentinel => self.ports.iter().find_map(|&port| {
                let asked = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE];
                let (_, port): (String, u16) =
                    Link::with_patience(port, PATIENCE).run(&asked).ok()?;
                Some(port)
            }),
            Topology::Cluster => self.ports.iter().find_map(|&port| self.owner(port)),
        };
        found.ok_or_else(|| "no server has the streams".into())
    }

    /// The node that owns the slot, according to the node at `port`.
    fn owner(&self, port: u16) -> Option<u16> {
        let mut link = Link::with_patience(port, PATIENCE);
        let ranges: Vec<Vec<redis::Value>> = link.run(&["CLUSTER", "SLOTS"]).ok()?;
        let range = ranges.iter().find(|range| {
            matches!(range[..], [redis::Value::Int(first), redis::Value::Int(last), ..]
                if (first..=last).contains(&self.slot))
        })?;
        let Some(redis::Value::Array(primary)) = range.get(2) else { return None };
        let Some(redis::Value::Int(port)) = primary.get(1) else { return None };
        u16::try_from(*port).ok()
    }
}
