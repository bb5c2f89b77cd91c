//! The first half of a job: what concerns the picture alone.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::camera::Camera;
use super::dispatch::Job;
use super::second_half::{self, Arrived};
use super::work::{Work, Worker};
use super::{AnalysisSettings, Shared};
use crate::analysis;
use crate::base::threads::{Role, panic_message};
use crate::base::{Reason, Reject, Stage};
use crate::frame::{Discard, Entry, Planes, RawFrame, Receipt, Verdict, View};
use crate::image::{self, Bounds, Encoder, Format, Needs, Scaler, Source, Target};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Timer};
use crate::wire::proto::{QualityMetrics, TrafficFeatures};
use crate::wire::{self, Envelope, ImageRef};

/// Side of the ML image, in pixels.
const ML_SIDE: usize = 640;
/// Gray of the bars around it.
const ML_PADDING: u8 = 114;
/// Side of the thumbnail, in pixels.
const THUMBNAIL_SIDE: usize = 128;
/// JPEG quality of the thumbnail.
const THUMBNAIL_QUALITY: u8 = 90;

/// Bytes by which the message may still grow: times and traffic features, and per region.
const GROWTH: usize = 256;
const GROWTH_PER_REGION: usize = 128;

/// Runs on a worker. Whatever happens, the frame arrives at its camera's gate.
pub(super) fn run(shared: &Shared, job: Job) {
    shared.settings.turn.begins(Role::Work);
    let Job { frame, camera, ticket, mut slot } = job;
    let RawFrame { receipt, entry, shard } = frame;
    let mut worker = shared.workers.mine();
    worker.recorder.record(Timer::Stage(Stage::QueueWait), receipt.read_at().elapsed());
    let verdict = {
        let work = &mut *slot;
        let worker = &mut *worker;
        let attempt = AssertUnwindSafe(|| match &entry {
            Some(entry) => process(shared, worker, work, entry, &receipt, &camera),
            None => Err(Verdict::Discard(Discard::LostToTrim)),
        });
        catch_unwind(attempt).unwrap_or_else(|payload| {
            worker.renew(Bounds { pixels_max: shared.settings.pixels_max });
            let detail = panic_message(&*payload);
            Err(Verdict::DeadLetter(Reject::new(Reason::Panic, Stage::Decode, detail)))
        })
    };
    drop(worker);
    drop(entry); // its buffers go home before the frame waits for anything
    let arrived = Arrived { receipt, shard, slot, verdict: verdict.err() };
    second_half::arrive(shared, &camera, ticket, arrived);
}

impl From<Reject> for Verdict {
    fn from(reject: Reject) -> Verdict {
        Verdict::DeadLetter(reject)
    }
}

