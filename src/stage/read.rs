//! The reading stage: one thread per input stream; several only where order does not matter,
//! for order within a camera begins here.
//!
//! After every connect
//! the consumer's own pending entries come first; the journal keeps those out that are still in
//! work. Backlog stays in Redis: the only things that hold a reader up are a full lane and an
//! empty pool.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::retry::Attempts;
use crate::base::threads::{Role, Turn};
use crate::base::{Fault, Stop, limits};
use crate::frame::{self, EntryId, Journal, Pool, RawFrame};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Metrics, Part, Recorder};
use crate::redis::{Address, Control, Delivered, Source, SourceOptions};

/// How long a read that is being unblocked may still take to answer.
const LAST_REPLY_LIMIT: Duration = Duration::from_millis(500);

/// What a reader needs to know.
#[derive(Clone, Debug)]
pub struct ReadSettings {
    /// The server.
    pub address: Address,
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
    index: usize,
    settings: ReadSettings,
    journal: Arc<Journal>,
    pool: Pool,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    stop: Stop,
    out: Sender<RawFrame>,
    /// Moving mean of the size of a frame, in bytes.
    frame_bytes: u64,
    /// Whether the pending entries found at the first connect have been read.
    recovered: bool,
}

impl Reader {
    /// Reader number `index`, which sends what it reads to `out`.
    pub fn new(
        index: usize,
        settings: ReadSettings,
        journal: Arc<Journal>,
        pool: Pool,
        metrics: Arc<Metrics>,
        stop: Stop,
        out: Sender<RawFrame>,
    ) -> Reader {
        metrics.health.expect(Part::Reader(index));
        let recorder = metrics.recorder();
        Reader {
            index,
            settings,
            journal,
            pool,
            metrics,
            recorder,
            stop,
            out,
            frame_bytes: 0,
            recovered: false,
        }
    }

    /// Reads until draining begins.
    ///
    /// # Errors
    /// [`Fault::NeighbourGone`] if nobody takes the frames; with `retry` off, the first fault of
    /// Redis.
    pub fn run(mut self) -> Result<(), Fault> {
        let mut attempts = Attempts::new("reading");
        while !self.stop.is_draining() {
            let fault = match self.session(&mut attempts) {
                Ok(()) => return Ok(()),
                Err(fault @ Fault::NeighbourGone(_)) => return Err(fault),
                Err(fault) => fault,
            };
            if self.stop.is_draining() {
                break;
            }
            self.metrics.add(Counter::Errors, 1);
            self.metrics.health.fails(self.part(), fault.to_string());
            if !self.settings.retry {
                return Err(fault);
            }
            attempts.failed(&fault);
            // The pause comes first: commits that got through have then been noticed.
            attempts.pause(&self.stop, false);
            if fault.redis_code() == Some("NOGROUP") {
                self.recreate_group();
            }
            self.metrics.add(Counter::Reconnects, 1);
        }
        Ok(())
    }

    fn part(&self) -> Part {
        Part::Reader(self.index)
    }

