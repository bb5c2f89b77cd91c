//! The frame rings of a producer, and the choice of the slot to write next.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use redis::{Value, cmd};

use crate::base::Fault;
use crate::frame::EntryId;
use crate::image::{Format, InputImage};
use crate::metrics::clock::Tick;
use crate::redis::{Control, Pipeline, Ticket, Topology};
use crate::ring::{Ring, RingOptions};

/// Slots checked in one round trip.
const LOOK: usize = 64;

/// Minimum time between two checks.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// Time limit of one check.
const INQUIRY_LIMIT: Duration = Duration::from_secs(1);

/// When a slot of a frame ring is written again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// Slots are reused cyclically, even if their frames were not read. An unread frame is then
    /// lost, and the engine counts it as overwritten. The engine therefore reads recent frames. The
    /// default.
    #[default]
    Freshest,
    /// A slot is reused once the entry of its frame is deleted from the stream, as with `retention:
    /// delete`. Until then the producer waits or drops frames.
    Lossless,
}

/// A frame ring and its reuse policy. Raw pixels go through it; files go in entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingUse {
    /// The ring to create.
    pub ring: RingOptions,
    /// When its slots are reused.
    pub reuse: Reuse,
}

impl RingUse {
    /// The same, with room for frames of up to `frame_bytes_max` bytes.
    #[must_use]
    #[doc(hidden)]
    pub fn with_room(&self, frame_bytes_max: u64) -> RingUse {
        let ring = RingOptions { frame_bytes_max, ..self.ring.clone() };
        RingUse { ring, reuse: self.reuse }
    }
}

/// Location of the pixels of a frame.
#[derive(Debug)]
pub(super) enum PixelPlace {
    /// In the entry: there is no ring, or the pixels do not fit.
    Entry,
    /// In a slot of a ring.
    Slot(Left),
    /// Not stored: every slot holds a frame that is still in use.
    None,
}

/// Pixels that were written to a slot.
#[derive(Debug)]
pub(super) struct Left {
    slot: u32,
    /// The field `ring` of the entry.
    pub(super) reference: String,
}

/// The rings of a producer: one per camera with its own ring, and one for all other cameras.
#[derive(Debug)]
pub(super) struct ProducerRings {
    shared: Option<SlotStates>,
    own: HashMap<String, SlotStates>,
    streams: Vec<String>,
    topology: Topology,
    timeout: Duration,
    retry: bool,
    /// Checks which entries are deleted; used by lossless rings.
    control: Option<Control>,
}

impl ProducerRings {
    /// Starts without rings.
    pub(super) fn new(
        topology: &Topology,
        streams: &[String],
        timeout: Duration,
        retry: bool,
    ) -> ProducerRings {
        ProducerRings {
            shared: None,
            own: HashMap::new(),
            streams: streams.to_vec(),
            topology: topology.clone(),
            timeout,
            retry,
            control: None,
        }
    }

    /// Creates the ring shared by all cameras without their own ring.
    pub(super) fn share(&mut self, usage: &RingUse) -> Result<(), Fault> {
        self.shared = Some(self.make(usage)?);
        Ok(())
    }

    /// Creates the ring of a camera, unless it already has a suitable one. An unsuitable ring is
    /// released first.
    pub(super) fn set(&mut self, camera_id: &str, usage: &RingUse) -> Result<(), Fault> {
        if self.own.get(camera_id).is_some_and(|slots| slots.will_do(usage)) {
            return Ok(());
        }
        self.own.remove(camera_id);
        let slots = self.make(usage)?;
        self.own.insert(camera_id.to_owned(), slots);
        Ok(())
    }

    fn make(&mut self, usage: &RingUse) -> Result<SlotStates, Fault> {
        if usage.reuse == Reuse::Lossless && self.control.is_none() {
            // Every camera waits while this connection waits, so its time-out is short.
            let timeout = self.timeout.min(INQUIRY_LIMIT);
            self.control = Some(Control::new(&self.topology, timeout));
        }
        SlotStates::new(usage)
    }

    /// Releases the rings of cameras for which `is_kept` is false; their files stay.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&str) -> bool) {
        self.own.retain(|camera_id, _| is_kept(camera_id));
    }

    /// Whether a picture of a camera would be written to a slot.
    pub(super) fn takes(&self, camera_id: &str, picture: &InputImage<'_>) -> bool {
        match (self.own.get(camera_id), &self.shared) {
            (Some(own), _) => own.is_for(picture, true),
            (None, Some(shared)) => shared.is_for(picture, false),
            (None, None) => false,
        }
    }

    /// Writes a picture of a camera to a slot. `pipeline` reports which sent entries have been
    /// answered.
    pub(super) fn leave(
        &mut self,
        camera_id: &str,
        picture: &InputImage<'_>,
        pipeline: &mut Pipeline,
    ) -> Result<PixelPlace, Fault> {
        let takes = self.takes(camera_id, picture);
        let ProducerRings { shared, own, streams, control, retry, .. } = self;
        if control.is_some() {
            for (ticket, id) in pipeline.ends() {
                own.values_mut().chain(shared.as_mut()).for_each(|slots| slots.note(ticket, id));
            }
        }
        let slots = own.get_mut(camera_id).or(shared.as_mut());
        let Some(slots) = slots.filter(|_| takes) else { return Ok(PixelPlace::Entry) };
        if slots.usage.reuse == Reuse::Lossless
            && slots.free.is_empty()
            && let Some(control) = control
        {
            slots.look(control, streams, *retry)?;
        }
        slots.leave(picture.bytes)
    }

    /// Records that the entry of a slot was sent.
    pub(super) fn sent(&mut self, camera_id: &str, ticket: Ticket, left: &Left, stream: usize) {
        let slots = self.own.get_mut(camera_id).or(self.shared.as_mut());
        if let Some(slots) = slots.filter(|slots| slots.usage.reuse == Reuse::Lossless) {
            slots.sent.push_back((ticket, left.slot, stream));
        }
    }
}

