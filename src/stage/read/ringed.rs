//! Pixels outside Redis: if the pixels of an entry lie in a frame ring, the entry gets a copy of
//! them in a pool buffer, as if they had come with it.

use std::sync::Arc;

use super::ReadSettings;
use crate::base::{Fault, Reason, Reject, Stage, Stop};
use crate::frame::{Body, Entry, Pool, RawFrame, RingPixels};
use crate::metrics::{Counter, Metrics};
use crate::ring::{Reference, Rings, Unread};

/// The rings of this machine, as seen by one reader.
#[derive(Debug)]
pub(super) struct RingReader {
    rings: Rings,
    pool: Pool,
    payload_bytes_max: u64,
    metrics: Arc<Metrics>,
    stop: Stop,
}

impl RingReader {
    pub(super) fn new(
        settings: &ReadSettings,
        pool: &Pool,
        metrics: &Arc<Metrics>,
        stop: &Stop,
    ) -> RingReader {
        RingReader {
            rings: Rings::new(settings.ring_folder.clone()),
            pool: pool.clone(),
            payload_bytes_max: settings.source.payload_bytes_max,
            metrics: Arc::clone(metrics),
            stop: stop.clone(),
        }
    }

    /// Copies the pixels of a frame if they lie in a ring. The outcome is stored in the entry.
    ///
    /// # Errors
    /// [`Fault::Io`] if this process lacks descriptors or memory; the entry stays pending.
    /// [`Fault::NeighbourGone`] if the engine stops at once.
    pub(super) fn fetch(&mut self, frame: &mut RawFrame) -> Result<(), Fault> {
        let Body::Whole(entry) = &mut frame.body else { return Ok(()) };
        let Some(reference) = entry.side(b"ring").map(Reference::parse) else { return Ok(()) };
        entry.ring = Some(match reference {
            Ok(reference) => self.copy(entry, &reference)?,
            Err(bad) => {
                let detail = format!("the field ring is not a reference to a frame ring: {bad}");
                RingPixels::Refused(Reject::new(Reason::Undecodable, Stage::Read, detail))
            }
        });
        Ok(())
    }

    /// Closes rings that were removed. To be called now and then.
    pub(super) fn tidy(&mut self) {
        self.rings.tidy();
    }

    fn copy(&mut self, entry: &Entry, reference: &Reference) -> Result<RingPixels, Fault> {
        let refused =
            |reason, detail: String| RingPixels::Refused(Reject::new(reason, Stage::Read, detail));
        let Reference { name, length, .. } = reference;
        // A reader must not hold a large buffer while it waits for another one; see [`Pool`].
        if entry.data().is_some_and(|data| data.len() > Pool::SMALL) {
            let detail = "data is too long for a frame whose pixels lie in a ring".into();
            return Ok(refused(Reason::TooLarge, detail));
        }
        let max = self.payload_bytes_max;
        let Some(len) = usize::try_from(*length).ok().filter(|_| *length <= max) else {
            let detail = format!(
                "a frame in the ring {name} has {length} bytes, more than limits.max_payload_bytes"
            );
            return Ok(refused(Reason::TooLarge, detail));
        };
        let Some(mut pixels) = self.pool.lease(len, &self.stop) else {
            return Err(Fault::NeighbourGone("engine"));
        };
        let outcome = self.rings.read(reference, &mut pixels);
        let is_counted = matches!(outcome, Ok(_) | Err(Unread::Overwritten));
        if let Some((header, waiting)) = self.rings.last_used().filter(|_| is_counted) {
            self.metrics.rings.update(name, |ring| {
                (ring.slots, ring.slot_bytes, ring.waiting) = (header.slots, header.room, waiting);
                ring.frames += u64::from(outcome.is_ok());
                ring.overwritten += u64::from(outcome.is_err());
            });
        }
        match outcome {
            Ok(hash) => {
                self.metrics.add(Counter::RingFrames, 1);
                self.metrics.add(Counter::RingBytes, *length);
                Ok(RingPixels::Here { pixels, hash })
            }
            Err(Unread::Overwritten) => Ok(RingPixels::Overwritten),
            Err(Unread::Gone(detail)) => Ok(refused(Reason::RingGone, detail)),
            Err(Unread::Fault(error)) => Err(Fault::io(format!("opening the ring {name}"), error)),
        }
    }
}
