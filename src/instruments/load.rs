//! A measured load on an engine in this process. One thread feeds frames, open or closed loop; the
//! calling thread reads the results.
//!
//! In an open loop, a frame's latency counts from the time it should have been sent, so that it
//! includes the wait in front of a slow system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64_simd::STANDARD;
use clap::ValueEnum;

use super::{Scene, Size};
use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop};
use crate::camera::{Full, Outbound, Pace, Producer, ProducerOptions};
use crate::engine::EngineView;
use crate::frame::EntryId;
use crate::image::{Format, InputImage};
use crate::metrics::clock::{Tick, unix_seconds};
use crate::metrics::{Distribution, Metrics, Timer};
use crate::redis::Control;

/// In a closed loop: maximum bytes of unfinished frames, and bounds for the number of frames.
const BACKLOG_BYTES: u64 = 256 << 20;
const BACKLOG: (u64, u64) = (16, 48);
/// How often a closed loop checks for room.
const LOOK: Duration = Duration::from_millis(1);
/// How long one read of results waits.
const BLOCK: Duration = Duration::from_millis(50);
/// A load without any result for this long ends incomplete.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Maximum wait for the server to confirm the last frames.
const LAST_FRAMES_LIMIT: Duration = Duration::from_secs(10);

/// Encoding of the frames in the input stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Input {
    /// Raw RGB in a `ProcessedFrame`
    Raw,
    /// JPEG in a `ProcessedFrame`
    Jpeg,
    /// Base64 JPEG in legacy JSON
    Json,
}

/// Frames of a synthetic road, encoded for sending.
#[derive(Clone, Debug)]
pub struct Frames {
    size: Size,
    input: Input,
    files: Arc<Vec<Vec<u8>>>,
}

impl Frames {
    /// Paints and encodes the frames, which takes seconds for large ones.
    ///
    /// # Errors
    /// As [`Scene::of_moving_traffic`] and [`Scene::jpeg`].
    pub fn render(size: Size, input: Input, stop: &Stop) -> Result<Frames, Fault> {
        let scene = Scene::of_moving_traffic(size, stop)?;
        let files = match input {
            Input::Raw => scene.frames,
            Input::Jpeg => scene.jpeg()?,
            Input::Json => {
                scene.jpeg()?.iter().map(|file| STANDARD.encode_to_string(file).into()).collect()
            }
        };
        Ok(Frames { size, input, files: Arc::new(files) })
    }
}

/// Number of unfinished frames that a closed loop keeps: enough for every stage, within a bound in
/// bytes.
pub fn backlog(size: Size) -> u64 {
    (BACKLOG_BYTES / size.raw_bytes().max(1)).clamp(BACKLOG.0, BACKLOG.1)
}

/// The parameters of a load.
#[derive(Clone, Debug)]
pub struct Load {
    /// The frames, sent repeatedly.
    pub frames: Frames,
    /// Number of cameras that the frames name.
    pub cameras: u32,
    /// Frames per second; `None` for as many as possible.
    pub rate: Option<f64>,
    /// The load ends after this many frames.
    pub count: u64,
    /// No frame is sent after this time.
    pub limit: Duration,
    /// Frames due within this time after the beginning are not timed.
    pub warm: Duration,
    /// Whether to wait for the results of all frames, or to end with the last frame sent.
    pub wait_for_rest: bool,
}

/// The result of a load.
pub struct Driven {
    /// Time from when each frame should have been sent until its result was read.
    pub latency: Distribution,
    /// Frames sent.
    pub sent: u64,
    /// Results read.
    pub received: u64,
}

/// Progress of a load, reported once per read of results.
pub struct Progress {
    /// Frames sent.
    pub sent: u64,
    /// Results read.
    pub received: u64,
}

