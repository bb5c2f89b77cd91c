//! The first half of a job: everything that concerns the picture alone.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::camera::{Camera, Ended};
use super::job::Job;
use super::pictures::Leeway;
use super::work::{Arrived, Work};
use super::worker::{Tools, Worker};
use super::{WorkerShared, figures, label, pictures, second_half};
use crate::base::threads::{Role, panic_message};
use crate::base::{Reason, Reject, Stage};
use crate::frame::{Discard, Entry, Receipt, Refused, Verdict};
use crate::image::Bounds;
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Recorder, Timer};
use crate::wire::{self, Draft, Envelope, FrameBatch, OpenedEnvelope};

/// Runs on a worker. In every case the frame arrives at its camera's gate.
pub(super) fn run(shared: &WorkerShared, job: Job) {
    let _ended = EndedJob(&shared.jobs);
    shared.settings.loop_hook.call(Role::Work);
    let Job { receipt, entry, shard, ordered, ticket, mut slot } = job;
    let mut worker = shared.workers.mine();
    worker.tools.recorder.record(Timer::Stage(Stage::QueueWait), receipt.read_at().elapsed());
    let verdict = {
        let work = &mut *slot;
        let worker = &mut *worker;
        let attempt =
            AssertUnwindSafe(|| process(shared, worker, work, &entry, &receipt, &ordered.camera));
        catch_unwind(attempt).unwrap_or_else(|payload| Err(panicked(&*payload)))
    };
    let is_panic = |refused: &Refused| refused.reject.reason == Reason::Panic;
    if matches!(&verdict, Err(Verdict::DeadLetter(refused)) if is_panic(refused)) {
        let settings = &shared.settings;
        let bounds = Bounds { pixels_max: settings.pixels_max };
        worker.renew(bounds, settings.payload_bytes_max);
    }
    let has_lesson = worker.tools.coder.has_lesson();
    drop(worker);
    let verdict = verdict.map_err(|verdict| with_pixels(shared, verdict, &entry));
    drop(entry); // returns its buffers before the frame waits at the gate
    let arrived = Arrived { receipt, shard, slot, verdict: verdict.err() };
    second_half::arrive(shared, &ordered, ticket, arrived);
    if has_lesson {
        // The frame is handed on; its files are still in the worker's buffers.
        shared.workers.mine().tools.coder.learn(&ordered.camera.tables, &shared.metrics);
    }
}

/// Opens an entry and processes its frame, or all frames of a batch. On success the drafts of the
/// messages are in `work`; otherwise the verdict says how the entry ends.
fn process(
    shared: &WorkerShared,
    worker: &mut Worker,
    work: &mut Work,
    entry: &Entry,
    receipt: &Receipt,
    camera: &Camera,
) -> Result<(), Verdict> {
    let Worker { tools, unpacked } = worker;
    let since = Tick::now();
    work.batch.clear();
    let data = label::data_of(entry)?;
    match wire::open_all(data, shared.settings.pixels_max, unpacked)? {
        OpenedEnvelope::Frame(mut envelope) => {
            label::fetch_pixels(&mut envelope, entry)?;
            frame(shared, tools, since, work, &envelope, (entry, receipt), camera)
        }
        OpenedEnvelope::Batch(_) if entry.ring.is_some() => Err(Reject::undecodable(
            "a batch of frames cannot refer to a frame ring; send each frame in an entry of its \
             own",
        )
        .into()),
        OpenedEnvelope::Batch(frames) => batch(shared, tools, work, frames, (entry, receipt)),
    }
}

/// Processes the frames of a batch, each with its own camera. If one is refused, the entry is
/// refused: an entry ends once, and replaying its dead letter must not store the results of the
/// others twice.
fn batch(
    shared: &WorkerShared,
    tools: &mut Tools,
    work: &mut Work,
    mut frames: FrameBatch<'_>,
    of: (&Entry, &Receipt),
) -> Result<(), Verdict> {
    let most = shared.settings.payload_bytes_max;
    let (mut bytes, mut below_threshold) = (0, Vec::new());
    while let Some(envelope) = frames.next() {
        let envelope = envelope.map_err(|reject| frames.blame(reject))?;
        let ordered = shared.cameras.get(label::camera_id(&envelope, of.0));
        let camera = Arc::clone(&ordered.camera);
        let traceparent = work.traceparent.clone();
        let mut own = Work { traceparent, ..Work::default() };
        let attempt = || frame(shared, tools, Tick::now(), &mut own, &envelope, of, &camera);
        let ended = catch_unwind(AssertUnwindSafe(attempt));
        match ended.unwrap_or_else(|payload| Err(panicked(&*payload))) {
            Ok(()) => tools.coder.learn(&camera.tables, &shared.metrics),
            Err(Verdict::DeadLetter(refused)) => return Err(frames.blame(refused.reject).into()),
            Err(Verdict::Discard(Discard::BelowThreshold)) => {
                below_threshold.push(camera);
                continue;
            }
            Err(verdict) => return Err(verdict),
        }
        bytes += own.draft.as_ref().map_or(0, Draft::len);
        if bytes > most {
            let detail = "the results of the batch have more bytes than limits.max_payload_bytes";
            return Err(frames.blame(Reject::new(Reason::TooLarge, Stage::Encode, detail)).into());
        }
        work.batch.push((camera, own));
    }
    if work.batch.is_empty() {
        return Err(Verdict::Discard(Discard::BelowThreshold));
    }
    for camera in below_threshold {
        camera.note(Ended::Dropped(Discard::BelowThreshold));
    }
    Ok(())
}