fn process(
    shared: &Shared,
    worker: &mut Worker,
    work: &mut Work,
    entry: &Entry,
    receipt: &Receipt,
    camera: &Camera,
) -> Result<(), Verdict> {
    let Worker { decoder, encoder, scaler, unpacked, picture, scaled, coded, recorder } = worker;
    let settings = &shared.settings;
    let began = Tick::now();
    work.camera = camera.settings();

    // Decode.
    let data = data_of(entry)?;
    let envelope = wire::open(data, settings.pixels_max, unpacked)?;
    fill_labels(work, &envelope, entry, receipt);
    if let Some(probe) = &settings.probe {
        probe(&work.composer.message.frame_id);
    }
    let source = source_of(&envelope.image)?;
    let scale = settings.ml_image || settings.thumbnail;
    let needs = Needs {
        planes: scale || settings.analysis.is_some(),
        interleaved: matches!(settings.target.format, Format::Raw | Format::Png),
    };
    let view = decoder.decode(&source, needs, picture)?;
    let raw_bytes = (view.width * view.height * view.channels) as u64;
    shared.metrics.add(Counter::JsonBase64Bytes, json_base64_bytes(raw_bytes));
    let decoded = Tick::now();
    recorder.record(Timer::Stage(Stage::Decode), decoded.since(began));

    // Analyse.
    analyse(settings.analysis, work, &view)?;
    let analysed = Tick::now();
    recorder.record(Timer::Stage(Stage::Analyse), analysed.since(decoded));
    if shared.is_too_old(receipt) {
        shared.metrics.add(Counter::ShedAtEncode, 1);
        return Err(Verdict::Discard(Discard::Shed));
    }

    // Encode.
    let [original, ml_image, thumbnail] = coded;
    let passed = settings.reencode_when_smaller && passes_through(&source, &settings.target);
    if passed {
        shared.metrics.add(Counter::PassedThrough, 1);
        describe(&mut work.composer.original, &view, &settings.target);
        let quality = image::jpeg_quality(source.bytes).unwrap_or(settings.target.quality);
        work.composer.original.quality = quality.into();
    } else {
        encoder.encode(&view, &settings.target, original)?;
        describe(&mut work.composer.original, &view, &settings.target);
    }
    let planes = view.planes;
    let scaled_picture = |scaler: &mut Scaler,
                          encoder: &mut Encoder,
                          about: &mut wire::proto::ImageData,
                          out: &mut Vec<u8>,
                          kind: Scaled|
     -> Result<(), Reject> {
        let Some(planes) = planes else {
            return Err(Reject::encode_failed("the picture has no planes to scale"));
        };
        let quality = match kind {
            Scaled::Ml => {
                scaler.letterbox(planes, ML_SIDE, ML_PADDING, scaled);
                settings.target.quality
            }
            Scaled::Thumbnail => {
                scaler.thumbnail(planes, THUMBNAIL_SIDE, scaled);
                THUMBNAIL_QUALITY
            }
        };
        let small = View {
            width: scaled.width(),
            height: scaled.height(),
            channels: if scaled.is_gray() { 1 } else { 3 },
            interleaved: None,
            planes: Some(scaled),
        };
        let target = Target { format: Format::Jpeg, quality, ..settings.target };
        encoder.encode(&small, &target, out)?;
        describe(about, &small, &target);
        Ok(())
    };
    let mut scaled_picture = scaled_picture;
    if settings.ml_image {
        let about = &mut work.composer.processed;
        scaled_picture(scaler, encoder, about, ml_image, Scaled::Ml)?;
    }
    if settings.thumbnail {
        let about = &mut work.composer.thumbnail;
        scaled_picture(scaler, encoder, about, thumbnail, Scaled::Thumbnail)?;
    }
    let encoded = Tick::now();
    recorder.record(Timer::Stage(Stage::Encode), encoded.since(analysed));

    let original = if passed { source.bytes } else { original };
    shared.metrics.add(Counter::ImageBytesOut, original.len() as u64);
    shared.metrics.add(Counter::RawPixelBytes, raw_bytes);
    work.draft = Some(work.composer.draft(
        original,
        settings.ml_image.then_some(ml_image),
        settings.thumbnail.then_some(thumbnail),
        GROWTH + GROWTH_PER_REGION * work.camera.regions.len(),
        &shared.pool,
    ));
    recorder.record(Timer::Serialization, encoded.elapsed().max(Duration::from_micros(1)));
    Ok(())
}

#[derive(Clone, Copy)]
enum Scaled {
    Ml,
    Thumbnail,
}

fn data_of(entry: &Entry) -> Result<&[u8], Reject> {
    if let Some(len) = entry.oversized {
        return Err(Reject::new(
            Reason::TooLarge,
            Stage::Read,
            format!("data has {len} bytes, more than limits.max_payload_bytes"),
        ));
    }
    entry
        .data()
        .ok_or_else(|| Reject::new(Reason::Undecodable, Stage::Read, "the entry has no field data"))
}

/// The message's fields that come with the frame; fields beside `data` stand in for missing ones.
fn fill_labels(work: &mut Work, envelope: &Envelope<'_>, entry: &Entry, receipt: &Receipt) {
    let message = &mut work.composer.message;
    let or_beside = |own: &str, name: &str, into: &mut String| {
        into.clear();
        into.push_str(if own.is_empty() { entry.side_text(name).unwrap_or_default() } else { own });
    };
    or_beside(&envelope.frame_id, "frame_id", &mut message.frame_id);
    or_beside(&envelope.camera_id, "camera_id", &mut message.camera_id);
    let beside = || entry.side_text("timestamp").and_then(|text| text.parse().ok());
    message.timestamp = envelope.timestamp.or_else(beside).unwrap_or_default();
    message.version.clear();
    message.version.push_str(if envelope.version.is_empty() { "1.0" } else { envelope.version });
    message.source_hash.clear();
    let hash = xxhash_rust::xxh3::xxh3_64(envelope.image.bytes);
    // Writing to a string cannot fail.
    let _ = write!(message.source_hash, "{hash:016x}");
    message.received_timestamp = receipt.read_unix_seconds();
    message.processing_stage = wire::proto::ProcessingStage::Output.into();
    message.validation_passed = true;
    message.quality_metrics = None;
    message.traffic_features = None;
    message.roi_features.clear();
    work.draft = None;
    work.traceparent.clear();
    work.traceparent.push_str(entry.side_text("traceparent").unwrap_or_default());
}

