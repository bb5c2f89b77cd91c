//! The reading side of the data plane: XREADGROUP, with one request ahead of the reply.
//!
//! Each entry is handed on as soon as its own bytes have arrived. The bytes of `data` go from the
//! socket into a leased buffer in one copy; a `data` above the limit is passed over and only its
//! length kept. What was delivered before and never acknowledged is the matter of `pending`.

use std::sync::Arc;
use std::time::Duration;

use super::Address;
use super::connection::{Connection, Waited};
use super::request::Request;
use crate::base::{Fault, Stage, Stop, limits};
use crate::frame::{Entry, EntryBuilder, EntryId, Journal, Locate, Origin, Pool, RawFrame};
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Metrics, Recorder, Timer};

/// Fields beside `data` that mean something here; others are passed over.
const SIDE_FIELDS: [&[u8]; 4] = [b"frame_id", b"camera_id", b"timestamp", b"traceparent"];

/// Longest value of such a field that is kept; longer ones count as absent.
const SIDE_VALUE_MAX: u64 = limits::ID_BYTES_MAX as u64;

/// Buffer for the side fields of ordinary entries, and for those with the longest values.
const SIDE_ROOM: [usize; 2] = [1 << 10, 4 << 10];

/// How one input stream is read.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The stream.
    pub stream: String,
    /// Its place among the input streams.
    pub shard: usize,
    /// The consumer group.
    pub group: String,
    /// Our name in it.
    pub consumer: String,
    /// Longest wait of the server for new entries.
    pub block: Duration,
    /// Longest pause between two bytes of a reply.
    pub timeout: Duration,
    /// Largest `data` that is read, in bytes.
    pub payload_bytes_max: u64,
    /// Where in a `data` its picture is, to be hashed on the way.
    pub locate_picture: Locate,
}

/// What a reply held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Entries.
    Entries(Batch),
    /// Nothing within the time the server was told to wait.
    Nothing,
    /// No reply yet, and the engine has begun to drain.
    Draining,
}

/// The entries of one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// How many were delivered; those this process knew already are not.
    pub taken: u64,
    /// Bytes of `data` of all of them.
    pub bytes: u64,
    /// The last one's id.
    pub last: EntryId,
}

/// What is known of the entries of a reply before they are read.
pub(super) struct Asked<'a> {
    /// When the request was sent, or before.
    pub(super) at: Tick,
    /// How each came here.
    pub(super) origin: &'a dyn Fn(EntryId) -> Origin,
}

impl Asked<'_> {
    fn for_new() -> Asked<'static> {
        Asked { at: Tick::now(), origin: &|_| Origin::New }
    }
}

/// Takes over one frame that was read.
pub type Deliver<'a> = dyn FnMut(RawFrame) -> Result<(), Fault> + 'a;

/// A connection that reads one stream in a consumer group.
#[derive(Debug)]
pub struct Source {
    pub(super) connection: Connection,
    pub(super) options: Arc<SourceOptions>,
    pub(super) journal: Arc<Journal>,
    pool: Pool,
    stop: Stop,
    recorder: Recorder,
    pub(super) request: Request,
    outstanding: bool,
}

