//! `framepress inspect`: shows processed frames in readable form.

mod newest;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use prost::Message;
use serde_json::json;
use twox_hash::XxHash3_64;

use super::common::Common;
use super::failure::Failure;
use super::output::human_bytes;
use super::output::terminal::clip;
use super::output::{out, progress, terminal};
use super::service::signals::SignalWatch;
use crate::base::{Fault, Stop, files, text};
use crate::engine;
use crate::frame::EntryId;
use crate::image::{Bounds, Decoder, Encoder, Format, InputImage, Needs, Picture, Target};
use crate::redis::{Control, Pages, Record};
use crate::wire::proto::{ImageData, ProcessedFrame};
use newest::Newest;

/// From this terminal width on, the names of the frames are also shown.
const WIDE: usize = 110;

/// How long one read of the stream waits for new entries.
const BLOCK: Duration = Duration::from_millis(500);

/// Maximum delay until a signal is noticed.
const SIGNAL_LIMIT: Duration = Duration::from_secs(1);

/// Arguments of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress inspect --count 20\n  \
    framepress inspect --follow --json\n  \
    framepress inspect --count 5 --save pictures")]
pub(super) struct InspectArgs {
    #[command(flatten)]
    common: Common,
    /// The stream to read [default: the configured output stream]
    #[arg(long, value_name = "S")]
    stream: Option<String>,
    /// Number of latest frames to show
    #[arg(long, value_name = "N", default_value_t = 10)]
    count: usize,
    /// Continue with new frames until stopped
    #[arg(long)]
    follow: bool,
    /// Save the pictures into this folder
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// Print one JSON object per line instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InspectArgs) -> Result<(), Failure> {
    if args.count == 0 && !args.follow {
        let text =
            "--count 0 shows nothing without --follow; with --follow it shows only new frames";
        return Err(Failure::Usage(text.into()));
    }
    let config = args.common.load(args.common.quiet(args.common.loader()))?.config;
    let stop = Stop::default();
    let _signals = SignalWatch::start(&stop)?;
    let (topology, _embedded) = engine::find_server(&config.redis_queue, &stop)?;
    let timeout = Duration::from_secs(config.redis_queue.timeout).max(4 * BLOCK);
    let mut control = Control::new(&topology, timeout);
    let streams: Vec<String> = match &args.stream {
        Some(stream) => vec![stream.clone()],
        None => engine::all_streams(&config).into_iter().map(|streams| streams.output).collect(),
    };
    let mut saver = args.save.as_deref().map(|dir| Saver::new(dir, config.limits.max_pixels));
    if let Some(saver) = &mut saver {
        saver.prepare()?;
    }

    // With several shards, the newest frames of all shards.
    let newest = progress::waiting(&format!("waiting for Redis at {topology}"), || {
        Newest::find(&mut control, &streams, args.count, &stop)
    })?;
    let form = match (args.json, terminal::width()) {
        (true, _) => ShownForm::Json,
        (false, Some(width)) if width < WIDE => ShownForm::Narrow,
        (false, _) => ShownForm::Wide,
    };
    if newest.is_empty() && stop.is_draining() {
        return Ok(());
    }
    if newest.is_empty() && !args.follow {
        // On standard error, to keep it out of JSON lines.
        out::remark(format!("the stream {} at {topology} has no entries", streams.join(", ")));
        return Ok(());
    }
    match form {
        ShownForm::Json => {}
        ShownForm::Narrow => out::line(NARROW_HEAD)?,
        ShownForm::Wide => out::line(WIDE_HEAD)?,
    }
    let mut ahead: Vec<Pages> = streams
        .iter()
        .zip(newest.ends())
        .map(|(stream, end)| Pages::forward(stream, end))
        .collect();
    newest.each(&mut control, &stop, |record| show(record, form, saver.as_mut()))?;
    let block = BLOCK / u32::try_from(streams.len()).unwrap_or(u32::MAX);
    while args.follow && !stop.is_draining() {
        for pages in &mut ahead {
            match pages.peek(&mut control, usize::MAX, block) {
                Ok(_) => {}
                // A signal also interrupts the read, and may show there before it raises the stop.
                Err(_) if stop.sleep(SIGNAL_LIMIT) => break,
                Err(fault) => return Err(fault.into()),
            }
            while let Some(record) = pages.take() {
                show(&record, form, saver.as_mut())?;
            }
        }
    }
    saver.map_or(Ok(()), |saver| saver.end())
}

/// The output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ShownForm {
    Json,
    /// Fits 80 columns.
    Narrow,
    Wide,
}

