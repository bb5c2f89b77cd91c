//! The reading stage: one thread for each input stream. Several threads read one stream only if
//! order does not matter, because frame order within a camera is decided here.
//!
//! After every connect, a reader first reads its consumer's own pending entries. The journal
//! filters out those that are still in work. Backlog stays in Redis: a reader waits only for a full
//! lane or an empty pool.

mod leased;
mod ringed;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use self::ringed::RingReader;
use super::group::Groups;
use super::process::Live;
use super::retry::Attempts;
use super::window::MeasuredWindow;
use crate::base::threads::{LoopHook, Role};
use crate::base::{Fault, Stop, limits};
use crate::frame::{self, EntryId, Journal, Pool, RawFrame};
use crate::metrics::clock::Tick;
use crate::metrics::{
    Counter, Gauge, Metrics, Part, Recorder, RoundTrip, WindowGauge, WindowStage,
};
use crate::redis::{
    Address, Batch, Delivered, Pending, Route, SourceOptions, StreamSource, Topology,
};

/// Longest wait at a stop for outstanding replies, in addition to [`LAST_TRIPS`] round trips.
const LAST_REPLIES_LIMIT: Duration = Duration::from_millis(500);

/// Round trips allowed for that: one for a reply, and more for a full window queued behind it.
const LAST_TRIPS: u32 = 4;

/// If no reply comes for this long plus a round trip, the requests are waiting at the server for
/// new entries.
const QUIET: Duration = Duration::from_millis(50);

/// Fewest outstanding requests, even if the server is near: one being answered, one waiting.
const REQUESTS_MIN: usize = 2;

/// How long a reader asks for less at a time after a lost connection.
const CUT_MEMORY: Duration = Duration::from_secs(60);

/// What a reader needs to know.
#[derive(Clone, Debug)]
pub struct ReadSettings {
    /// Its number among the readers.
    pub index: usize,
    /// Where Redis is.
    pub topology: Topology,
    /// The stream, its consumer group and this reader's consumer.
    pub source: Arc<SourceOptions>,
    /// Most entries asked for at a time.
    pub batch_size: usize,
    /// Most bytes in work, shared by all readers.
    pub inflight_bytes_max: usize,
    /// Idle time after which an entry is taken over from another consumer.
    pub claim_idle: Duration,
    /// The folder of the frame rings.
    pub ring_folder: PathBuf,
    /// Whether to go on after a lost connection.
    pub retry: bool,
    /// The loop hook, called at each loop iteration.
    pub loop_hook: LoopHook,
}

/// A reader, ready to run.
#[derive(Debug)]
pub struct StreamReader {
    settings: ReadSettings,
    journal: Arc<Journal>,
    groups: Arc<Groups>,
    route: Route,
    pool: Pool,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    stop: Stop,
    out: Sender<RawFrame>,
    rings: RingReader,
    /// Size of a recent large frame, in bytes. It is 0 if it is unknown or if the last connection
    /// was lost: the server may have cut it because a reply was too large.
    frame_bytes: u64,
    window: MeasuredWindow,
    live: Live,
    /// Older entries are left at the server; `None` while frames arrive in time.
    stale_age: Option<Duration>,
    /// Bytes asked for at the last receive.
    asked_bytes: u64,
    /// When a connection was lost with many bytes outstanding, and the most bytes to ask for since
    /// then.
    cut: Option<(Tick, u64)>,
    /// Whether all pending entries left by a former process have been read.
    is_recovered: bool,
    was_connected: bool,
    /// Whether it is reading its last replies.
    is_leaving: bool,
    /// Whether the last entry read had an id ahead of the server's clock.
    is_ahead: bool,
}

impl StreamReader {
    /// A reader that sends what it reads to `out`.
    pub fn new(
        settings: ReadSettings,
        groups: Arc<Groups>,
        live: Live,
        pool: Pool,
        metrics: Arc<Metrics>,
        stop: Stop,
        out: Sender<RawFrame>,
    ) -> StreamReader {
        metrics.health.expect(Part::Reader(settings.index));
        let recorder = metrics.recorder();
        let route = Route::new(&settings.topology);
        let journal = Arc::clone(groups.journal(settings.source.shard));
        let gauge = WindowGauge::new(&metrics, WindowStage::Read);
        let window = MeasuredWindow::new(Arc::new(RoundTrip::default()), gauge);
        let rings = RingReader::new(&settings, &pool, &metrics, &stop);
        StreamReader {
            settings,
            journal,
            groups,
            route,
            pool,
            metrics,
            recorder,
            stop,
            out,
            rings,
            frame_bytes: 0,
            window,
            live,
            stale_age: None,
            asked_bytes: 0,
            cut: None,
            is_recovered: false,
            was_connected: false,
            is_leaving: false,
            is_ahead: false,
        }
    }

