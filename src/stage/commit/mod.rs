//! The committing stage. It alone ends entries in Redis.
//!
//! Batches follow each other without waiting for answers, as many as the window allows. A batch
//! holds what is in the lane when its first frame arrives, so batching adds no latency and needs no
//! timer. Invariants:
//! 1. Before anything is sent again, everything that was sent is answered or its connection is
//!    lost. So a refusal or a loss in the middle of the window does not change the order: frames
//!    that were not committed go first, in their order.
//! 2. A frame names the frame of its camera that is in flight before it. The script refuses to let
//!    it overtake that one.
//! 3. A batch holds the lock of its groups until its answers are taken; see `group`.
//!
//! If streams are held under leases, a frame is committed only in the tenure in which it was read,
//! and only on a connection that is at least as old as the first commit of that tenure. Otherwise
//! it is left pending for the next tenure. See [`super::lease::Leases`].
//!
//! After a lost connection, all unanswered frames are sent again and name the unanswered attempt.
//! The script can then tell a result of this engine from one of another engine, and does not store
//! it twice even if the group was restored in between.

mod answers;
mod flight;
mod send;
mod tenure;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use self::answers::{CommitTrouble, StoredUpTo};
use self::flight::{Flight, Waiting};
use super::group::Groups;
use super::retry::Attempts;
use super::window::MeasuredWindow;
use crate::base::threads::{LoopHook, Role};
use crate::base::{Fault, Stop, error_code, limits};
use crate::frame::{EntryId, Handed, Received, WakingReceiver};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Metrics, Part, Recorder, RoundTrip, WindowGauge, WindowStage};
use crate::redis::{CommitAnswer, CommitPlan, Sinks, Topology, Waited};

/// What a committer needs to know.
#[derive(Clone, Debug)]
pub struct CommitSettings {
    /// Where Redis is.
    pub topology: Topology,
    /// The streams, and what to store where.
    pub plan: Arc<CommitPlan>,
    /// Longest wait for an answer.
    pub timeout: Duration,
    /// Frames that may always be in flight, however near the server is.
    pub window_frames_min: usize,
    /// Most bytes of results in flight.
    pub window_bytes_max: usize,
    /// Whether refused frames become dead letters; otherwise they are only acknowledged.
    pub dead_letters: bool,
    /// Whether to go on after a lost connection.
    pub retry: bool,
    /// The loop hook, called at each loop iteration.
    pub loop_hook: LoopHook,
}

/// A committer, ready to run. `S` is the slot that a frame occupies in the lane.
#[derive(Debug)]
pub struct Committer<S> {
    index: usize,
    /// The shards whose frames come out of the lane.
    shards: Vec<usize>,
    settings: CommitSettings,
    groups: Arc<Groups>,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    stop: Stop,
    lane: WakingReceiver<Handed<S>>,
    sinks: Sinks,
    /// Frames that go before those of the lane because the last attempt did not commit them.
    /// [`Committer::handle_trouble`] restores their order.
    again: VecDeque<Waiting>,
    /// Frames taken on so far.
    taken: u64,
    /// Batches in flight, the oldest first.
    flights: VecDeque<Flight>,
    /// When an answer was last received.
    answered_at: Tick,
    window: MeasuredWindow,
    /// The last frame in flight of each camera and shard.
    lines: HashMap<(u64, usize), EntryId>,
    /// Faults since the window was last empty.
    trouble: CommitTrouble,
    /// Whether the server refused frames at the last attempt. If so, a single frame is tried first.
    is_refused: bool,
    /// How many times in a row frames were redirected to other nodes.
    hops: usize,
    attempts: Attempts,
    /// The ids last stored, by shard.
    stored: Vec<StoredUpTo>,
    /// Shards whose group was found lost, and the epoch of the journal then.
    lost: SmallVec<[(usize, u64); 4]>,
    /// Buffers of finished batches, for reuse.
    spare: Vec<(Vec<Waiting>, Vec<CommitAnswer>)>,
    connections_made: u64,
    /// By shard, the epoch of the tenure in which it last committed.
    committed: Vec<u64>,
    /// Whether the refusal to delete input entries has been logged.
    has_warned_of_kept: bool,
}

