//! Finds the Cluster node that owns a slot.
//!
//! Specification: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.
//! The whole slot map is read at the first question, and again for slots of a node marked as
//! suspect. MOVED corrects one slot. ASK corrects nothing: while a slot is migrating, it redirects
//! one attempt. A question about a healthy node's slot neither reads the map nor waits for a
//! reader, so a silent node delays only its own slots.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{FromRedisValue, Value, cmd};

use super::slot::{SLOTS, slot_of};
use crate::base::{Fault, Stop, error_code};
use crate::redis::protocol::Address;
use crate::redis::protocol::connection::Connection;

/// Longest wait for one node.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Owner index of a slot without an owner.
const NO_OWNER: u16 = u16::MAX;

pub(super) struct Cluster {
    seeds: Vec<Address>,
    timeout: Duration,
    stop: Stop,
    map: Mutex<Map>,
    /// Held while the map is read from the network. A plain look-up does not take it.
    reading: Mutex<()>,
}

struct Map {
    /// The primaries of the last reading, plus at most one per slot that has moved since.
    nodes: Vec<Node>,
    /// For each slot, the index of its owner in `nodes`.
    owners: Box<[u16]>,
    /// How often the map has been read.
    edition: u64,
}

struct Node {
    address: Address,
    /// A connection to it failed since the map was read: it may have lost its slots.
    is_suspect: bool,
}