    /// Reads until draining begins.
    ///
    /// # Errors
    /// [`Fault::NeighbourGone`] if the dispatcher is gone; with `retry` off, the first fault of
    /// Redis.
    pub fn run(mut self) -> Result<(), Fault> {
        if let Some(leases) = self.groups.leases().cloned() {
            return self.run_leased(&leases);
        }
        let mut attempts = Attempts::new("reading", self.settings.topology.pause_longest());
        let shard = self.settings.source.shard;
        while !self.stop.is_draining() {
            let epoch = self.journal.epoch();
            let fault = match self.visit(&mut attempts) {
                Ok(()) => return Ok(()),
                // A stop at once while handing on a frame is a normal end.
                Err(Fault::NeighbourGone(_)) if self.stop.is_now() => return Ok(()),
                Err(fault @ Fault::NeighbourGone(_)) => return Err(fault),
                Err(fault) => fault,
            };
            let is_group_lost = fault.redis_code() == Some("NOGROUP");
            self.failed(fault, &mut attempts, is_group_lost)?;
            if is_group_lost
                && !self.stop.is_draining()
                && let Err(fault) = self.groups.recover(shard, epoch)
            {
                tracing::warn!("cannot create the group again: {fault}");
            }
        }
        Ok(())
    }

    /// Pauses after a fault, or returns it if it ends the reader. An expected fault never does.
    fn failed(
        &mut self,
        fault: Fault,
        attempts: &mut Attempts,
        is_expected: bool,
    ) -> Result<(), Fault> {
        if self.stop.is_draining() {
            return Ok(());
        }
        self.ask_for_less();
        self.metrics.add(Counter::Errors, 1);
        self.metrics.health.fails(self.part(), fault.to_string());
        attempts.failed(&fault);
        let is_sent_on = matches!(fault.redis_code(), Some("MOVED" | "ASK"));
        if !self.settings.retry && !is_expected && !is_sent_on {
            return Err(fault);
        }
        attempts.pause(&self.stop, false);
        Ok(())
    }

    fn part(&self) -> Part {
        Part::Reader(self.settings.index)
    }

    /// Finds the server and reads from it until a fault or a stop.
    fn visit(&mut self, attempts: &mut Attempts) -> Result<(), Fault> {
        let settings = Arc::clone(&self.settings.source);
        let address = self.route.server_of(&settings.stream)?;
        let end = self.session(&address, attempts);
        self.window.show(0, 0); // the requests are gone with the connection
        if let Err(fault) = &end {
            self.route.handle_trouble(&settings.stream, &address, fault);
        }
        end
    }

