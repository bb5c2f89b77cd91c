//! Which slot of its frame ring a producer writes next.

use std::collections::VecDeque;
use std::time::Duration;

use redis::{Value, cmd};

use crate::base::Fault;
use crate::frame::EntryId;
use crate::redis::{Control, Pipeline, Ticket, Topology};
use crate::ring::{Ring, RingOptions};

/// Slots looked at in one round trip.
const LOOK: usize = 64;

/// When a slot is written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// In turn, whatever became of the frame in it. A frame that was not read by then is lost, and the
    /// engine counts it: what is read is fresh.
    #[default]
    Freshest,
    /// When the entry of its frame is gone from the stream, as with `retention: delete`. Until then the
    /// producer waits, or drops frames.
    Lossless,
}

/// A frame ring, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingUse {
    /// The ring, which is made.
    pub ring: RingOptions,
    /// When its slots are written again.
    pub reuse: Reuse,
}

/// Pixels left in a slot.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) slot: u32,
    /// The field `ring` of the entry.
    pub(super) reference: String,
}

/// The slots of a ring.
#[derive(Debug)]
pub(super) struct RingSlots {
    ring: Ring,
    reuse: Reuse,
    retry: bool,
    next: u32,
    free: Vec<u32>,
    /// Slots whose entries are on their way, the oldest first, and their streams.
    sent: VecDeque<(Ticket, u32, usize)>,
    /// Slots whose entries are in a stream, the oldest first.
    stored: VecDeque<(EntryId, u32, usize)>,
    streams: Vec<String>,
    /// The stream that is looked at next.
    looked_at: usize,
    control: Control,
}

impl RingSlots {
    /// Makes the ring.
    pub(super) fn new(
        usage: &RingUse,
        topology: &Topology,
        streams: &[String],
        timeout: Duration,
        retry: bool,
    ) -> Result<RingSlots, Fault> {
        let ring = Ring::create(&usage.ring)?;
        let slots = ring.header().slots;
        Ok(RingSlots {
            ring,
            reuse: usage.reuse,
            retry,
            next: 0,
            free: (0..slots).rev().collect(),
            sent: VecDeque::new(),
            stored: VecDeque::new(),
            streams: streams.to_vec(),
            looked_at: 0,
            control: Control::new(topology, timeout)?,
        })
    }

    /// Whether pixels fit into a slot.
    pub(super) fn fits(&self, pixels: &[u8]) -> bool {
        pixels.len() as u64 <= self.ring.header().room
    }

    /// Leaves pixels in a slot; `None` if none is free. The pipeline tells which entries have ended.
    pub(super) fn leave(
        &mut self,
        pixels: &[u8],
        pipeline: &mut Pipeline,
    ) -> Result<Option<Left>, Fault> {
        let slot = match self.reuse {
            Reuse::Freshest => {
                let slot = self.next;
                self.next = (slot + 1) % self.ring.header().slots;
                slot
            }
            Reuse::Lossless => {
                self.note(pipeline.ends());
                if self.free.is_empty() {
                    self.look()?;
                }
                let Some(slot) = self.free.pop() else { return Ok(None) };
                slot
            }
        };
        let written = self.ring.write(slot, pixels);
        if written.is_err() && self.reuse == Reuse::Lossless {
            self.free.push(slot);
        }
        Ok(Some(Left { slot, reference: written?.to_string() }))
    }

    /// The entry of a slot is on its way.
    pub(super) fn sent(&mut self, ticket: Ticket, slot: u32, stream: usize) {
        if self.reuse == Reuse::Lossless {
            self.sent.push_back((ticket, slot, stream));
        }
    }

    /// Takes note of how entries have ended.
    fn note(&mut self, ends: Vec<(Ticket, Option<EntryId>)>) {
        for (ticket, id) in ends {
            let Some(at) = self.sent.iter().position(|(sent, ..)| *sent == ticket) else {
                continue;
            };
            let Some((_, slot, stream)) = self.sent.remove(at) else { continue };
            match id {
                Some(id) => self.stored.push_back((id, slot, stream)),
                None => self.free.push(slot),
            }
        }
    }

    /// Frees slots whose entries are gone. The streams are looked at in turn.
    fn look(&mut self) -> Result<(), Fault> {
        let stream = self.looked_at;
        self.looked_at = (stream + 1) % self.streams.len();
        let name = self.streams[stream].clone();
        let of_it = |stored: &&(EntryId, u32, usize)| stored.2 == stream;
        let ids: Vec<EntryId> =
            self.stored.iter().filter(of_it).take(LOOK).map(|(id, ..)| *id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let questions: Vec<_> = ids
            .iter()
            .map(|id| {
                let mut question = cmd("XRANGE");
                question.arg(&name).arg(id.to_string()).arg(id.to_string());
                ("XRANGE", question)
            })
            .collect();
        let answers = self.control.run_all(&name, &questions);
        let answers: Result<Vec<Value>, Fault> = answers.and_then(|all| all.into_iter().collect());
        let answers = match answers {
            Ok(answers) => answers,
            // A right that the account lacks does not come by waiting.
            Err(fault) if self.retry && fault.redis_code() != Some("NOPERM") => {
                tracing::debug!("which slots of the ring are free: {fault}");
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        for (id, answer) in ids.into_iter().zip(answers) {
            let is_gone = matches!(answer, Value::Array(found) if found.is_empty());
            let is_its = |stored: &(EntryId, u32, usize)| stored.0 == id && stored.2 == stream;
            if is_gone
                && let Some(at) = self.stored.iter().position(is_its)
                && let Some((_, slot, _)) = self.stored.remove(at)
            {
                self.free.push(slot);
            }
        }
        Ok(())
    }
}
