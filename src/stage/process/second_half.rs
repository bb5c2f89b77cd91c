//! The second half of a job: what needs the camera's past, in frame order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use smallvec::smallvec;

use super::camera::{Camera, Ended};
use super::cameras::Ordered;
use super::figures::replace;
use super::work::{Arrived, Work};
use super::{Outgoing, WorkerShared};
use crate::analysis::{self, Background};
use crate::base::threads::panic_message;
use crate::base::{Reason, Reject, Stage};
use crate::frame::{Finished, Handed, Labels, Receipt, Stored, Verdict};
use crate::metrics::{Gauge, Timer};

/// Leaves a frame at its camera's gate and finishes every frame that may pass.
pub(super) fn arrive(shared: &WorkerShared, ordered: &Ordered, ticket: u64, arrived: Arrived) {
    let camera = &ordered.camera;
    if !shared.settings.gated {
        finish(shared, camera, arrived);
        return;
    }
    let mut gate = ordered.gate.lock();
    gate.arrive(ticket, arrived);
    while let Some(arrived) = gate.pass() {
        finish(shared, camera, arrived);
    }
}

fn finish(shared: &WorkerShared, camera: &Camera, arrived: Arrived) {
    let Arrived { receipt, shard, mut slot, verdict } = arrived;
    let batch = std::mem::take(&mut slot.batch);
    let verdict = match verdict {
        Some(verdict) => verdict,
        None if batch.is_empty() => result(shared, camera, &mut slot, &receipt)
            .map_or_else(Verdict::from, |stored| Verdict::Store(smallvec![stored])),
        None => results(shared, batch, &receipt),
    };
    match &verdict {
        Verdict::Store(_) => {}
        Verdict::DeadLetter(refused) => {
            warn(camera, &slot, &receipt, &refused.reject);
            camera.note(Ended::Refused);
        }
        Verdict::Discard(discard) => camera.note(Ended::Dropped(*discard)),
    }
    let ordered = shared.settings.keep_order.then_some(camera.hash);
    let finished = Finished { receipt, shard, camera: ordered, verdict };
    hand_on(shared, Handed { finished, slot }, camera.hash);
}

/// The results of a batch, all or none.
fn results(shared: &WorkerShared, batch: Vec<(Arc<Camera>, Work)>, receipt: &Receipt) -> Verdict {
    let frames = batch.into_iter();
    let all = frames.map(|(camera, mut work)| result(shared, &camera, &mut work, receipt));
    all.collect::<Result<_, _>>().map_or_else(Verdict::from, Verdict::Store)
}

/// The result of a frame. It is added to the figures of its camera.
fn result(
    shared: &WorkerShared,
    camera: &Camera,
    work: &mut Work,
    receipt: &Receipt,
) -> Result<Stored, Reject> {
    let attempt = AssertUnwindSafe(|| complete(shared, camera, work, receipt));
    let stored = catch_unwind(attempt).unwrap_or_else(|payload| {
        *camera.background.lock() = Background::new();
        let detail = panic_message(&*payload);
        Err(Reject::new(Reason::Panic, Stage::Analyse, detail))
    })?;
    let message = &work.composer.message;
    let density = message.traffic_features.as_ref().map_or(0.0, |traffic| traffic.vehicle_density);
    camera.note(Ended::Result {
        quality: message.quality_metrics.as_ref().map_or(0.0, |figures| figures.quality_score),
        density,
        congestion: analysis::congestion(density.into()).name(),
        processing_ms: message.processing_time_ms,
        is_damaged: work.is_damaged,
    });
    Ok(stored)
}

fn warn(camera: &Camera, work: &Work, receipt: &Receipt, reject: &Reject) {
    let trace = work.traceparent.as_str();
    tracing::warn!(
        camera = camera.id.as_str(),
        entry = %receipt.id(),
        stage = reject.stage.name(),
        reason = reject.reason.code(),
        traceparent = (!trace.is_empty()).then_some(trace),
        "frame refused: {}",
        reject.detail
    );
}

/// Completes the message and appends it to its pictures.
fn complete(
    shared: &WorkerShared,
    camera: &Camera,
    work: &mut Work,
    receipt: &Receipt,
) -> Result<Stored, Reject> {
    let Some(draft) = work.draft.take() else {
        return Err(Reject::encode_failed("the pictures of the frame are missing"));
    };
    let message = &mut work.composer.message;
    if let Some(traffic) = &mut message.traffic_features {
        let time =
            if message.timestamp > 0.0 { message.timestamp } else { receipt.read_unix_seconds() };
        let mut background = camera.background.lock();
        let activity = background.update(&work.reduced, time);
        traffic.vehicle_density = activity.density;
        traffic.motion_intensity = activity.motion;
        let congestion = analysis::congestion(activity.density.into());
        replace(&mut traffic.congestion_level, congestion.name());
        let about = &work.composer.original;
        let size = [about.width, about.height].map(|side| usize::try_from(side).unwrap_or(0));
        for ((_, region), figures) in work.camera.regions.iter().zip(&mut message.roi_features) {
            figures.density = background.region_density(region, size[0], size[1]);
            let congestion = analysis::congestion(figures.density.into());
            replace(&mut figures.congestion, congestion.name());
        }
    }
    let processing = receipt.read_at().elapsed();
    message.processed_timestamp = message.received_timestamp + processing.as_secs_f64();
    message.processing_time_ms = processing.as_secs_f32() * 1000.0;
    shared.recorder.record(Timer::Processing, processing);

    let message = &work.composer.message;
    let room = Labels::room(&message.frame_id, &message.camera_id, &work.traceparent);
    let labels = Labels::write(
        shared.pool.lease_now(room),
        &message.frame_id,
        &message.camera_id,
        message.timestamp,
        receipt.id(),
        &work.traceparent,
    );
    Ok(Stored { payload: work.composer.finish(draft, &shared.pool), labels })
}

fn hand_on(shared: &WorkerShared, handed: Outgoing, camera: u64) {
    let index = shared.routes.lane_of(handed.finished.shard, camera);
    // A lane has room for every slot. If its committer is gone, the engine is ending and the
    // receipt reports the loss itself.
    if shared.lanes[index].try_send(handed) {
        shared.metrics.raise(Gauge::CommitLanes);
    }
}
