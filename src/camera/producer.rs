//! Sends frames to an input stream as `ProcessedFrame` messages of stage INGESTION.

use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::slots::{PixelPlace, ProducerRings, RingUse};
use crate::base::{Fault, Stop, limits};
use crate::frame::{EntryId, Lease, Pool};
use crate::image::{InputImage, Matrix, PixelLayout, Range};
use crate::metrics::{Counter, Metrics};
use crate::redis::{Lookout, Pipeline, PipelineOptions, Sendings, Ticket, Topology};
use crate::wire::Composer;
use crate::wire::proto::ProcessingStage;

/// Maximum bytes of unused buffers: as many as may be in flight.
const POOL_BYTES: usize = limits::PRODUCER_BYTES_MAX;

/// Longest wait for an answer before the stop signal is checked again.
const TICK: Duration = limits::SOCKET_TICK;

/// First and longest pause before the ring is checked again for a free slot.
const RING_TICK: Duration = Duration::from_millis(1);
const RING_TICK_MAX: Duration = Duration::from_millis(16);

/// Settings of a [`Producer`].
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// The Redis server or servers.
    pub topology: Topology,
    /// Streams of all shards; a camera always sends to the same one.
    pub streams: Vec<String>,
    /// Approximate maximum length of each stream, in entries; 0 for no limit.
    pub length_max: u64,
    /// Number of replicas that must confirm a frame before it counts as sent. Confirmation is
    /// awaited for at most a second; 0 does not wait.
    pub wait_replicas: u32,
    /// Longest wait for Redis.
    pub timeout: Duration,
    /// Whether to wait for an unreachable server; if not, a lost connection is an error.
    pub retry: bool,
    /// What [`Producer::enqueue`] does if the window or the ring has no room for a frame.
    pub full: Full,
    /// A frame ring for the pixels of all cameras, on the engine's machine. `None` sends pixels
    /// through Redis, except for cameras with their own ring.
    pub ring: Option<RingUse>,
}

/// What [`Producer::enqueue`] does with a frame if the window of frames in flight, or the frame ring,
/// is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// The caller waits for room. The default.
    #[default]
    Block,
    /// The frame is dropped and counted. The caller still waits while a connection is being made,
    /// and for a frame being sent as long as its bytes move.
    Drop,
}

/// Counters of a [`Producer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerCounts {
    /// Frames handed over, including dropped ones.
    pub handed_over: u64,
    /// Frames dropped because the window or the ring was full; see [`Full::Drop`]. At a stop,
    /// frames are also dropped under [`Full::Block`].
    pub dropped: u64,
    /// Frames whose pixels were written to the ring; larger frames go through Redis.
    pub in_ring: u64,
    /// Results of the frames sent; those without a result are in flight.
    pub sendings: Sendings,
}

/// One frame to send.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// Frame id; unique per camera.
    pub frame_id: &'a str,
    /// Camera id.
    pub camera_id: &'a str,
    /// Capture time in seconds since the Unix epoch.
    pub timestamp: f64,
    /// The picture; the size of a coded picture may be 0 if it is not known.
    pub picture: InputImage<'a>,
    /// Quality with which the picture was encoded; 0 if not known.
    pub quality: i32,
}

/// A connection that sends frames.
///
/// Several frames are in flight at a time. Their number follows the measured rate and round-trip
/// time, at least 2, at most 256 frames and 128 MiB. [`Producer::enqueue`] returns once a frame is
/// queued; [`Producer::replies`] returns the results. [`Producer::send`] waits for its own frame.
/// All work is done in these calls: between calls no answer is read and nothing is sent again.
///
/// The frames of a camera keep their order:
/// - After a lost connection, everything unanswered is sent again in order. A frame may then be in
///   the stream twice; the first copies of all frames are in order.
/// - After a refusal that may pass (`OOM`, a failover, a redirection in a Cluster), nothing is sent
///   until all pending answers have arrived. Then the refused frames are sent again in order. If a
///   frame was refused and a later one of its camera was added, the refused frame fails with its
///   refusal.
///
/// It may be moved to another thread; give each thread its own. Only a [`Stop`] bounds
/// [`Producer::send`], and [`Producer::enqueue`] with [`Full::Block`], while the server is unreachable
/// or refuses.
#[derive(Debug)]
pub struct Producer {
    streams: usize,
    full: Full,
    pipeline: Pipeline,
    _lookout: Option<Lookout>,
    stop: Stop,
    composer: Composer,
    pool: Pool,
    metrics: Arc<Metrics>,
    counts: ProducerCounts,
    rings: ProducerRings,
}

