//! A model of the lease protocol: one shard, one camera, several engines. The server behaves like
//! `lease.lua`, `fence.lua`, `commit.lua` and XREADGROUP. An engine behaves like its reader and one
//! committer.
//!
//! Time has no numbers: a lease may expire at any moment, which covers every pause of an engine,
//! every step of a clock and every wait. Other events are: engines crash and restart, connections
//! break with requests in flight that are executed later, replies are lost, and a replica takes
//! over that lacks the last writes.
//!
//! Each safeguard can be removed, to check that the exploration finds a violation without it.

/// Which safeguards are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safeguards {
    /// Commits name holder and epoch.
    pub fenced_commits: bool,
    /// Commits of entries that are not pending store nothing: `delivery: exactly_once`.
    pub pending_fence: bool,
    /// Reads name the stream of the tenure.
    pub fenced_reads: bool,
    /// A lost connection ends the tenure, and the entries in hand are handed over.
    pub connection_ends_tenure: bool,
    /// A new holder ends all pending entries before it reads new ones.
    pub pending_first: bool,
    /// An engine takes a lease again only when it holds no entries.
    pub empty_hands: bool,
}

impl Safeguards {
    /// All of them.
    pub const ALL: Safeguards = Safeguards {
        fenced_commits: true,
        pending_fence: true,
        fenced_reads: true,
        connection_ends_tenure: true,
        pending_first: true,
        empty_hands: true,
    };
}

/// Bounds of the exploration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries in the stream, numbered from 1.
    pub entries: u8,
    /// Highest epoch explored.
    pub epochs: u8,
    /// Failovers.
    pub failovers: u8,
    /// Crashes of engines.
    pub crashes: u8,
    /// Lost connections.
    pub losses: u8,
}

/// A request to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Take the lease, in a higher epoch than this.
    Take(u8),
    /// Give the lease of that epoch back.
    Give(u8),
    /// Read the first pending entry after that one, under that epoch.
    Pending(u8, u8),
    /// Read a new entry, under that epoch.
    New(u8),
    /// Store the result of an entry, under that epoch.
    Commit(u8, u8),
}

/// A server's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The lease was taken in that epoch.
    Taken(u8),
    /// The lease was given back.
    Given,
    /// An entry, if there is one.
    Entry(Option<u8>),
    /// The entry has ended, through this request or earlier.
    Ended,
    /// Another engine holds the stream.
    Refused(u8),
}

/// One server, or a replica's copy of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Server {
    /// Holder of the lease; 0 for none.
    pub holder: u8,
    /// Its epoch.
    pub epoch: u8,
    /// Whether the lease has expired.
    pub is_over: bool,
    /// Delivered and not acknowledged, in order.
    pub pending: Vec<u8>,
    /// The last entry delivered.
    pub delivered: u8,
    /// The entries whose results are stored, in the order of the output stream.
    pub results: Vec<u8>,
}

impl Server {
    fn serve(&mut self, caller: u8, request: Request, entries: u8, has: Safeguards) -> Reply {
        let is_holder = |epoch: u8| self.holder == caller && self.epoch == epoch;
        match request {
            Request::Take(known) => {
                if self.holder != 0 && self.holder != caller && !self.is_over {
                    return Reply::Refused(self.epoch);
                }
                self.epoch = self.epoch.max(known) + 1;
                (self.holder, self.is_over) = (caller, false);
                Reply::Taken(self.epoch)
            }
            Request::Give(epoch) if is_holder(epoch) => {
                self.holder = 0;
                Reply::Given
            }
            Request::Give(_) => Reply::Refused(self.epoch),
            Request::Pending(epoch, _) | Request::New(epoch)
                if has.fenced_reads && !is_holder(epoch) =>
            {
                Reply::Refused(self.epoch)
            }
            Request::Pending(_, after) => {
                Reply::Entry(self.pending.iter().copied().find(|entry| *entry > after))
            }
            Request::New(_) if self.delivered == entries => Reply::Entry(None),
            Request::New(_) => {
                self.delivered += 1;
                self.pending.push(self.delivered);
                Reply::Entry(Some(self.delivered))
            }
            Request::Commit(epoch, _) if has.fenced_commits && !is_holder(epoch) => {
                Reply::Refused(self.epoch)
            }
            Request::Commit(_, entry) => {
                let is_pending = self.pending.contains(&entry);
                self.pending.retain(|pending| *pending != entry);
                if is_pending || !has.pending_fence {
                    self.results.push(entry);
                }
                Reply::Ended
            }
        }
    }
}

/// A connection: its requests and replies in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Line {
    /// The server it leads to, by the number of failovers before.
    pub server: u8,
    /// Requests in flight.
    pub requests: Vec<Request>,
    /// Replies in flight.
    pub replies: Vec<Reply>,
}

impl Line {
    fn to(server: u8) -> Line {
        Line { server, ..Line::default() }
    }

    fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.replies.is_empty()
    }
}

