//! The reading stage: one thread per input stream; several only where order does not matter,
//! for order within a camera begins here.
//!
//! After every connect the consumer's own pending entries come first; the journal keeps those out
//! that are still in work. Backlog stays in Redis: the only things that hold a reader up are a full
//! lane and an empty pool.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::regroup::Regroup;
use super::retry::Attempts;
use crate::base::threads::{Role, Turn};
use crate::base::{Fault, Stop, limits};
use crate::frame::{self, EntryId, Journal, Pool, RawFrame};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Gauge, Metrics, Part, Recorder};
use crate::redis::{Address, Batch, Control, Delivered, Source, SourceOptions, Topology};

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
    regroup: Arc<Regroup>,
    pool: Pool,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    stop: Stop,
    out: Sender<RawFrame>,
    /// Moving mean of the size of a frame, in bytes.
    frame_bytes: u64,
    /// Whether the first of the pending entries found at the start have been read.
    recovered: bool,
    was_connected: bool,
}

impl Reader {
    /// A reader that sends what it reads to `out`.
    pub fn new(
        settings: ReadSettings,
        journal: Arc<Journal>,
        regroup: Arc<Regroup>,
        pool: Pool,
        metrics: Arc<Metrics>,
        stop: Stop,
        out: Sender<RawFrame>,
    ) -> Reader {
        metrics.health.expect(Part::Reader(settings.index));
        let recorder = metrics.recorder();
        Reader {
            settings,
            journal,
            regroup,
            pool,
            metrics,
            recorder,
            stop,
            out,
            frame_bytes: 0,
            recovered: false,
            was_connected: false,
        }
    }

    /// Reads until draining begins.
    ///
    /// # Errors
    /// [`Fault::NeighbourGone`] if nobody takes the frames; with `retry` off, the first fault of
    /// Redis.
    pub fn run(mut self) -> Result<(), Fault> {
        let mut attempts = Attempts::new("reading", self.settings.topology.pause_longest());
        // Where the next session goes, if a node of a Cluster has said so.
        let mut sent_on = None;
        let shard = self.settings.source.shard;
        while !self.stop.is_draining() {
            let generation = self.regroup.generation(shard);
            if !Regroup::is_whole(generation)
                && let Err(fault) = self.regroup.recreate(shard, generation)
            {
                // Frames in work may be in no pending list: more would only hide that.
                self.metrics.health.fails(self.part(), fault.to_string());
                attempts.failed(&fault);
                attempts.pause(&self.stop, false);
                continue;
            }
            let fault = match self.visit(&mut sent_on, &mut attempts) {
                Ok(()) => return Ok(()),
                // Told to leave while handing on a frame: an end like any other.
                Err(Fault::NeighbourGone(_)) if self.stop.is_now() => return Ok(()),
                Err(fault @ Fault::NeighbourGone(_)) => return Err(fault),
                Err(fault) => fault,
            };
            if self.stop.is_draining() {
                break;
            }
            self.metrics.add(Counter::Errors, 1);
            self.metrics.health.fails(self.part(), fault.to_string());
            attempts.failed(&fault);
            if fault.redis_code() != Some("NOGROUP") {
                let follow = matches!(fault.redis_code(), Some("MOVED" | "ASK"));
                if !self.settings.retry && !follow {
                    return Err(fault);
                }
                attempts.pause(&self.stop, false);
                continue;
            }
            // The pause comes first: commits that got through have then been noticed.
            attempts.pause(&self.stop, false);
            if let Err(fault) = self.regroup.recreate(shard, generation) {
                tracing::warn!("cannot create the group again: {fault}");
            }
        }
        Ok(())
    }

    fn part(&self) -> Part {
        Part::Reader(self.settings.index)
    }

