//! The producing side of the data plane: XADD.

use std::sync::Arc;
use std::time::Duration;

use super::Address;
use super::connection::{Connection, text};
use super::request::Request;
use super::resp::Header;
use crate::base::{Fault, Stop};
use crate::frame::EntryId;
use crate::metrics::Metrics;

/// A connection that adds entries to streams.
#[derive(Debug)]
pub struct Feed {
    connection: Connection,
    request: Request,
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
        Ok(Feed { connection, request: Request::default() })
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
        self.connection.send(&self.request, &[data])?;
        let Connection { reader, socket, .. } = &mut self.connection;
        let id = match reader.header(socket) {
            Ok(Header::Bulk(len)) => reader.bulk_small(socket, len).map(EntryId::parse),
            Ok(Header::Error(message)) => {
                let message = text(message);
                return Err(self.connection.refused("XADD", message));
            }
            Ok(_) => Ok(None),
            Err(trouble) => Err(trouble),
        };
        match id {
            Ok(Some(id)) => Ok(id),
            Ok(None) => Err(Fault::connection(
                self.connection.endpoint(),
                "protocol error: XADD answered without an id",
            )),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }
}
