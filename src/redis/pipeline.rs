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

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::feed::Feed;
use super::open::{Connected, Open};
use super::request::pack;
use super::route::{HOPS_MAX, Next};
use super::window::{Sent, Window};
use super::{Address, Route, Topology};
use crate::base::{Fault, Stop, limits};
use crate::frame::{EntryId, Lease};
use crate::metrics::Metrics;
use crate::metrics::clock::Tick;

/// Refusals that waiting may mend.
const PASSING: [&str; 8] =
    ["OOM", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"];

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

/// One server.
#[derive(Debug)]
struct Line {
    feed: Feed,
    under_way: VecDeque<(Item, Sent)>,
    window: Window,
    heard: Tick,
    /// The server takes no writes: leave it when its answers have come.
    leaves: bool,
}

impl Line {
    fn limit(&self) -> usize {
        // A node that another one names takes over a slot: the next entry may belong elsewhere.
        if self.feed.address().is_asking() { 1 } else { self.window.limit() }
    }
}

impl Connected for Line {
    fn address(&self) -> &Address {
        self.feed.address()
    }
}

/// Why nothing is sent at present.
#[derive(Debug, Default)]
struct Setback {
    /// To be sent again.
    items: Vec<Item>,
    /// Camera and ticket of what was added since the first refusal.
    added: Vec<(u64, u64)>,
    /// What was met; the cause of a pause.
    fault: Option<Fault>,
    /// Whether another server is to be asked at once.
    elsewhere: bool,
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
            sendings: Sendings::default(),
            flushing: false,
            spare: Vec::new(),
        }
    }

    /// Connects to every server that has one of the streams, so that the first entry need not wait
    /// for it.
    ///
    /// # Errors
    /// As [`Feed::open`], unless waiting may mend it and `retry` is set.
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
    pub fn has_room(&self, bytes: usize) -> bool {
        let held_up = self.setback.is_some() || self.resume_at.is_some();
        let entries = match held_up || self.open.iter().next().is_none() {
            true => 1,
            false => self.open.iter().map(Line::limit).sum(),
        };
        let fits = self.bytes_in_hand.saturating_add(bytes) <= self.options.bytes_max;
        self.in_hand == 0 || (fits && self.in_hand < entries.min(self.options.entries_max))
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

    /// What has become of the entries so far.
    pub fn sendings(&self) -> Sendings {
        self.sendings
    }

    /// Takes the answers that are here, waiting up to `limit` for the first one, on the connection
    /// that has the oldest entry.
    fn take(&mut self, limit: Duration) {
        let oldest = |line: &Line| line.under_way.front().map(|(item, _)| item.ticket);
        if !limit.is_zero() {
            let waiting = self.open.iter().enumerate();
            let waiting = waiting.filter_map(|(at, line)| oldest(line).map(|ticket| (ticket, at)));
            if let Some((_, at)) = waiting.min() {
                self.take_from(at, limit);
            }
            return;
        }
        // From the last place: a lost connection leaves its place to the last one.
        for at in (0..self.open.iter().count()).rev() {
            self.take_from(at, limit);
        }
    }

    /// Takes the answers of one connection; says whether it is still there.
    fn take_from(&mut self, at: usize, mut limit: Duration) -> bool {
        loop {
            let line = &mut self.open[at];
            if line.under_way.is_empty() {
                return true;
            }
            let answer = match line.feed.ready(std::mem::take(&mut limit)) {
                Ok(true) => line.feed.answer(),
                Ok(false) if line.heard.elapsed() >= self.options.timeout => {
                    Err(line.feed.silent(self.options.timeout))
                }
                Ok(false) => return true,
                Err(fault) => Err(fault),
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(fault) => {
                    self.lost(at, fault);
                    return false;
                }
            };
            line.heard = Tick::now();
            let Some((item, sent)) = line.under_way.pop_front() else { return true };
            line.window.answered(sent);
            match answer {
                Ok(id) => self.added(at, item, id),
                Err(message) => match line.feed.refused(message) {
                    fault @ Fault::Refused { .. } => self.refused(at, item, fault),
                    // The server has closed the connection instead of answering.
                    fault => {
                        line.under_way.push_front((item, sent));
                        self.lost(at, fault);
                        return false;
                    }
                },
            }
        }
    }

    fn added(&mut self, at: usize, item: Item, id: EntryId) {
        match &mut self.setback {
            Some(setback) => setback.added.push((item.camera, item.ticket)),
            None => {
                self.open[at].window.opens();
                self.careful = false;
                self.pause = limits::BACKOFF_FIRST;
                self.hops = 0;
            }
        }
        self.end(item, Ok(id));
    }

    fn refused(&mut self, at: usize, item: Item, fault: Fault) {
        let Fault::Refused { message, .. } = &fault else { return };
        let line = &mut self.open[at];
        let address = line.feed.address().clone();
        let next = self.route.refused(&self.options.streams[item.stream], &address, message);
        line.leaves |= next == Next::Leave;
        let elsewhere = next == Next::Elsewhere && self.hops < HOPS_MAX;
        if !elsewhere && !self.may_pass(&fault) {
            return self.end(item, Err(fault));
        }
        let setback = self.setback.get_or_insert_default();
        setback.items.push(item);
        setback.elsewhere |= elsewhere;
        if !elsewhere {
            setback.fault.get_or_insert(fault);
        }
    }

    /// Drops a connection. What it did not answer is sent again, or ends.
    fn lost(&mut self, at: usize, fault: Fault) {
        let line = self.open.take(at);
        if let Some((item, _)) = line.under_way.front() {
            self.route.heed(&self.options.streams[item.stream], line.feed.address(), &fault);
        }
        let items = line.under_way.into_iter().map(|(item, _)| item);
        if self.may_pass(&fault) {
            let setback = self.setback.get_or_insert_default();
            setback.items.extend(items);
            setback.fault.get_or_insert(fault);
        } else {
            items.for_each(|item| self.end(item, Err(copy(&fault))));
        }
    }

    /// Ends a setback when the last answer under way has come.
    fn recover(&mut self) {
        if self.open.iter().any(|line| !line.under_way.is_empty()) {
            return;
        }
        let Some(Setback { mut items, added, fault, elsewhere }) = self.setback.take() else {
            return;
        };
        self.open.retain(|line| !line.leaves);
        self.open.iter_mut().for_each(|line| line.window.restart());
        self.careful = true;
        items.sort_unstable_by_key(|item| item.ticket);
        for mut item in items.into_iter().rev() {
            let is_late =
                |&(camera, ticket): &(u64, u64)| camera == item.camera && ticket > item.ticket;
            if added.iter().any(is_late) {
                self.sendings.superseded += 1;
                let why = fault.as_ref().map_or_else(superseded, copy);
                self.end_as(item, Err(why), true);
            } else {
                item.again = true;
                self.unsent.push_front(item);
            }
        }
        self.hops += usize::from(elsewhere);
        if let Some(fault) = fault {
            let pause = self.next_pause(&fault);
            self.resume_at = Some(Tick::now().after(pause));
        }
    }

    /// Sends what fits.
    fn send_on(&mut self) {
        loop {
            if self.resume_at.is_some_and(|at| at <= Tick::now()) {
                self.resume_at = None;
            }
            if self.setback.is_some() || self.resume_at.is_some() {
                return;
            }
            let Some(item) = self.unsent.front() else { return };
            let stream = item.stream;
            let address = match self.route.server_of(&self.options.streams[stream]) {
                Ok(address) => address,
                Err(fault) => return self.unreachable(fault),
            };
            let replaces = !self.options.topology.is_cluster()
                && self.open.place_of(&address).is_none()
                && self.open.iter().any(|line| !line.under_way.is_empty());
            if replaces {
                // The old server's answers first: its connection goes when the new one comes.
                self.setback.get_or_insert_default();
                return;
            }
            let at = match self.line_to(&address, stream) {
                Ok(at) => at,
                Err(fault) => return self.unreachable(fault),
            };
            let line = &mut self.open[at];
            if line.under_way.len() >= line.limit() {
                return line.window.filled();
            }
            let Some(item) = self.unsent.front() else { return };
            let key = &self.options.streams[stream];
            let length_max = self.options.length_max;
            match line.feed.post(key, &item.data, &item.side, item.fields, length_max) {
                Ok(()) => {
                    self.sendings.sent_again += u64::from(item.again);
                    if line.under_way.is_empty() {
                        line.heard = Tick::now();
                    }
                    let sent = line.window.sent();
                    line.under_way.extend(self.unsent.pop_front().map(|item| (item, sent)));
                }
                Err(fault) => return self.hung_up(at, fault),
            }
        }
    }

    /// A connection was lost while the first unsent entry was sent on it: it may have arrived. What
    /// was answered before that need not be sent again.
    fn hung_up(&mut self, at: usize, fault: Fault) {
        if let Some(item) = self.unsent.pop_front() {
            let line = &mut self.open[at];
            let sent = line.window.sent();
            line.under_way.push_back((item, sent));
        }
        if self.take_from(at, Duration::ZERO) {
            self.lost(at, fault);
        }
    }

    /// The server of the first unsent entry cannot be reached.
    fn unreachable(&mut self, fault: Fault) {
        if self.may_pass(&fault) {
            let pause = self.next_pause(&fault);
            self.resume_at = Some(Tick::now().after(pause));
            return;
        }
        while let Some(item) = self.unsent.pop_front() {
            self.end(item, Err(copy(&fault)));
        }
    }

    /// The place of the connection to a server, which is made if there is none.
    fn line_to(&mut self, address: &Address, stream: usize) -> Result<usize, Fault> {
        let PipelineOptions { topology, timeout, wait_replicas, streams, .. } = &self.options;
        let (metrics, stop, careful) = (&self.metrics, &self.stop, self.careful);
        let line = self.open.at(address, topology, || {
            let feed = Feed::open(address, "framepress-producer", *timeout, metrics, stop)?;
            let mut window = Window::new();
            if careful {
                window.restart();
            }
            Ok(Line {
                feed: feed.with_replicas(*wait_replicas),
                under_way: VecDeque::new(),
                window,
                heard: Tick::now(),
                leaves: false,
            })
        });
        if let Err(fault) = &line {
            self.route.heed(&streams[stream], address, fault);
        }
        line
    }

    /// Whether to try again.
    fn may_pass(&self, fault: &Fault) -> bool {
        let passing = matches!(fault, Fault::Connection { .. })
            || fault.redis_code().is_some_and(|code| PASSING.contains(&code));
        let stopped = if self.flushing { self.stop.is_now() } else { self.stop.is_draining() };
        self.options.retry && passing && !stopped
    }

    fn next_pause(&mut self, fault: &Fault) -> Duration {
        let pause = self.pause;
        tracing::warn!("{fault}; trying again in {pause:?}");
        self.pause = (pause * 2).min(self.options.topology.pause_longest());
        pause
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

fn superseded() -> Fault {
    Fault::Unusable("not added: a later frame of its camera was".into())
}

/// The same fault, for another entry.
fn copy(fault: &Fault) -> Fault {
    match fault {
        Fault::Connection { endpoint, detail } => Fault::connection(endpoint, detail),
        Fault::Refused { endpoint, command, message } => {
            Fault::Refused { endpoint: endpoint.clone(), command, message: message.clone() }
        }
        other => Fault::Unusable(other.to_string()),
    }
}