/// What a committer does next.
#[allow(clippy::large_enum_variant)] // short-lived; a box would be an allocation a frame
enum Step<S> {
    /// Sends frames that were not committed before.
    SendAgain,
    /// Sends this frame and the others in the lane.
    Send(Handed<S>),
    /// Receives the answers to the oldest batch.
    Receive,
    /// Looks again: the lane or a connection has something new.
    Look,
    /// Handles the faults; nothing is in flight.
    Heed,
    /// Ends.
    End,
}

impl<S: Send> Committer<S> {
    /// Committer number `index`, which commits the frames of `shards` that come out of `lane`.
    pub fn new(
        index: usize,
        shards: Vec<usize>,
        settings: CommitSettings,
        groups: Arc<Groups>,
        metrics: Arc<Metrics>,
        stop: Stop,
        lane: WakingReceiver<Handed<S>>,
    ) -> Self {
        metrics.health.expect(Part::Committer(index));
        let recorder = metrics.recorder();
        let name = format!("framepress-commit-{index}");
        let CommitSettings { topology, plan, timeout, .. } = &settings;
        let sinks = Sinks::new(topology, plan, name, *timeout, &metrics, &stop);
        let gauge = WindowGauge::new(&metrics, WindowStage::Commit);
        let storage = || {
            let frames = limits::COMMIT_BATCH_FRAMES;
            (Vec::with_capacity(frames), Vec::with_capacity(frames))
        };
        // With a nearby server, no more batches are in flight than frames.
        let spare = (0..settings.window_frames_min).map(|_| storage()).collect();
        Committer {
            index,
            shards,
            stored: vec![StoredUpTo::default(); settings.plan.streams.len()],
            committed: vec![0; settings.plan.streams.len()],
            attempts: Attempts::new("committing", settings.topology.pause_longest()),
            flights: VecDeque::with_capacity(2 * settings.window_frames_min),
            settings,
            groups,
            metrics,
            recorder,
            stop,
            lane,
            sinks,
            again: VecDeque::new(),
            taken: 0,
            answered_at: Tick::now(),
            window: MeasuredWindow::new(Arc::new(RoundTrip::default()), gauge),
            lines: HashMap::with_capacity(limits::COMMIT_BATCH_FRAMES),
            trouble: CommitTrouble::default(),
            is_refused: false,
            hops: 0,
            lost: SmallVec::new(),
            spare,
            connections_made: 0,
            has_warned_of_kept: false,
        }
    }