impl Load {
    /// Feeds the engine and reads its results until all have arrived, `stop` is raised, or no more
    /// arrive. Answers of Redis take at most `timeout`.
    ///
    /// # Errors
    /// The fault of the feeder or of reading results; [`Fault::Unusable`] if frames that were sent
    /// were not confirmed.
    pub fn drive(
        &self,
        view: &EngineView,
        timeout: Duration,
        stop: &Stop,
        mut show: impl FnMut(&Progress, &Metrics),
    ) -> Result<Driven, Fault> {
        let mut control = Control::new(&view.topology, timeout);
        let output = &view.plan.streams[0].output;
        let own = Metrics::new();
        let recorder = own.recorder();
        let feeding = Feeding::start(self, view, timeout, stop)?;
        let (mut received, mut last) = (0, EntryId::default());
        let timed_from = unix_seconds() + self.warm.as_secs_f64();
        let mut heard_at = Tick::now();
        loop {
            // Must be read before the results, so that the results include everything finished
            // until then.
            let ended = feeding.has_ended();
            let sent = feeding.sent();
            let account = view.metrics.ledger.read();
            let results = control.after(output, last, 64, BLOCK)?;
            let seen = unix_seconds();
            for (id, fields) in &results {
                last = *id;
                received += 1;
                let due = fields.get("timestamp").and_then(|text| std::str::from_utf8(text).ok());
                let due = due.and_then(|text| text.parse::<f64>().ok());
                if let Some(due) = due.filter(|due| *due >= timed_from) {
                    let latency = Duration::try_from_secs_f64(seen - due).unwrap_or_default();
                    recorder.record(Timer::EndToEnd, latency);
                }
            }
            if !results.is_empty() {
                heard_at = Tick::now();
            }
            show(&Progress { sent, received }, &own);
            let settled = account.read >= sent && account.in_flight == 0;
            let done = ended && (!self.wait_for_rest || settled && received >= account.out);
            if done || stop.is_draining() || heard_at.elapsed() > SILENCE_MAX {
                break;
            }
        }
        let sent = feeding.end()?;
        Ok(Driven { latency: own.distribution(Timer::EndToEnd), sent, received })
    }
}

/// The running feeder thread; stopped and joined on drop.
struct Feeding {
    stop: Stop,
    state: Arc<FeedState>,
    thread: Option<Running>,
}

#[derive(Default)]
struct FeedState {
    sent: AtomicU64,
    ended: AtomicBool,
}

impl Feeding {
    fn start(
        load: &Load,
        view: &EngineView,
        timeout: Duration,
        stop: &Stop,
    ) -> Result<Feeding, Fault> {
        let own_stop = Stop::default();
        let state = Arc::new(FeedState::default());
        let mut feeder = Feeder::open(view, timeout, &own_stop)?;
        let (load, view) = (load.clone(), view.clone());
        let (into, until, outer) = (Arc::clone(&state), own_stop.clone(), stop.clone());
        let identity = Identity { role: Role::Camera, index: 0, core: None };
        let thread = threads::spawn(identity, &own_stop, move || {
            let fed = feed(&mut feeder, &load, &view, &into, &[until, outer]);
            into.ended.store(true, Ordering::Release);
            fed
        })?;
        Ok(Feeding { stop: own_stop, state, thread: Some(thread) })
    }

    fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Acquire)
    }

    fn has_ended(&self) -> bool {
        self.state.ended.load(Ordering::Acquire)
            || self.thread.as_ref().is_none_or(Running::is_finished)
    }

    fn end(mut self) -> Result<u64, Fault> {
        self.stop.drain();
        if let Some(thread) = self.thread.take() {
            thread.join()?;
        }
        Ok(self.sent())
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        // Drain before the thread is joined.
        self.stop.drain();
    }
}

