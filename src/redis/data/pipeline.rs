//! The producing side for all servers of a topology, with several entries in flight on each
//! connection.
//!
//! 1. Entries of a stream are sent in the order of their addition, also when they are sent again.
//! 2. After a refusal or a lost connection, nothing is sent until all other answers in flight have
//!    arrived. Then everything refused or unanswered is sent again in order, the first entry alone.
//! 3. If an entry was refused and a later one of its camera was added, it is not sent again,
//!    because it would arrive out of order. It ends with its refusal.
//! 4. Every entry ends with one reply.

mod lines;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::lines::{ServerLine, Setback};
use crate::base::{Fault, Stop, limits};
use crate::frame::{EntryId, Lease};
use crate::metrics::Metrics;
use crate::metrics::clock::Tick;
use crate::redis::protocol::request::pack;
use crate::redis::topology::open::Open;
use crate::redis::topology::{Route, Topology};

/// Maximum number of replies that wait to be taken. Beyond that, the oldest are discarded and
/// counted.
const REPLIES_MAX: usize = 16_384;

/// Where and how a [`Pipeline`] sends.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Where Redis is.
    pub topology: Topology,
    /// The streams; entries refer to them by their index.
    pub streams: Vec<String>,
    /// Approximate length limit of each stream; 0 for none.
    pub length_max: u64,
    /// Number of replicas to wait for after each entry; 0 does not wait.
    pub wait_replicas: u32,
    /// Longest wait for Redis.
    pub timeout: Duration,
    /// Whether to send again what was lost with a connection or refused for a temporary reason.
    pub retry: bool,
    /// Maximum number of entries in hand.
    pub entries_max: usize,
    /// Maximum bytes of their data, unless a single entry is larger.
    pub bytes_max: usize,
}

/// Identifies an entry in its reply. Tickets ascend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Counts of how entries ended so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sendings {
    /// Entries that the server has confirmed.
    pub confirmed: u64,
    /// Entries that ended with a fault. After a lost connection some of them may be in the stream.
    pub failed: u64,
    /// Failed entries that were refused while a later one of the same camera was added.
    pub superseded: u64,
    /// Number of repeated sendings.
    pub sent_again: u64,
    /// Replies that were discarded because they were not taken.
    pub replies_forgotten: u64,
}

/// How an entry ended.
#[derive(Debug)]
struct Reply {
    ticket: Ticket,
    result: Result<EntryId, Fault>,
    /// It was given up to keep the order of its camera.
    superseded: bool,
}

/// An entry in hand.
#[derive(Debug)]
struct Item {
    ticket: u64,
    stream: usize,
    /// Hash of the camera's name; order is kept within a camera.
    camera: u64,
    data: Lease,
    /// Packed fields beside the data, and their number.
    side: Vec<u8>,
    fields: usize,
    /// Whether it has been sent before.
    again: bool,
}

/// Sends entries to the servers of their streams. All work happens within calls; there is no
/// thread.
#[derive(Debug)]
pub struct Pipeline {
    options: PipelineOptions,
    route: Route,
    metrics: Arc<Metrics>,
    stop: Stop,
    open: Open<ServerLine>,
    /// Not sent yet or to be sent again; in ascending order.
    unsent: VecDeque<Item>,
    setback: Option<Setback>,
    resume_at: Option<Tick>,
    pause: Duration,
    /// Consecutive redirections without an entry added.
    hops: usize,
    /// Nothing was added since the last setback: a new connection starts with one entry at a time.
    careful: bool,
    in_hand: usize,
    bytes_in_hand: usize,
    next: u64,
    replies: VecDeque<Reply>,
    /// How entries ended since the last call of [`Pipeline::ends`], once it was called.
    ends: Option<Vec<(Ticket, Option<EntryId>)>>,
    sendings: Sendings,
    /// During a flush, attempts continue although the engine drains.
    flushing: bool,
    spare: Vec<Vec<u8>>,
}

impl Pipeline {
    /// Creates a pipeline; connects nothing yet.
    pub fn new(options: PipelineOptions, metrics: &Arc<Metrics>, stop: &Stop) -> Pipeline {
        Pipeline {
            route: Route::new(&options.topology),
            options,
            metrics: Arc::clone(metrics),
            stop: stop.clone(),
            open: Open::default(),
            unsent: VecDeque::new(),
            setback: None,
            resume_at: None,
            pause: limits::BACKOFF_FIRST,
            hops: 0,
            careful: false,
            in_hand: 0,
            bytes_in_hand: 0,
            next: 0,
            replies: VecDeque::new(),
            ends: None,
            sendings: Sendings::default(),
            flushing: false,
            spare: Vec::new(),
        }
    }

    /// Connects to every server that has one of the streams, so that the first entry need not wait.
    ///
    /// # Errors
    /// As [`Connection::open`](crate::redis::Connection::open), except for temporary faults if `retry` is
    /// set.
    pub fn connect(&mut self) -> Result<(), Fault> {
        for stream in 0..self.options.streams.len() {
            loop {
                let server = self.route.server_of(&self.options.streams[stream]);
                let connected = server.and_then(|address| self.line_to(&address, stream));
                let Err(fault) = connected else { break };
                if !self.may_pass(&fault) {
                    return Err(fault);
                }
                let pause = self.next_pause(&fault);
                if self.stop.sleep(pause) {
                    return Err(fault);
                }
            }
        }
        self.pause = limits::BACKOFF_FIRST;
        Ok(())
    }

