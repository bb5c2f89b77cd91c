//! The reading side of the data plane: XREADGROUP, with several requests in flight. Redis serves
//! them one after the other, each as soon as there is an entry. As long as a request waits at the
//! server, a new entry is delivered without a round trip.
//!
//! Each entry is passed on as soon as its own bytes have arrived. The bytes of `data` are copied
//! once, from the socket into a leased buffer. If `data` exceeds the limit, it is skipped and only
//! its length kept. Entries that were delivered before and never acknowledged are handled in
//! `pending`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Fault, Stage, Stop, limits};
use crate::frame::{
    Body, Entry, EntryBuilder, EntryId, EntryOrigin, Journal, Lease, Locate, Opened, Pool,
    RawFrame, Session,
};
use crate::metrics::clock::Tick;
use crate::metrics::{Metrics, Recorder, RoundTrip, Timer};
use crate::redis::control::Tenure;
use crate::redis::protocol::Address;
use crate::redis::protocol::connection::{Connection, Waited};
use crate::redis::protocol::request::Request;
use crate::redis::protocol::resp::RespLimits;

/// The fields beside `data` that are read; others are skipped.
const SIDE_FIELDS: [&[u8]; 5] = [b"frame_id", b"camera_id", b"timestamp", b"traceparent", b"ring"];

/// Maximum length of such a field's value; longer ones count as absent.
const SIDE_VALUE_MAX: u64 = limits::ID_BYTES_MAX as u64;

/// Buffer sizes for side fields: of ordinary entries, and of those with the longest values.
const SIDE_ROOM: [usize; 2] = [1 << 10, 4 << 10];

/// How one input stream is read.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The stream.
    pub stream: String,
    /// Its index among the input streams.
    pub shard: usize,
    /// The index of this reader among the readers of the stream.
    pub reader: usize,
    /// The consumer group.
    pub group: String,
    /// The name of this consumer.
    pub consumer: String,
    /// Maximum wait of the server for new entries.
    pub block: Duration,
    /// Maximum pause between two bytes of a reply.
    pub timeout: Duration,
    /// Maximum size of `data` in bytes.
    pub payload_bytes_max: u64,
    /// Finds the image in a `data`, which is hashed while it is received.
    pub locate_picture: Locate,
}

/// What a reply held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Entries.
    Entries(Batch),
    /// Nothing within the block time.
    Nothing,
    /// No reply yet, and the engine has begun to drain.
    Draining,
}

/// The entries of one reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Number of entries delivered, without those that this process already knew.
    pub taken: u64,
    /// Total bytes of `data`.
    pub bytes: u64,
    /// Bytes of the largest `data`.
    pub largest: u64,
    /// Id of the last entry.
    pub last: EntryId,
}

impl Batch {
    /// Combines two batches.
    pub(super) fn and(self, other: Batch) -> Batch {
        Batch {
            taken: self.taken + other.taken,
            bytes: self.bytes + other.bytes,
            largest: self.largest.max(other.largest),
            last: self.last.max(other.last),
        }
    }
}

/// Takes over one frame.
pub type Deliver<'a> = dyn FnMut(RawFrame) -> Result<(), Fault> + 'a;

/// An unanswered request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Maximum number of entries with bodies in its reply.
    pub(super) entries: usize,
    /// Whether it asks for entries without their bodies.
    pub(super) is_stale: bool,
    pub(super) sent_at: Tick,
    /// [`Journal::reached`] when it was sent: the entries of its reply come after this one.
    pub(super) after: EntryId,
}

/// A connection that reads one stream as a consumer of a group.
#[derive(Debug)]
pub struct StreamSource {
    pub(super) connection: Connection,
    pub(super) options: Arc<SourceOptions>,
    pub(super) journal: Arc<Journal>,
    pub(super) pool: Pool,
    pub(super) stop: Stop,
    recorder: Recorder,
    pub(in crate::redis) request: Request,
    /// The unanswered requests, oldest first.
    asked: VecDeque<Asked>,
    /// Time from the last request for entries to the last byte of its reply.
    transit: Duration,
    /// [`Journal::epoch`] when the connection was opened or its lease was taken.
    pub(super) epoch: u64,
    /// The lease under which it reads, if the stream has one.
    pub(super) tenure: Option<Tenure>,
}