impl Producer {
    /// Connects to the server.
    ///
    /// [`Fault::Connection`] or [`Fault::Refused`] if the server cannot be reached or rejects the
    /// login; with `retry`, an unreachable server is not an error. [`Fault::Io`] if no thread can
    /// be started. For a ring, as [`Ring::create`](crate::ring::Ring::create).
    #[doc(hidden)]
    pub fn connect(options: ProducerOptions, stop: &Stop) -> Result<Producer, Fault> {
        let ProducerOptions {
            topology,
            streams,
            length_max,
            wait_replicas,
            timeout,
            retry,
            full,
            ring,
        } = options;
        let mut rings = ProducerRings::new(&topology, &streams, timeout, retry);
        if let Some(ring) = ring {
            rings.share(&ring)?;
        }
        let metrics = Metrics::new();
        let lookout = Lookout::start(&topology, stop)?;
        let number = streams.len();
        let options = PipelineOptions {
            topology,
            streams,
            length_max,
            wait_replicas,
            timeout,
            retry,
            entries_max: limits::PRODUCER_FRAMES_MAX,
            bytes_max: limits::PRODUCER_BYTES_MAX,
        };
        let mut pipeline = Pipeline::new(options, &metrics, stop);
        // Connect now, so that the first frame neither waits for the connection nor fails for it.
        pipeline.connect()?;
        Ok(Producer {
            streams: number,
            full,
            pipeline,
            _lookout: lookout,
            stop: stop.clone(),
            composer: Composer::default(),
            pool: Pool::new(POOL_BYTES),
            metrics,
            counts: ProducerCounts::default(),
            rings,
        })
    }

    /// Sends one frame, waits for the answer, and returns the id of its entry. After a lost
    /// connection the frame is sent again, so it may be in the stream twice.
    ///
    /// # Errors
    /// [`Fault::Refused`] for the server's refusal. [`Fault::Connection`] for a lost connection if
    /// `redis_queue.retry_on_failure` is off or `stop` drains; else this waits for the server.
    /// [`Fault::Unusable`] if `stop` drains while the ring has no free slot. A frame that is sent is
    /// never dropped; [`Full::Drop`] is for [`Producer::enqueue`].
    pub fn send(&mut self, frame: &Outbound<'_>) -> Result<EntryId, Fault> {
        let Some(place) = self.place(frame, false)? else {
            let text = "stopped while every slot of the ring held a frame";
            return Err(Fault::Unusable(text.into()));
        };
        self.wait_for_room(bytes_in_entry(frame, &place).len());
        let ticket = self.add_frame(frame, &place);
        loop {
            if let Some(reply) = self.pipeline.reply_of(ticket) {
                return reply;
            }
            self.pipeline.step(TICK);
        }
    }

    /// Queues one frame without waiting for the answer, which [`Producer::replies`] returns.
    /// `None`: the window or the ring is full and the frame was dropped, because the options say so
    /// or a stop was requested.
    ///
    /// # Errors
    /// As [`Producer::send`], if the frame cannot be queued; it then has no reply.
    pub fn enqueue(&mut self, frame: &Outbound<'_>) -> Result<Option<Ticket>, Fault> {
        // Checked before the frame is copied; the fields besides the picture are small.
        if !self.makes_room(self.bytes_for(frame)) {
            return Ok(None);
        }
        let Some(place) = self.place(frame, self.full == Full::Drop)? else {
            self.counts.handed_over += 1;
            self.counts.dropped += 1;
            return Ok(None);
        };
        let ticket = self.add_frame(frame, &place);
        self.unless_failed(ticket)
    }

    /// As [`Producer::enqueue`], for an entry whose `data` is already encoded, such as legacy JSON,
    /// with the other fields of the entry.
    ///
    /// # Errors
    /// As [`Producer::enqueue`].
    #[doc(hidden)]
    pub fn enqueue_data(
        &mut self,
        camera_id: &str,
        data: &[u8],
        beside: &[(&str, &[u8])],
    ) -> Result<Option<Ticket>, Fault> {
        if !self.makes_room(data.len()) {
            return Ok(None);
        }
        let mut payload = self.pool.lease_now(data.len());
        payload.truncate(data.len());
        payload.copy_from_slice(data);
        let ticket = self.add(camera_id, payload, beside);
        self.unless_failed(ticket)
    }