    /// Runs one connection.
    fn session(&mut self, address: &Address, attempts: &mut Attempts) -> Result<(), Fault> {
        let settings = self.settings.clone();
        let mut source = self.open(address)?;
        if std::mem::replace(&mut self.was_connected, true) {
            self.metrics.add(Counter::Reconnects, 1);
        }
        self.recover(&mut source)?;

        self.window.move_to(Arc::clone(source.round_trip()));
        loop {
            settings.loop_hook.call(Role::Read);
            if self.stop.is_draining() {
                return self.leave(source, address);
            }
            self.stay_with(address)?;
            if self.groups.take_stale(settings.source.shard) {
                // On a second connection, so that the window stays open meanwhile.
                let mut beside = self.open(address)?;
                self.claim(&mut beside)?;
            }
            self.ask(&mut source)?;
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

    /// Asks for as many entries as the window, the lane and the budget have room for.
    fn ask(&mut self, source: &mut StreamSource) -> Result<(), Fault> {
        let room = self.room();
        // While stale entries are skipped, each read is preceded by a request that skips them.
        let requests_max = room.requests * if self.stale_age.is_some() { 2 } else { 1 };
        loop {
            let (requests, asked) = (source.requests(), source.entries_asked());
            self.window.show(requests, requests_max);
            let left = room.entries.saturating_sub(asked);
            if requests > 0 && (left == 0 || requests >= requests_max) {
                return Ok(());
            }
            if let Some(age) = self.stale_age {
                source.request_stale(age)?;
            }
            source.request(room.each.min(left).max(1))?;
        }
    }

    /// How much may be asked for. With no measured distance, one request waits at the server while
    /// the reply to the request before it is read.
    fn room(&self) -> Room {
        let extra = self.window.extra();
        let requests = (REQUESTS_MIN + extra).min(limits::READ_WINDOW_REQUESTS);
        let lane = self.out.capacity().map_or(1, |capacity| capacity - self.out.len());
        let budget =
            self.settings.inflight_bytes_max.saturating_sub(self.pool.usage().leased_bytes);
        let by_bytes = |bytes: u64| {
            let entries = bytes.checked_div(self.frame_bytes).unwrap_or(1);
            usize::try_from(entries).unwrap_or(usize::MAX)
        };
        let most = by_bytes(self.bytes_max().min(budget as u64)).min(limits::READ_WINDOW_FRAMES);
        let entries = (lane + extra).max(requests).min(most);
        let each = entries
            .div_ceil(requests)
            .min(self.settings.batch_size)
            .min(by_bytes(limits::REPLY_BYTES_MAX));
        Room { requests, entries, each }
    }

    /// Most bytes asked for at a time.
    fn bytes_max(&self) -> u64 {
        match self.cut {
            Some((at, bytes_max)) if at.elapsed() < CUT_MEMORY => bytes_max,
            _ => u64::MAX,
        }
    }

    /// Lowers the number of bytes to ask for after a lost connection: a server with a limit on a
    /// client's output buffer may have cut it for a large reply. One reply of
    /// [`limits::REPLY_BYTES_MAX`] is always within the limit; see `framepress check`.
    fn ask_for_less(&mut self) {
        if self.asked_bytes > limits::REPLY_BYTES_MAX {
            let bytes_max = (self.asked_bytes / 2).max(limits::REPLY_BYTES_MAX);
            self.cut = Some((Tick::now(), bytes_max));
        }
        (self.frame_bytes, self.asked_bytes) = (0, 0);
    }

    /// Fails if this server has been replaced as the primary, even if the server itself does not
    /// know yet.
    fn stay_with(&self, address: &Address) -> Result<(), Fault> {
        let ReadSettings { topology, source, .. } = &self.settings;
        if topology.is_cluster() {
            return Ok(()); // cluster nodes redirect with MOVED
        }
        match topology.primary_for(&source.stream) {
            Ok(primary) if !primary.is_at(address) => {
                let detail = format!("it has been replaced as the primary by {primary}");
                Err(Fault::connection(address, detail))
            }
            // If no Sentinel answers, keep the server that does.
            _ => Ok(()),
        }
    }

    /// Counts what a reply held, and remembers how large its frames were.
    fn count(&mut self, batch: Batch, as_well: Option<Counter>) {
        self.rings.tidy();
        self.metrics.add(Counter::BytesIn, batch.bytes);
        if let Some(counter) = as_well {
            self.metrics.add(counter, batch.taken);
        }
        // A small frame lowers the estimate only slowly: the next frame may be large again.
        if batch.bytes > 0 {
            self.frame_bytes = batch.largest.max(self.frame_bytes - self.frame_bytes / 8);
        }
        if batch.taken > 0 {
            self.compare_clocks(batch);
        }
    }

    /// Detects ids ahead of the server's clock, for example after it was set back. The age of such
    /// frames is unknown, so they are not shed.
    fn compare_clocks(&mut self, batch: Batch) {
        let ahead = self.metrics.redis_clock.ahead(batch.last.millis);
        if let Some(ahead) = ahead {
            self.metrics.add(Counter::IdsAheadOfClock, batch.taken);
            if !self.is_ahead {
                tracing::warn!(
                    "entries of {} have ids {ahead:?} ahead of the clock of the server, which was \
                     set back: their age is unknown, and max_frame_age_ms sheds none of them \
                     until the clock has caught up",
                    self.settings.source.stream
                );
            }
        }
        self.is_ahead = ahead.is_some();
    }

    /// Reads the entries delivered to this consumer and never acknowledged.
    fn recover(&mut self, source: &mut StreamSource) -> Result<(), Fault> {
        let which = Pending::Own { is_left: !self.is_recovered };
        self.fetch(source, which, Counter::Recovered)?;
        if !self.stop.is_draining() {
            // Entries found pending later were lost with a connection of this process.
            self.is_recovered = true;
            self.journal.found_left(source.epoch(), self.settings.source.reader);
        }
        Ok(())
    }

    /// Claims entries that other consumers have left pending.
    fn claim(&mut self, source: &mut StreamSource) -> Result<(), Fault> {
        let idle = self.settings.claim_idle;
        let taken = self.fetch(source, Pending::Stale(idle), Counter::Claimed)?;
        if taken > 0 {
            tracing::info!("took over {taken} entries idle for more than {idle:?}");
        }
        Ok(())
    }

    /// Reads pending entries page by page. Returns how many were taken.
    fn fetch(
        &mut self,
        source: &mut StreamSource,
        which: Pending,
        counter: Counter,
    ) -> Result<u64, Fault> {
        let (mut after, mut taken) = (EntryId::default(), 0);
        while self.is_leaving || !self.stop.is_draining() {
            let page = source.pending(
                which,
                after,
                self.frame_bytes,
                &mut hand_on(&self.out, &mut self.rings, &self.stop, &self.metrics),
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

    fn open(&self, address: &Address) -> Result<StreamSource, Fault> {
        StreamSource::open(
            address,
            &self.settings.source,
            &self.journal,
            &self.pool,
            &self.metrics,
            &self.recorder,
            &self.stop,
        )
    }

    /// Reads the outstanding replies, then closes the connection with the requests that still wait
    /// for entries. If the server answered such a request just before the close, its entries are
    /// pending and are fetched once more. Entries that do not arrive in time stay pending for the
    /// next start or another engine.
    ///
    /// CLIENT UNBLOCK would also end such a request, but it crashes a Redis 7.0 whose clients are
    /// paused, for example during a failover: "Unknown btype in replyToBlockedClientOnTimeout".
    fn leave(&mut self, source: StreamSource, address: &Address) -> Result<(), Fault> {
        self.is_leaving = true;
        self.take_last(source, address).or_else(|fault| {
            tracing::debug!("cannot finish the last reads before the stop: {fault}");
            Ok(())
        })
    }

    fn take_last(&mut self, mut source: StreamSource, address: &Address) -> Result<(), Fault> {
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
        if source.requests() == 0 || self.stop.is_now() {
            return Ok(());
        }
        drop(source);
        let mut last = self.open(address)?;
        self.fetch(&mut last, Pending::Own { is_left: false }, Counter::Recovered).map(|_| ())
    }

    /// If frames come late, sets the age beyond which entries are left at the server.
    fn look_at_age(&mut self, batch: Batch, transit: Duration) {
        let age_max = self.live.load().frame_age_max;
        let age = self.metrics.redis_clock.age_of(batch.last.millis);
        self.stale_age = age_max.filter(|age_max| age > *age_max / 2).map(|age_max| {
            // New requests are answered after everything that is outstanding.
            age_max.saturating_sub(transit + transit / 4).max(age_max / 4)
        });
    }
}

/// How much a reader may ask for.
struct Room {
    /// Outstanding requests.
    requests: usize,
    /// Entries in all of them.
    entries: usize,
    /// Entries in one request.
    each: usize,
}

/// Hands frames on to the dispatcher, with a copy of any pixels that lie in frame rings. Counts the
/// frames in the lane and the time spent waiting for it.
fn hand_on<'a>(
    out: &'a Sender<RawFrame>,
    rings: &'a mut RingReader,
    stop: &'a Stop,
    metrics: &'a Metrics,
) -> impl FnMut(RawFrame) -> Result<(), Fault> + 'a {
    move |mut frame| {
        rings.fetch(&mut frame)?;
        let began = Tick::now();
        frame::send(out, frame, stop, "process")?;
        metrics.raise(Gauge::ReadLane);
        metrics.add_micros(Counter::ReadLaneBlockedMicros, began.elapsed());
        Ok(())
    }
}
