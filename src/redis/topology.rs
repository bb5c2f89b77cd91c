//! Which server has a key: one server, the primary that Sentinels name, or a node of a Cluster.
//!
//! Answers are kept until somebody reports that one was wrong. Whoever meets a fault says so with
//! [`Topology::learn`] and asks again before the next attempt; nothing here retries by itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::sentinel::Sentinels;
use super::{Address, Seam};
use crate::base::{Fault, Stop, limits};

/// Where Redis is; cheap to clone, and all clones share what they learn. `Display` and `Debug`
/// show no credentials.
#[derive(Clone)]
pub struct Topology {
    kind: Arc<Kind>,
    seam: Seam,
}

enum Kind {
    Single(Address),
    Sentinel(Sentinels),
    Cluster(Cluster),
}

impl Topology {
    fn of(kind: Kind) -> Topology {
        Topology { kind: Arc::new(kind), seam: Seam::default() }
    }

    /// The primary called `service`, as Sentinels know it. `like` is any server with the
    /// credentials and the encryption of the primary; `sentinels` have their own. Each Sentinel is
    /// given `timeout`.
    pub fn sentinel(
        service: impl Into<String>,
        sentinels: Vec<Address>,
        like: Address,
        timeout: Duration,
        stop: &Stop,
    ) -> Topology {
        Topology::of(Kind::Sentinel(Sentinels::new(service.into(), sentinels, like, timeout, stop)))
    }

    /// The Cluster to which any of `seeds` belongs. Each node that is asked for the slots is given
    /// `timeout`.
    pub fn cluster(seeds: Vec<Address>, timeout: Duration, stop: &Stop) -> Topology {
        Topology::of(Kind::Cluster(Cluster::new(seeds, timeout, stop)))
    }

    /// The same servers, with `seam` between us and them on the data plane.
    #[must_use]
    pub fn through(self, seam: Seam) -> Topology {
        Topology { seam, ..self }
    }

    /// Those who say where the primary is, if there are any.
    pub(super) fn sentinels(&self) -> Option<&Sentinels> {
        match &*self.kind {
            Kind::Sentinel(sentinels) => Some(sentinels),
            Kind::Single(_) | Kind::Cluster(_) => None,
        }
    }

    /// Whether keys may lie on different servers.
    pub fn is_cluster(&self) -> bool {
        matches!(&*self.kind, Kind::Cluster(_))
    }

    /// Longest pause between attempts to reach a server: where another one takes over, it is to be
    /// found soon.
    pub fn pause_longest(&self) -> Duration {
        match &*self.kind {
            Kind::Single(_) => limits::BACKOFF_LONGEST,
            Kind::Sentinel(_) | Kind::Cluster(_) => limits::BACKOFF_LONGEST_FAILOVER,
        }
    }

    /// The server that takes writes to `key`.
    ///
    /// # Errors
    /// [`Fault::Connection`] if nobody who could tell answers in time; [`Fault::Unusable`] if
    /// those who answer know no such primary.
    pub fn primary_for(&self, key: &str) -> Result<Address, Fault> {
        let address = match &*self.kind {
            Kind::Single(address) => address.clone(),
            Kind::Sentinel(sentinels) => sentinels.primary()?,
            Kind::Cluster(cluster) => cluster.primary_for(key)?,
        };
        Ok(address.through(self.seam.clone()))
    }

    /// Takes note of a fault met at `at`; the server for the very next attempt at the same thing,
    /// if the fault names one that is not the owner yet.
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

    /// Takes note of a lost connection.
    fn lost(&self, at: &Address) {
        match &*self.kind {
            Kind::Single(_) => {}
            Kind::Sentinel(sentinels) => sentinels.forget(at, false),
            Kind::Cluster(cluster) => cluster.forget(at),
        }
    }

    /// Takes note of a refusal; see [`Topology::learn`].
    pub(super) fn refused(&self, at: &Address, message: &str) -> Option<Address> {
        let code = crate::base::error_code(message);
        match (&*self.kind, code) {
            (Kind::Single(_), _) => None,
            (Kind::Sentinel(sentinels), _) if is_no_primary(code) => {
                sentinels.forget(at, code == "READONLY");
                None
            }
            (Kind::Cluster(cluster), "MOVED" | "ASK") => {
                cluster.redirected(at, message).map(|asked| asked.through(self.seam.clone()))
            }
            (Kind::Cluster(cluster), _) if is_no_primary(code) => {
                cluster.forget(at);
                None
            }
            _ => None,
        }
    }
}

/// Whether a refusal says that this server does not take writes now.
pub(super) fn is_no_primary(code: &str) -> bool {
    matches!(code, "READONLY" | "MASTERDOWN" | "LOADING" | "UNBLOCKED" | "CLUSTERDOWN")
}

impl From<Address> for Topology {
    fn from(address: Address) -> Topology {
        let seam = address.seam().clone();
        Topology { seam, ..Topology::of(Kind::Single(address)) }
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
            Kind::Single(address) => address.fmt(f),
            Kind::Sentinel(sentinels) => sentinels.fmt(f),
            Kind::Cluster(cluster) => cluster.fmt(f),
        }
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topology({self})")
    }
}