    /// Commits until the lane is closed and empty.
    ///
    /// # Errors
    /// With `retry` off, the first lost connection. Otherwise only a stop at once ends it early;
    /// frames that are not committed then stay pending.
    pub fn run(mut self) -> Result<(), Fault> {
        // Connecting before the first frame arrives keeps the first frame fast.
        while let Err(fault) = self.sinks.connect(&self.shards) {
            self.lost(fault)?;
            if self.stop.is_draining() {
                break;
            }
        }
        self.count_connections();
        if self.connections_made > 0 {
            self.metrics.health.works(Part::Committer(self.index));
        }
        while !self.stop.is_now() {
            self.settings.loop_hook.call(Role::Commit);
            match self.next() {
                Step::SendAgain => self.send_again(),
                Step::Send(first) => self.send_new(first),
                Step::Receive => self.receive(),
                Step::Look => {}
                Step::Heed => self.handle_trouble()?,
                Step::End => break,
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Step<S> {
        let is_idle = self.flights.is_empty();
        if !self.trouble.is_none() {
            return if is_idle { Step::Heed } else { Step::Receive };
        }
        let frames: usize = self.flights.iter().map(|flight| flight.frames.len()).sum();
        let bytes: usize = self.flights.iter().map(|flight| flight.bytes).sum();
        let limit = self.window_frames();
        self.window.show(frames, limit);
        let has_room = frames < limit && bytes < self.settings.window_bytes_max;
        if !is_idle && (!has_room || (self.is_refused && !self.again.is_empty())) {
            return Step::Receive;
        }
        if !self.again.is_empty() {
            return Step::SendAgain;
        }
        match self.lane.next() {
            Received::Item(first) => Step::Send(first),
            Received::Closed if is_idle => Step::End,
            Received::Empty if is_idle => self.lane.recv(&self.stop).map_or(Step::Look, Step::Send),
            Received::Closed => Step::Receive,
            Received::Empty => self.wait(),
        }
    }

    fn window_frames(&self) -> usize {
        let frames = self.settings.window_frames_min + self.window.extra();
        frames.min(limits::COMMIT_WINDOW_FRAMES)
    }

    /// Waits for an answer or a frame, whichever comes first.
    fn wait(&mut self) -> Step<S> {
        let Some(oldest) = self.flights.front() else { return Step::Look };
        // Over a narrow link a full window may take longer than the time-out for a single answer.
        let silent_since = oldest.sent_at.max(self.answered_at);
        let left = self.settings.timeout.saturating_sub(silent_since.elapsed());
        let sinks = &mut self.sinks;
        match self.lane.beside(|woken| sinks.wait(&oldest.sent, left, woken)) {
            Some(Ok(Waited::Ready)) => Step::Receive,
            Some(Ok(_)) | None => Step::Look,
            Some(Err(fault)) => {
                self.trouble.lost.get_or_insert(fault);
                Step::Look
            }
        }
    }

    /// Receives the answers to the oldest batch.
    fn receive(&mut self) {
        let Some(mut flight) = self.flights.pop_front() else { return };
        let Flight { frames, answers, sent, .. } = &mut flight;
        let end = self.sinks.receive(sent, |index| frames[index].finished.shard, answers);
        self.answered_at = Tick::now();
        let frames = flight.frames.len();
        let kept = self.again.len();
        self.take_answers(flight);
        let done = frames - (self.again.len() - kept).min(frames);
        self.window.returned(done as u64);
        if let Err(fault) = end {
            self.trouble.lost.get_or_insert(fault);
        }
        if done > 0 && self.trouble.is_none() {
            self.is_refused = false;
            self.hops = 0;
            self.attempts.succeeded();
            self.metrics.health.works(Part::Committer(self.index));
        }
    }

    /// Handles the refusals and losses since the window was last empty.
    fn handle_trouble(&mut self) -> Result<(), Fault> {
        let trouble = std::mem::take(&mut self.trouble);
        if trouble.lost.is_some() {
            self.end_tenures(|_| true);
        }
        self.again.make_contiguous().sort_unstable_by_key(|waiting| waiting.number);
        let is_sent_on =
            |(_, message): &(usize, String)| matches!(error_code(message), "MOVED" | "ASK");
        if trouble.lost.is_none() && trouble.refusals.iter().all(is_sent_on) {
            // The nodes have named the right ones; ask those.
            self.hops += usize::from(!trouble.refusals.is_empty());
            if self.hops <= limits::HOPS_MAX {
                return Ok(());
            }
        }
        if self.groups.leases().is_some() {
            let mut again: Vec<Waiting> = self.again.drain(..).collect();
            self.hand_over(&mut again);
            self.again = again.into();
        }
        self.hops = 0;
        self.is_refused = !trouble.refusals.is_empty() && !self.again.is_empty();
        let mut first = None;
        for (shard, message) in trouble.refusals {
            let fault = self.refused(shard, message);
            first.get_or_insert(fault);
        }
        match (trouble.lost, first) {
            (Some(fault), _) => self.lost(fault),
            // Backpressure, not a loss: the frames have to wait.
            (None, Some(refusal)) => {
                self.note(&refusal);
                self.attempts.pause(&self.stop, true);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }

    /// Notes a lost connection. The next attempt opens another one.
    fn lost(&mut self, fault: Fault) -> Result<(), Fault> {
        self.note(&fault);
        if !self.settings.retry {
            return Err(fault);
        }
        self.attempts.pause(&self.stop, true);
        Ok(())
    }

    fn note(&mut self, fault: &Fault) {
        self.metrics.add(Counter::Errors, 1);
        self.metrics.health.fails(Part::Committer(self.index), fault.to_string());
        self.attempts.failed(fault);
    }

    /// Counts reconnects. The first connections are not counted.
    fn count_connections(&mut self) {
        let made = self.sinks.made();
        if made == self.connections_made {
            return;
        }
        if self.connections_made > 0 {
            self.metrics.add(Counter::Reconnects, made - self.connections_made);
        }
        self.connections_made = made;
        if let Some(round_trip) = self.sinks.round_trip() {
            self.window.move_to(round_trip);
        }
    }

    fn put_back(&mut self, mut batch: Vec<Waiting>, answers: Vec<CommitAnswer>) {
        self.again.extend(batch.drain(..));
        self.keep_storage(batch, answers);
    }

    fn keep_storage(&mut self, frames: Vec<Waiting>, answers: Vec<CommitAnswer>) {
        self.spare.push((frames, answers));
    }
}