/// The connections of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    /// The reader's connection.
    Reader,
    /// The committer's connection.
    Committer,
}

/// One engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Engine {
    /// Its name, which changes at each start.
    pub name: u8,
    /// The highest epoch it has seen.
    pub known: u8,
    /// The epoch in which it holds the stream; 0 if it does not.
    pub tenure: u8,
    /// The last pending entry seen; `None` when it reads new ones.
    pub after: Option<u8>,
    /// Entries read and not yet sent to be committed.
    pub hand: Vec<u8>,
    /// Entries sent and not answered.
    pub sent: Vec<u8>,
    /// The reader's connection.
    pub reader: Line,
    /// The committer's connection.
    pub committer: Line,
}

impl Engine {
    fn line(&mut self, which: Which) -> &mut Line {
        match which {
            Which::Reader => &mut self.reader,
            Which::Committer => &mut self.committer,
        }
    }

    /// Ends the tenure: entries in hand that were not sent are handed over.
    fn end_tenure(&mut self) {
        self.tenure = 0;
        self.hand.clear();
    }

    fn take_reply(&mut self, which: Which, reply: Reply, has: Safeguards) {
        match (which, reply) {
            (Which::Committer, Reply::Ended) => {
                self.sent.remove(0);
            }
            (Which::Committer, _) => {
                self.sent.remove(0);
                self.end_tenure();
            }
            (_, Reply::Taken(epoch)) => {
                self.tenure = epoch;
                self.known = self.known.max(epoch);
                self.after = has.pending_first.then_some(0);
            }
            (_, Reply::Entry(Some(entry))) => {
                if self.tenure != 0 {
                    self.after = self.after.map(|_| entry);
                    self.hand.push(entry);
                }
            }
            (_, Reply::Entry(None)) => self.after = None,
            (_, Reply::Refused(epoch)) => {
                self.known = self.known.max(epoch);
                self.end_tenure();
            }
            (_, Reply::Given | Reply::Ended) => self.end_tenure(),
        }
    }
}

/// Requests of a connection that its engine has given up; the server still executes them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Name of the engine that sent them.
    pub name: u8,
    /// The requests, and the server that they go to.
    pub line: Line,
}

/// The complete state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The primary.
    pub server: Server,
    /// The replica's copy of it.
    pub replica: Server,
    /// The number of failovers.
    pub failovers: u8,
    /// The number of crashes.
    pub crashes: u8,
    /// The number of connections lost otherwise.
    pub losses: u8,
    /// The engines.
    pub engines: Vec<Engine>,
    /// Requests of lost connections.
    pub ghosts: Vec<Ghost>,
}

/// A possible next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// An engine requests the lease.
    Take(usize),
    /// An engine gives the lease back.
    Give(usize),
    /// An engine's reader requests an entry.
    Read(usize),
    /// An engine's committer sends the entry that is in hand the longest.
    Commit(usize),
    /// The server executes the first request of a connection.
    Serve(usize, Which),
    /// The server executes the first request of a lost connection.
    ServeGhost(usize),
    /// An engine receives the first reply of a connection.
    Reply(usize, Which),
    /// An engine loses a connection.
    Lose(usize, Which),
    /// The lease expires.
    Over,
    /// The replica catches up with the primary.
    Replicate,
    /// The replica takes over.
    FailOver,
    /// An engine crashes and restarts.
    Crash(usize),
}

impl World {
    /// A number of engines, and a stream whose entries wait to be read.
    pub fn new(engines: u8) -> World {
        let engine = |name: u8| Engine { name: name + 1, ..Engine::default() };
        World {
            server: Server::default(),
            replica: Server::default(),
            failovers: 0,
            crashes: 0,
            losses: 0,
            engines: (0..engines).map(engine).collect(),
            ghosts: Vec::new(),
        }
    }

    /// All possible next events.
    pub fn events(&self, limits: Limits, has: Safeguards) -> Vec<Event> {
        let mut events = Vec::new();
        for (at, engine) in self.engines.iter().enumerate() {
            let Engine { tenure, hand, sent, reader, committer, .. } = engine;
            let is_empty = hand.is_empty() && sent.is_empty();
            if *tenure == 0 && reader.is_idle() && (is_empty || !has.empty_hands) {
                events.push(Event::Take(at));
            }
            if *tenure != 0 && reader.is_idle() {
                if is_empty {
                    events.push(Event::Give(at));
                }
                if hand.len() + sent.len() < 2 {
                    events.push(Event::Read(at));
                }
            }
            if !hand.is_empty() {
                events.push(Event::Commit(at));
            }
            for (which, line) in [(Which::Reader, reader), (Which::Committer, committer)] {
                if !line.requests.is_empty() && line.server == self.failovers {
                    events.push(Event::Serve(at, which));
                }
                if !line.replies.is_empty() {
                    events.push(Event::Reply(at, which));
                }
                let is_broken = line.server != self.failovers;
                if is_broken || (self.losses < limits.losses && !line.is_idle()) {
                    events.push(Event::Lose(at, which));
                }
            }
            if self.crashes < limits.crashes {
                events.push(Event::Crash(at));
            }
        }
        events.extend((0..self.ghosts.len()).map(Event::ServeGhost));
        if self.server.holder != 0 && !self.server.is_over {
            events.push(Event::Over);
        }
        if self.failovers < limits.failovers {
            events.push(Event::FailOver);
            if self.replica != self.server {
                events.push(Event::Replicate);
            }
        }
        events
    }

