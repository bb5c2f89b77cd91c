//! The producer: it numbers and adds the frames of each camera, and records what it knows of each.
//!
//! A frame is never sent twice. If the answer to its XADD is lost, the frame may be in the stream
//! or not, and the checker accepts both; the next frame has the next number.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64_simd::STANDARD;
use framepress::internals::image::Format;
use framepress::internals::ring::{Ring, RingOptions};
use framepress::internals::wire::proto::{ImageData, ProcessedFrame};
use prost::Message as _;

use super::archive::Archive;
use super::draw::Setup;
use super::names::Streams;
use super::world::Finder;
use crate::Outcome;
use crate::common::Pictures;

/// Pause after a refusal.
const PAUSE: Duration = Duration::from_millis(30);
/// With a full backlog, a frame is still sent after this time, so that silently lost frames do not
/// stop the load.
const TRICKLE: Duration = Duration::from_millis(60);

/// Slots of the ring: fewer than the backlog, so that some are overwritten.
const SLOTS: u32 = 64;

/// A frame that was sent, or may have been.
#[derive(Clone, Debug)]
pub struct Sent {
    pub frame: String,
    pub camera: usize,
    pub number: u64,
    /// Its entry id; `None` if the answer was lost.
    pub entry: Option<String>,
    /// When it was sent and when the answer came, in milliseconds from the start.
    pub at_ms: u64,
    pub answered_ms: u64,
    /// Whether its slot was overwritten before it had a result.
    pub is_overwritten: bool,
}

/// The producer's thread; dropping the value ends it.
pub struct Producer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Outcome<Vec<Sent>>>>,
}

impl Producer {
    pub fn start(
        setup: &Setup,
        streams: &Streams,
        finder: Finder,
        archive: Arc<Archive>,
        began: Instant,
        folder: &Path,
    ) -> Outcome<Producer> {
        let mut bodies = Bodies::of(setup, folder)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let (setup, input) = (setup.clone(), streams.input.clone());
        let thread = std::thread::spawn(move || {
            run(&setup, &input, &mut bodies, finder, &archive, began, &flag)
        });
        Ok(Producer { stop, thread: Some(thread) })
    }

