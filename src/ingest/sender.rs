//! Sends the newest frame of each camera. Only this part waits for Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Receiver;
use parking_lot::Mutex;

use super::slot::{FrameSlot, Shot};
use super::status::{IngestStatus, SendOutcome};
use crate::base::{Fault, Stop};
use crate::camera::{Outbound, Producer, ProducerOptions, RingUse, Ticket};
use crate::image::{Format, InputImage};
use crate::metrics::clock::{Tick, unix_millis};

/// Longest wait for a frame before answers are read again.
const TICK: Duration = Duration::from_millis(5);
/// The same while no frame is in flight.
const IDLE: Duration = Duration::from_millis(50);
/// Maximum frames of one camera in flight while Redis answers in time, and while it answers late.
const IN_TRANSIT_MAX: usize = 16;
const IN_TRANSIT_LATE: usize = 2;
/// An answer that takes longer is late; frames of that age should not accumulate.
const LATE: Duration = Duration::from_millis(250);

/// How long the ring of a removed camera is kept; a camera that is restarted meanwhile continues to
/// use it.
const RING_GRACE: Duration = Duration::from_secs(30);

/// What the sender uses of one camera.
#[derive(Debug)]
pub struct SendLane {
    /// Its waiting frame.
    pub slot: Arc<FrameSlot>,
    /// Its counts.
    pub status: Arc<IngestStatus>,
    /// The frame ring for its pixels; the sender sizes it for the frames.
    pub ring: Option<RingUse>,
}

impl SendLane {
    /// Ensures that the camera's ring has room for this frame.
    fn set_ring(&self, producer: &mut Producer, shot: &Shot) -> Result<(), Fault> {
        let Some(usage) = self.ring.as_ref().filter(|_| shot.format == Format::Raw) else {
            return Ok(());
        };
        producer.set_ring(&self.status.id, &usage.with_room(shot.bytes.len() as u64))
    }

    /// Drops a frame and tells the reader why.
    fn refuse(&self, shot: Shot, fault: &Fault) {
        self.status.count(SendOutcome::Superseded, 1);
        self.slot.give_back(shot.bytes);
        self.slot.refuse(fault.to_string());
    }
}

/// The lanes of all cameras; the supervisor changes them while the sender runs.
pub type Lanes = Arc<Mutex<Vec<Arc<SendLane>>>>;

/// Bounds of the sender.
#[derive(Clone, Debug)]
pub struct SenderLimits {
    /// Maximum entries of a stream; 0 for no limit.
    pub entries: u64,
    /// Maximum bytes of a stream.
    pub bytes: Arc<AtomicU64>,
    /// Total number of frames to send; `None` for no limit.
    pub frames: Option<u64>,
    /// Time limit for the last frames after a stop.
    pub drain: Duration,
}

/// Why Redis refuses frames although it answers; shown by pages and probes.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<Option<String>>>);

impl Refusals {
    /// The server's message, if the last frame was refused.
    pub fn last(&self) -> Option<String> {
        self.0.lock().clone()
    }

    /// Handles a refused frame. Cameras continue to be read: permissions, memory and key types are
    /// fixed on the server, and restarting this process does not help. A run with a fixed number of
    /// frames fails instead.
    fn survive(&self, fault: Fault, limits: &SenderLimits) -> Result<(), Fault> {
        if limits.frames.is_some() || !matches!(fault, Fault::Refused { .. }) {
            return Err(fault);
        }
        tracing::warn!(
            "{fault}; ingest continues to read the cameras, but their frames are lost until Redis \
             accepts them"
        );
        *self.0.lock() = Some(fault.to_string());
        Ok(())
    }

    fn end(&self) {
        if self.0.lock().take().is_some() {
            tracing::info!("Redis accepts frames again");
        }
    }
}

/// A frame in flight.
struct InTransit {
    lane: Arc<SendLane>,
    bytes: u64,
    arrived: Tick,
    sent: Tick,
}

/// Mean size of entries, which converts a limit in bytes to one in entries.
#[derive(Debug, Default)]
pub struct Mean(f64);

impl Mean {
    /// Adds the size of a picture.
    pub fn add(&mut self, bytes: usize) {
        let bytes = bytes as f64 + 256.0;
        // Follow a larger frame at once and smaller ones gradually, so that the limit in bytes
        // holds.
        self.0 = if bytes > self.0 { bytes } else { self.0 * 0.98 + bytes * 0.02 };
    }

    /// The number of entries that fit: at least one, and at most `entries_max` unless that is 0.
    pub fn entries(&self, bytes_max: u64, entries_max: u64) -> u64 {
        let by_bytes = ((bytes_max as f64 / self.0.max(1.0)) as u64).max(1);
        if entries_max == 0 { by_bytes } else { by_bytes.min(entries_max) }
    }
}

