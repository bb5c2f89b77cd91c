//! Finding the node of a Cluster that has a slot.
//!
//! Specification: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>.
//! The whole map is read at the first question and again after a lost connection; MOVED corrects
//! one slot. ASK corrects nothing: it sends one attempt elsewhere while a slot is on its way.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{FromRedisValue, Value, cmd};

use super::Address;
use super::connection::Connection;
use super::slot::{SLOTS, slot_of};
use crate::base::{Fault, Stop, error_code};

/// Longest time one node is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// No node of the map.
const NOBODY: u16 = u16::MAX;

pub(super) struct Cluster {
    seeds: Vec<Address>,
    timeout: Duration,
    stop: Stop,
    map: Mutex<Map>,
}

struct Map {
    /// The primaries; only the last question's, so there are never more than a Cluster has, and
    /// one for each slot that has moved since.
    nodes: Vec<Address>,
    /// By slot, the place of its owner in `nodes`.
    owners: Box<[u16]>,
    is_stale: bool,
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Address>, timeout: Duration, stop: &Stop) -> Cluster {
        let owners = vec![NOBODY; usize::from(SLOTS)].into_boxed_slice();
        let map = Mutex::new(Map { nodes: Vec::new(), owners, is_stale: true });
        Cluster { seeds, timeout: timeout.min(ANSWER_LIMIT), stop: stop.clone(), map }
    }

    pub(super) fn primary_for(&self, key: &str) -> Result<Address, Fault> {
        let slot = slot_of(key);
        let mut map = self.map.lock();
        if map.is_stale {
            self.refresh(&mut map)?;
        }
        let owner = usize::from(map.owners[usize::from(slot)]);
        match map.nodes.get(owner) {
            Some(node) => Ok(node.clone()),
            None => {
                map.is_stale = true;
                let detail = format!("no node has slot {slot} (key {key}); see CLUSTER INFO");
                Err(Fault::connection(self, detail))
            }
        }
    }

    /// The map may be wrong: it is read again before the next answer.
    pub(super) fn forget(&self) {
        self.map.lock().is_stale = true;
    }

    /// `MOVED slot host:port` or `ASK slot host:port`, said by the node `at`.
    pub(super) fn redirected(&self, at: &Address, message: &str) -> Option<Address> {
        let mut words = message.split_ascii_whitespace().skip_while(|word| {
            // Before Redis 7 an error inside a script comes wrapped.
            !matches!(word.trim_start_matches('-'), "MOVED" | "ASK")
        });
        words.next()?;
        let slot: u16 = words.next()?.parse().ok().filter(|slot| *slot < SLOTS)?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        // No host: the same as that of the node that says so.
        let host = if host.is_empty() { at.host()? } else { host };
        let node = self.seeds.first()?.elsewhere(host, port.parse().ok()?);
        if error_code(message) == "ASK" {
            return Some(node.asking());
        }
        let mut map = self.map.lock();
        let place = map.nodes.iter().position(|known| known.is_at(&node)).unwrap_or_else(|| {
            map.nodes.push(node);
            map.nodes.len() - 1
        });
        map.owners[usize::from(slot)] = u16::try_from(place).unwrap_or(NOBODY);
        None
    }

    /// Reads the map from the first node that answers, of those known and then of the seeds.
    fn refresh(&self, map: &mut Map) -> Result<(), Fault> {
        let mut first_fault = None;
        let known = map.nodes.clone();
        for node in known.iter().chain(&self.seeds) {
            match self.ask(node) {
                Ok((nodes, owners)) => {
                    (map.nodes, map.owners, map.is_stale) = (nodes, owners, false);
                    return Ok(());
                }
                Err(fault) => {
                    // Those that do not answer are asked last the next time.
                    if let Some(at) = map.nodes.iter().position(|other| other.is_at(node)) {
                        map.nodes[at..].rotate_left(1);
                        map.owners.fill(NOBODY);
                    }
                    first_fault.get_or_insert(fault);
                }
            }
            if self.stop.is_now() {
                break;
            }
        }
        Err(first_fault.unwrap_or_else(|| Fault::connection(self, "no node to ask")))
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
        let mut owners = vec![NOBODY; usize::from(SLOTS)].into_boxed_slice();
        for range in &ranges {
            let Some((first, last, primary)) = owner_of(range, node) else { continue };
            let place = nodes.iter().position(|known| known.is_at(&primary)).unwrap_or_else(|| {
                nodes.push(primary);
                nodes.len() - 1
            });
            if let Some(slots) = owners.get_mut(usize::from(first)..=usize::from(last)) {
                slots.fill(u16::try_from(place).unwrap_or(NOBODY));
            }
        }
        Ok((nodes, owners))
    }
}

/// First and last slot of a range, and its primary: the first server named after them.
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