    /// Ends the thread; returns all frames it has sent.
    pub fn end(mut self) -> Outcome<Vec<Sent>> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().ok_or("the producer has ended before")?;
        thread.join().map_err(|_| "the producer panicked")?
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Names and values of an entry.
type Fields = Vec<(&'static str, Vec<u8>)>;

/// One picture for each camera, in the form it is sent.
enum Bodies {
    /// In legacy JSON, in base64.
    Json(Vec<String>),
    /// Raw pixels in a ring.
    Ring(Slots, Pictures),
}

/// The slots of a ring.
struct Slots {
    ring: Ring,
    is_lossless: bool,
    next: u32,
    /// The frame in each slot, by its index among those sent.
    frames: Vec<Option<usize>>,
}

impl Bodies {
    fn of(setup: &Setup, folder: &Path) -> Outcome<Bodies> {
        if setup.ring == "none" {
            let pictures = Pictures::of_a_road(setup.size, Format::Jpeg, setup.cameras)?;
            let body = |camera: usize| {
                STANDARD.encode_to_string(pictures.frame(camera as u64, "", "").picture.bytes)
            };
            return Ok(Bodies::Json((0..setup.cameras).map(body).collect()));
        }
        let pictures = Pictures::of_a_road(setup.size, Format::Raw, setup.cameras)?;
        let ring = Ring::create(&RingOptions {
            folder: folder.to_owned(),
            name: "chaos".into(),
            slots: SLOTS,
            frame_bytes_max: setup.size.raw_bytes(),
        })?;
        let frames = vec![None; SLOTS as usize];
        let is_lossless = setup.ring == "lossless";
        Ok(Bodies::Ring(Slots { ring, is_lossless, next: 0, frames }, pictures))
    }

    /// The fields of a frame's entry; `None` if no slot is free for its pixels.
    fn fields(
        &mut self,
        (frame, camera, time): (&str, usize, f64),
        (sent, archive): (&mut [Sent], &Archive),
        (input, finder): (&str, &mut Finder),
    ) -> Outcome<Option<Fields>> {
        let name = format!("camera-{camera}");
        match self {
            Bodies::Json(bodies) => {
                let data = format!(
                    r#"{{"frame_id":"{frame}","camera_id":"{name}","timestamp":{time:.1},"image_base64":"{}"}}"#,
                    bodies[camera]
                );
                Ok(Some(vec![("data", data.into_bytes())]))
            }
            Bodies::Ring(slots, pictures) => {
                if slots.is_lossless && !slots.is_next_free(sent, input, finder) {
                    return Ok(None);
                }
                let slot = slots.next as usize;
                if let Some(before) = slots.frames[slot].map(|at| &mut sent[at])
                    && !slots.is_lossless
                    && !archive.lock().has(&before.frame)
                {
                    before.is_overwritten = true;
                    archive.settle(1);
                }
                let picture = pictures.frame(camera as u64, "", "").picture;
                let reference = slots.ring.write(slots.next, picture.bytes)?.to_string();
                slots.frames[slot] = Some(sent.len());
                slots.next = (slots.next + 1) % SLOTS;
                let image = ImageData {
                    width: picture.width as i32,
                    height: picture.height as i32,
                    channels: 3,
                    compression_format: "rgb24".into(),
                    ..ImageData::default()
                };
                let message = ProcessedFrame {
                    frame_id: frame.to_owned(),
                    camera_id: name,
                    timestamp: time,
                    original_image: Some(image),
                    ..ProcessedFrame::default()
                };
                let reference = reference.into_bytes();
                Ok(Some(vec![("data", message.encode_to_vec()), ("ring", reference)]))
            }
        }
    }
}

impl Slots {
    /// Whether the entry of the frame in the next slot is gone. An entry without an answer may stay
    /// in the stream forever, so its slot is skipped.
    fn is_next_free(&mut self, sent: &[Sent], input: &str, finder: &mut Finder) -> bool {
        for _ in 0..SLOTS {
            let Some(at) = self.frames[self.next as usize] else { return true };
            let Some(entry) = sent.get(at).map(|sent| &sent.entry) else { return true };
            if let Some(entry) = entry {
                let mut question = redis::cmd("XRANGE");
                question.arg(input).arg(entry).arg(entry);
                let answer = finder
                    .primary()
                    .and_then(|link| Ok(link.query::<Vec<redis::Value>>(&question)?));
                return answer.is_ok_and(|found| found.is_empty());
            }
            self.next = (self.next + 1) % SLOTS;
        }
        false
    }
}

fn run(
    setup: &Setup,
    input: &str,
    bodies: &mut Bodies,
    mut finder: Finder,
    archive: &Archive,
    began: Instant,
    stop: &AtomicBool,
) -> Outcome<Vec<Sent>> {
    let gap = Duration::from_micros(1_000_000 * setup.burst / setup.rate);
    let now = || began.elapsed().as_millis() as u64;
    let mut sent: Vec<Sent> = Vec::new();
    let mut number: u64 = 0;
    let mut last = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let in_burst = !number.is_multiple_of(setup.burst);
        let outstanding = (sent.len() as u64).saturating_sub(archive.settled());
        let wait = match outstanding < setup.backlog {
            true if in_burst => Duration::ZERO,
            true => gap,
            false => TRICKLE.max(gap),
        };
        let waited = last.elapsed();
        if waited < wait {
            std::thread::sleep((wait - waited).min(Duration::from_millis(5)));
            continue;
        }
        last = Instant::now();
        let camera = number as usize % setup.cameras;
        let of_camera = number / setup.cameras as u64;
        let (frame, name) = (format!("c{camera}-{of_camera:06}"), format!("camera-{camera}"));
        let time = 1_700_000_000.5 + number as f64;
        let about = (&*frame, camera, time);
        let Some(fields) = bodies.fields(about, (&mut sent, archive), (input, &mut finder))? else {
            std::thread::sleep(PAUSE);
            continue;
        };
        let mut command = redis::cmd("XADD");
        command.arg(input).arg("*");
        for (field, value) in fields {
            command.arg(field).arg(value);
        }
        command.arg("frame_id").arg(&frame).arg("camera_id").arg(&name);
        let at_ms = now();
        let entry = match finder.primary().and_then(|link| Ok(link.query::<String>(&command)?)) {
            Ok(entry) => Some(entry),
            Err(error) => {
                let error = error.downcast_ref::<redis::RedisError>();
                finder.lost();
                std::thread::sleep(PAUSE);
                // Refused, or no connection: the frame was not sent, and keeps its number.
                if error.is_none_or(|error| error.code().is_some() || error.is_connection_refusal())
                {
                    continue;
                }
                None
            }
        };
        let (answered_ms, is_overwritten) = (now(), false);
        sent.push(Sent {
            frame,
            camera,
            number: of_camera,
            entry,
            at_ms,
            answered_ms,
            is_overwritten,
        });
        number += 1;
    }
    Ok(sent)
}
