//! The producing side of the data plane: XADD.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, text};
use super::open::{Connected, Open};
use super::request::Request;
use super::resp::Header;
use super::route::is_sent_on;
use super::{Address, Route, Topology};
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

impl Connected for Feed {
    fn address(&self) -> &Address {
        self.connection.address()
    }
}

/// The producing side for all servers of a topology: each stream goes to the server that has it.
#[derive(Debug)]
pub struct Feeds {
    route: Route,
    timeout: Duration,
    wait_replicas: u32,
    metrics: Arc<Metrics>,
    stop: Stop,
    open: Open<Feed>,
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
        let (metrics, stop) = (Arc::clone(metrics), stop.clone());
        let (route, open) = (Route::new(topology), Open::default());
        Feeds { route, timeout, wait_replicas, metrics, stop, open }
    }

    /// Connects to every server that has one of the streams.
    ///
    /// # Errors
    /// As [`Feed::open`].
    pub fn connect(&mut self, streams: &[String]) -> Result<(), Fault> {
        streams.iter().try_for_each(|stream| self.attempt(stream, |_| Ok(())))
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
        self.open.tidy();
        self.attempt(stream, |feed| feed.add(stream, data, side, length_max))
    }

    fn attempt<T>(
        &mut self,
        stream: &str,
        mut step: impl FnMut(&mut Feed) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Feeds { route, timeout, wait_replicas, metrics, stop, open } = self;
        let topology = route.topology().clone();
        route.follow(stream, |address| {
            let at = open.at(address, &topology, || {
                let feed = Feed::open(address, "framepress-producer", *timeout, metrics, stop)?;
                Ok(feed.with_replicas(*wait_replicas))
            })?;
            step(&mut open[at]).inspect_err(|fault| {
                if !fault.redis_code().is_some_and(is_sent_on) {
                    open.close(at);
                }
            })
        })
    }
}
