//! The path of one caller to the server that has a key. Only this module follows MOVED and ASK.
//!
//! MOVED corrects what [`Topology`] knows. ASK concerns only the next attempt at one slot, so it is
//! kept here, per caller.

use smallvec::SmallVec;

use super::Topology;
use super::is_no_primary;
use super::slot::slot_of;
use crate::base::{Fault, error_code, limits};
use crate::redis::protocol::Address;

/// What a caller has to do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::redis) enum Next {
    /// Ask again at once: another server has the key.
    Elsewhere,
    /// Disconnect from this server: it takes no writes.
    Leave,
    /// The refusal is the caller's own to handle.
    Stay,
}

/// Finds the server for each command of one caller.
#[derive(Clone, Debug)]
pub struct Route {
    topology: Topology,
    /// Slots with a pending ASK, and the server for their next attempt.
    sent_on: SmallVec<[(u16, Address); 4]>,
}

impl Route {
    /// A route over these servers.
    pub fn new(topology: &Topology) -> Route {
        Route { topology: topology.clone(), sent_on: SmallVec::new() }
    }

    /// The servers.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The server for the next attempt at a command on `key`.
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

    /// The server for the next attempt; `None` if it is not known, or if a redirection by ASK is
    /// pending.
    pub fn known(&self, key: &str) -> Option<Address> {
        if self.sent_on.is_empty() { self.topology.primary_for(key).ok() } else { None }
    }

    /// Records a fault from the server `at`. Returns whether to ask another server at once.
    pub fn handle_trouble(&mut self, key: &str, at: &Address, fault: &Fault) -> bool {
        match fault {
            Fault::Refused { message, .. } => self.refused(key, at, message) == Next::Elsewhere,
            _ => {
                self.topology.learn(at, fault);
                false
            }
        }
    }

    /// Records a refusal from the server `at`.
    pub(in crate::redis) fn refused(&mut self, key: &str, at: &Address, message: &str) -> Next {
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

    /// Runs `attempt` on the server that has `key`, and follows redirections.
    ///
    /// # Errors
    /// Those of the attempt and of finding the server.
    pub(in crate::redis) fn follow<T>(
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
            if !self.handle_trouble(key, &address, &fault) || hops > limits::HOPS_MAX {
                return Err(fault);
            }
        }
    }
}

/// Whether a refusal is a redirection.
pub(in crate::redis) fn is_sent_on(code: &str) -> bool {
    matches!(code, "MOVED" | "ASK")
}
