//! The frame rings of a producer, and which slot of each is written next.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use redis::{Value, cmd};

use crate::base::Fault;
use crate::frame::EntryId;
use crate::image::{Format, Source as Picture};
use crate::metrics::clock::Tick;
use crate::redis::{Control, Pipeline, Ticket, Topology};
use crate::ring::{Ring, RingOptions};

/// Slots looked at in one round trip.
const LOOK: usize = 64;

/// Time between two looks at least.
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// How long the answer to a look may take.
const INQUIRY_LIMIT: Duration = Duration::from_secs(1);

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

impl RingUse {
    /// The same with room for frames of so many bytes.
    #[must_use]
    pub fn with_room(&self, frame_bytes_max: u64) -> RingUse {
        let ring = RingOptions { frame_bytes_max, ..self.ring.clone() };
        RingUse { ring, reuse: self.reuse }
    }
}

/// Where the pixels of a frame are.
#[derive(Debug)]
pub(super) enum Place {
    /// With the entry: there is no ring, or they do not fit.
    Entry,
    /// In a slot of a ring.
    Slot(Left),
    /// Nowhere yet: every slot holds a frame that has not ended.
    None,
}

/// Pixels left in a slot.
#[derive(Debug)]
pub(super) struct Left {
    slot: u32,
    /// The field `ring` of the entry.
    pub(super) reference: String,
}

/// The rings of a producer: those of single cameras, and one for all others.
#[derive(Debug)]
pub(super) struct Rings {
    shared: Option<RingSlots>,
    own: HashMap<String, RingSlots>,
    streams: Vec<String>,
    topology: Topology,
    timeout: Duration,
    retry: bool,
    /// Asks which entries are gone, for the sake of lossless rings.
    control: Option<Control>,
}

impl Rings {
    /// No ring yet.
    pub(super) fn new(
        topology: &Topology,
        streams: &[String],
        timeout: Duration,
        retry: bool,
    ) -> Rings {
        Rings {
            shared: None,
            own: HashMap::new(),
            streams: streams.to_vec(),
            topology: topology.clone(),
            timeout,
            retry,
            control: None,
        }
    }

    /// Makes the ring of all cameras that have none of their own.
    pub(super) fn share(&mut self, usage: &RingUse) -> Result<(), Fault> {
        self.shared = Some(self.make(usage)?);
        Ok(())
    }

    /// Makes the ring of a camera, unless it has one that will do. Otherwise that one is given up first.
    pub(super) fn set(&mut self, camera_id: &str, usage: &RingUse) -> Result<(), Fault> {
        if self.own.get(camera_id).is_some_and(|slots| slots.will_do(usage)) {
            return Ok(());
        }
        self.own.remove(camera_id);
        let slots = self.make(usage)?;
        self.own.insert(camera_id.to_owned(), slots);
        Ok(())
    }

    fn make(&mut self, usage: &RingUse) -> Result<RingSlots, Fault> {
        if usage.reuse == Reuse::Lossless && self.control.is_none() {
            // All cameras wait for its answers.
            let timeout = self.timeout.min(INQUIRY_LIMIT);
            self.control = Some(Control::new(&self.topology, timeout)?);
        }
        RingSlots::new(usage)
    }