    /// The state after an event.
    pub fn after(&self, event: Event, limits: Limits, has: Safeguards) -> World {
        let mut next = self.clone();
        match event {
            Event::Take(at) => {
                let engine = &mut next.engines[at];
                engine.reader.requests.push(Request::Take(engine.known));
            }
            Event::Give(at) => {
                let engine = &mut next.engines[at];
                engine.reader.requests.push(Request::Give(engine.tenure));
            }
            Event::Read(at) => {
                let engine = &mut next.engines[at];
                let request = match engine.after {
                    Some(after) => Request::Pending(engine.tenure, after),
                    None => Request::New(engine.tenure),
                };
                engine.reader.requests.push(request);
            }
            Event::Commit(at) => {
                let engine = &mut next.engines[at];
                let entry = engine.hand.remove(0);
                engine.sent.push(entry);
                engine.committer.requests.push(Request::Commit(engine.tenure, entry));
            }
            Event::Serve(at, which) => {
                let engine = &mut next.engines[at];
                let name = engine.name;
                let line = engine.line(which);
                let request = line.requests.remove(0);
                let reply = next.server.serve(name, request, limits.entries, has);
                line.replies.push(reply);
            }
            Event::ServeGhost(at) => {
                let Ghost { name, line } = &mut next.ghosts[at];
                let request = line.requests.remove(0);
                next.server.serve(*name, request, limits.entries, has);
            }
            Event::Reply(at, which) => {
                let engine = &mut next.engines[at];
                let reply = engine.line(which).replies.remove(0);
                engine.take_reply(which, reply, has);
            }
            Event::Lose(at, which) => {
                let is_broken = next.engines[at].line(which).server != self.failovers;
                next.losses += u8::from(!is_broken);
                next.lose(at, which, has);
            }
            Event::Over => next.server.is_over = true,
            Event::Replicate => next.replica = next.server.clone(),
            Event::FailOver => {
                next.failovers += 1;
                next.server = next.replica.clone();
            }
            Event::Crash(at) => {
                next.crashes += 1;
                next.lose(at, Which::Reader, has);
                next.lose(at, Which::Committer, has);
                let starts = u8::try_from(next.engines.len()).unwrap_or(u8::MAX);
                next.engines[at] = Engine {
                    name: starts + next.crashes,
                    reader: Line::to(next.failovers),
                    committer: Line::to(next.failovers),
                    ..Engine::default()
                };
            }
        }
        let failovers = next.failovers;
        // Requests in flight to a dead server are lost.
        next.ghosts
            .retain(|ghost| ghost.line.server == failovers && !ghost.line.requests.is_empty());
        next.ghosts.sort_by_key(|ghost| ghost.name);
        next
    }

    fn lose(&mut self, at: usize, which: Which, has: Safeguards) {
        let failovers = self.failovers;
        let engine = &mut self.engines[at];
        let line = std::mem::replace(engine.line(which), Line::to(failovers));
        if has.connection_ends_tenure {
            engine.end_tenure();
            // When a tenure ends, the reader abandons its connection.
            if which == Which::Committer {
                let reader = std::mem::replace(&mut engine.reader, Line::to(failovers));
                self.ghosts.push(Ghost { name: engine.name, line: reader });
            }
        }
        if which == Which::Committer {
            let sent = std::mem::take(&mut engine.sent);
            if !has.connection_ends_tenure {
                // These entries are sent again.
                engine.hand.splice(0..0, sent);
            }
        }
        self.ghosts.push(Ghost { name: engine.name, line });
    }

    /// Whether each entry has at most one result, and the results are in order.
    pub fn is_ordered(&self) -> bool {
        self.server.results.is_sorted_by(|one, other| one < other)
    }

    /// Whether each delivered entry has a result or is pending.
    pub fn is_complete(&self) -> bool {
        let Server { pending, results, delivered, .. } = &self.server;
        (1..=*delivered).all(|entry| pending.contains(&entry) != results.contains(&entry))
    }

    /// Whether every stored result comes before those that are still pending.
    pub fn is_none_overtaken(&self) -> bool {
        let last = self.server.results.last().copied().unwrap_or(0);
        self.server.pending.iter().all(|entry| *entry > last)
    }

    /// Whether every entry has its result.
    pub fn is_done(&self, limits: Limits) -> bool {
        self.server.results.len() == usize::from(limits.entries)
    }
}