impl Node {
    fn sound(address: Address) -> Node {
        Node { address, is_suspect: false }
    }
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Node> {
        self.nodes.get(usize::from(self.owners[usize::from(slot)]))
    }
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Address>, timeout: Duration, stop: &Stop) -> Cluster {
        let owners = vec![NO_OWNER; usize::from(SLOTS)].into_boxed_slice();
        let map = Mutex::new(Map { nodes: Vec::new(), owners, edition: 0 });
        let (timeout, stop) = (timeout.min(ANSWER_LIMIT), stop.clone());
        Cluster { seeds, timeout, stop, map, reading: Mutex::new(()) }
    }

    pub(super) fn primary_for(&self, key: &str) -> Result<Address, Fault> {
        let slot = slot_of(key);
        let seen = {
            let map = self.map.lock();
            match map.owner(slot) {
                Some(node) if !node.is_suspect => return Ok(node.address.clone()),
                _ => map.edition,
            }
        };
        let guard = self.reading.lock();
        // If another thread read the map while this one waited for the lock, use that map.
        if self.map.lock().edition == seen {
            self.refresh()?;
        }
        drop(guard);
        let map = self.map.lock();
        map.owner(slot).map(|node| node.address.clone()).ok_or_else(|| {
            let detail = format!("no node has slot {slot} (key {key}); see CLUSTER INFO");
            Fault::connection(self, detail)
        })
    }

    /// Marks the node `at` as suspect: the map is read again before the next answer about one of
    /// its slots.
    pub(in crate::redis) fn forget(&self, at: &Address) {
        let mut map = self.map.lock();
        for node in map.nodes.iter_mut().filter(|node| node.address.is_at(at)) {
            node.is_suspect = true;
        }
    }

    /// Handles `MOVED slot host:port` or `ASK slot host:port` from the node `at`. Returns the
    /// address for one attempt after ASK; records the new owner after MOVED.
    pub(in crate::redis) fn redirected(&self, at: &Address, message: &str) -> Option<Address> {
        let mut words = message.split_ascii_whitespace().skip_while(|word| {
            // Before Redis 7 an error inside a script comes with text in front.
            !matches!(word.trim_start_matches('-'), "MOVED" | "ASK")
        });
        words.next()?;
        let slot: u16 = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        // An empty host means the host of the answering node.
        let host = if host.is_empty() { at.host()? } else { host };
        let node = self.seeds.first()?.elsewhere(host, port.parse().ok()?);
        if error_code(message) == "ASK" {
            return Some(node.asking());
        }
        let mut map = self.map.lock();
        let known = map.nodes.iter().position(|known| known.address.is_at(&node));
        let place = known.unwrap_or_else(|| {
            map.nodes.push(Node::sound(node));
            map.nodes.len() - 1
        });
        map.owners[usize::from(slot)] = u16::try_from(place).unwrap_or(NO_OWNER);
        None
    }

    /// Reads the map from the first node that answers: healthy known nodes first, then seeds, then
    /// suspects.
    fn refresh(&self) -> Result<(), Fault> {
        let (known, suspects): (Vec<_>, Vec<_>) = {
            let map = self.map.lock();
            let nodes = map.nodes.iter().map(|node| (node.is_suspect, node.address.clone()));
            nodes.partition(|(is_suspect, _)| !is_suspect)
        };
        let is_suspect = |at: &Address| suspects.iter().any(|(_, suspect)| suspect.is_at(at));
        let seeds = self.seeds.iter().filter(|seed| !is_suspect(seed));
        let known = known.iter().map(|(_, node)| node).chain(seeds);
        let mut first_fault = None;
        for node in known.chain(suspects.iter().map(|(_, node)| node)) {
            match self.ask(node) {
                Ok((nodes, owners)) => {
                    let mut map = self.map.lock();
                    map.nodes = nodes.into_iter().map(Node::sound).collect();
                    map.owners = owners;
                    map.edition += 1;
                    return Ok(());
                }
                Err(fault) => first_fault = first_fault.or(Some(fault)),
            }
            if self.stop.is_now() {
                break;
            }
        }
        Err(first_fault
            .unwrap_or_else(|| Fault::connection(self, "no node of the Cluster could be asked")))
    }

    fn ask(&self, node: &Address) -> Result<(Vec<Address>, Box<[u16]>), Fault> {
        let mut connection = Connection::connect(node, self.timeout, None, &self.stop)?;
        let answer = connection.query("CLUSTER SLOTS", cmd("CLUSTER").arg("SLOTS"));
        let answer = answer.map_err(|fault| match fault {
            Fault::Refused { message, .. } if message.contains("cluster support disabled") => {
                Fault::Unusable(format!(
                    "the server at {node} belongs to no Cluster; use redis:// instead of \
                     redis-cluster://"
                ))
            }
            other => other,
        })?;
        let ranges = Vec::<Vec<Value>>::from_redis_value(answer)
            .map_err(|error| Fault::connection(node, error))?;
        let mut nodes: Vec<Address> = Vec::new();
        let mut owners = vec![NO_OWNER; usize::from(SLOTS)].into_boxed_slice();
        for range in &ranges {
            let Some((first, last, primary)) = owner_of(range, node) else { continue };
            let place = nodes.iter().position(|known| known.is_at(&primary)).unwrap_or_else(|| {
                nodes.push(primary);
                nodes.len() - 1
            });
            if let Some(slots) = owners.get_mut(usize::from(first)..=usize::from(last)) {
                slots.fill(u16::try_from(place).unwrap_or(NO_OWNER));
            }
        }
        Ok((nodes, owners))
    }
}

/// First and last slot of a range, and its primary, which is the first server listed after them.
fn owner_of(range: &[Value], asked: &Address) -> Option<(u16, u16, Address)> {
    let [first, last, Value::Array(primary), ..] = range else { return None };
    let number = |value: &Value| u16::from_redis_value_ref(value).ok();
    let host = primary.first().and_then(|host| String::from_redis_value_ref(host).ok());
    let host = match host.filter(|host| !host.is_empty() && host != "?") {
        Some(host) => host,
        None => asked.host()?.to_owned(), // a node that does not know its own address
    };
    Some((number(first)?, number(last)?, asked.elsewhere(&host, number(primary.get(1)?)?)))
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds: Vec<String> = self.seeds.iter().map(Address::to_string).collect();
        write!(f, "the Cluster of {}", seeds.join(", "))
    }
}
