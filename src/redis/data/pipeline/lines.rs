//! The connections of a pipeline: sending, taking answers, and recovering from a refusal or a loss.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Item, Pipeline, PipelineOptions};
use crate::base::{Fault, limits};
use crate::frame::EntryId;
use crate::metrics::clock::Tick;
use crate::redis::data::feed::Feed;
use crate::redis::data::window::{SendWindow, SentRequest};
use crate::redis::protocol::Address;
use crate::redis::topology::open::Connected;
use crate::redis::topology::route::Next;

/// Refusals that may go away by waiting.
const PASSING: [&str; 8] =
    ["OOM", "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"];

/// The connection to one server.
#[derive(Debug)]
pub(super) struct ServerLine {
    feed: Feed,
    pub(super) in_transit: VecDeque<(Item, SentRequest)>,
    window: SendWindow,
    heard: Tick,
    /// The first unsent entry is partly sent on this connection.
    pub(super) sending: bool,
    /// The server takes no writes: close the connection once its answers have arrived.
    leaves: bool,
}

impl ServerLine {
    pub(super) fn limit(&self) -> usize {
        // An ASK target is just taking over a slot: the next entry may belong elsewhere.
        if self.feed.address().is_asking() { 1 } else { self.window.limit() }
    }

    /// Notes that a full window held an entry back.
    pub(super) fn filled(&mut self) {
        self.window.filled();
    }
}

impl Connected for ServerLine {
    fn address(&self) -> &Address {
        self.feed.address()
    }
}

/// The reason why nothing is sent at present.
#[derive(Debug, Default)]
pub(super) struct Setback {
    /// Entries to send again.
    items: Vec<Item>,
    /// Camera and ticket of entries added since the first refusal.
    added: Vec<(u64, u64)>,
    /// The first fault, which calls for a pause.
    fault: Option<Fault>,
    /// Whether to ask another server at once.
    elsewhere: bool,
}

impl Pipeline {
    /// Takes the answers that have arrived. If `limit` is not zero, waits that long for an answer
    /// on the connection with the oldest entry.
    pub(super) fn take(&mut self, limit: Duration) {
        let oldest = |line: &ServerLine| line.in_transit.front().map(|(item, _)| item.ticket);
        if !limit.is_zero() {
            let waiting = self.open.iter().enumerate();
            let waiting = waiting.filter_map(|(at, line)| oldest(line).map(|ticket| (ticket, at)));
            if let Some((_, at)) = waiting.min() {
                self.take_from(at, limit);
            }
            return;
        }
        // Backwards, because the last connection moves into the place of a lost one.
        for at in (0..self.open.iter().count()).rev() {
            self.take_from(at, limit);
        }
    }