/// What the picture is: the bytes know better than the name they were given.
fn source_of<'a>(image: &ImageRef<'a>) -> Result<Source<'a>, Reject> {
    let named = Format::from_name(image.format);
    let format = match named {
        Some(Format::Raw) => Format::Raw,
        _ => match (Format::sniff(image.bytes), named) {
            (Some(format), _) | (None, Some(format)) => format,
            (None, None) if image.format.is_empty() => {
                return Err(Reject::undecodable("the picture is no JPEG, PNG or WebP file"));
            }
            (None, None) => {
                let name: String = image.format.chars().take(40).collect();
                return Err(Reject::unsupported(format!("unknown image format {name:?}")));
            }
        },
    };
    let side = |value: i32, name: &str| {
        u32::try_from(value).map_err(|_| Reject::unsupported(format!("{name} is {value}")))
    };
    let (width, height, channels) = if format == Format::Raw {
        (
            side(image.width, "width")?,
            side(image.height, "height")?,
            side(image.channels, "channels")?,
        )
    } else {
        (0, 0, 0)
    };
    Ok(Source { format, width, height, channels, bytes: image.bytes })
}

fn analyse(
    settings: Option<AnalysisSettings>,
    work: &mut Work,
    view: &View<'_>,
) -> Result<(), Verdict> {
    let (Some(settings), Some(planes)) = (settings, view.planes) else { return Ok(()) };
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
    let mut traffic = message.traffic_features.take().unwrap_or_default();
    set(&mut traffic, &stats, view, planes);
    message.traffic_features = Some(traffic);
    for (label, region) in &work.camera.regions {
        message.roi_features.push(wire::proto::RoiAnalysis {
            roi_id: label.clone(),
            brightness: analysis::region_luma(luma, region),
            x: region.x,
            y: region.y,
            width: region.width,
            height: region.height,
            ..Default::default()
        });
    }
    let threshold = work.camera.quality_threshold.unwrap_or(settings.quality_threshold);
    message.validation_passed = quality.quality_score >= threshold;
    if settings.drop_below_threshold && !message.validation_passed {
        return Err(Verdict::Discard(Discard::BelowThreshold));
    }
    Ok(())
}

/// Lighting and weather. Where there are RGB pixels they are exact; planes have lost a little.
fn set(
    traffic: &mut TrafficFeatures,
    stats: &analysis::LumaStats,
    view: &View<'_>,
    planes: &Planes,
) {
    let value = match view.interleaved {
        Some(rgb) if view.channels == 3 => analysis::mean_value_rgb(rgb, view.width, view.height),
        _ => analysis::mean_value(planes),
    };
    let lighting = analysis::lighting(value).name();
    let weather = analysis::weather(stats.mean_luma, stats.std_luma).name();
    for (text, name) in
        [(&mut traffic.lighting_conditions, lighting), (&mut traffic.weather_conditions, weather)]
    {
        text.clear();
        text.push_str(name);
    }
}

/// Whether a JPEG is kept as it came.
fn passes_through(source: &Source<'_>, target: &Target) -> bool {
    source.format == Format::Jpeg
        && target.format == Format::Jpeg
        && image::jpeg_quality(source.bytes).is_some_and(|quality| quality <= target.quality)
}

fn describe(about: &mut wire::proto::ImageData, view: &View<'_>, target: &Target) {
    let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    about.width = number(view.width);
    about.height = number(view.height);
    about.channels = number(view.channels);
    about.compression_format.clear();
    about.compression_format.push_str(target.format.name());
    about.quality = match target.format {
        Format::Jpeg | Format::Webp => target.quality.into(),
        Format::Png | Format::Raw => 0,
    };
}

/// What the frame would take as JSON with base64 of its raw pixels: four characters for every
/// three bytes, and about 120 for ids, time and braces.
fn json_base64_bytes(raw_bytes: u64) -> u64 {
    raw_bytes.div_ceil(3) * 4 + 120
}
