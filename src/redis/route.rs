//! The way of one caller to the server that has a key: the only place that follows MOVED and ASK.
//!
//! MOVED corrects what [`Topology`] knows. ASK concerns the very next attempt at one slot, so it is
//! kept here, with the caller that was told.

use smallvec::SmallVec;

use super::slot::slot_of;
use super::topology::is_no_primary;
use super::{Address, Topology};
use crate::base::{Fault, error_code, limits};

/// What a caller is to do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask again at once: another server has the key.
    Elsewhere,
    /// Leave this server: it takes no writes now.
    Leave,
    /// It is the caller's own matter.
    Stay,
}

/// Where the commands of one caller go.
#[derive(Clone, Debug)]
pub struct Route {
    topology: Topology,
    /// By slot, where its next attempt goes instead.
    sent_on: SmallVec<[(u16, Address); 4]>,
}

impl Route {
    /// A caller of these servers.
    pub fn new(topology: &Topology) -> Route {
        Route { topology: topology.clone(), sent_on: SmallVec::new() }
    }

    /// The servers.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The server for the next attempt at something that concerns `key`.
    ///
    /// # Errors
    /// As [`Topology::primary_for`].
    pub fn server_of(&mut self, key: &str) -> Result<Address, Fault> {
        if !self.sent_on.is_empty() {
            let slot = slot_of(key);
            if let Some(at) = self.sent_on.iter().position(|(known, _)| *known == slot) {
                return Ok(self.sent_on.swap_remove(at).1);
            }
        }
        self.topology.primary_for(key)
    }

    /// The server for the next attempt; `None` if it is not known, or if a node has sent the caller
    /// on to another one.
    pub fn known(&self, key: &str) -> Option<Address> {
        if self.sent_on.is_empty() { self.topology.primary_for(key).ok() } else { None }
    }

    /// Takes note of a fault met at `at`. Says whether another server is to be asked at once.
    pub fn heed(&mut self, key: &str, at: &Address, fault: &Fault) -> bool {
        match fault {
            Fault::Refused { message, .. } => self.refused(key, at, message) == Next::Elsewhere,
            _ => {
                self.topology.learn(at, fault);
                false
            }
        }
    }

    /// Takes note of a refusal met at `at`.
    pub(super) fn refused(&mut self, key: &str, at: &Address, message: &str) -> Next {
        if let Some(address) = self.topology.refused(at, message) {
            let slot = slot_of(key);
            if !self.sent_on.iter().any(|(known, _)| *known == slot) {
                self.sent_on.push((slot, address));
            }
        }
        match error_code(message) {
            code if is_sent_on(code) => Next::Elsewhere,
            code if is_no_primary(code) => Next::Leave,
            _ => Next::Stay,
        }
    }

    /// Attempts something that concerns `key` at the server that has it.
    ///
    /// # Errors
    /// Those of the attempt; of finding the server.
    pub(super) fn follow<T>(
        &mut self,
        key: &str,
        mut attempt: impl FnMut(&Address) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut hops = 0;
        loop {
            let address = self.server_of(key)?;
            let fault = match attempt(&address) {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            hops += 1;
            if !self.heed(key, &address, &fault) || hops > limits::HOPS_MAX {
                return Err(fault);
            }
        }
    }
}

/// Whether a refusal only says where to go instead.
pub(super) fn is_sent_on(code: &str) -> bool {
    matches!(code, "MOVED" | "ASK")
}