    /// One connection's life.
    fn session(&mut self, attempts: &mut Attempts) -> Result<(), Fault> {
        let settings = self.settings.clone();
        let mut source = Source::open(
            &settings.address,
            &settings.source,
            &self.journal,
            &self.pool,
            &self.metrics,
            &self.recorder,
            &self.stop,
        )?;
        self.metrics.redis_clock.set_ahead_seconds(source.clock_ahead_seconds());
        self.recover(&mut source)?;

        // A third of the claim time, so that our own entries are renewed well before others may
        // take them.
        let claim_period = limits::CLAIM_PERIOD.min(settings.claim_idle / 3);
        let mut claimed_at = Tick::now();
        loop {
            settings.turn.begins(Role::Read);
            if self.stop.is_draining() {
                return self.leave(&mut source);
            }
            let claim_due = claimed_at.elapsed() >= claim_period;
            if claim_due && !source.is_outstanding() {
                self.claim(&mut source)?;
                claimed_at = Tick::now();
            }
            let count = self.next_count();
            source.request(count)?;
            let ahead = (claimed_at.elapsed() < claim_period).then_some(count);
            let (out, stop) = (&self.out, &self.stop);
            let delivered =
                source.receive(ahead, &mut |frame| frame::send(out, frame, stop, "process"))?;
            attempts.succeeded();
            self.metrics.health.works(self.part());
            if let Delivered::Entries(count, bytes, _) = delivered {
                self.metrics.add(Counter::BytesIn, bytes);
                let mean = bytes / count as u64;
                self.frame_bytes =
                    if self.frame_bytes == 0 { mean } else { (7 * self.frame_bytes + mean) / 8 };
            }
        }
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
        let (out, stop) = (&self.out, &self.stop);
        let mut deliver = |frame| frame::send(out, frame, stop, "process");
        let trust_counts = !self.recovered;
        while !self.stop.is_draining() {
            let page = self.settings.batch_size;
            match source.own_pending(after, page, trust_counts, &mut deliver)? {
                Delivered::Entries(count, bytes, last) => {
                    self.metrics.add(Counter::Recovered, count as u64);
                    self.metrics.add(Counter::BytesIn, bytes);
                    after = last;
                }
                Delivered::Nothing | Delivered::Draining => break,
            }
        }
        self.recovered = true;
        Ok(())
    }

    /// Keeps our own entries ours, and takes over those that others have left lying.
    fn claim(&mut self, source: &mut Source) -> Result<(), Fault> {
        let ours = self.journal.renewable(self.settings.claim_idle / 3);
        if !ours.is_empty() {
            source.renew(&ours)?;
            self.metrics.add(Counter::Renewed, ours.len() as u64);
        }
        let (out, stop) = (&self.out, &self.stop);
        let mut deliver = |frame| frame::send(out, frame, stop, "process");
        if let Delivered::Entries(count, bytes, _) =
            source.claim_stale(self.settings.claim_idle, &mut deliver)?
        {
            self.metrics.add(Counter::Claimed, count as u64);
            self.metrics.add(Counter::BytesIn, bytes);
            tracing::info!(
                "took over {count} entries idle for more than {:?}",
                self.settings.claim_idle
            );
        }
        Ok(())
    }

    /// Ends the blocked read, so that a stop neither waits for it nor leaves entries behind that
    /// are on their way.
    fn leave(&self, source: &mut Source) -> Result<(), Fault> {
        if !source.is_outstanding() {
            return Ok(());
        }
        let unblocked = Control::new(&self.settings.address, LAST_REPLY_LIMIT)
            .and_then(|mut control| control.unblock(source.client_id()));
        if let Err(fault) = unblocked {
            // Entries in the reply that we now miss stay pending and come back at the next start.
            tracing::debug!("cannot unblock the last read: {fault}");
        }
        let (out, stop) = (&self.out, &self.stop);
        let mut deliver = |frame| frame::send(out, frame, stop, "process");
        if let Err(fault) = source.receive_last(LAST_REPLY_LIMIT, &mut deliver) {
            tracing::debug!("the last read: {fault}");
        }
        Ok(())
    }

    /// After a flush or a failover without the group: begins again where we were. Entries that
    /// come before that and are still in work become pending again, as far as they exist.
    fn recreate_group(&self) {
        let source = &self.settings.source;
        let start = self.journal.last_ended();
        let created =
            Control::new(&self.settings.address, source.timeout).and_then(|mut control| {
                let held = self.journal.held_up_to(start);
                control.restore_group(&source.stream, &source.group, start, &source.consumer, &held)
            });
        match created {
            Ok(true) => {
                self.metrics.add(Counter::GroupRecreated, 1);
                tracing::warn!(
                    "the group {} of {} was gone; created again after {start}",
                    source.group,
                    source.stream
                );
            }
            Ok(false) => {}
            Err(fault) => tracing::warn!("cannot create the group again: {fault}"),
        }
    }
}
