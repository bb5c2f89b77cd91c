//! The producing side for all servers of a topology: several entries under way on each connection.
//!
//! 1. Entries of a stream are sent in the order in which they were handed over, and so are entries
//!    that are sent again.
//! 2. After a refusal or a lost connection nothing is sent until every other answer that is still
//!    under way has come. Then everything refused or unanswered is sent again in order, the first
//!    entry alone.
//! 3. An entry that was refused while a later one of its camera was added is not sent again: it
//!    would come after that one. It ends with its refusal.
//! 4. Every entry ends with one reply.

mod lines;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::lines::{Line, Setback};
use super::open::Open;
use super::request::pack;
use super::{Route, Topology};
use crate::base::{Fault, Stop, limits};
use crate::frame::{EntryId, Lease};
use crate::metrics::Metrics;
use crate::metrics::clock::Tick;

/// Replies that wait to be taken. Beyond, the oldest are forgotten and counted.
const REPLIES_MAX: usize = 16_384;

/// Where and how a [`Pipeline`] sends.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Where Redis is.
    pub topology: Topology,
    /// The streams that entries name by their place in this list.
    pub streams: Vec<String>,
    /// Approximate length limit of each stream; 0 for none.
    pub length_max: u64,
    /// Replicas that are waited for after each entry; 0 does not wait.
    pub wait_replicas: u32,
    /// Longest wait for Redis.
    pub timeout: Duration,
    /// Whether to send again what was lost with a connection, or refused for a passing reason.
    pub retry: bool,
    /// Most entries in hand.
    pub entries_max: usize,
    /// Most bytes of their data, unless one entry alone is larger.
    pub bytes_max: usize,
}

/// Names an entry in its reply. Tickets are handed out in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What has become of the entries so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sendings {
    /// Entries that the server has confirmed.
    pub confirmed: u64,
    /// Entries that ended with a fault; some may be in the stream after a lost connection.
    pub failed: u64,
    /// Of those, entries that were refused while a later one of the same camera was added.
    pub superseded: u64,
    /// Times that an entry was sent again.
    pub sent_again: u64,
    /// Replies that were forgotten because they were not taken.
    pub replies_forgotten: u64,
}

/// What has become of an entry.
#[derive(Debug)]
struct Reply {
    ticket: Ticket,
    result: Result<EntryId, Fault>,
    /// It was given up for the order of its camera.
    superseded: bool,
}

/// An entry in hand.
#[derive(Debug)]
struct Item {
    ticket: u64,
    stream: usize,
    /// Whose order matters: a hash of the camera's name.
    camera: u64,
    data: Lease,
    /// Packed fields beside the data, and their number.
    side: Vec<u8>,
    fields: usize,
    /// Whether it has been sent before.
    again: bool,
}

/// Entries on their way to the servers that have their streams. All work is done in the calls; there
/// is no thread.
#[derive(Debug)]
pub struct Pipeline {
    options: PipelineOptions,
    route: Route,
    metrics: Arc<Metrics>,
    stop: Stop,
    open: Open<Line>,
    /// Not sent yet, or to be sent again; in ascending order.
    unsent: VecDeque<Item>,
    setback: Option<Setback>,
    resume_at: Option<Tick>,
    pause: Duration,
    /// Rounds of redirections without an entry added.
    hops: usize,
    /// Nothing was added since the last setback: a new connection gets one entry at first.
    careful: bool,
    in_hand: usize,
    bytes_in_hand: usize,
    next: u64,
    replies: VecDeque<Reply>,
    /// The ends of entries since the last look, if they are wanted.
    ends: Option<Vec<(Ticket, Option<EntryId>)>>,
    sendings: Sendings,
    /// While the last entries are brought home, a stop signal does not end the attempts.
    flushing: bool,
    spare: Vec<Vec<u8>>,
}

impl Pipeline {
    /// Nothing is connected yet.
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

    /// Connects to every server that has one of the streams, so that the first entry need not wait
    /// for it.
    ///
    /// # Errors
    /// As [`Connection::open`](super::Connection::open), unless waiting may mend it and `retry` is set.
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