const NARROW_HEAD: &str =
    "entry           camera    picture             size  qual  dens traffic      ms";
const WIDE_HEAD: &str =
    "entry           camera    picture             size  qual  dens traffic      ms  frame";

fn show(
    (id, fields): &Record,
    form: ShownForm,
    saver: Option<&mut Saver<'_>>,
) -> Result<(), Failure> {
    let frame = fields.get("data").ok_or_else(|| "no field data".to_owned()).and_then(|data| {
        ProcessedFrame::decode(&data[..]).map_err(|error| format!("not a ProcessedFrame: {error}"))
    });
    let frame = match frame {
        Ok(frame) => frame,
        Err(why) if form == ShownForm::Json => {
            return out::json(&json!({ "entry_id": id.to_string(), "error": why }));
        }
        Err(why) => return out::line(format!("{:<15} {}", id.to_string(), text::line(&why))),
    };
    let saved = saver.map(|saver| saver.save(*id, &frame)).unwrap_or_default();
    if form == ShownForm::Json {
        return out::json(&to_json(*id, &frame, &saved));
    }
    let image = frame.original_image.clone().unwrap_or_default();
    let quality = frame.quality_metrics.as_ref().map(|figures| figures.quality_score);
    let traffic = frame.traffic_features.clone().unwrap_or_default();
    let row = format!(
        "{:<15} {:<9} {:<14} {:>9} {:>5} {:>5} {:<9} {:>5.1}",
        id.to_string(),
        clip(if frame.camera_id.is_empty() { "-" } else { &frame.camera_id }, 9),
        clip(&format!("{}x{} {}", image.width, image.height, image.compression_format), 14),
        human_bytes(image.compressed_data.len() as u64).replace(' ', ""),
        quality.map_or_else(|| "-".into(), |quality| format!("{quality:.2}")),
        format!("{:.2}", traffic.vehicle_density),
        clip(if traffic.congestion_level.is_empty() { "-" } else { &traffic.congestion_level }, 9),
        frame.processing_time_ms,
    );
    match form {
        ShownForm::Wide => out::line(format!("{row}  {}", clip(&frame.frame_id, 60)))?,
        ShownForm::Narrow | ShownForm::Json => out::line(row)?,
    }
    for path in &saved {
        out::line(format!("  {}", path.display()))?;
    }
    Ok(())
}

fn to_json(id: EntryId, frame: &ProcessedFrame, saved: &[PathBuf]) -> serde_json::Value {
    let image = |image: &Option<ImageData>| {
        image.as_ref().map(|image| {
            json!({
                "width": image.width,
                "height": image.height,
                "channels": image.channels,
                "compression_format": image.compression_format,
                "quality": image.quality,
                "bytes": image.compressed_data.len(),
            })
        })
    };
    json!({
        "entry_id": id.to_string(),
        "frame_id": frame.frame_id,
        "camera_id": frame.camera_id,
        "timestamp": frame.timestamp,
        "original_image": image(&frame.original_image),
        "processed_image": image(&frame.processed_image),
        "thumbnail": image(&frame.thumbnail),
        "quality_metrics": frame.quality_metrics.as_ref().map(|figures| json!({
            "quality_score": figures.quality_score,
            "blur_score": figures.blur_score,
            "brightness_score": figures.brightness_score,
            "contrast_score": figures.contrast_score,
            "noise_level": figures.noise_level,
        })),
        "traffic_features": frame.traffic_features.as_ref().map(|traffic| json!({
            "vehicle_density": traffic.vehicle_density,
            "congestion_level": traffic.congestion_level,
            "weather_conditions": traffic.weather_conditions,
            "lighting_conditions": traffic.lighting_conditions,
            "motion_intensity": traffic.motion_intensity,
        })),
        "roi_features": frame.roi_features.iter().map(|roi| json!({
            "roi_id": roi.roi_id,
            "density": roi.density,
            "brightness": roi.brightness,
            "congestion": roi.congestion,
            "x": roi.x,
            "y": roi.y,
            "width": roi.width,
            "height": roi.height,
        })).collect::<Vec<_>>(),
        "processing_time_ms": frame.processing_time_ms,
        "processing_stage": frame.processing_stage().as_str_name(),
        "validation_passed": frame.validation_passed,
        "source_hash": frame.source_hash,
        "version": frame.version,
        "received_timestamp": frame.received_timestamp,
        "processed_timestamp": frame.processed_timestamp,
        "saved": saved,
    })
}