    /// Reads the available answers without waiting, and returns the replies of queued frames. At
    /// most 16,384 replies are kept. The oldest beyond that are forgotten and counted in
    /// [`Sendings::replies_forgotten`].
    pub fn replies(&mut self) -> impl Iterator<Item = (Ticket, Result<EntryId, Fault>)> + '_ {
        self.pipeline.step(Duration::ZERO);
        std::iter::from_fn(|| self.pipeline.reply())
    }

    /// Reads the available answers and consumes all replies up to the first fault. Superseded
    /// frames are not faults here; [`Sendings::superseded`] counts them.
    ///
    /// # Errors
    /// The first fault among the replies.
    pub fn settle(&mut self) -> Result<(), Fault> {
        self.pipeline.step(Duration::ZERO);
        self.pipeline.settle()
    }

    /// Waits until every frame has its reply; the replies stay for [`Producer::replies`] and
    /// [`Producer::settle`]. This is the one wait that also sends again while `stop` drains.
    ///
    /// Returns the number of frames without a reply after `limit`; they stay in flight. A
    /// connection attempt may exceed the limit by its own time-out.
    pub fn flush(&mut self, limit: Duration) -> usize {
        self.pipeline.flush(limit)
    }

    /// From now on, writes the pixels of a camera to this ring if they fit; files are sent in
    /// entries. An existing ring is kept if it matches and has at least as much room. Otherwise it
    /// is released and a new one is created. Unread frames in a released ring are lost.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for options that a ring cannot have, and if another producer has it.
    /// [`Fault::Io`] otherwise; `ENOSPC` means that the tmpfs is full. The camera then has no ring.
    pub fn set_ring(&mut self, camera_id: &str, usage: &RingUse) -> Result<(), Fault> {
        self.rings.set(camera_id, usage)
    }

    /// Whether the picture of this frame would be written to a ring.
    pub fn has_ring_for(&self, frame: &Outbound<'_>) -> bool {
        self.rings.takes(frame.camera_id, &frame.picture)
    }

    /// Releases the rings of cameras for which `is_kept` is false. Their files stay for frames that
    /// are not yet read.
    #[doc(hidden)]
    pub fn retain_rings(&mut self, is_kept: impl FnMut(&str) -> bool) {
        self.rings.retain(is_kept);
    }

    /// Sets the approximate maximum length of each stream, in entries; 0 for no limit.
    pub fn limit_length(&mut self, entries: u64) {
        self.pipeline.limit_length(entries);
    }

    /// Number of frames without a reply.
    pub fn in_hand(&self) -> usize {
        self.pipeline.in_hand()
    }

    /// The counters so far.
    pub fn counts(&self) -> ProducerCounts {
        ProducerCounts { sendings: self.pipeline.sendings(), ..self.counts }
    }

    /// Number of frames that were not confirmed in time by the requested number of replicas; see
    /// `redis_queue.wait_replicas`.
    pub fn replica_acks_missing(&self) -> u64 {
        self.metrics.get(Counter::ReplicaAcksMissing)
    }

    /// Writes the pixels of a frame to a ring, if the camera has one and they fit. Waits for a free
    /// slot unless `may_drop` is set. `None` if no slot is free and `may_drop` is set or a stop was
    /// requested.
    fn place(&mut self, frame: &Outbound<'_>, may_drop: bool) -> Result<Option<PixelPlace>, Fault> {
        let mut pause = RING_TICK;
        loop {
            match self.rings.leave(frame.camera_id, &frame.picture, &mut self.pipeline)? {
                PixelPlace::None if may_drop || self.stop.is_draining() => return Ok(None),
                PixelPlace::None => {
                    self.pipeline.step(Duration::ZERO);
                    self.stop.sleep(pause);
                    pause = (2 * pause).min(RING_TICK_MAX);
                }
                place => {
                    self.counts.in_ring += u64::from(matches!(place, PixelPlace::Slot(_)));
                    return Ok(Some(place));
                }
            }
        }
    }

    /// Bytes of the picture that count against the window: 0 if they go to a ring.
    fn bytes_for(&self, frame: &Outbound<'_>) -> usize {
        if self.has_ring_for(frame) { 0 } else { frame.picture.bytes.len() }
    }

    fn add_frame(&mut self, frame: &Outbound<'_>, place: &PixelPlace) -> Ticket {
        let payload = self.compose(frame, bytes_in_entry(frame, place));
        let stamp = frame.timestamp.to_string();
        let [frame_id, camera_id, timestamp] = beside(frame, &stamp);
        let PixelPlace::Slot(left) = place else {
            return self.add(frame.camera_id, payload, &[frame_id, camera_id, timestamp]);
        };
        let fields = [frame_id, camera_id, timestamp, ("ring", left.reference.as_bytes())];
        let ticket = self.add(frame.camera_id, payload, &fields);
        let stream = shard_of(frame.camera_id, self.streams);
        self.rings.sent(frame.camera_id, ticket, left, stream);
        ticket
    }

    /// Makes room for `bytes`. Returns false if the frame is dropped instead.
    fn makes_room(&mut self, bytes: usize) -> bool {
        self.pipeline.step(Duration::ZERO);
        while !self.pipeline.has_room(bytes) {
            if self.full == Full::Drop || self.stop.is_draining() {
                self.counts.handed_over += 1;
                self.counts.dropped += 1;
                return false;
            }
            self.pipeline.step(TICK);
        }
        true
    }

    fn wait_for_room(&mut self, bytes: usize) {
        self.pipeline.step(Duration::ZERO);
        while !self.pipeline.has_room(bytes) {
            self.pipeline.step(TICK);
        }
    }

    fn add(&mut self, camera_id: &str, payload: Lease, beside: &[(&str, &[u8])]) -> Ticket {
        self.counts.handed_over += 1;
        let camera = XxHash3_64::oneshot(camera_id.as_bytes());
        self.pipeline.add(shard_of(camera_id, self.streams), camera, payload, beside)
    }

    fn unless_failed(&mut self, ticket: Ticket) -> Result<Option<Ticket>, Fault> {
        // Finish sending this frame now, because the next call may come much later.
        while self.full == Full::Block && self.pipeline.is_half_sent() && !self.stop.is_draining() {
            self.pipeline.step(TICK);
        }
        self.pipeline.failure_of(ticket).map_or(Ok(Some(ticket)), Err)
    }

    fn compose(&mut self, frame: &Outbound<'_>, bytes: &[u8]) -> Lease {
        let Outbound { frame_id, camera_id, timestamp, picture, quality } = *frame;
        let message = &mut self.composer.message;
        replace(&mut message.frame_id, frame_id);
        replace(&mut message.camera_id, camera_id);
        replace(&mut message.version, "1.0");
        message.timestamp = timestamp;
        message.processing_stage = ProcessingStage::Ingestion.into();
        let about = &mut self.composer.original;
        let layout = picture.layout;
        let name = layout.pixels.map_or(picture.format.name(), PixelLayout::name);
        replace(&mut about.compression_format, name);
        about.row_stride = side(layout.row_stride);
        replace(&mut about.color_range, layout.range.map_or("", Range::name));
        let matrix = if layout.matrix == Matrix::Bt601 { "" } else { layout.matrix.name() };
        replace(&mut about.color_matrix, matrix);
        about.width = side(picture.width);
        about.height = side(picture.height);
        about.channels = side(picture.channels);
        about.quality = quality;
        let draft = self.composer.draft(bytes, None, None, 0, &self.pool);
        self.composer.finish(draft, &self.pool)
    }
}

/// The bytes of the picture that the entry carries.
fn bytes_in_entry<'a>(frame: &Outbound<'a>, place: &PixelPlace) -> &'a [u8] {
    if matches!(place, PixelPlace::Slot(_)) { &[] } else { frame.picture.bytes }
}

/// The fields of an entry besides `data`.
fn beside<'a>(frame: &Outbound<'a>, stamp: &'a str) -> [(&'static str, &'a [u8]); 3] {
    [
        ("frame_id", frame.frame_id.as_bytes()),
        ("camera_id", frame.camera_id.as_bytes()),
        ("timestamp", stamp.as_bytes()),
    ]
}

/// Index of the stream that a camera sends to: XXH3-64 of its id, modulo `shards`.
pub fn shard_of(camera_id: &str, shards: usize) -> usize {
    let hash = XxHash3_64::oneshot(camera_id.as_bytes());
    usize::try_from(hash % shards.max(1) as u64).unwrap_or(0)
}

fn replace(text: &mut String, with: &str) {
    text.clear();
    text.push_str(with);
}

fn side(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