    /// Gives up the rings of cameras that `is_kept` does not name; their files stay.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&str) -> bool) {
        self.own.retain(|camera_id, _| is_kept(camera_id));
    }

    /// Whether a picture of a camera would be left in a slot.
    pub(super) fn takes(&self, camera_id: &str, picture: &Picture<'_>) -> bool {
        match (self.own.get(camera_id), &self.shared) {
            (Some(own), _) => own.is_for(picture, true),
            (None, Some(shared)) => shared.is_for(picture, false),
            (None, None) => false,
        }
    }

    /// Leaves a picture of a camera in a slot. The pipeline tells which entries have ended.
    pub(super) fn leave(
        &mut self,
        camera_id: &str,
        picture: &Picture<'_>,
        pipeline: &mut Pipeline,
    ) -> Result<Place, Fault> {
        let takes = self.takes(camera_id, picture);
        let Rings { shared, own, streams, control, retry, .. } = self;
        if control.is_some() {
            for (ticket, id) in pipeline.ends() {
                own.values_mut().chain(shared.as_mut()).for_each(|slots| slots.note(ticket, id));
            }
        }
        let slots = own.get_mut(camera_id).or(shared.as_mut());
        let Some(slots) = slots.filter(|_| takes) else { return Ok(Place::Entry) };
        if slots.usage.reuse == Reuse::Lossless
            && slots.free.is_empty()
            && let Some(control) = control
        {
            slots.look(control, streams, *retry)?;
        }
        slots.leave(picture.bytes)
    }

    /// The entry of a slot is on its way.
    pub(super) fn sent(&mut self, camera_id: &str, ticket: Ticket, left: &Left, stream: usize) {
        let slots = self.own.get_mut(camera_id).or(self.shared.as_mut());
        if let Some(slots) = slots.filter(|slots| slots.usage.reuse == Reuse::Lossless) {
            slots.sent.push_back((ticket, left.slot, stream));
        }
    }
}

/// The slots of one ring.
#[derive(Debug)]
struct RingSlots {
    ring: Ring,
    /// What was asked for.
    usage: RingUse,
    next: u32,
    free: Vec<u32>,
    /// Slots whose entries are on their way, the oldest first, and their streams.
    sent: VecDeque<(Ticket, u32, usize)>,
    /// Slots whose entries are in a stream, the oldest first.
    stored: VecDeque<(EntryId, u32, usize)>,
    /// The stream that is looked at next, and when one was.
    looked_at: usize,
    looked: Option<Tick>,
}

impl RingSlots {
    /// Makes the ring.
    fn new(usage: &RingUse) -> Result<RingSlots, Fault> {
        let ring = Ring::create(&usage.ring)?;
        let slots = ring.header().slots;
        Ok(RingSlots {
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

    /// Whether it is what is asked for now, or has more room for each frame.
    fn will_do(&self, usage: &RingUse) -> bool {
        let frame_bytes_max = usage.ring.frame_bytes_max;
        frame_bytes_max <= self.ring.header().room
            && *usage == self.usage.with_room(frame_bytes_max)
    }

    /// Whether a picture belongs into a slot. Files of one camera differ in size: only its pixels do.
    fn is_for(&self, picture: &Picture<'_>, is_own: bool) -> bool {
        let fits = picture.bytes.len() as u64 <= self.ring.header().room;
        fits && (!is_own || picture.format == Format::Raw)
    }

    fn leave(&mut self, pixels: &[u8]) -> Result<Place, Fault> {
        let slot = match self.usage.reuse {
            Reuse::Freshest => {
                let slot = self.next;
                self.next = (slot + 1) % self.ring.header().slots;
                slot
            }
            Reuse::Lossless => {
                let Some(slot) = self.free.pop() else { return Ok(Place::None) };
                slot
            }
        };
        let written = self.ring.write(slot, pixels);
        if written.is_err() && self.usage.reuse == Reuse::Lossless {
            self.free.push(slot);
        }
        Ok(Place::Slot(Left { slot, reference: written?.to_string() }))
    }

    /// Takes note of how an entry has ended, if it is of this ring.
    fn note(&mut self, ticket: Ticket, id: Option<EntryId>) {
        let Some(at) = self.sent.iter().position(|(sent, ..)| *sent == ticket) else { return };
        let Some((_, slot, stream)) = self.sent.remove(at) else { return };
        match id {
            Some(id) => self.stored.push_back((id, slot, stream)),
            None => self.free.push(slot),
        }
    }

    /// Frees slots whose entries are gone. The streams are looked at in turn.
    fn look(
        &mut self,
        control: &mut Control,
        streams: &[String],
        retry: bool,
    ) -> Result<(), Fault> {
        let is_due = self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY);
        let turns = (0..streams.len()).map(|turn| (self.looked_at + turn) % streams.len());
        let stream = turns.filter(|_| is_due).find(|at| self.stored.iter().any(|it| it.2 == *at));
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
            // A right that the account lacks does not come by waiting.
            Err(fault) if retry && fault.redis_code() != Some("NOPERM") => {
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
