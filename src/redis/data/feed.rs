//! The producing side of the data plane: XADD.

use std::sync::Arc;
use std::time::Duration;

use crate::base::{Fault, Stop, limits};
use crate::frame::EntryId;
use crate::metrics::Metrics;
use crate::redis::protocol::Address;
use crate::redis::protocol::connection::{Connection, text};
use crate::redis::protocol::request::{Request, pack};
use crate::redis::protocol::resp::RespHeader;
use crate::redis::topology::open::Connected;

/// A connection that adds entries to streams.
#[derive(Debug)]
pub struct Feed {
    connection: Connection,
    request: Request,
    /// Bytes of the request sent so far.
    written: usize,
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
        Ok(Feed { connection, request, written: 0, wait_replicas: 0 })
    }

    /// The same, but waits after each entry until `wait_replicas` replicas have it; 0 does not
    /// wait.
    #[must_use]
    pub fn with_replicas(self, wait_replicas: u32) -> Feed {
        Feed { wait_replicas, ..self }
    }

    /// Adds an entry with `data` and the fields in `side`. `length_max` limits the stream
    /// approximately; 0 for no limit. The payload is sent without a copy.
    ///
    /// # Errors
    /// [`Fault::Refused`] with the server's message (for example `OOM`); [`Fault::Connection`] if
    /// it is not known whether the entry was added.
    pub fn add(
        &mut self,
        stream: &str,
        data: &[u8],
        side: &[(&str, &[u8])],
        length_max: u64,
    ) -> Result<EntryId, Fault> {
        let mut packed = Vec::new();
        for (name, value) in side {
            pack(name.as_bytes(), &mut packed);
            pack(value, &mut packed);
        }
        self.prepare(stream, data.len(), &packed, side.len(), length_max);
        self.connection.send(&self.request, &[data])?;
        self.answer()?.map_err(|message| self.refused(message))
    }

    /// Prepares the request for an entry with `bytes` bytes of data and `fields` packed fields in
    /// `side`.
    pub(super) fn prepare(
        &mut self,
        stream: &str,
        bytes: usize,
        side: &[u8],
        fields: usize,
        length_max: u64,
    ) {
        let limited = if length_max > 0 { 3 } else { 0 };
        self.request.clear();
        self.request.command(5 + limited + 2 * fields).arg("XADD").arg(stream);
        if length_max > 0 {
            self.request.arg("MAXLEN").arg("~").number(length_max);
        }
        self.request.arg("*").arg("data").payload(bytes).packed_args(side);
        if self.wait_replicas > 0 {
            let limit_ms = limits::REPLICAS_LIMIT.as_millis();
            self.request.command(3).arg("WAIT").number(self.wait_replicas).number(limit_ms);
        }
        self.written = 0;
    }

    /// Sends the prepared entry with its data. Returns whether all of it is sent; if nothing moves
    /// for a tick, the next call continues.
    pub(in crate::redis) fn send_on(&mut self, data: &[u8]) -> Result<bool, Fault> {
        self.connection.send_on(&self.request, &[data], &mut self.written)
    }

    /// Bytes of the entry's request sent so far.
    pub(super) fn written(&self) -> usize {
        self.written
    }

    /// Reads the answer for the oldest entry sent: its id, or the server's refusal.
    pub(super) fn answer(&mut self) -> Result<Result<EntryId, String>, Fault> {
        let added = self.added()?;
        if self.wait_replicas > 0 {
            self.connection.receive_acks(self.wait_replicas)?;
        }
        Ok(added)
    }

    /// Whether an answer is here or begins within `limit`; see [`Connection::ready`].
    pub(in crate::redis) fn ready(&mut self, limit: Duration) -> Result<bool, Fault> {
        self.connection.ready(limit)
    }

    /// Converts a refusal to a fault.
    pub(in crate::redis) fn refused(&self, message: String) -> Fault {
        self.connection.refused("XADD", message)
    }

    /// The fault for a server that made no progress for `time`.
    pub(super) fn silent(&self, time: Duration) -> Fault {
        Fault::connection(self.connection.endpoint(), format!("no progress for {time:?}"))
    }

    /// Reads the answer of XADD: the id, or the server's refusal.
    fn added(&mut self) -> Result<Result<EntryId, String>, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        let id = match reader.header(socket) {
            Ok(RespHeader::Bulk(len)) => reader.bulk_small(socket, len).map(EntryId::parse),
            Ok(RespHeader::Error(message)) => {
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
