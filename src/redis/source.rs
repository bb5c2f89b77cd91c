//! The reading side of the data plane: XREADGROUP, with one request ahead of the reply.
//!
//! Each entry is handed on as soon as its own bytes have arrived. The bytes of `data` go from the
//! socket into a leased buffer in one copy; a `data` above the limit is passed over and only its
//! length kept.

mod pending;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::Address;
use super::connection::{Connection, Waited, text};
use super::request::Request;
use super::resp::{Header, Trouble};
use crate::base::{Fault, Stage, Stop, limits};
use crate::frame::{Entry, EntryBuilder, EntryId, Journal, Origin, Pool, RawFrame};
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Metrics, Recorder, Timer};

type SmallText = SmallVec<[u8; 64]>;

/// Fields beside `data` that mean something here; others are passed over.
const SIDE_FIELDS: [&[u8]; 4] = [b"frame_id", b"camera_id", b"timestamp", b"traceparent"];

/// Longest value of such a field that is kept; longer ones count as absent.
const SIDE_VALUE_MAX: u64 = 4 << 10;

/// Buffer for the side fields of ordinary entries, and for those with the longest values.
const SIDE_ROOM: [usize; 2] = [1 << 10, 20 << 10];

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
}

/// What a reply held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// So many entries, of so many bytes together; the last one's id.
    Entries(usize, u64, EntryId),
    /// Nothing within the time the server was told to wait.
    Nothing,
    /// No reply yet, and the engine has begun to drain.
    Draining,
}

/// Takes over one frame that was read.
pub type Deliver<'a> = dyn FnMut(RawFrame) -> Result<(), Fault> + 'a;

/// A connection that reads one stream in a consumer group.
#[derive(Debug)]
pub struct Source {
    connection: Connection,
    options: Arc<SourceOptions>,
    journal: Arc<Journal>,
    pool: Pool,
    stop: Stop,
    recorder: Recorder,
    request: Request,
    outstanding: bool,
    clock_ahead_seconds: f64,
}