fn feed(
    feeder: &mut Feeder,
    load: &Load,
    view: &EngineView,
    state: &FeedState,
    stops: &[Stop; 2],
) -> Result<(), Fault> {
    let sent = feed_until(feeder, load, view, state, stops)?;
    let unconfirmed = feeder.producer.flush(LAST_FRAMES_LIMIT) as u64;
    feeder.producer.settle()?;
    state.sent.store(sent - unconfirmed, Ordering::Release);
    match unconfirmed {
        0 => Ok(()),
        _ => Err(Fault::Unusable(format!("{unconfirmed} frames sent were not confirmed"))),
    }
}

/// Feeds until everything is sent, the time is over or a stop is requested. Returns the number of
/// frames sent.
fn feed_until(
    feeder: &mut Feeder,
    load: &Load,
    view: &EngineView,
    state: &FeedState,
    [own, outer]: &[Stop; 2],
) -> Result<u64, Fault> {
    let pace = load.rate.and_then(Pace::new);
    let backlog = backlog(load.frames.size);
    let (began, began_unix) = (Tick::now(), unix_seconds());
    for number in 0..load.count {
        loop {
            if own.is_draining() || outer.is_draining() || began.elapsed() >= load.limit {
                return Ok(number);
            }
            let wait = match &pace {
                Some(pace) => pace.wait(number, began.elapsed()),
                None => {
                    let account = view.metrics.ledger.read();
                    let done = account.read - account.in_flight;
                    if number.saturating_sub(done) < backlog { Duration::ZERO } else { LOOK }
                }
            };
            if wait.is_zero() {
                break;
            }
            own.sleep(wait);
        }
        let due = match &pace {
            Some(pace) => began_unix + pace.due(number).as_secs_f64(),
            None => unix_seconds(),
        };
        if !feeder.send(&load.frames, load.cameras, number, due)? {
            return Ok(number);
        }
        state.sent.store(number + 1, Ordering::Release);
    }
    Ok(load.count)
}

/// The connection of a feeder.
struct Feeder {
    producer: Producer,
    text: Vec<u8>,
}

impl Feeder {
    fn open(view: &EngineView, timeout: Duration, stop: &Stop) -> Result<Feeder, Fault> {
        let stream = view.plan.streams[0].input.clone();
        let options = ProducerOptions {
            topology: view.topology.clone(),
            wait_replicas: 0,
            streams: vec![stream],
            length_max: 0,
            timeout,
            retry: false,
            full: Full::Block,
            ring: None,
        };
        Ok(Feeder { producer: Producer::connect(options, stop)?, text: Vec::new() })
    }

    /// Sends a frame. Returns whether it was accepted; after a stop, a full window accepts none.
    fn send(
        &mut self,
        frames: &Frames,
        cameras: u32,
        number: u64,
        due: f64,
    ) -> Result<bool, Fault> {
        let cameras = u64::from(cameras.max(1));
        let camera = format!("camera-{}", number % cameras);
        let id = format!("frame-{number:08}");
        let at = usize::try_from(number / cameras + number % cameras).unwrap_or(0);
        let bytes = &frames.files[at % frames.files.len()];
        if frames.input == Input::Json {
            let head = format!(
                r#"{{"frame_id":"{id}","camera_id":"{camera}","timestamp":{due:.6},"image_base64":""#
            );
            self.text.clear();
            self.text.extend_from_slice(head.as_bytes());
            self.text.extend_from_slice(bytes);
            self.text.extend_from_slice(b"\"}");
            let beside = [("frame_id", id.as_bytes()), ("camera_id", camera.as_bytes())];
            let ticket = self.producer.enqueue_data(&camera, &self.text, &beside)?;
            return self.producer.settle().map(|()| ticket.is_some());
        }
        let format = if frames.input == Input::Raw { Format::Raw } else { Format::Jpeg };
        let Size { width, height } = frames.size;
        let picture =
            InputImage { format, width, height, channels: 3, layout: Default::default(), bytes };
        let outbound =
            Outbound { frame_id: &id, camera_id: &camera, timestamp: due, picture, quality: 0 };
        let ticket = self.producer.enqueue(&outbound)?;
        self.producer.settle().map(|()| ticket.is_some())
    }
}
