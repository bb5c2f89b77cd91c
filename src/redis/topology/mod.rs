//! Finds the server that has a key: a single server, the primary named by Sentinels, or a node of a
//! Cluster.
//!
//! Answers are kept until a caller reports that one was wrong. A caller that meets a fault reports
//! it with [`Topology::learn`] and asks again before the next attempt; this module does not retry.

mod cluster;
pub(in crate::redis) mod open;
pub(in crate::redis) mod route;
mod sentinel;
mod slot;
mod streams;

pub use route::Route;
pub use sentinel::Lookout;
pub use slot::{SLOTS, slot_of, tag_of};
pub use streams::{Streams, dead_letters_of, status_key};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Fault, Stop, limits};
use crate::redis::protocol::{Address, FaultPoint};
use cluster::Cluster;
use sentinel::Sentinels;

/// The Redis servers; cheap to clone, and all clones share what they learn. `Display` and `Debug`
/// show no credentials.
#[derive(Clone)]
pub struct Topology {
    kind: Arc<TopologyKind>,
    fault_point: FaultPoint,
}

enum TopologyKind {
    Single(Address),
    Sentinel(Sentinels),
    Cluster(Cluster),
}

impl Topology {
    fn of(kind: TopologyKind) -> Topology {
        Topology { kind: Arc::new(kind), fault_point: FaultPoint::default() }
    }

    /// The primary called `service`, found through `sentinels`. `like` is any server with the
    /// credentials and TLS settings of the primary; the Sentinels have their own. `timeout` bounds
    /// the wait for each Sentinel.
    pub fn sentinel(
        service: impl Into<String>,
        sentinels: Vec<Address>,
        like: Address,
        timeout: Duration,
        stop: &Stop,
    ) -> Topology {
        Topology::of(TopologyKind::Sentinel(Sentinels::new(
            service.into(),
            sentinels,
            like,
            timeout,
            stop,
        )))
    }

    /// The Cluster that `seeds` belong to. `timeout` bounds the wait for each node that is asked
    /// for the slots.
    pub fn cluster(seeds: Vec<Address>, timeout: Duration, stop: &Stop) -> Topology {
        Topology::of(TopologyKind::Cluster(Cluster::new(seeds, timeout, stop)))
    }

    /// The same servers, reached through a fault-injection point on the data plane.
    #[must_use]
    pub fn through(self, fault_point: FaultPoint) -> Topology {
        Topology { fault_point, ..self }
    }

    /// The Sentinels, if there are any.
    fn sentinels(&self) -> Option<&Sentinels> {
        match &*self.kind {
            TopologyKind::Sentinel(sentinels) => Some(sentinels),
            TopologyKind::Single(_) | TopologyKind::Cluster(_) => None,
        }
    }

    /// Whether keys may lie on different servers.
    pub fn is_cluster(&self) -> bool {
        matches!(&*self.kind, TopologyKind::Cluster(_))
    }

    /// Maximum pause between attempts to reach a server. Shorter if there may be a failover, so
    /// that the new primary is found soon.
    pub fn pause_longest(&self) -> Duration {
        match &*self.kind {
            TopologyKind::Single(_) => limits::BACKOFF_LONGEST,
            TopologyKind::Sentinel(_) | TopologyKind::Cluster(_) => {
                limits::BACKOFF_LONGEST_FAILOVER
            }
        }
    }

    /// The server that takes writes to `key`.
    ///
    /// # Errors
    /// [`Fault::Connection`] if no Sentinel or node answers in time; [`Fault::Unusable`] if no
    /// answer names such a primary.
    pub fn primary_for(&self, key: &str) -> Result<Address, Fault> {
        let address = match &*self.kind {
            TopologyKind::Single(address) => address.clone(),
            TopologyKind::Sentinel(sentinels) => sentinels.primary()?,
            TopologyKind::Cluster(cluster) => cluster.primary_for(key)?,
        };
        Ok(address.through(self.fault_point.clone()))
    }

    /// Records a fault from the server `at`. Returns the server for the next attempt if the fault
    /// is a redirection by ASK.
    pub fn learn(&self, at: &Address, fault: &Fault) -> Option<Address> {
        match fault {
            Fault::Connection { .. } => {
                self.lost(at);
                None
            }
            Fault::Refused { message, .. } => self.refused(at, message),
            _ => None,
        }
    }

    /// Records a lost connection.
    fn lost(&self, at: &Address) {
        match &*self.kind {
            TopologyKind::Single(_) => {}
            TopologyKind::Sentinel(sentinels) => sentinels.forget(at, false),
            TopologyKind::Cluster(cluster) => cluster.forget(at),
        }
    }

    /// Records a refusal; see [`Topology::learn`].
    pub(in crate::redis) fn refused(&self, at: &Address, message: &str) -> Option<Address> {
        let code = crate::base::error_code(message);
        match (&*self.kind, code) {
            (TopologyKind::Single(_), _) => None,
            (TopologyKind::Sentinel(sentinels), _) if is_no_primary(code) => {
                sentinels.forget(at, code == "READONLY");
                None
            }
            (TopologyKind::Cluster(cluster), "MOVED" | "ASK") => {
                cluster.redirected(at, message).map(|asked| asked.through(self.fault_point.clone()))
            }
            (TopologyKind::Cluster(cluster), _) if is_no_primary(code) => {
                cluster.forget(at);
                None
            }
            _ => None,
        }
    }
}

/// Whether a refusal says that this server takes no writes at present.
pub(super) fn is_no_primary(code: &str) -> bool {
    matches!(code, "READONLY" | "MASTERDOWN" | "LOADING" | "UNBLOCKED" | "CLUSTERDOWN")
}

impl From<Address> for Topology {
    fn from(address: Address) -> Topology {
        let fault_point = address.fault_point().clone();
        Topology { fault_point, ..Topology::of(TopologyKind::Single(address)) }
    }
}

impl From<&Address> for Topology {
    fn from(address: &Address) -> Topology {
        Topology::from(address.clone())
    }
}

impl From<&Topology> for Topology {
    fn from(topology: &Topology) -> Topology {
        topology.clone()
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            TopologyKind::Single(address) => address.fmt(f),
            TopologyKind::Sentinel(sentinels) => sentinels.fmt(f),
            TopologyKind::Cluster(cluster) => cluster.fmt(f),
        }
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topology({self})")
    }
}