    /// Whether an entry with so many bytes of data fits in.
    pub fn has_room(&mut self, bytes: usize) -> bool {
        let held_up = self.setback.is_some() || self.resume_at.is_some();
        let entries = match held_up || self.open.iter().next().is_none() {
            true => 1,
            false => self.open.iter().map(Line::limit).sum(),
        };
        let fits = self.bytes_in_hand.saturating_add(bytes) <= self.options.bytes_max;
        let has_room =
            self.in_hand == 0 || (fits && self.in_hand < entries.min(self.options.entries_max));
        if !has_room {
            self.open.iter_mut().for_each(Line::filled);
        }
        has_room
    }

    /// Takes over an entry, and sends it now if nothing is in the way. `camera` names what has an
    /// order within the stream.
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
        self.turn(Duration::ZERO);
        Ticket(ticket)
    }

    /// Takes the answers that are here, and sends what is to be sent. If nothing is to be done,
    /// waits up to `limit` for an answer or for the end of a pause.
    pub fn turn(&mut self, limit: Duration) {
        let before = self.sendings;
        self.take(Duration::ZERO);
        self.recover();
        self.send_on();
        if limit.is_zero() || self.in_hand == 0 || self.sendings != before {
            return;
        }
        if self.open.iter().any(|line| !line.under_way.is_empty()) {
            self.take(limit.min(limits::SOCKET_TICK));
        } else if let Some(at) = self.resume_at {
            let left = at.since(Tick::now()).min(limit);
            let over = match self.flushing {
                true => self.stop.sleep_unless_now(left),
                false => self.stop.sleep(left),
            };
            if over {
                self.resume_at = None; // the next attempt says how it ends
            }
        }
        self.recover();
        self.send_on();
    }

    /// Waits for everything in hand, and tries again even if a stop was asked for. Says how many
    /// entries are not confirmed when `limit` is over; they stay in hand.
    pub fn flush(&mut self, limit: Duration) -> usize {
        let began = Tick::now();
        self.flushing = true;
        while self.in_hand > 0 && !self.stop.is_now() {
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            self.turn(left);
        }
        self.flushing = false;
        self.in_hand
    }

    /// Whether an entry is sent in part: the rest goes with the next turns.
    pub fn is_half_sent(&self) -> bool {
        self.open.iter().any(|line| line.sending)
    }

    /// Another approximate length limit of each stream, for entries added from now on.
    pub fn limit_length(&mut self, entries: u64) {
        self.options.length_max = entries;
    }

    /// Entries that have no reply yet.
    pub fn in_hand(&self) -> usize {
        self.in_hand
    }

    /// The oldest reply that was not taken.
    pub fn reply(&mut self) -> Option<(Ticket, Result<EntryId, Fault>)> {
        self.replies.pop_front().map(|reply| (reply.ticket, reply.result))
    }

    /// The reply of one entry, if it is there.
    pub fn reply_of(&mut self, ticket: Ticket) -> Option<Result<EntryId, Fault>> {
        let at = self.replies.iter().rposition(|reply| reply.ticket == ticket)?;
        self.replies.remove(at).map(|reply| reply.result)
    }

    /// The fault of the entry that was added last, if it has failed already; it then has no reply.
    pub fn failure_of(&mut self, ticket: Ticket) -> Option<Fault> {
        match self.replies.back() {
            Some(last) if last.ticket == ticket && last.result.is_err() => {
                self.replies.pop_back()?.result.err()
            }
            _ => None,
        }
    }

    /// Takes the replies up to the first fault, but those of superseded entries.
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

    /// How entries have ended since the last call, beside their replies: with the id of each that was
    /// added. Nothing is noted before the first call; from then on the caller has to call again.
    pub fn ends(&mut self) -> Vec<(Ticket, Option<EntryId>)> {
        self.ends.replace(Vec::new()).unwrap_or_default()
    }

    /// What has become of the entries so far.
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