/// The slots of one ring.
#[derive(Debug)]
struct SlotStates {
    ring: Ring,
    /// The requested options.
    usage: RingUse,
    next: u32,
    free: Vec<u32>,
    /// Slots whose entries are sent and not yet answered, oldest first, with their streams.
    sent: VecDeque<(Ticket, u32, usize)>,
    /// Slots whose entries are in a stream, oldest first.
    stored: VecDeque<(EntryId, u32, usize)>,
    /// The stream to check next, and the time of the last check.
    looked_at: usize,
    looked: Option<Tick>,
}

impl SlotStates {
    /// Creates the ring.
    fn new(usage: &RingUse) -> Result<SlotStates, Fault> {
        let ring = Ring::create(&usage.ring)?;
        let slots = ring.header().slots;
        Ok(SlotStates {
            ring,
            usage: usage.clone(),
            next: 0,
            free: (0..slots).rev().collect(),
            sent: VecDeque::new(),
            stored: VecDeque::new(),
            looked_at: 0,
            looked: None,
        })
    }

    /// Whether the ring matches `usage`, or differs only by having more room for each frame.
    fn will_do(&self, usage: &RingUse) -> bool {
        let frame_bytes_max = usage.ring.frame_bytes_max;
        frame_bytes_max <= self.ring.header().room
            && *usage == self.usage.with_room(frame_bytes_max)
    }

    /// Whether a picture goes into a slot. In a camera's own ring only pixels do, because its files
    /// differ in size.
    fn is_for(&self, picture: &InputImage<'_>, is_own: bool) -> bool {
        let fits = picture.bytes.len() as u64 <= self.ring.header().room;
        fits && (!is_own || picture.format == Format::Raw)
    }

    fn leave(&mut self, pixels: &[u8]) -> Result<PixelPlace, Fault> {
        let slot = match self.usage.reuse {
            Reuse::Freshest => {
                let slot = self.next;
                self.next = (slot + 1) % self.ring.header().slots;
                slot
            }
            Reuse::Lossless => {
                let Some(slot) = self.free.pop() else { return Ok(PixelPlace::None) };
                slot
            }
        };
        let written = self.ring.write(slot, pixels);
        if written.is_err() && self.usage.reuse == Reuse::Lossless {
            self.free.push(slot);
        }
        Ok(PixelPlace::Slot(Left { slot, reference: written?.to_string() }))
    }

    /// Records the result of an entry, if the entry belongs to this ring.
    fn note(&mut self, ticket: Ticket, id: Option<EntryId>) {
        let Some(at) = self.sent.iter().position(|(sent, ..)| *sent == ticket) else { return };
        let Some((_, slot, stream)) = self.sent.remove(at) else { return };
        match id {
            Some(id) => self.stored.push_back((id, slot, stream)),
            None => self.free.push(slot),
        }
    }

    /// Frees slots whose entries are deleted. Each call checks one stream, the next one that has
    /// stored slots.
    fn look(
        &mut self,
        control: &mut Control,
        streams: &[String],
        retry: bool,
    ) -> Result<(), Fault> {
        let is_due = self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        let order = (0..streams.len()).map(|step| (self.looked_at + step) % streams.len());
        let stream = order.filter(|_| is_due).find(|at| self.stored.iter().any(|it| it.2 == *at));
        let Some(stream) = stream else { return Ok(()) };
        (self.looked, self.looked_at) = (Some(Tick::now()), stream + 1);
        let name = &streams[stream];
        let of_it = |stored: &&(EntryId, u32, usize)| stored.2 == stream;
        let ids: Vec<EntryId> =
            self.stored.iter().filter(of_it).take(LOOK).map(|(id, ..)| *id).collect();
        let questions: Vec<_> = ids
            .iter()
            .map(|id| {
                let mut question = cmd("XRANGE");
                question.arg(name).arg(id.to_string()).arg(id.to_string());
                ("XRANGE", question)
            })
            .collect();
        let answers = control.run_all(name, &questions);
        let answers: Result<Vec<Value>, Fault> = answers.and_then(|all| all.into_iter().collect());
        let answers = match answers {
            Ok(answers) => answers,
            // Retrying does not help if the account lacks the permission.
            Err(fault) if retry && fault.redis_code() != Some("NOPERM") => {
                tracing::debug!("cannot find out which slots of the ring are free: {fault}");
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
