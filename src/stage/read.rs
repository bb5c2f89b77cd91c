//! The reading stage: one thread per input stream; several only where order does not matter,
//! for order within a camera begins here.
//!
//! After every connect the consumer's own pending entries come first; the journal keeps those out
//! that are still in work. Backlog stays in Redis: the only things that hold a reader up are a full
//! lane and an empty pool.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::group::Groups;
use super::retry::Attempts;
use crate::base::threads::{Role, Turn};
use crate::base::{Fault, Stop, limits};
use crate::frame::{self, EntryId, Journal, Pool, RawFrame};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Gauge, Metrics, Part, Recorder};
use crate::redis::{
    Address, Batch, Control, Delivered, Pending, Route, Source, SourceOptions, Topology,
};

/// How long a read that is being unblocked may still take to answer.
const LAST_REPLY_LIMIT: Duration = Duration::from_millis(500);

/// What a reader needs to know.
#[derive(Clone, Debug)]
pub struct ReadSettings {
    /// Its number among the readers.
    pub index: usize,
    /// Where Redis is.
    pub topology: Topology,
    /// The stream and our place in its group.
    pub source: Arc<SourceOptions>,
    /// Most entries asked for at a time.
    pub batch_size: usize,
    /// Most bytes in work, shared by all readers.
    pub inflight_bytes_max: usize,
    /// Idle time after which an entry is taken over from another consumer.
    pub claim_idle: Duration,
    /// Whether to go on after a lost connection.
    pub retry: bool,
    /// Called at each turn.
    pub turn: Turn,
}

/// A reader, ready to run.
#[derive(Debug)]
pub struct Reader {
    settings: ReadSettings,
    journal: Arc<Journal>,
    groups: Arc<Groups>,
    route: Route,
    pool: Pool,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    stop: Stop,
    out: Sender<RawFrame>,
    /// Size of a large frame lately, in bytes; 0 if it is not known, or if the last connection was
    /// cut: the server may have found a reply too large.
    frame_bytes: u64,
    /// Whether the pending entries that a former process left have all been read.
    is_recovered: bool,
    was_connected: bool,
    /// Whether the last entry read had an id ahead of the server's clock.
    is_ahead: bool,
}

impl Reader {
    /// A reader that sends what it reads to `out`.
    pub fn new(
        settings: ReadSettings,
        groups: Arc<Groups>,
        pool: Pool,
        metrics: Arc<Metrics>,
        stop: Stop,
        out: Sender<RawFrame>,
    ) -> Reader {
        metrics.health.expect(Part::Reader(settings.index));
        let recorder = metrics.recorder();
        let route = Route::new(&settings.topology);
        let journal = Arc::clone(groups.journal(settings.source.shard));
        Reader {
            settings,
            journal,
            groups,
            route,
            pool,
            metrics,
            recorder,
            stop,
            out,
            frame_bytes: 0,
            is_recovered: false,
            was_connected: false,
            is_ahead: false,
        }
    }

    /// Reads until draining begins.
    ///
    /// # Errors
    /// [`Fault::NeighbourGone`] if the dispatcher is gone; with `retry` off, the first fault of
    /// Redis.
    pub fn run(mut self) -> Result<(), Fault> {
        let mut attempts = Attempts::new("reading", self.settings.topology.pause_longest());
        let shard = self.settings.source.shard;
        while !self.stop.is_draining() {
            let epoch = self.journal.epoch();
            let fault = match self.visit(&mut attempts) {
                Ok(()) => return Ok(()),
                // Told to leave while handing on a frame: an end like any other.
                Err(Fault::NeighbourGone(_)) if self.stop.is_now() => return Ok(()),
                Err(fault @ Fault::NeighbourGone(_)) => return Err(fault),
                Err(fault) => fault,
            };
            if self.stop.is_draining() {
                break;
            }
            self.frame_bytes = 0;
            self.metrics.add(Counter::Errors, 1);
            self.metrics.health.fails(self.part(), fault.to_string());
            attempts.failed(&fault);
            let is_group_lost = fault.redis_code() == Some("NOGROUP");
            let is_sent_on = matches!(fault.redis_code(), Some("MOVED" | "ASK"));
            if !self.settings.retry && !is_group_lost && !is_sent_on {
                return Err(fault);
            }
            attempts.pause(&self.stop, false);
            if is_group_lost && let Err(fault) = self.groups.recover(shard, epoch) {
                tracing::warn!("cannot create the group again: {fault}");
            }
        }
        Ok(())
    }