/// Sends until `stop`, then waits for the frames in flight. Counts the frames stored by Redis in
/// `confirmed`.
pub fn run(
    options: ProducerOptions,
    lanes: &Lanes,
    bell: &Receiver<()>,
    limits: &SenderLimits,
    (confirmed, refusals): (&AtomicU64, &Refusals),
    stop: &Stop,
) -> Result<(), Fault> {
    let mut producer = match Producer::connect(options, stop) {
        Ok(producer) => producer,
        Err(_) if stop.is_draining() => return Ok(()),
        Err(fault) => return Err(fault),
    };
    let run_id = unix_millis();
    let mut in_transit: HashMap<Ticket, InTransit> = HashMap::new();
    let (mut number, mut mean) = (0_u64, Mean::default());
    let mut all = Vec::new();
    let mut tidy_at: Option<Tick> = None;
    loop {
        take_replies(&mut producer, &mut in_transit, (confirmed, refusals), limits)?;
        if stop.is_draining() || limits.frames.is_some_and(|most| number >= most) {
            break;
        }
        let wait = if producer.in_hand() > 0 { TICK } else { IDLE };
        let _ = bell.recv_timeout(wait);
        if renew(&mut all, lanes) {
            tidy_at = Some(Tick::now().after(RING_GRACE));
        }
        if tidy_at.is_some_and(|at| at.remaining().is_zero()) {
            tidy_at = None;
            let has_ring =
                |lane: &Arc<SendLane>, id: &str| lane.status.id == id && lane.ring.is_some();
            producer.retain_rings(|id| all.iter().any(|lane| has_ring(lane, id)));
        }
        for lane in &all {
            if stop.is_draining() {
                break;
            }
            let mine = in_transit.values().filter(|sent| Arc::ptr_eq(&sent.lane, lane));
            let (count, oldest) = mine.fold((0, Duration::ZERO), |(count, oldest), sent| {
                (count + 1, oldest.max(sent.sent.elapsed()))
            });
            let most = if oldest > LATE { IN_TRANSIT_LATE } else { IN_TRANSIT_MAX };
            if count >= most || limits.frames.is_some_and(|most| number >= most) {
                continue;
            }
            let Some(shot) = lane.slot.take() else { continue };
            if let Err(fault) = lane.set_ring(&mut producer, &shot) {
                lane.refuse(shot, &fault);
                continue;
            }
            let frame_id = format!("{}-{run_id}-{number:06}", lane.status.id);
            let frame = outbound(&frame_id, &lane.status.id, &shot);
            let in_ring = producer.has_ring_for(&frame);
            mean.add(if in_ring { 0 } else { shot.bytes.len() });
            producer
                .limit_length(mean.entries(limits.bytes.load(Ordering::Relaxed), limits.entries));
            let sent = match producer.enqueue(&frame) {
                // A defective ring must not affect the other cameras.
                Err(fault) if in_ring => {
                    lane.refuse(shot, &fault);
                    continue;
                }
                Err(fault) => {
                    refusals.survive(fault, limits)?;
                    lane.status.count(SendOutcome::Superseded, 1);
                    lane.slot.give_back(shot.bytes);
                    continue;
                }
                Ok(sent) => sent,
            };
            match sent {
                Some(ticket) => {
                    number += 1;
                    let (bytes, arrived) = (shot.bytes.len() as u64, shot.arrived);
                    let lane = Arc::clone(lane);
                    lane.slot.give_back(shot.bytes);
                    in_transit
                        .insert(ticket, InTransit { lane, bytes, arrived, sent: Tick::now() });
                }
                None => {
                    if lane.slot.put_back(shot) {
                        lane.status.count(SendOutcome::Superseded, 1);
                    }
                }
            }
        }
    }
    let began = Tick::now();
    while producer.in_hand() > 0 && began.elapsed() < limits.drain && !stop.is_now() {
        producer.flush(TICK * 20);
        take_replies(&mut producer, &mut in_transit, (confirmed, refusals), limits)?;
    }
    stop.drain();
    match producer.in_hand() {
        0 => Ok(()),
        left => {
            let limit = limits.drain;
            Err(Fault::Unusable(format!("{left} frames were not confirmed within {limit:?}")))
        }
    }
}

/// Copies the lanes of the supervisor; returns whether they changed.
fn renew(all: &mut Vec<Arc<SendLane>>, lanes: &Lanes) -> bool {
    let now = lanes.lock();
    let is_same = all.len() == now.len() && all.iter().zip(&*now).all(|(a, b)| Arc::ptr_eq(a, b));
    if !is_same {
        all.clone_from(&now);
    }
    !is_same
}

fn take_replies(
    producer: &mut Producer,
    in_transit: &mut HashMap<Ticket, InTransit>,
    (confirmed, refusals): (&AtomicU64, &Refusals),
    limits: &SenderLimits,
) -> Result<(), Fault> {
    let before = producer.counts().sendings.superseded;
    let replies: Vec<_> = producer.replies().collect();
    let mut given_up = producer.counts().sendings.superseded - before;
    for (ticket, reply) in replies {
        let Some(sent) = in_transit.remove(&ticket) else { continue };
        match reply {
            Ok(_) => {
                refusals.end();
                confirmed.fetch_add(1, Ordering::Relaxed);
                let age = sent.arrived.elapsed().as_secs_f64();
                sent.lane.status.sent(sent.bytes, age);
            }
            Err(_) if given_up > 0 => {
                given_up -= 1;
                sent.lane.status.count(SendOutcome::Superseded, 1);
            }
            Err(fault) => {
                refusals.survive(fault, limits)?;
                sent.lane.status.count(SendOutcome::Superseded, 1);
            }
        }
    }
    Ok(())
}

fn outbound<'a>(frame_id: &'a str, camera_id: &'a str, shot: &'a Shot) -> Outbound<'a> {
    let Shot { bytes, format, layout, width, height, channels, quality, captured, .. } = shot;
    let picture = InputImage {
        format: *format,
        width: *width,
        height: *height,
        channels: *channels,
        layout: *layout,
        bytes,
    };
    Outbound { frame_id, camera_id, timestamp: *captured, picture, quality: *quality }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_in_bytes_becomes_one_in_entries() {
        let mut mean = Mean::default();
        mean.add(6_220_800);
        assert_eq!(mean.entries(268_435_456, 10_000), 43);
        for _ in 0..500 {
            mean.add(50_000);
        }
        assert!((4_000..6_000).contains(&mean.entries(268_435_456, 10_000)));
        assert_eq!(mean.entries(268_435_456, 100), 100);
        assert_eq!(mean.entries(1, 0), 1);
    }
}
