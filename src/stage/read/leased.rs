//! Reading a stream under a lease: stand by, take it, finish what is pending, read, give it back.
//!
//! The lease is taken on the connection that reads; see the invariants of [`Leases`]. It is taken
//! again only when no entry of the stream is in flight: entries read in an earlier tenure come
//! again as pending, and the journal must not mistake them for entries that are still in work.

use std::sync::Arc;
use std::time::Duration;

use super::{LAST_REPLIES_LIMIT, LAST_TRIPS, QUIET, StreamReader, hand_on};
use crate::base::threads::Role;
use crate::base::{Fault, limits};
use crate::frame::EntryId;
use crate::metrics::Counter;
use crate::metrics::clock::Tick;
use crate::redis::{Address, Delivered, LeaseAsk, Pending, Presence, StreamSource};
use crate::stage::lease::Leases;
use crate::stage::retry::Attempts;

/// Error codes by which a server tells a holder that its lease has been taken.
const LOST: [&str; 3] = ["LEASE", "NOGROUP", "UNBLOCKED"];

/// How often a reader checks whether the journal is empty or a late renewal has come.
const TICK: Duration = Duration::from_millis(2);

/// How long a connection opened before the first lease is kept.
const AHEAD_MAX: Duration = Duration::from_secs(10);

/// How a tenure ended, if not by a fault.
enum TenureEnd {
    /// Another engine is to hold the stream, or this engine is stopping.
    Unwanted,
    /// The lease was not renewed in time, or a committer lost its connection.
    Lost,
}

impl StreamReader {
    /// Stands by, and reads whenever the lease is available, until draining begins.
    pub(super) fn run_leased(mut self, leases: &Arc<Leases>) -> Result<(), Fault> {
        let mut attempts = Attempts::new("reading", self.settings.topology.pause_longest());
        let shard = self.settings.source.shard;
        // Connecting before the first lease is available keeps the first frame fast.
        let mut ahead = self.connect_ahead();
        let began = Tick::now();
        while !self.stop.is_draining() {
            if began.elapsed() > AHEAD_MAX {
                ahead = None;
            }
            self.settings.loop_hook.call(Role::Read);
            match leases.trouble() {
                None => self.metrics.health.works(self.part()),
                Some(why) => self.metrics.health.fails(self.part(), why),
            }
            let Some(ask) = leases.stand_by(shard, limits::LANE_TICK) else { continue };
            if !self.journal.is_empty() {
                self.stop.sleep(TICK);
                continue;
            }
            let fault = match self.visit_leased(leases, &ask, ahead.take(), &mut attempts) {
                Ok(()) => continue,
                Err(Fault::NeighbourGone(_)) if self.stop.is_now() => return Ok(()),
                Err(fault @ Fault::NeighbourGone(_)) => return Err(fault),
                Err(fault) => fault,
            };
            self.failed(fault, &mut attempts, false)?;
        }
        Ok(())
    }

    fn connect_ahead(&mut self) -> Option<StreamSource> {
        let settings = Arc::clone(&self.settings.source);
        let address = self.route.server_of(&settings.stream).ok()?;
        let source = self.open(&address).ok()?;
        let trip = source.round_trip().shortest().unwrap_or_default();
        self.groups.leases()?.set_trip(settings.shard, trip);
        Some(source)
    }

    /// Finds the server and holds the stream there until a fault or the end of the tenure.
    fn visit_leased(
        &mut self,
        leases: &Arc<Leases>,
        ask: &LeaseAsk,
        ready: Option<StreamSource>,
        attempts: &mut Attempts,
    ) -> Result<(), Fault> {
        let settings = Arc::clone(&self.settings.source);
        let address = self.route.server_of(&settings.stream)?;
        let ready = ready.filter(|source| source.address().is_same(&address));
        let end = self.hold(&address, (leases, ask), ready, attempts);
        self.window.show(0, 0); // the requests are gone with the connection
        let Err(fault) = end else { return Ok(()) };
        self.route.handle_trouble(&settings.stream, &address, &fault);
        let epoch = leases.held(settings.shard);
        self.groups.end_tenure(settings.shard, epoch, Counter::LeasesLost);
        if fault.redis_code().is_some_and(|code| LOST.contains(&code)) {
            tracing::info!(
                "this engine stops reading {}, because its lease or group is lost: {fault}",
                settings.stream
            );
            self.stop.sleep(limits::BACKOFF_FIRST);
            return Ok(());
        }
        Err(fault)
    }

    /// Runs one tenure.
    fn hold(
        &mut self,
        address: &Address,
        (leases, ask): (&Arc<Leases>, &LeaseAsk),
        ready: Option<StreamSource>,
        attempts: &mut Attempts,
    ) -> Result<(), Fault> {
        let settings = Arc::clone(&self.settings.source);
        let shard = settings.shard;
        let mut source = match ready {
            Some(source) => source,
            None => self.open(address)?,
        };
        if std::mem::replace(&mut self.was_connected, true) && attempts.has_failed() {
            self.metrics.add(Counter::Reconnects, 1);
        }
        leases.set_trip(shard, source.round_trip().shortest().unwrap_or_default());
        let (sent, length) = (Tick::now(), leases.length(shard));
        let state = source.lease(leases.terms(), leases.key(shard), ask, length)?;
        if !state.done {
            leases.refused(shard, &state);
            return Ok(());
        }
        let (tenure, is_known) = leases.taken(shard, &state, sent);
        let epoch = tenure.epoch;
        let has_pending = self.groups.adopt(shard, &mut source, &tenure, &state, is_known)?;
        source.begin_tenure(tenure);
        leases.begin(shard, epoch, (sent, length));
        tracing::info!("this engine holds the lease of {} in epoch {epoch}", settings.stream);
        let pending = has_pending.then(|| Pending::All {
            is_left: !self.is_recovered,
            is_handed: leases.is_alive(&state),
        });
        match self.read_leased(&mut source, address, leases, (epoch, pending), attempts)? {
            TenureEnd::Unwanted => self.give_back(source, address, leases, epoch),
            TenureEnd::Lost => {
                self.groups.end_tenure(shard, epoch, Counter::LeasesLost);
                Ok(())
            }
        }
    }