    fn part(&self) -> Part {
        Part::Reader(self.settings.index)
    }

    /// Finds the server and reads from it for as long as that goes well.
    fn visit(&mut self, attempts: &mut Attempts) -> Result<(), Fault> {
        let settings = Arc::clone(&self.settings.source);
        let address = self.route.server_of(&settings.stream)?;
        let end = self.session(&address, attempts);
        if let Err(fault) = &end {
            self.route.heed(&settings.stream, &address, fault);
        }
        end
    }

    /// One connection's life.
    fn session(&mut self, address: &Address, attempts: &mut Attempts) -> Result<(), Fault> {
        let settings = self.settings.clone();
        let mut source = Source::open(
            address,
            &settings.source,
            &self.journal,
            &self.pool,
            &self.metrics,
            &self.recorder,
            &self.stop,
        )?;
        if std::mem::replace(&mut self.was_connected, true) {
            self.metrics.add(Counter::Reconnects, 1);
        }
        source.read_clock()?;
        self.recover(&mut source)?;

        let claim_period = limits::CLAIM_PERIOD.min(settings.claim_idle / 3);
        let mut claimed_at = Tick::now();
        loop {
            settings.turn.begins(Role::Read);
            if self.stop.is_draining() {
                return self.leave(&mut source);
            }
            self.stay_with(address)?;
            let claim_due = claimed_at.elapsed() >= claim_period;
            if claim_due && !source.is_outstanding() {
                // Clocks are set, and drift: what decides about shedding is measured again.
                source.read_clock()?;
                self.claim(&mut source)?;
                claimed_at = Tick::now();
            }
            let count = self.next_count();
            source.request(count)?;
            let ahead = (claimed_at.elapsed() < claim_period).then_some(count);
            let delivered =
                source.receive(ahead, &mut hand_on(&self.out, &self.stop, &self.metrics))?;
            attempts.succeeded();
            self.metrics.health.works(self.part());
            if let Delivered::Entries(batch) = delivered {
                self.count(batch, None);
            }
        }
    }

    /// Leaves a server that is not the primary any more, though it may not know yet.
    fn stay_with(&self, address: &Address) -> Result<(), Fault> {
        let ReadSettings { topology, source, .. } = &self.settings;
        if topology.is_cluster() {
            return Ok(()); // its nodes say so themselves
        }
        match topology.primary_for(&source.stream) {
            Ok(primary) if !primary.is_at(address) => {
                let detail = format!("it has been replaced as the primary by {primary}");
                Err(Fault::connection(address, detail))
            }
            // If no Sentinel answers, the server that does is as good as any.
            _ => Ok(()),
        }
    }

    /// Counts what a reply held, and remembers how large its frames were.
    fn count(&mut self, batch: Batch, as_well: Option<Counter>) {
        self.metrics.add(Counter::BytesIn, batch.bytes);
        if let Some(counter) = as_well {
            self.metrics.add(counter, batch.taken);
        }
        // Small frames between large ones lower it slowly: the next one may be large again.
        self.frame_bytes = batch.largest.max(self.frame_bytes - self.frame_bytes / 8);
        if batch.taken > 0 {
            self.compare_clocks(batch);
        }
    }

    /// Notices ids ahead of the server's clock, as after that was set back. The age of such frames
    /// cannot be told, so they are not shed.
    fn compare_clocks(&mut self, batch: Batch) {
        let ahead = self.metrics.redis_clock.ahead(batch.last.millis);
        if let Some(ahead) = ahead {
            self.metrics.add(Counter::IdsAheadOfClock, batch.taken);
            if !self.is_ahead {
                tracing::warn!(
                    "entries of {} have ids {ahead:?} ahead of the clock of the server, which was \
                     set back: their age cannot be told, and max_frame_age_ms sheds none of them \
                     until the clock has caught up",
                    self.settings.source.stream
                );
            }
        }
        self.is_ahead = ahead.is_some();
    }

