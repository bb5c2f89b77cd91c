//! The connections that one caller keeps open, one for each server it speaks to.

use super::{Address, Topology};
use crate::base::{Fault, limits};
use crate::metrics::clock::Tick;

/// Something that is connected to a server.
pub(super) trait Connected {
    /// The server.
    fn address(&self) -> &Address;
}

/// Open connections. A server that took the place of another one takes that one's place here; the
/// connection to a node of a Cluster is closed when it has not been used for a while.
#[derive(Debug)]
pub(super) struct Open<C> {
    open: Vec<(C, Tick)>,
}

impl<C> Default for Open<C> {
    fn default() -> Self {
        Open { open: Vec::new() }
    }
}

impl<C: Connected> Open<C> {
    /// The place of the connection to `address`, which is made if there is none. Places stay until
    /// the next call of [`Open::tidy`], [`Open::close`] or [`Open::clear`].
    pub(super) fn at(
        &mut self,
        address: &Address,
        topology: &Topology,
        connect: impl FnOnce() -> Result<C, Fault>,
    ) -> Result<usize, Fault> {
        let known = self.open.iter().position(|(open, _)| open.address().is_same(address));
        let at = match known {
            Some(at) => at,
            None => {
                let connected = connect()?;
                if !topology.is_cluster() {
                    self.open.clear();
                }
                self.open.push((connected, Tick::now()));
                self.open.len() - 1
            }
        };
        self.open[at].1 = Tick::now();
        Ok(at)
    }

    /// Closes what has not been used for a while.
    pub(super) fn tidy(&mut self) {
        self.open.retain(|(_, used)| used.elapsed() < limits::IDLE_CONNECTION_LIMIT);
    }

    /// Closes the connection at this place; the last one takes the place.
    pub(super) fn close(&mut self, at: usize) {
        self.open.swap_remove(at);
    }

    pub(super) fn clear(&mut self) {
        self.open.clear();
    }
}

impl<C> std::ops::Index<usize> for Open<C> {
    type Output = C;

    fn index(&self, at: usize) -> &C {
        &self.open[at].0
    }
}

impl<C> std::ops::IndexMut<usize> for Open<C> {
    fn index_mut(&mut self, at: usize) -> &mut C {
        &mut self.open[at].0
    }
}
