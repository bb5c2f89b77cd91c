//! The open connections of one caller, one for each server.

use super::Topology;
use crate::base::{Fault, limits};
use crate::metrics::clock::Tick;
use crate::redis::protocol::{Address, Connection};

/// Something that is connected to a server.
pub(in crate::redis) trait Connected {
    /// The server.
    fn address(&self) -> &Address;
}

impl Connected for Connection {
    fn address(&self) -> &Address {
        self.address()
    }
}

/// Open connections. Outside a Cluster there is at most one; a new primary's connection replaces
/// it. The connection to a node of a Cluster is closed after a while without use.
#[derive(Debug)]
pub(in crate::redis) struct Open<C> {
    open: Vec<(C, Tick)>,
}

impl<C> Default for Open<C> {
    fn default() -> Self {
        Open { open: Vec::new() }
    }
}

impl<C: Connected> Open<C> {
    /// The index of the connection to `address`; connects if there is none. An index is valid until
    /// the next call of [`Open::tidy`], [`Open::close`] or [`Open::clear`].
    pub(in crate::redis) fn at(
        &mut self,
        address: &Address,
        topology: &Topology,
        connect: impl FnOnce() -> Result<C, Fault>,
    ) -> Result<usize, Fault> {
        let at = match self.place_of(address) {
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

    /// The index of the connection to `address`, if there is one.
    pub(in crate::redis) fn place_of(&self, address: &Address) -> Option<usize> {
        self.open.iter().position(|(open, _)| open.address().is_same(address))
    }

    /// All connections in index order.
    pub(in crate::redis) fn iter(&self) -> impl Iterator<Item = &C> {
        self.open.iter().map(|(open, _)| open)
    }

    /// All connections in index order, mutable.
    pub(in crate::redis) fn iter_mut(&mut self) -> impl Iterator<Item = &mut C> {
        self.open.iter_mut().map(|(open, _)| open)
    }

    /// Closes the connections for which `keep` is false.
    pub(in crate::redis) fn retain(&mut self, keep: impl Fn(&C) -> bool) {
        self.open.retain(|(open, _)| keep(open));
    }

    /// Closes connections that have not been used for a while.
    pub(in crate::redis) fn tidy(&mut self) {
        self.open.retain(|(_, used)| used.elapsed() < limits::IDLE_CONNECTION_LIMIT);
    }

    /// Closes the connection at this index; the last connection moves there.
    pub(in crate::redis) fn close(&mut self, at: usize) {
        self.take(at);
    }

    /// Removes and returns the connection at this index; the last connection moves there.
    pub(in crate::redis) fn take(&mut self, at: usize) -> C {
        self.open.swap_remove(at).0
    }

    pub(in crate::redis) fn clear(&mut self) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Stop;

    struct AddressLine(Address);

    impl Connected for AddressLine {
        fn address(&self) -> &Address {
            &self.0
        }
    }

    #[test]
    fn a_server_that_replaces_another_one_takes_its_place() {
        let servers = [6379, 6380, 6381].map(|port| Address::tcp("127.0.0.1", port));
        let mut open = Open::default();
        for address in &servers {
            let topology = Topology::from(address);
            let at = open.at(address, &topology, || Ok(AddressLine(address.clone()))).unwrap();
            assert!(open[at].address().is_same(address));
            assert_eq!(open.open.len(), 1, "the connection before it is closed");
        }
    }

    #[test]
    fn connections_to_nodes_of_a_cluster_are_closed_when_they_are_unused() {
        let nodes = [7000, 7001].map(|port| Address::tcp("127.0.0.1", port));
        let topology = Topology::cluster(nodes.to_vec(), limits::CONNECT_LIMIT, &Stop::default());
        let mut open = Open::default();
        for node in &nodes {
            open.at(node, &topology, || Ok(AddressLine(node.clone()))).unwrap();
        }
        open.open[0].1 = Tick::now().before(limits::IDLE_CONNECTION_LIMIT);
        open.tidy();
        assert_eq!(open.open.len(), 1);
        assert!(open[0].address().is_same(&nodes[1]), "the one that was used stays");
    }
}
