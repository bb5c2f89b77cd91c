//! The figures of a single picture, written into the message.

use super::work::Work;
use super::{AnalysisSettings, CameraSettings};
use crate::analysis::{self, LumaStats};
use crate::frame::{Discard, Plane, Planes, Verdict, View};
use crate::wire::proto::{ProcessedFrame, QualityMetrics, RoiAnalysis, TrafficFeatures};

/// Computes quality, lighting, weather and the brightness of regions, reduces the picture for the
/// background model, and compares the score with the threshold.
///
/// # Errors
/// The verdict of a frame that is below the threshold and configured to be dropped.
pub(super) fn judge(
    settings: &AnalysisSettings,
    work: &mut Work,
    view: &View<'_>,
) -> Result<(), Verdict> {
    let Some(planes) = view.planes else { return Ok(()) };
    let luma = planes.luma();
    let stats = analysis::luma_stats(luma);
    let quality = analysis::quality(&stats);
    work.reduced.fill(luma);

    let message = &mut work.composer.message;
    message.quality_metrics = Some(QualityMetrics {
        quality_score: quality.quality_score,
        blur_score: quality.blur_score,
        brightness_score: quality.brightness_score,
        contrast_score: quality.contrast_score,
        noise_level: quality.noise_level,
    });
    let traffic = message.traffic_features.get_or_insert_default();
    scene(traffic, &stats, view, planes);
    regions(message, &mut work.spare_regions, &work.camera, luma);

    let threshold = work.camera.quality_threshold.unwrap_or(settings.quality_threshold);
    message.validation_passed = quality.quality_score >= threshold;
    if settings.drop_below_threshold && !message.validation_passed {
        return Err(Verdict::Discard(Discard::BelowThreshold));
    }
    Ok(())
}

/// Lighting and weather. From RGB pixels they are exact; YCbCr planes have lost a little.
fn scene(traffic: &mut TrafficFeatures, stats: &LumaStats, view: &View<'_>, planes: &Planes) {
    let value = match view.interleaved {
        Some(rgb) if view.channels == 3 => analysis::mean_value_rgb(rgb, view.width, view.height),
        _ => analysis::mean_value(planes),
    };
    replace(&mut traffic.lighting_conditions, analysis::lighting(value).name());
    let weather = analysis::weather(stats.mean_luma, stats.std_luma);
    replace(&mut traffic.weather_conditions, weather.name());
}

/// Brightness of each region; its density needs the camera's past and is filled in later.
///
/// A slot serves different cameras. Region figures that this camera does not need wait in `spare`
/// for one that does.
fn regions(
    message: &mut ProcessedFrame,
    spare: &mut Vec<RoiAnalysis>,
    camera: &CameraSettings,
    luma: Plane<'_>,
) {
    let kept = message.roi_features.len().min(camera.regions.len());
    spare.extend(message.roi_features.drain(kept..));
    let more = camera.regions.len() - kept;
    message.roi_features.extend((0..more).map(|_| spare.pop().unwrap_or_default()));
    for ((label, region), figures) in camera.regions.iter().zip(&mut message.roi_features) {
        replace(&mut figures.roi_id, label);
        figures.brightness = analysis::region_luma(luma, region);
        (figures.x, figures.y) = (region.x, region.y);
        (figures.width, figures.height) = (region.width, region.height);
    }
}

/// Replaces the text and keeps its storage. Reserves enough for any of the fixed names at once.
pub(super) fn replace(text: &mut String, with: &str) {
    text.clear();
    text.reserve(with.len().max(32));
    text.push_str(with);
}