impl Source {
    /// Connects and compares clocks.
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
        let mut source = Source {
            connection,
            options: Arc::clone(options),
            journal: Arc::clone(journal),
            pool: pool.clone(),
            stop: stop.clone(),
            recorder: recorder.clone(),
            request: Request::default(),
            outstanding: false,
            clock_ahead_seconds: 0.0,
        };
        source.clock_ahead_seconds = source.measure_clock()?;
        Ok(source)
    }

    /// By how much the Redis clock is ahead of ours, in seconds.
    pub fn clock_ahead_seconds(&self) -> f64 {
        self.clock_ahead_seconds
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
        self.entries(count, next_count, &|_| Origin::New, deliver)
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
    ) -> Result<(), Fault> {
        if !self.outstanding || self.connection.wait(limit, false)? != Waited::Ready {
            return Ok(());
        }
        self.outstanding = false;
        if let Some(count) = self.stream_reply("XREADGROUP")? {
            self.entries(count, None, &|_| Origin::New, deliver)?;
        }
        Ok(())
    }

    fn measure_clock(&mut self) -> Result<f64, Fault> {
        let asked = unix_seconds();
        self.request.clear();
        self.request.command(1).arg("TIME");
        self.connection.send(&self.request, &[])?;
        let mut parts = [0.0; 2];
        let count = self.array("TIME")?.unwrap_or(0);
        for index in 0..count {
            let digits = self.small_text()?;
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
    fn stream_reply(&mut self, command: &'static str) -> Result<Option<usize>, Fault> {
        let Some(streams) = self.array(command)? else { return Ok(None) };
        if streams != 1 || self.array(command)? != Some(2) {
            return Err(self.surprised());
        }
        self.small_text()?;
        self.array(command)
    }

    /// Reads `count` entries and delivers each.
    fn entries(
        &mut self,
        count: usize,
        next_count: Option<usize>,
        origin: &dyn Fn(EntryId) -> Origin,
        deliver: &mut Deliver<'_>,
    ) -> Result<Delivered, Fault> {
        if count == 0 {
            return Ok(Delivered::Nothing);
        }
        let mut bytes = 0;
        let mut last = EntryId::default();
        for index in 0..count {
            if let (true, Some(next_count)) = (index + 1 == count, next_count) {
                self.send_request(next_count)?;
            }
            let began = Tick::now();
            if self.array("XREADGROUP")? != Some(2) {
                return Err(self.surprised());
            }
            let id = self.small_text()?;
            let Some(id) = EntryId::parse(&id) else { return Err(self.surprised()) };
            last = id;
            let fields = self.array("XREADGROUP")?;
            let receipt = self.journal.open(id, origin(id));
            let entry = match fields {
                None => None,
                Some(values) => Some(self.entry(values, receipt.is_none())?),
            };
            bytes += entry.as_ref().and_then(Entry::data).map_or(0, |data| data.len() as u64);
            self.recorder.record(Timer::Stage(Stage::Read), began.elapsed());
            if let Some(receipt) = receipt {
                deliver(RawFrame { receipt, entry, shard: self.options.shard })?;
            }
        }
        Ok(Delivered::Entries(count, bytes, last))
    }

    /// Reads the `values` field names and values of one entry; with `discard`, without keeping
    /// anything.
    fn entry(&mut self, values: usize, discard: bool) -> Result<Entry, Fault> {
        if !values.is_multiple_of(2) {
            return Err(self.surprised());
        }
        let Some(side) = self.pool.lease(SIDE_ROOM[0], &self.stop) else { return Err(left()) };
        let mut builder = EntryBuilder::new(side);
        for _ in 0..values / 2 {
            let name_len = self.bulk()?;
            let mut name = [0; 16];
            let known = usize::try_from(name_len).ok().filter(|&len| len <= name.len() && !discard);
            let Some(known) = known else {
                self.pass_over(name_len)?;
                let value_len = self.bulk()?;
                self.pass_over(value_len)?;
                continue;
            };
            self.read_into(&mut name[..known])?;
            let name = &name[..known];
            let len = self.bulk()?;
            if name == b"data" && !builder.has_data() {
                if len > self.options.payload_bytes_max {
                    self.pass_over(len)?;
                    builder.set_oversized(len);
                    continue;
                }
                let size = usize::try_from(len).unwrap_or(usize::MAX);
                let Some(mut data) = self.pool.lease(size, &self.stop) else { return Err(left()) };
                self.read_into(&mut data)?;
                builder.set_data(data);
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
                    None => self.pass_over(len)?,
                }
            } else {
                self.pass_over(len)?;
            }
        }
        Ok(builder.build())
    }

    fn skip_answer(&mut self, _name: &'static str) -> Result<(), Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        let skipped = reader.skip_value(socket);
        skipped.map(|_| ()).map_err(|trouble| self.connection.fault(trouble))
    }

    /// The header of an array; `None` for no value.
    fn array(&mut self, command: &'static str) -> Result<Option<usize>, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        match reader.header(socket) {
            Ok(Header::Array(count)) => Ok(Some(count)),
            Ok(Header::Nil) => Ok(None),
            Ok(Header::Error(message)) => {
                let message = text(message);
                Err(self.connection.refused(command, message))
            }
            Ok(_) => Err(self.surprised()),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }

    fn bulk(&mut self) -> Result<u64, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        match reader.header(socket) {
            Ok(Header::Bulk(len)) => Ok(len),
            Ok(_) => Err(self.surprised()),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }

    fn integer(&mut self) -> Result<i64, Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        match reader.header(socket) {
            Ok(Header::Int(number)) => Ok(number),
            Ok(_) => Err(self.surprised()),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }

    fn small_text(&mut self) -> Result<SmallText, Fault> {
        let len = self.bulk()?;
        let Connection { reader, socket, .. } = &mut self.connection;
        match reader.bulk_small(socket, len) {
            Ok(bytes) => Ok(SmallText::from_slice(bytes)),
            Err(trouble) => Err(self.connection.fault(trouble)),
        }
    }

    fn pass_over(&mut self, len: u64) -> Result<(), Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        let passed = reader.bulk_discard(socket, len);
        passed.map_err(|trouble| self.connection.fault(trouble))
    }

    fn read_into(&mut self, target: &mut [u8]) -> Result<(), Fault> {
        let Connection { reader, socket, .. } = &mut self.connection;
        let read = reader.bulk_into(socket, target);
        read.map_err(|trouble| self.connection.fault(trouble))
    }

    fn surprised(&self) -> Fault {
        self.connection.fault(Trouble::Protocol("unexpected shape of an answer"))
    }
}

fn left() -> Fault {
    Fault::NeighbourGone("engine")
}