    /// Finds the server and reads from it for as long as that goes well.
    fn visit(
        &mut self,
        sent_on: &mut Option<Address>,
        attempts: &mut Attempts,
    ) -> Result<(), Fault> {
        let address = match sent_on.take() {
            Some(address) => address,
            None => self.settings.topology.primary_for(&self.settings.source.stream)?,
        };
        let end = self.session(&address, attempts);
        if let Err(fault) = &end {
            *sent_on = self.settings.topology.learn(&address, fault);
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
        self.metrics.redis_clock.set_ahead_seconds(source.measure_clock()?);
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
                self.metrics.redis_clock.set_ahead_seconds(source.measure_clock()?);
                self.claim(&mut source)?;
                claimed_at = Tick::now();
            }
            let count = self.next_count();
            source.request(count)?;
            let ahead = (claimed_at.elapsed() < claim_period).then_some(count);
            let mut deliver = hand_on(&self.out, &self.stop, &self.metrics);
            let delivered = source.receive(ahead, &mut deliver)?;
            attempts.succeeded();
            self.metrics.health.works(self.part());
            if let Delivered::Entries(batch) = delivered
                && let Some(mean) = self.count(batch, None)
            {
                self.frame_bytes =
                    if self.frame_bytes == 0 { mean } else { (7 * self.frame_bytes + mean) / 8 };
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
            // With nobody to ask, the one that answers is as good as any.
            _ => Ok(()),
        }
    }

    /// Counts what a reply held; the mean size of its frames, if it held any.
    fn count(&self, batch: Batch, as_well: Option<Counter>) -> Option<u64> {
        self.metrics.add(Counter::BytesIn, batch.bytes);
        if let Some(counter) = as_well {
            self.metrics.add(counter, batch.taken);
        }
        batch.bytes.checked_div(batch.taken)
    }

    /// How many entries to ask for: never more than the lane has room for, nor more bytes than
    /// the budget allows.
    fn next_count(&self) -> usize {
        let lane = self.out.capacity().map_or(1, |capacity| capacity - self.out.len());
        let budget =
            self.settings.inflight_bytes_max.saturating_sub(self.pool.usage().leased_bytes);
        let by_bytes = (budget as u64).checked_div(self.frame_bytes).unwrap_or(1);
        let by_bytes = usize::try_from(by_bytes).unwrap_or(usize::MAX);
        self.settings.batch_size.min(lane).min(by_bytes).max(1)
    }

    /// Reads what this consumer was given before and never acknowledged.
    fn recover(&mut self, source: &mut Source) -> Result<(), Fault> {
        let mut after = EntryId::default();
        let mut deliver = hand_on(&self.out, &self.stop, &self.metrics);
        let trust_counts = !self.recovered;
        while !self.stop.is_draining() {
            let page = self.settings.batch_size;
            let delivered = source.own_pending(after, page, trust_counts, &mut deliver);
            // From now on deliveries count that a lost connection has swallowed.
            self.recovered = true;
            match delivered? {
                // Each page lies behind the one before, or there is none.
                Delivered::Entries(batch) if batch.last > after => {
                    self.count(batch, Some(Counter::Recovered));
                    after = batch.last;
                }
                Delivered::Entries(_) | Delivered::Nothing | Delivered::Draining => break,
            }
        }
        Ok(())
    }

    /// Takes over entries that others have left lying.
    fn claim(&mut self, source: &mut Source) -> Result<(), Fault> {
        let mut deliver = hand_on(&self.out, &self.stop, &self.metrics);
        let idle = self.settings.claim_idle;
        if let Delivered::Entries(batch) = source.claim_stale(idle, &mut deliver)? {
            self.count(batch, Some(Counter::Claimed));
            if batch.taken > 0 {
                tracing::info!("took over {} entries idle for more than {idle:?}", batch.taken);
            }
        }
        Ok(())
    }

    /// Ends the blocked read, so that a stop neither waits for it nor leaves entries behind that
    /// are on their way.
    fn leave(&self, source: &mut Source) -> Result<(), Fault> {
        if !source.is_outstanding() {
            return Ok(());
        }
        let unblocked = Control::new(source.address(), LAST_REPLY_LIMIT)
            .and_then(|mut control| control.unblock(source.client_id()));
        if let Err(fault) = unblocked {
            // Entries in the reply that we now miss stay pending and come back at the next start.
            tracing::debug!("cannot unblock the last read: {fault}");
        }
        let mut deliver = hand_on(&self.out, &self.stop, &self.metrics);
        match source.receive_last(LAST_REPLY_LIMIT, &mut deliver) {
            Ok(Delivered::Entries(batch)) => {
                self.count(batch, None);
            }
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