    /// How the tenure has ended; `None` while it goes on. Waits while a renewal is late.
    fn is_over(&self, leases: &Leases, epoch: u64) -> Option<TenureEnd> {
        let shard = self.settings.source.shard;
        loop {
            if self.stop.is_draining() || leases.is_unwanted(shard) {
                return Some(TenureEnd::Unwanted);
            }
            if leases.may_read(shard, epoch) {
                return None;
            }
            if !leases.may_commit(shard, epoch) {
                return Some(TenureEnd::Lost);
            }
            self.metrics.health.beat();
            self.stop.sleep(TICK);
        }
    }

    /// Finishes all pending entries of the group, then reads new ones.
    fn read_leased(
        &mut self,
        source: &mut StreamSource,
        address: &Address,
        leases: &Leases,
        (epoch, pending): (u64, Option<Pending>),
        attempts: &mut Attempts,
    ) -> Result<TenureEnd, Fault> {
        let settings = self.settings.clone();
        let mut after = EntryId::default();
        while let Some(which) = pending {
            if let Some(end) = self.is_over(leases, epoch) {
                return Ok(end);
            }
            let mut deliver = hand_on(&self.out, &mut self.rings, &self.stop, &self.metrics);
            let page = source.pending(which, after, self.frame_bytes, &mut deliver)?;
            drop(deliver);
            self.count(page.batch, Some(Counter::Recovered));
            match page.last {
                Some(last) => after = last,
                None => break,
            }
        }
        self.is_recovered = true;
        self.journal.found_left(source.epoch(), settings.source.reader);
        self.window.move_to(Arc::clone(source.round_trip()));
        loop {
            settings.loop_hook.call(Role::Read);
            if let Some(end) = self.is_over(leases, epoch) {
                return Ok(end);
            }
            self.stay_with(address)?;
            if self.groups.take_stale(settings.source.shard) {
                // A consumer that does not use leases has left entries pending.
                let mut beside = self.open(address)?;
                source.tenure().cloned().into_iter().for_each(|it| beside.begin_tenure(it));
                self.claim(&mut beside)?;
            }
            self.ask(source)?;
            let delivered =
                source.receive(&mut hand_on(&self.out, &mut self.rings, &self.stop, &self.metrics));
            self.asked_bytes = self.frame_bytes.saturating_mul(source.entries_asked() as u64);
            let delivered = delivered?;
            attempts.succeeded();
            self.metrics.health.works(self.part());
            if let Delivered::Entries(batch) = delivered {
                self.window.returned(batch.taken);
                self.count(batch, None);
                self.look_at_age(batch, source.transit());
            }
        }
    }

    /// Reads the outstanding replies, waits until their frames are committed, and gives the lease
    /// back. Entries that do not arrive in time stay pending, and the next holder begins with them.
    fn give_back(
        &mut self,
        mut source: StreamSource,
        address: &Address,
        leases: &Leases,
        epoch: u64,
    ) -> Result<(), Fault> {
        let shard = self.settings.source.shard;
        let trip = self.window.trip();
        let until = Tick::now().after(LAST_REPLIES_LIMIT + LAST_TRIPS * trip);
        while source.requests() > 0 && Tick::now() < until {
            let mut deliver = hand_on(&self.out, &mut self.rings, &self.stop, &self.metrics);
            let delivered = source.receive_last(QUIET + trip, &mut deliver)?;
            drop(deliver);
            match delivered {
                Some(Delivered::Entries(batch)) => self.count(batch, None),
                Some(_) => {}
                None => break,
            }
        }
        drop(source);
        while !self.journal.is_empty() && leases.may_commit(shard, epoch) && !self.stop.is_now() {
            self.metrics.health.beat();
            self.stop.sleep_unless_now(TICK);
        }
        let handover = self.groups.handover(shard);
        let mut last = self.open(address)?;
        let ask = LeaseAsk::Give(epoch, handover);
        let state = last.lease(leases.terms(), leases.key(shard), &ask, leases.length(shard))?;
        let counter = if state.done { Counter::LeasesGivenBack } else { Counter::LeasesLost };
        self.groups.end_tenure(shard, epoch, counter);
        tracing::info!("this engine has given back the lease of {}", self.settings.source.stream);
        let presence = if self.stop.is_draining() { Presence::Left } else { Presence::Told };
        if let Err(fault) = self.groups.tell(presence) {
            // The other engines check by themselves now and then.
            tracing::debug!("cannot tell the other engines of a lease given back: {fault}");
        }
        Ok(())
    }
}