/// Decodes, judges and encodes a frame; work on it began at `since`. On success the draft of the
/// message is in `work`.
fn frame(
    shared: &WorkerShared,
    tools: &mut Tools,
    since: Tick,
    work: &mut Work,
    envelope: &Envelope<'_>,
    (entry, receipt): (&Entry, &Receipt),
    camera: &Camera,
) -> Result<(), Verdict> {
    let Tools { decoder, coder, picture, recorder } = tools;
    let settings = &*shared.live.load();
    let mut laps = Laps { recorder, last: since };
    work.camera = camera.settings();

    if !label::fill(work, envelope, entry, receipt) {
        shared.metrics.add(Counter::TimesNotUnderstood, 1);
    }
    if let Some(probe) = &shared.settings.probe {
        probe(&work.composer.message.frame_id);
    }
    let source = label::source_of(&envelope.image)?;
    decoder.treat(settings.treatment);
    let view = decoder.decode(&source, pictures::needs(settings), picture)?;
    let findings = decoder.findings();
    work.is_damaged = findings.damage.is_some();
    laps.end(Timer::Stage(Stage::Decode));

    if let Some(analysis) = &settings.analysis {
        figures::judge(analysis, work, &view)?;
    }
    laps.end(Timer::Stage(Stage::Analyse));

    if shared.is_too_old(settings, receipt) {
        shared.metrics.add(Counter::ShedAtEncode, 1);
        return Err(Verdict::Discard(Discard::Shed(Stage::Encode)));
    }
    let leeway = Leeway {
        effort: &shared.effort,
        metrics: &shared.metrics,
        read_at: receipt.read_at(),
        since,
        is_queue: shared.has_queue(),
        workers: shared.workers.len(),
    };
    let by = (&**settings, &camera.tables, &leeway);
    let coded = coder.code(by, &source, findings, &view, &mut work.composer)?;
    laps.end(Timer::Stage(Stage::Encode));

    coded.count(&shared.metrics, &view);
    shared.metrics.add(Counter::DamagedAccepted, work.is_damaged.into());
    work.draft = Some(coded.draft(&work.composer, work.camera.regions.len(), &shared.pool));
    laps.end(Timer::Serialization);
    if camera.snapshot.is_due() {
        // Failing to keep a picture for the dashboard does not fail the frame.
        match coded.jpeg(&work.composer) {
            Some(jpeg) => camera.snapshot.keep(jpeg),
            None => coder.photograph(&view).map_or((), |jpeg| camera.snapshot.keep(jpeg)),
        }
    }
    Ok(())
}

/// Adds the pixels to a dead letter whose pixels lie in a frame ring, because the ring slot will
/// soon hold another frame.
pub(super) fn with_pixels(shared: &WorkerShared, verdict: Verdict, entry: &Entry) -> Verdict {
    match verdict {
        Verdict::DeadLetter(Refused { reject, whole: None }) => {
            let parts = entry.data().zip(entry.ring_pixels());
            let whole = parts.and_then(|(data, pixels)| wire::whole(data, pixels, &shared.pool));
            Verdict::DeadLetter(Refused { reject, whole })
        }
        verdict => verdict,
    }
}

/// The verdict on an entry that made a worker panic.
fn panicked(payload: &(dyn Any + Send)) -> Verdict {
    Reject::new(Reason::Panic, Stage::Decode, panic_message(payload)).into()
}

/// Counts a job as ended, also if it panics.
struct EndedJob<'a>(&'a AtomicUsize);

impl Drop for EndedJob<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Times the steps of a job, each from the end of the one before.
struct Laps<'a> {
    recorder: &'a Recorder,
    last: Tick,
}

impl Laps<'_> {
    fn end(&mut self, timer: Timer) {
        let now = Tick::now();
        self.recorder.record(timer, now.since(self.last));
        self.last = now;
    }
}