    /// Takes the answers of one connection. Returns whether the connection is still open.
    fn take_from(&mut self, at: usize, mut limit: Duration) -> bool {
        loop {
            let line = &mut self.open[at];
            if line.in_transit.is_empty() {
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
            let Some((item, sent)) = line.in_transit.pop_front() else { return true };
            line.window.answered(sent);
            match answer {
                Ok(id) => self.added(at, item, id),
                Err(message) => match line.feed.refused(message) {
                    fault @ Fault::Refused { .. } => self.refused(at, item, fault),
                    // The server closed the connection instead of answering.
                    fault => {
                        line.in_transit.push_front((item, sent));
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
        let elsewhere = next == Next::Elsewhere && self.hops < limits::HOPS_MAX;
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

    /// Drops a connection. Its unanswered entries are sent again or end.
    fn lost(&mut self, at: usize, fault: Fault) {
        let line = self.open.take(at);
        if let Some((item, _)) = line.in_transit.front() {
            self.route.handle_trouble(
                &self.options.streams[item.stream],
                line.feed.address(),
                &fault,
            );
        }
        let items = line.in_transit.into_iter().map(|(item, _)| item);
        if self.may_pass(&fault) {
            let setback = self.setback.get_or_insert_default();
            setback.items.extend(items);
            setback.fault.get_or_insert(fault);
        } else {
            items.for_each(|item| self.end(item, Err(copy(&fault))));
        }
    }

    /// Ends a setback once all answers in flight have arrived.
    pub(super) fn recover(&mut self) {
        if self.open.iter().any(|line| !line.in_transit.is_empty()) {
            return;
        }
        let Some(Setback { mut items, added, fault, elsewhere }) = self.setback.take() else {
            return;
        };
        // An entry sent again goes before a partly sent one, so close the connection of the latter.
        self.open.retain(|line| !line.leaves && !line.sending);
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

    /// Sends entries as far as the windows allow.
    pub(super) fn send_on(&mut self) {
        loop {
            if self.resume_at.is_some_and(|at| at <= Tick::now()) {
                self.resume_at = None;
            }
            if self.setback.is_some() || self.resume_at.is_some() {
                return;
            }
            let Some(item) = self.unsent.front() else { return };
            let stream = item.stream;
            // A partly sent entry continues on its connection.
            let begun = self.open.iter().position(|line| line.sending);
            let Some(at) = begun.or_else(|| self.line_for(stream)) else { return };
            let line = &mut self.open[at];
            let Some(item) = self.unsent.front() else { return };
            if !line.sending {
                if line.in_transit.len() >= line.limit() {
                    return line.window.filled();
                }
                let key = &self.options.streams[stream];
                let (bytes, length_max) = (item.data.len(), self.options.length_max);
                line.feed.prepare(key, bytes, &item.side, item.fields, length_max);
                self.sendings.sent_again += u64::from(item.again);
                line.sending = true;
                if line.in_transit.is_empty() {
                    line.heard = Tick::now();
                }
            }
            let before = line.feed.written();
            let sent = line.feed.send_on(&item.data);
            if line.feed.written() > before {
                line.heard = Tick::now();
            }
            match sent {
                Ok(true) => {
                    line.sending = false;
                    let sent = line.window.sent(line.in_transit.len());
                    line.in_transit.extend(self.unsent.pop_front().map(|item| (item, sent)));
                }
                Ok(false) if line.heard.elapsed() < self.options.timeout => return,
                Ok(false) => {
                    let fault = line.feed.silent(self.options.timeout);
                    return self.hung_up(at, fault);
                }
                Err(fault) => return self.hung_up(at, fault),
            }
        }
    }

    /// The index of the connection to the server that has a stream; connects if there is none.
    /// `None` if it cannot be used at present.
    fn line_for(&mut self, stream: usize) -> Option<usize> {
        let address = match self.route.server_of(&self.options.streams[stream]) {
            Ok(address) => address,
            Err(fault) => {
                self.unreachable(fault);
                return None;
            }
        };
        let replaces = !self.options.topology.is_cluster()
            && self.open.place_of(&address).is_none()
            && self.open.iter().any(|line| !line.in_transit.is_empty());
        if replaces {
            // Wait for the old server's answers first: the new connection replaces the old one.
            self.setback.get_or_insert_default();
            return None;
        }
        match self.line_to(&address, stream) {
            Ok(at) => Some(at),
            Err(fault) => {
                self.unreachable(fault);
                None
            }
        }
    }

    /// Handles a connection lost while the first unsent entry was being sent on it. The entry may
    /// have arrived. Answers that arrived before are taken, so that their entries are not sent
    /// again.
    fn hung_up(&mut self, at: usize, fault: Fault) {
        if let Some(item) = self.unsent.pop_front() {
            let line = &mut self.open[at];
            let sent = line.window.sent(line.in_transit.len());
            line.in_transit.push_back((item, sent));
        }
        if self.take_from(at, Duration::ZERO) {
            self.lost(at, fault);
        }
    }

    /// Handles that the server of the first unsent entry cannot be reached.
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

    /// The index of the connection to a server; connects if there is none.
    pub(super) fn line_to(&mut self, address: &Address, stream: usize) -> Result<usize, Fault> {
        let PipelineOptions { topology, timeout, wait_replicas, streams, .. } = &self.options;
        let (metrics, stop, careful) = (&self.metrics, &self.stop, self.careful);
        let line = self.open.at(address, topology, || {
            let feed = Feed::open(address, "framepress-producer", *timeout, metrics, stop)?;
            let mut window = SendWindow::new();
            if careful {
                window.restart();
            }
            Ok(ServerLine {
                feed: feed.with_replicas(*wait_replicas),
                in_transit: VecDeque::new(),
                window,
                heard: Tick::now(),
                sending: false,
                leaves: false,
            })
        });
        if let Err(fault) = &line {
            self.route.handle_trouble(&streams[stream], address, fault);
        }
        line
    }

    /// Whether to try again after this fault.
    pub(super) fn may_pass(&self, fault: &Fault) -> bool {
        let passing = matches!(fault, Fault::Connection { .. })
            || fault.redis_code().is_some_and(|code| PASSING.contains(&code));
        let stopped = if self.flushing { self.stop.is_now() } else { self.stop.is_draining() };
        self.options.retry && passing && !stopped
    }

    pub(super) fn next_pause(&mut self, fault: &Fault) -> Duration {
        let pause = self.pause;
        tracing::warn!("{fault}; trying again in {pause:?}");
        self.pause = (pause * 2).min(self.options.topology.pause_longest());
        pause
    }
}

fn superseded() -> Fault {
    Fault::Unusable(
        "the frame was not added, because a later frame of its camera was added first".into(),
    )
}

/// Copies a fault for another entry.
fn copy(fault: &Fault) -> Fault {
    match fault {
        Fault::Connection { endpoint, detail } => Fault::connection(endpoint, detail),
        Fault::Refused { endpoint, command, message } => {
            Fault::Refused { endpoint: endpoint.clone(), command, message: message.clone() }
        }
        other => Fault::Unusable(other.to_string()),
    }
}