impl Source {
    /// Connects.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn open(
        address: &Address,
        options: &Arc<SourceOptions>,
        journal: &Arc<Journal>,
        pool: &Pool,
        metrics: &Arc<Metrics>,
        recorder: &Recorder,
        stop: &Stop,
    ) -> Result<Source, Fault> {
        let name = format!("framepress-{}", options.consumer);
        let connection = Connection::open(address, &name, options.timeout, metrics, stop)?;
        let request = connection.request();
        Ok(Source {
            connection,
            options: Arc::clone(options),
            journal: Arc::clone(journal),
            pool: pool.clone(),
            stop: stop.clone(),
            recorder: recorder.clone(),
            request,
            outstanding: false,
        })
    }

    /// The server.
    pub fn address(&self) -> &Address {
        self.connection.address()
    }

    /// The number by which another connection can end our blocked read.
    pub fn client_id(&self) -> i64 {
        self.connection.client_id()
    }

    /// Whether a request has been sent whose reply has not been read.
    pub fn is_outstanding(&self) -> bool {
        self.outstanding
    }

    /// Asks for up to `count` new entries, unless that has been done already.
    ///
    /// # Errors
    /// [`Fault::Connection`].
    pub fn request(&mut self, count: usize) -> Result<(), Fault> {
        if self.outstanding {
            return Ok(());
        }
        self.send_request(count)
    }

    fn send_request(&mut self, count: usize) -> Result<(), Fault> {
        let options = &self.options;
        self.request.clear();
        self.request
            .command(11)
            .arg("XREADGROUP")
            .arg("GROUP")
            .arg(&options.group)
            .arg(&options.consumer)
            .arg("COUNT")
            .number(count)
            .arg("BLOCK")
            .number(options.block.as_millis().max(1))
            .arg("STREAMS")
            .arg(&options.stream)
            .arg(">");
        self.connection.send(&self.request, &[])?;
        self.outstanding = true;
        Ok(())
    }

    /// Waits for the reply to the request and delivers its entries one by one. With
    /// `next_count`, the next request is sent before the last entry is read, so that Redis does
    /// not wait for us.
    ///
    /// # Errors
    /// [`Fault::Refused`] with the server's words; [`Fault::Connection`]; those of `deliver`.
    /// After any of them but `Refused` the source is to be dropped.
    pub fn receive(
        &mut self,
        next_count: Option<usize>,
        deliver: &mut Deliver<'_>,
    ) -> Result<Delivered, Fault> {
        let limit = self.options.block + limits::BLOCK_MARGIN.max(self.options.timeout);
        match self.connection.wait(limit, true)? {
            Waited::Ready => {}
            Waited::Draining => return Ok(Delivered::Draining),
            Waited::TimedOut => {
                return Err(Fault::connection(
                    self.connection.endpoint(),
                    format!("no answer to XREADGROUP within {limit:?}"),
                ));
            }
        }
        self.outstanding = false;
        let Some(count) = self.stream_reply("XREADGROUP")? else { return Ok(Delivered::Nothing) };
        self.entries(count, next_count, &Asked::for_new(), deliver)
    }

    /// After [`Delivered::Draining`]: waits a little longer for the reply, which somebody else is
    /// hurrying up with CLIENT UNBLOCK, so that entries on their way are not left behind.
    ///
    /// # Errors
    /// As [`Source::receive`].
    pub fn receive_last(
        &mut self,
        limit: Duration,
        deliver: &mut Deliver<'_>,
    ) -> Result<Delivered, Fault> {
        if !self.outstanding || self.connection.wait(limit, false)? != Waited::Ready {
            return Ok(Delivered::Nothing);
        }
        self.outstanding = false;
        let Some(count) = self.stream_reply("XREADGROUP")? else { return Ok(Delivered::Nothing) };
        self.entries(count, None, &Asked::for_new(), deliver)
    }

    /// Measures by how much the Redis clock is ahead of ours, in seconds; not while a request is
    /// outstanding.
    ///
    /// # Errors
    /// As every call.
    pub fn measure_clock(&mut self) -> Result<f64, Fault> {
        let asked = unix_seconds();
        self.request.clear();
        self.request.command(1).arg("TIME");
        self.connection.send(&self.request, &[])?;
        let mut parts = [0.0; 2];
        let count = self.connection.array("TIME")?.unwrap_or(0);
        for index in 0..count {
            let digits = self.connection.small_text()?;
            let number = std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok());
            let number: f64 = number.unwrap_or(0.0);
            if let Some(part) = parts.get_mut(index) {
                *part = number;
            }
        }
        let middle = f64::midpoint(asked, unix_seconds());
        Ok(parts[0] + parts[1] / 1e6 - middle)
    }

    /// Opens the reply of XREADGROUP on one stream: the number of entries, `None` if there is
    /// nothing.
    pub(super) fn stream_reply(&mut self, command: &'static str) -> Result<Option<usize>, Fault> {
        let Some(streams) = self.connection.array(command)? else { return Ok(None) };
        if streams != 1 || self.connection.array(command)? != Some(2) {
            return Err(self.connection.surprised());
        }
        self.connection.small_text()?;
        self.connection.array(command)
    }

    /// Reads `count` entries and delivers each.
    pub(super) fn entries(
        &mut self,
        count: usize,
        next_count: Option<usize>,
        asked: &Asked<'_>,
        deliver: &mut Deliver<'_>,
    ) -> Result<Delivered, Fault> {
        if count == 0 {
            return Ok(Delivered::Nothing);
        }
        let (mut taken, mut bytes, mut last) = (0, 0, EntryId::default());
        for index in 0..count {
            if let (true, Some(next_count)) = (index + 1 == count, next_count) {
                self.send_request(next_count)?;
            }
            let began = Tick::now();
            match self.connection.array("XREADGROUP")? {
                Some(2) => {}
                // XCLAIM before Redis 7 answers so for an entry whose body is gone.
                None => continue,
                Some(_) => return Err(self.connection.surprised()),
            }
            let id = self.connection.small_text()?;
            let Some(id) = EntryId::parse(&id) else { return Err(self.connection.surprised()) };
            last = id;
            let values = self.connection.array("XREADGROUP")?;
            let receipt = self.journal.open(id, (asked.origin)(id), asked.at);
            let entry = match values {
                None => None,
                Some(values) => {
                    let entry = self.entry(values, receipt.is_none())?;
                    bytes += entry.data().map_or(0, |data| data.len() as u64);
                    Some(entry)
                }
            };
            self.recorder.record(Timer::Stage(Stage::Read), began.elapsed());
            if let Some(receipt) = receipt {
                taken += 1;
                deliver(RawFrame { receipt, entry, shard: self.options.shard })?;
            }
        }
        Ok(Delivered::Entries(Batch { taken, bytes, last }))
    }

    /// Reads the `values` field names and values of one entry; with `discard`, without keeping
    /// anything.
    fn entry(&mut self, values: usize, discard: bool) -> Result<Entry, Fault> {
        if !values.is_multiple_of(2) {
            return Err(self.connection.surprised());
        }
        let Some(side) = self.pool.lease(SIDE_ROOM[0], &self.stop) else { return Err(left()) };
        let mut builder = EntryBuilder::new(side);
        for _ in 0..values / 2 {
            let name_len = self.connection.bulk()?;
            let mut name = [0; 16];
            let known = usize::try_from(name_len).ok().filter(|&len| len <= name.len() && !discard);
            let Some(known) = known else {
                self.connection.pass_over(name_len)?;
                let value_len = self.connection.bulk()?;
                self.connection.pass_over(value_len)?;
                continue;
            };
            self.connection.read_into(&mut name[..known])?;
            let name = &name[..known];
            let len = self.connection.bulk()?;
            if name == b"data" && !builder.has_data() {
                if len > self.options.payload_bytes_max {
                    self.connection.pass_over(len)?;
                    builder.set_oversized(len);
                    continue;
                }
                let size = usize::try_from(len).unwrap_or(usize::MAX);
                let Some(mut data) = self.pool.lease(size, &self.stop) else { return Err(left()) };
                let locate = self.options.locate_picture;
                let digest = self.connection.read_with_digest(&mut data, locate)?;
                builder.set_data(data, digest);
            } else if SIDE_FIELDS.contains(&name) && len <= SIDE_VALUE_MAX {
                let size = usize::try_from(len).unwrap_or(usize::MAX);
                if !builder.has_room(name, size) {
                    let Some(side) = self.pool.lease(SIDE_ROOM[1], &self.stop) else {
                        return Err(left());
                    };
                    builder.move_side(side);
                }
                // A field that occurs so often that even the larger buffer is full is ignored.
                match builder.side_room(name, size) {
                    Some(room) => {
                        let read =
                            self.connection.reader.bulk_into(&mut self.connection.socket, room);
                        read.map_err(|trouble| self.connection.fault(trouble))?;
                    }
                    None => self.connection.pass_over(len)?,
                }
            } else {
                self.connection.pass_over(len)?;
            }
        }
        Ok(builder.build())
    }
}

fn left() -> Fault {
    Fault::NeighbourGone("engine")
}