    /// How many entries to ask for: never more than the lane has room for, nor more bytes than
    /// the budget and a reply may have.
    fn next_count(&self) -> usize {
        let lane = self.out.capacity().map_or(1, |capacity| capacity - self.out.len());
        let budget =
            self.settings.inflight_bytes_max.saturating_sub(self.pool.usage().leased_bytes);
        let bytes = limits::REPLY_BYTES_MAX.min(budget as u64);
        let by_bytes = bytes.checked_div(self.frame_bytes).unwrap_or(1);
        let by_bytes = usize::try_from(by_bytes).unwrap_or(usize::MAX);
        self.settings.batch_size.min(lane).min(by_bytes).max(1)
    }

    /// Reads what this consumer was given before and never acknowledged.
    fn recover(&mut self, source: &mut Source) -> Result<(), Fault> {
        let which = Pending::Own { is_left: !self.is_recovered };
        self.fetch(source, which, Counter::Recovered)?;
        if !self.stop.is_draining() {
            // From now on, what is found there was swallowed by a lost connection.
            self.is_recovered = true;
            self.journal.found_left(self.settings.source.reader);
        }
        Ok(())
    }

    /// Takes over entries that others have left lying.
    fn claim(&mut self, source: &mut Source) -> Result<(), Fault> {
        let idle = self.settings.claim_idle;
        let taken = self.fetch(source, Pending::Stale(idle), Counter::Claimed)?;
        if taken > 0 {
            tracing::info!("took over {taken} entries idle for more than {idle:?}");
        }
        Ok(())
    }

    /// Reads pending entries page by page; how many were taken.
    fn fetch(
        &mut self,
        source: &mut Source,
        which: Pending,
        counter: Counter,
    ) -> Result<u64, Fault> {
        let (mut after, mut taken) = (EntryId::default(), 0);
        while !self.stop.is_draining() {
            let page = source.pending(
                which,
                after,
                self.frame_bytes,
                &mut hand_on(&self.out, &self.stop, &self.metrics),
            )?;
            self.count(page.batch, Some(counter));
            taken += page.batch.taken;
            match page.last {
                Some(last) => after = last,
                None => break,
            }
        }
        Ok(taken)
    }

    /// Ends the blocked read, so that a stop neither waits for it nor leaves entries behind that
    /// are on their way.
    fn leave(&mut self, source: &mut Source) -> Result<(), Fault> {
        if !source.is_outstanding() {
            return Ok(());
        }
        let unblocked = Control::new(source.address(), LAST_REPLY_LIMIT)
            .and_then(|mut control| control.unblock(source.client_id()));
        if let Err(fault) = unblocked {
            // Entries in the reply that we now miss stay pending and come back at the next start.
            tracing::debug!("cannot unblock the last read: {fault}");
        }
        let last = source
            .receive_last(LAST_REPLY_LIMIT, &mut hand_on(&self.out, &self.stop, &self.metrics));
        match last {
            Ok(Delivered::Entries(batch)) => self.count(batch, None),
            Ok(Delivered::Nothing | Delivered::Draining) => {}
            Err(fault) => tracing::debug!("the last read: {fault}"),
        }
        Ok(())
    }
}

/// Hands frames on to the dispatcher, and keeps account of the lane and of the waits for it.
fn hand_on<'a>(
    out: &'a Sender<RawFrame>,
    stop: &'a Stop,
    metrics: &'a Metrics,
) -> impl FnMut(RawFrame) -> Result<(), Fault> + 'a {
    move |frame| {
        let began = Tick::now();
        frame::send(out, frame, stop, "process")?;
        metrics.raise(Gauge::ReadLane);
        metrics.add_micros(Counter::ReadLaneBlockedMicros, began.elapsed());
        Ok(())
    }
}