impl StreamSource {
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
    ) -> Result<StreamSource, Fault> {
        let name = format!("framepress-{}", options.consumer);
        // Read before connecting: whatever this connection reads was delivered by the group of this
        // epoch or a later one.
        let epoch = journal.epoch();
        let mut connection =
            Connection::open_with_clock(address, &name, options.timeout, metrics, stop)?;
        connection.reader.allow(RespLimits::ENTRIES);
        let request = connection.request();
        Ok(StreamSource {
            connection,
            options: Arc::clone(options),
            journal: Arc::clone(journal),
            pool: pool.clone(),
            stop: stop.clone(),
            recorder: recorder.clone(),
            request,
            asked: VecDeque::with_capacity(limits::READ_WINDOW_REQUESTS),
            transit: Duration::ZERO,
            epoch,
            tenure: None,
        })
    }

    /// The server.
    pub fn address(&self) -> &Address {
        self.connection.address()
    }

    /// [`Journal::epoch`] when the connection was opened.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The session for entries requested at this moment.
    pub(super) fn asked_now(&self) -> Session {
        let tenure = self.tenure.as_ref().map_or(0, |tenure| tenure.epoch);
        Session { epoch: self.epoch, tenure, asked_at: Tick::now() }
    }

    /// Measured round trips to the server.
    pub fn round_trip(&self) -> &Arc<RoundTrip> {
        self.connection.round_trip()
    }

    /// Number of unanswered requests.
    pub fn requests(&self) -> usize {
        self.asked.len()
    }

    /// Maximum number of entries in the replies to them.
    pub fn entries_asked(&self) -> usize {
        self.asked.iter().map(|asked| asked.entries).sum()
    }

    /// Time from the last request that brought entries to the last byte of its reply. With a
    /// backlog, this is the longest time that an entry is in transit.
    pub fn transit(&self) -> Duration {
        self.transit
    }

    /// Requests up to `count` new entries, after what was requested before.
    ///
    /// # Errors
    /// [`Fault::Connection`].
    pub fn request(&mut self, count: usize) -> Result<(), Fault> {
        let options = &self.options;
        self.request.clear();
        let tenure = self.tenure.as_ref();
        self.request
            .command(if tenure.is_some() { 13 } else { 11 })
            .arg("XREADGROUP")
            .arg("GROUP")
            .arg(&options.group)
            .arg(&options.consumer)
            .arg("COUNT")
            .number(count)
            .arg("BLOCK")
            .number(options.block.as_millis().max(1))
            .arg("STREAMS")
            .arg(&options.stream);
        match tenure {
            Some(tenure) => self.request.arg(&tenure.stream).arg(">").arg(">"),
            None => self.request.arg(">"),
        };
        self.send_request(count, false)
    }

    pub(super) fn send_request(&mut self, entries: usize, is_stale: bool) -> Result<(), Fault> {
        if self.asked.is_empty() {
            self.journal.ask(self.epoch, self.options.reader, None);
        }
        let after = self.journal.reached();
        let asked = Asked { entries, is_stale, sent_at: Tick::now(), after };
        self.connection.send(&self.request, &[])?;
        self.asked.push_back(asked);
        Ok(())
    }

    /// Waits for the oldest reply and delivers its entries one by one.
    ///
    /// # Errors
    /// [`Fault::Refused`] with the server's message; [`Fault::Connection`]; those of `deliver`.
    /// After any of them the source must be dropped.
    pub fn receive(&mut self, deliver: &mut Deliver<'_>) -> Result<Delivered, Fault> {
        let limit = self.options.block + limits::BLOCK_MARGIN.max(self.options.timeout);
        match self.connection.wait(limit, true)? {
            Waited::Ready | Waited::Beside => self.reply(deliver),
            Waited::Draining => Ok(Delivered::Draining),
            Waited::TimedOut => Err(Fault::connection(
                self.connection.endpoint(),
                format!("no answer to XREADGROUP within {limit:?}"),
            )),
        }
    }

    /// After [`Delivered::Draining`]: waits for the oldest reply within `limit`. `None` if it did
    /// not arrive.
    ///
    /// # Errors
    /// As [`StreamSource::receive`].
    pub fn receive_last(
        &mut self,
        limit: Duration,
        deliver: &mut Deliver<'_>,
    ) -> Result<Option<Delivered>, Fault> {
        match self.connection.wait(limit, false)? {
            Waited::Ready | Waited::Beside => self.reply(deliver).map(Some),
            Waited::Draining | Waited::TimedOut => Ok(None),
        }
    }

    fn reply(&mut self, deliver: &mut Deliver<'_>) -> Result<Delivered, Fault> {
        let Some(&asked) = self.asked.front() else { return Ok(Delivered::Nothing) };
        // The request stays in the list until the last entry of its reply has been opened.
        let batch = if asked.is_stale {
            self.stale_reply(deliver)?
        } else {
            let count = self.stream_reply("XREADGROUP")?.unwrap_or(0);
            self.entries(count, deliver)?
        };
        self.asked.pop_front();
        if let Some(next) = self.asked.front() {
            let opened = batch.last.max(next.after);
            self.journal.ask(self.epoch, self.options.reader, Some(opened));
        }
        if batch.last == EntryId::default() {
            return Ok(Delivered::Nothing);
        }
        if !asked.is_stale {
            self.transit = asked.sent_at.elapsed();
        }
        Ok(Delivered::Entries(batch))
    }

    /// Reads the beginning of the reply of XREADGROUP on one stream: the number of entries, or
    /// `None` for an empty reply.
    fn stream_reply(&mut self, command: &'static str) -> Result<Option<usize>, Fault> {
        let Some(streams) = self.connection.array(command)? else { return Ok(None) };
        if streams != 1 || self.connection.array(command)? != Some(2) {
            return Err(self.connection.surprised());
        }
        self.connection.small_text()?;
        self.connection.array(command)
    }

    /// Reads `count` new entries and delivers each.
    fn entries(&mut self, count: usize, deliver: &mut Deliver<'_>) -> Result<Batch, Fault> {
        let session = self.asked_now();
        let mut batch = Batch::default();
        for _ in 0..count {
            batch = batch.and(self.one_entry(session, &|_| EntryOrigin::New, deliver)?);
        }
        Ok(batch)
    }

    /// Reads one entry and delivers it, unless this process already knows it.
    pub(super) fn one_entry(
        &mut self,
        session: Session,
        origin: &dyn Fn(EntryId) -> EntryOrigin,
        deliver: &mut Deliver<'_>,
    ) -> Result<Batch, Fault> {
        let began = Tick::now();
        if self.connection.array("XREADGROUP")? != Some(2) {
            return Err(self.connection.surprised());
        }
        let id = self.connection.small_text()?;
        let Some(id) = EntryId::parse(&id) else { return Err(self.connection.surprised()) };
        let values = self.connection.array("XREADGROUP")?;
        let receipt = match self.journal.open(id, origin(id), session) {
            Opened::Taken(receipt) => Some(receipt),
            Opened::Known => None,
            Opened::Void => return Err(self.void()),
        };
        let entry = values.map(|values| self.entry(values, receipt.is_none())).transpose()?;
        let bytes = entry.as_ref().map_or(0, Entry::len);
        self.recorder.record(Timer::Stage(Stage::Read), began.elapsed());
        let taken = u64::from(receipt.is_some());
        if let Some(receipt) = receipt {
            let body = entry.map_or(Body::Trimmed, Body::Whole);
            deliver(RawFrame { receipt, body, shard: self.options.shard })?;
        }
        Ok(Batch { taken, bytes, largest: bytes, last: id })
    }

    /// The fault for an answer of a group that was lost in the meantime.
    pub(super) fn void(&self) -> Fault {
        let message = "NOGROUP the group was lost before this answer arrived".into();
        self.connection.refused("XREADGROUP", message)
    }

    /// A buffer for the side fields of an ordinary entry.
    pub(super) fn lease_side(&self) -> Option<Lease> {
        self.pool.lease(SIDE_ROOM[0], &self.stop)
    }

    /// Reads the `values` field names and values of one entry; with `discard`, keeps nothing.
    fn entry(&mut self, values: usize, discard: bool) -> Result<Entry, Fault> {
        if !values.is_multiple_of(2) {
            return Err(self.connection.surprised());
        }
        let Some(side) = self.lease_side() else { return Err(left()) };
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
                // Repeated fields that do not fit into the larger buffer are ignored.
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

pub(super) fn left() -> Fault {
    Fault::NeighbourGone("engine")
}
