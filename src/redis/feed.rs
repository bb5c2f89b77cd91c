//! The producing side of the data plane: XADD.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, text};
use super::control::HOPS_MAX;
use super::request::Request;
use super::resp::Header;
use super::{Address, Topology};
use crate::base::{Fault, Stop, limits};
use crate::frame::EntryId;
use crate::metrics::Metrics;

/// A connection that adds entries to streams.
#[derive(Debug)]
pub struct Feed {
    connection: Connection,
    request: Request,
    wait_replicas: u32,
}

impl Feed {
    /// Connects.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open(
        address: &Address,
        name: &str,
        timeout: Duration,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Result<Feed, Fault> {
        let connection = Connection::open(address, name, timeout, metrics, stop)?;
        let request = connection.request();
        Ok(Feed { connection, request, wait_replicas: 0 })
    }

    /// The same, which waits after each entry until so many replicas have it; 0 does not wait.
    #[must_use]
    pub fn with_replicas(self, wait_replicas: u32) -> Feed {
        Feed { wait_replicas, ..self }
    }

    /// The server.
    pub(super) fn address(&self) -> &Address {
        self.connection.address()
    }

    /// Adds an entry with `data` and the fields beside it; `length_max` limits the stream
    /// approximately, 0 for no limit. The payload is sent from where it lies.
    ///
    /// # Errors
    /// [`Fault::Refused`] with the server's words (`OOM` for one); [`Fault::Connection`] if it is
    /// not known whether the entry was added.
    pub fn add(
        &mut self,
        stream: &str,
        data: &[u8],
        side: &[(&str, &[u8])],
        length_max: u64,
    ) -> Result<EntryId, Fault> {
        let limited = if length_max > 0 { 3 } else { 0 };
        self.request.clear();
        self.request.command(5 + limited + 2 * side.len()).arg("XADD").arg(stream);
        if length_max > 0 {
            self.request.arg("MAXLEN").arg("~").number(length_max);
        }
        self.request.arg("*").arg("data").payload(data.len());
        for (name, value) in side {
            self.request.arg(name).arg(value);
        }
        if self.wait_replicas > 0 {
            let limit_ms = limits::REPLICAS_LIMIT.as_millis();
            self.request.command(3).arg("WAIT").number(self.wait_replicas).number(limit_ms);
        }
        self.connection.send(&self.request, &[data])?;
        let added = self.added()?;
        if self.wait_replicas > 0 {
            self.connection.receive_acks(self.wait_replicas)?;
        }
        added.map_err(|message| self.connection.refused("XADD", message))
    }

    /// The answer of XADD: the id, or the server's refusal.
    fn added(&mut self) -> Result<Result<EntryId, String>, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        let id = match reader.header(socket) {
            Ok(Header::Bulk(len)) => reader.bulk_small(socket, len).map(EntryId::parse),
            Ok(Header::Error(message)) => {
                return Ok(Err(text(message)));
            }
            Ok(_) => Ok(None),
            Err(trouble) => Err(trouble),
        };
        match id {
            Ok(Some(id)) => Ok(Ok(id)),
            Ok(None) => Err(Fault::connection(
                self.connection.endpoint(),
                "protocol error: XADD answered without an id",
            )),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }
}

/// The producing side for all servers of a topology: each stream goes to the server that has it.
#[derive(Debug)]
pub struct Feeds {
    topology: Topology,
    timeout: Duration,
    wait_replicas: u32,
    metrics: Arc<Metrics>,
    stop: Stop,
    open: Vec<Feed>,
}

impl Feeds {
    /// Nothing is connected yet. After each entry it is waited until `wait_replicas` have it.
    pub fn new(
        topology: &Topology,
        timeout: Duration,
        wait_replicas: u32,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> Feeds {
        let (topology, metrics, stop) = (topology.clone(), Arc::clone(metrics), stop.clone());
        Feeds { topology, timeout, wait_replicas, metrics, stop, open: Vec::new() }
    }

    /// Connects to every server that has one of the streams.
    ///
    /// # Errors
    /// As [`Feed::open`].
    pub fn connect(&mut self, streams: &[String]) -> Result<(), Fault> {
        streams.iter().try_for_each(|stream| {
            let address = self.topology.primary_for(stream)?;
            self.feed_at(&address).map(|_| ())
        })
    }

    /// See [`Feed::add`]. Where a Cluster sends it on, it follows.
    ///
    /// # Errors
    /// As [`Feed::add`].
    pub fn add(
        &mut self,
        stream: &str,
        data: &[u8],
        side: &[(&str, &[u8])],
        length_max: u64,
    ) -> Result<EntryId, Fault> {
        let mut sent_on = None;
        let mut hops = 0;
        loop {
            let address = match sent_on.take() {
                Some(address) => address,
                None => self.topology.primary_for(stream)?,
            };
            let at = self.feed_at(&address)?;
            let fault = match self.open[at].add(stream, data, side, length_max) {
                Ok(id) => return Ok(id),
                Err(fault) => fault,
            };
            sent_on = self.topology.learn(&address, &fault);
            let follow = matches!(fault.redis_code(), Some("MOVED" | "ASK"));
            if !follow {
                self.open.swap_remove(at);
            }
            hops += 1;
            if !follow || hops > HOPS_MAX {
                return Err(fault);
            }
        }
    }

    fn feed_at(&mut self, address: &Address) -> Result<usize, Fault> {
        if let Some(at) = self.open.iter().position(|feed| feed.address().is_same(address)) {
            return Ok(at);
        }
        let Feeds { topology, timeout, wait_replicas, metrics, stop, open } = self;
        let feed = Feed::open(address, "framepress-producer", *timeout, metrics, stop);
        let feed = feed.inspect_err(|fault| {
            topology.learn(address, fault);
        })?;
        if !topology.is_cluster() {
            open.clear(); // it takes the place of another server
        }
        open.push(feed.with_replicas(*wait_replicas));
        Ok(open.len() - 1)
    }
}
