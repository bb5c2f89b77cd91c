//! Sends frames to an input stream as `ProcessedFrame` messages of stage INGESTION.

use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::slots::{Place, RingUse, Rings};
use crate::base::{Fault, Stop, limits};
use crate::frame::{EntryId, Lease, Pool};
use crate::image::{Matrix, PixelLayout, Range, Source as Picture};
use crate::metrics::{Counter, Metrics};
use crate::redis::{Lookout, Pipeline, PipelineOptions, Sendings, Ticket, Topology};
use crate::wire::Composer;
use crate::wire::proto::ProcessingStage;

/// Most bytes of unused buffers: as many as may be in hand.
const POOL_BYTES: usize = limits::PRODUCER_BYTES_MAX;

/// Longest wait for an answer before the stop signal is looked at again.
const TICK: Duration = limits::SOCKET_TICK;

/// First and longest pause before a slot of the ring is looked for again.
const RING_TICK: Duration = Duration::from_millis(1);
const RING_TICK_MAX: Duration = Duration::from_millis(16);

/// Where and how a [`Producer`] sends.
#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// Where Redis is.
    pub topology: Topology,
    /// The streams of all shards; a camera always sends to the same one.
    pub streams: Vec<String>,
    /// Approximate length limit of each stream; 0 for none.
    pub length_max: u64,
    /// Replicas that are to have a frame before it counts as sent, as far as they confirm it within
    /// a second; 0 does not wait.
    pub wait_replicas: u32,
    /// Longest wait for Redis.
    pub timeout: Duration,
    /// Whether to wait for a server that is away; otherwise its loss is an error.
    pub retry: bool,
    /// What [`Producer::enqueue`] does with a frame for which the window, or the ring, has no room.
    pub full: Full,
    /// A frame ring for the pixels of all cameras, on the machine of the engine; `None` sends them
    /// through Redis, but for cameras that have a ring of their own.
    pub ring: Option<RingUse>,
}

/// What happens to a frame when as many are under way as the window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Full {
    /// The caller waits for room.
    #[default]
    Block,
    /// The frame is dropped and counted. The caller waits for a connection that is being made, and
    /// for a frame being sent as long as its bytes move.
    Drop,
}

/// What a [`Producer`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerCounts {
    /// Frames handed over, dropped ones included.
    pub handed_over: u64,
    /// Frames dropped because the window was full; see [`Full::Drop`], and at a stop.
    pub dropped: u64,
    /// Frames whose pixels were left in the ring; those that do not fit into a slot go through Redis.
    pub in_ring: u64,
    /// What has become of the others; the rest is in hand.
    pub sendings: Sendings,
}

/// One frame to send.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// Its name; unique per camera.
    pub frame_id: &'a str,
    /// The camera.
    pub camera_id: &'a str,
    /// Capture time in seconds since the Unix epoch.
    pub timestamp: f64,
    /// The picture; for coded pictures the size may be 0 if it is not known.
    pub picture: Picture<'a>,
    /// Quality the picture was coded with; 0 if not known.
    pub quality: i32,
}

/// A connection that sends frames.
///
/// Several frames are under way at a time: as many as the measured rate and round trip ask for, at
/// least 2, at most 256 frames and 128 MiB. [`Producer::enqueue`] returns when a frame is on its way,
/// [`Producer::replies`] says what has become of it; [`Producer::send`] waits for its own frame. All
/// work is done in the calls: between them no answer is taken, and nothing is sent again.
///
/// The frames of a camera keep their order:
/// - After a lost connection, everything unanswered is sent again in order. A frame may then be in
///   the stream twice; the first ones of all frames are in order.
/// - After a refusal that may pass (`OOM`, a failover, a redirection in a Cluster), nothing is sent
///   until all answers under way have come; then what was refused is sent again in order. A frame
///   that was refused while a later one of its camera was added fails with its refusal.
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
    rings: Rings,
}