/// Writes images into a folder.
struct Saver<'a> {
    folder: &'a Path,
    pixels_max: u64,
    /// Number of entries with an image that could not be saved.
    skipped: usize,
}

impl<'a> Saver<'a> {
    fn new(folder: &'a Path, pixels_max: u64) -> Self {
        Saver { folder, pixels_max, skipped: 0 }
    }

    fn prepare(&self) -> Result<(), Fault> {
        std::fs::create_dir_all(self.folder)
            .map_err(|source| Fault::io(format!("cannot make {}", self.folder.display()), source))
    }

    /// Saves the images of an entry. An image that cannot be saved is reported and skipped.
    fn save(&mut self, id: EntryId, frame: &ProcessedFrame) -> Vec<PathBuf> {
        let pictures = [
            ("", &frame.original_image),
            ("-processed", &frame.processed_image),
            ("-thumbnail", &frame.thumbnail),
        ];
        let mut saved = Vec::new();
        let mut is_whole = true;
        for (suffix, image) in pictures {
            let Some(image) = image.as_ref().filter(|image| !image.compressed_data.is_empty())
            else {
                continue;
            };
            let written = self.as_file(image).and_then(|(contents, extension)| {
                let name = file_name(&frame.camera_id, id);
                // Other users may write to this folder, so existing files and links are never
                // written to.
                files::add(self.folder, &format!("{name}{suffix}"), extension, &contents).map_err(
                    |source| {
                        Fault::io(format!("cannot write to {}", self.folder.display()), source)
                    },
                )
            });
            match written {
                Ok(path) => saved.push(path),
                Err(fault) => {
                    is_whole = false;
                    out::remark(format!("skipped {id}: {fault}"));
                }
            }
        }
        self.skipped += usize::from(!is_whole);
        saved
    }

    fn end(&self) -> Result<(), Failure> {
        match self.skipped {
            0 => Ok(()),
            1 => Err(Fault::Unusable("1 entry was not saved; its id is above".into()).into()),
            count => {
                Err(Fault::Unusable(format!("{count} entries were not saved; their ids are above"))
                    .into())
            }
        }
    }

    /// The contents of a file and its extension: encoded images unchanged, raw pixels as PNG.
    fn as_file<'i>(
        &self,
        image: &'i ImageData,
    ) -> Result<(std::borrow::Cow<'i, [u8]>, &'static str), Fault> {
        let bytes = &image.compressed_data;
        let format = Format::from_name(&image.compression_format).unwrap_or(Format::Raw);
        if format != Format::Raw {
            return Ok((bytes.into(), format.extension()));
        }
        let side = |value: i32| u32::try_from(value).unwrap_or(0);
        let source = InputImage {
            format,
            width: side(image.width),
            height: side(image.height),
            channels: side(image.channels),
            layout: Default::default(),
            bytes,
        };
        let mut file = Vec::new();
        let mut picture = Picture::default();
        let needs = Needs { planes: false, interleaved: true };
        Decoder::new(Bounds { pixels_max: self.pixels_max })?
            .decode(&source, needs, &mut picture)
            .and_then(|view| {
                let target = Target { format: Format::Png, quality: 100, webp_method: 0 };
                Encoder::new()
                    .map_err(|fault| crate::base::Reject::encode_failed(fault.to_string()))?
                    .encode(&view, &target, &mut file)
            })
            .map_err(|reject| Fault::Unusable(format!("cannot save a picture: {reject}")))?;
        Ok((file.into(), Format::Png.extension()))
    }
}

/// Maximum length of a camera's name within a file name, in bytes.
const CAMERA_BYTES_MAX: usize = 120;

/// The file name of an entry. Camera ids are foreign text and must not lead out of the folder. File
/// systems allow 255 bytes, so the end of a longer id is replaced by a hash of the whole id.
fn file_name(camera: &str, id: EntryId) -> String {
    let mut name: String = camera
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect();
    if name.len() > CAMERA_BYTES_MAX {
        // Every character is one byte here.
        name.truncate(CAMERA_BYTES_MAX - 17);
        name = format!("{name}~{:016x}", XxHash3_64::oneshot(camera.as_bytes()));
    }
    format!("{}-{id}", name.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_and_stay_different() {
        let id = EntryId { millis: 1_700_000_000_000, sequence: 3 };
        assert_eq!(file_name("../cam 1", id), "_cam_1-1700000000000-3");
        let long = |last: &str| file_name(&format!("{}{last}", "k".repeat(250)), id);
        assert!(long("a").len() < 160 && long("a") != long("b"), "{}", long("a"));
        assert_eq!(long("a"), long("a"));
    }
}