    /// Whether an entry with this many bytes of data can be added.
    pub fn has_room(&mut self, bytes: usize) -> bool {
        let held_up = self.setback.is_some() || self.resume_at.is_some();
        let entries = match held_up || self.open.iter().next().is_none() {
            true => 1,
            false => self.open.iter().map(ServerLine::limit).sum(),
        };
        let fits = self.bytes_in_hand.saturating_add(bytes) <= self.options.bytes_max;
        let has_room =
            self.in_hand == 0 || (fits && self.in_hand < entries.min(self.options.entries_max));
        if !has_room {
            self.open.iter_mut().for_each(ServerLine::filled);
        }
        has_room
    }

    /// Adds an entry and sends it at once if possible. Order is kept among the entries of a stream
    /// with the same `camera`.
    pub fn add(
        &mut self,
        stream: usize,
        camera: u64,
        data: Lease,
        beside: &[(&str, &[u8])],
    ) -> Ticket {
        let ticket = self.next;
        self.next += 1;
        let mut side = self.spare.pop().unwrap_or_default();
        for (name, value) in beside {
            pack(name.as_bytes(), &mut side);
            pack(value, &mut side);
        }
        if self.in_hand == 0 {
            self.open.tidy();
        }
        self.in_hand += 1;
        self.bytes_in_hand += data.len();
        let fields = beside.len();
        self.unsent.push_back(Item { ticket, stream, camera, data, side, fields, again: false });
        self.step(Duration::ZERO);
        Ticket(ticket)
    }

    /// Takes the answers that have arrived and sends what can be sent. If there was nothing to do,
    /// waits up to `limit` for an answer or for the end of a pause.
    pub fn step(&mut self, limit: Duration) {
        let before = self.sendings;
        self.take(Duration::ZERO);
        self.recover();
        self.send_on();
        if limit.is_zero() || self.in_hand == 0 || self.sendings != before {
            return;
        }
        if self.open.iter().any(|line| !line.in_transit.is_empty()) {
            self.take(limit.min(limits::SOCKET_TICK));
        } else if let Some(at) = self.resume_at {
            let left = at.since(Tick::now()).min(limit);
            let over = match self.flushing {
                true => self.stop.sleep_unless_now(left),
                false => self.stop.sleep(left),
            };
            if over {
                self.resume_at = None; // the next attempt reports the stop
            }
        }
        self.recover();
        self.send_on();
    }

    /// Waits until everything in hand is confirmed or has failed, and retries even while the engine
    /// drains. After `limit`, returns the number of entries without an answer; they stay in hand.
    pub fn flush(&mut self, limit: Duration) -> usize {
        let began = Tick::now();
        self.flushing = true;
        while self.in_hand > 0 && !self.stop.is_now() {
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            self.step(left);
        }
        self.flushing = false;
        self.in_hand
    }

    /// Whether an entry is partly sent; later calls send the rest.
    pub fn is_half_sent(&self) -> bool {
        self.open.iter().any(|line| line.sending)
    }

    /// Changes the approximate length limit of each stream for entries added from now on.
    pub fn limit_length(&mut self, entries: u64) {
        self.options.length_max = entries;
    }

    /// Entries that have no reply yet.
    pub fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// Takes the oldest waiting reply.
    pub fn reply(&mut self) -> Option<(Ticket, Result<EntryId, Fault>)> {
        self.replies.pop_front().map(|reply| (reply.ticket, reply.result))
    }

    /// Takes the reply of one entry, if it has arrived.
    pub fn reply_of(&mut self, ticket: Ticket) -> Option<Result<EntryId, Fault>> {
        let at = self.replies.iter().rposition(|reply| reply.ticket == ticket)?;
        self.replies.remove(at).map(|reply| reply.result)
    }

    /// Takes the fault of the last added entry if it has failed already.
    pub fn failure_of(&mut self, ticket: Ticket) -> Option<Fault> {
        match self.replies.back() {
            Some(last) if last.ticket == ticket && last.result.is_err() => {
                self.replies.pop_back()?.result.err()
            }
            _ => None,
        }
    }

    /// Takes all replies up to the first fault. Faults of superseded entries are passed over.
    ///
    /// # Errors
    /// That fault.
    pub fn settle(&mut self) -> Result<(), Fault> {
        while let Some(Reply { result, superseded, .. }) = self.replies.pop_front() {
            match result {
                Err(fault) if !superseded => return Err(fault),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes how entries have ended since the last call, in addition to their replies, with the id
    /// of each that was added. Recording starts with the first call; from then on the caller must
    /// keep calling.
    pub fn ends(&mut self) -> Vec<(Ticket, Option<EntryId>)> {
        self.ends.replace(Vec::new()).unwrap_or_default()
    }

    /// Counts of how entries ended so far.
    pub fn sendings(&self) -> Sendings {
        self.sendings
    }

    fn end(&mut self, item: Item, result: Result<EntryId, Fault>) {
        self.end_as(item, result, false);
    }

    fn end_as(&mut self, item: Item, result: Result<EntryId, Fault>, superseded: bool) {
        self.in_hand -= 1;
        self.bytes_in_hand -= item.data.len();
        match &result {
            Ok(_) => self.sendings.confirmed += 1,
            Err(_) => self.sendings.failed += 1,
        }
        if let Some(ends) = &mut self.ends {
            ends.push((Ticket(item.ticket), result.as_ref().ok().copied()));
        }
        if self.replies.len() == REPLIES_MAX {
            self.replies.pop_front();
            self.sendings.replies_forgotten += 1;
        }
        self.replies.push_back(Reply { ticket: Ticket(item.ticket), result, superseded });
        let mut side = item.side;
        side.clear();
        self.spare.push(side);
    }
}