impl Producer {
    /// Connects.
    ///
    /// # Errors
    /// [`Fault::Connection`] or [`Fault::Refused`] when the server does not let us in, unless
    /// `retry` is set and it is merely away; [`Fault::Io`] when no thread can be started. For a ring,
    /// as [`Ring::create`](crate::ring::Ring::create).
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
        let mut rings = Rings::new(&topology, &streams, timeout, retry);
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
        // What is sent first should not have to wait for a connection, nor be the first to fail.
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

    /// Sends one frame and returns its entry. After a lost connection it is sent again, so a frame
    /// may be in the stream twice.
    ///
    /// # Errors
    /// The server's refusal; with `retry` off, also a lost connection.
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
            self.pipeline.turn(TICK);
        }
    }

    /// Sends one frame and does not wait for the answer, which [`Producer::replies`] hands out.
    /// `None`: the window is full, and the frame was dropped, because the options say so or a stop
    /// was asked for.
    ///
    /// # Errors
    /// As [`Producer::send`], if the frame cannot even be sent; it then has no reply.
    pub fn enqueue(&mut self, frame: &Outbound<'_>) -> Result<Option<Ticket>, Fault> {
        // Before the frame is copied; the fields beside the picture are few.
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

    /// The same for an entry whose `data` is ready, such as legacy JSON, with the fields beside it.
    ///
    /// # Errors
    /// As [`Producer::enqueue`].
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

    /// Takes the answers that are here, without waiting, and hands out the replies of frames that
    /// were enqueued. The oldest of more than 16,384 replies that were not taken are forgotten, and
    /// counted in [`Sendings::replies_forgotten`].
    pub fn replies(&mut self) -> impl Iterator<Item = (Ticket, Result<EntryId, Fault>)> + '_ {
        self.pipeline.turn(Duration::ZERO);
        std::iter::from_fn(|| self.pipeline.reply())
    }

    /// Takes the answers that are here and all replies up to the first fault. Frames that were
    /// superseded are no fault here; [`Sendings::superseded`] counts them.
    ///
    /// # Errors
    /// That fault.
    pub fn settle(&mut self) -> Result<(), Fault> {
        self.pipeline.turn(Duration::ZERO);
        self.pipeline.settle()
    }

    /// Waits until every frame has its reply, and goes on trying even when a stop was asked for. Says
    /// how many have none when `limit` is over; these are still in hand. An attempt to connect may
    /// exceed the limit by its own.
    pub fn flush(&mut self, limit: Duration) -> usize {
        self.pipeline.flush(limit)
    }

    /// From now on the pixels of a camera are left in this ring as far as they fit; files are not. It is
    /// made unless the camera has such a ring, with as much room or more; another one that it had is given up, and
    /// frames in it that were not read are lost.
    ///
    /// # Errors
    /// As [`Ring::create`](crate::ring::Ring::create); the camera then has no ring.
    pub fn set_ring(&mut self, camera_id: &str, usage: &RingUse) -> Result<(), Fault> {
        self.rings.set(camera_id, usage)
    }

    /// Whether the picture of this frame would be left in a ring.
    pub fn has_ring_for(&self, frame: &Outbound<'_>) -> bool {
        self.rings.takes(frame.camera_id, &frame.picture)
    }

    /// Gives up the rings of cameras that `is_kept` does not name. Their files stay for frames that
    /// have not been read.
    pub fn retain_rings(&mut self, is_kept: impl FnMut(&str) -> bool) {
        self.rings.retain(is_kept);
    }

    /// Limits each stream approximately to so many entries from now on; 0 for no limit.
    pub fn limit_length(&mut self, entries: u64) {
        self.pipeline.limit_length(entries);
    }

    /// Frames that have no reply yet.
    pub fn in_hand(&self) -> usize {
        self.pipeline.in_hand()
    }

    /// What was done so far.
    pub fn counts(&self) -> ProducerCounts {
        ProducerCounts { sendings: self.pipeline.sendings(), ..self.counts }
    }

    /// Frames that fewer replicas than asked for have confirmed in time; see
    /// [`ProducerOptions::wait_replicas`].
    pub fn replica_acks_missing(&self) -> u64 {
        self.metrics.get(Counter::ReplicaAcksMissing)
    }

    /// Leaves the pixels of a frame in a ring, if the camera has one and they fit. Waits for a slot
    /// unless it `may_drop` the frame; `None` without one, or once a stop was asked for.
    fn place(&mut self, frame: &Outbound<'_>, may_drop: bool) -> Result<Option<Place>, Fault> {
        let mut pause = RING_TICK;
        loop {
            match self.rings.leave(frame.camera_id, &frame.picture, &mut self.pipeline)? {
                Place::None if may_drop || self.stop.is_draining() => return Ok(None),
                Place::None => {
                    self.pipeline.turn(Duration::ZERO);
                    self.stop.sleep(pause);
                    pause = (2 * pause).min(RING_TICK_MAX);
                }
                place => {
                    self.counts.in_ring += u64::from(matches!(place, Place::Slot(_)));
                    return Ok(Some(place));
                }
            }
        }
    }

    /// Bytes of the picture that the window has to hold: none of those that fit into a ring.
    fn bytes_for(&self, frame: &Outbound<'_>) -> usize {
        if self.has_ring_for(frame) { 0 } else { frame.picture.bytes.len() }
    }

    fn add_frame(&mut self, frame: &Outbound<'_>, place: &Place) -> Ticket {
        let payload = self.compose(frame, bytes_in_entry(frame, place));
        let stamp = frame.timestamp.to_string();
        let [frame_id, camera_id, timestamp] = beside(frame, &stamp);
        let Place::Slot(left) = place else {
            return self.add(frame.camera_id, payload, &[frame_id, camera_id, timestamp]);
        };
        let fields = [frame_id, camera_id, timestamp, ("ring", left.reference.as_bytes())];
        let ticket = self.add(frame.camera_id, payload, &fields);
        let stream = shard_of(frame.camera_id, self.streams);
        self.rings.sent(frame.camera_id, ticket, left, stream);
        ticket
    }

    /// Makes room for so many bytes, or drops a frame.
    fn makes_room(&mut self, bytes: usize) -> bool {
        self.pipeline.turn(Duration::ZERO);
        while !self.pipeline.has_room(bytes) {
            if self.full == Full::Drop || self.stop.is_draining() {
                self.counts.handed_over += 1;
                self.counts.dropped += 1;
                return false;
            }
            self.pipeline.turn(TICK);
        }
        true
    }

    fn wait_for_room(&mut self, bytes: usize) {
        self.pipeline.turn(Duration::ZERO);
        while !self.pipeline.has_room(bytes) {
            self.pipeline.turn(TICK);
        }
    }

    fn add(&mut self, camera_id: &str, payload: Lease, beside: &[(&str, &[u8])]) -> Ticket {
        self.counts.handed_over += 1;
        let camera = XxHash3_64::oneshot(camera_id.as_bytes());
        self.pipeline.add(shard_of(camera_id, self.streams), camera, payload, beside)
    }

    fn unless_failed(&mut self, ticket: Ticket) -> Result<Option<Ticket>, Fault> {
        // The rest of a frame should not wait for the next one, which may be long in coming.
        while self.full == Full::Block && self.pipeline.is_half_sent() && !self.stop.is_draining() {
            self.pipeline.turn(TICK);
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

/// The bytes of a frame's picture that its entry carries.
fn bytes_in_entry<'a>(frame: &Outbound<'a>, place: &Place) -> &'a [u8] {
    if matches!(place, Place::Slot(_)) { &[] } else { frame.picture.bytes }
}

/// The fields beside the data.
fn beside<'a>(frame: &Outbound<'a>, stamp: &'a str) -> [(&'static str, &'a [u8]); 3] {
    [
        ("frame_id", frame.frame_id.as_bytes()),
        ("camera_id", frame.camera_id.as_bytes()),
        ("timestamp", stamp.as_bytes()),
    ]
}

/// Which of `shards` streams a camera sends to: XXH3-64 of its id, modulo their number.
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
