//! Sends recordings, folders, raw pixels and the synthetic camera: completely, in order, at their
//! own pace.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use super::{IngestArgs, SendFormat};
use crate::base::{Fault, Stop};
use crate::camera::{
    self, Full, OpenOptions, Outbound, Pace, Producer, ProducerOptions, Sendings, Still,
};
use crate::cli::failure::Failure;
use crate::cli::output::{out, progress};
use crate::cli::service::logging;
use crate::cli::service::signals::SignalWatch;
use crate::engine;
use crate::image::Format;
use crate::ingest::{Coder, Form, Mean, Ready, ring_of};
use crate::metrics::clock::{Tick, unix_millis, unix_seconds};

/// How often the stop signal is checked while waiting for the last frames.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(args: &IngestArgs, camera: &str, spec: &OsStr) -> Result<(), Failure> {
    if spec == "-" && args.size.is_none() {
        let text = "raw RGB on standard input needs the size of its frames: --size 640x480";
        return Err(Failure::Usage(text.into()));
    }
    let config = args.common.load(args.common.quiet(args.common.loader()))?.config;
    let stop = Stop::default();
    let _signals = SignalWatch::start(&stop)?;
    let _reporter = logging::Reporter::start()?;

    let is_video = spec != "-" && spec != "synthetic" && !Path::new(spec).is_dir();
    let mut feed = super::feed_of(&config, camera);
    args.with_ring(&mut feed, config.redis_queue.retention)?;
    let ring = ring_of(&config, camera, &feed);
    let form = match args.format {
        Some(format) if format != SendFormat::Auto || ring.is_none() => format.form(),
        // A ring can hold the planes that a decoder produces.
        _ if ring.is_some() => Form::AsFound,
        _ if is_video => Form::FoundOrJpeg,
        _ => Form::AsFound,
    };
    let in_rgb = [Some(SendFormat::Raw), Some(SendFormat::Png)].contains(&args.format);
    let options = OpenOptions {
        size: args.size.map(|size| (size.width, size.height)),
        fps: args.fps.filter(|fps| *fps > 0.0),
        seed: args.seed,
        camera: 0,
        loop_: args.repeat,
        follow: args.follow,
        planes: is_video && !in_rgb,
        stop: stop.clone(),
    };
    let mut source = camera::open(spec, &options)?;
    // A video has timestamps, which set its pace.
    let pace = Pace::new(args.fps.or(source.fps()).unwrap_or(0.0));
    let (topology, _embedded) = engine::find_server(&config.redis_queue, &stop)?;
    let streams = engine::input_streams(&config);
    let producer_options = ProducerOptions {
        topology,
        streams,
        length_max: args.max_length,
        wait_replicas: config.redis_queue.wait_replicas,
        timeout: Duration::from_secs(config.redis_queue.timeout),
        retry: config.redis_queue.retry_on_failure,
        full: Full::Block,
        ring: None,
    };
    let bytes_max = args.max_stream_bytes.unwrap_or(config.ingest.defaults.max_stream_bytes);
    let mut mean = Mean::default();
    let mut producer = Producer::connect(producer_options, &stop)?;
    let mut coder = Coder::new(&config, form)?;

    let total = match (args.limit, source.frames()) {
        (Some(limit), Some(frames)) if !args.repeat => Some(limit.min(frames)),
        (Some(limit), _) => Some(limit),
        (None, frames) => frames.filter(|_| !args.repeat),
    };
    let bar = progress::bar(total, "frames");
    let run_id = unix_millis();
    let began = Tick::now();
    let start = args.start_time.unwrap_or_else(unix_seconds);
    let mut still = Still::default();
    let mut sent = 0_u64;
    let mut skipped = Skipped::default();
    while args.limit.is_none_or(|limit| sent < limit) && !stop.is_draining() {
        if !source.next(&mut still)? {
            break;
        }
        let wait = match (still.place, &pace) {
            (Some(place), Some(_)) if args.fps.is_none() => Duration::try_from_secs_f64(place)
                .unwrap_or_default()
                .saturating_sub(began.elapsed()),
            (_, Some(pace)) => pace.wait(sent, began.elapsed()),
            (_, None) => Duration::ZERO,
        };
        if !wait.is_zero() && stop.sleep(wait) {
            break;
        }
        let unread = still.unread.take().map_or(Ok(()), Err);
        let coded = unread.and_then(|()| coder.code(&still).map_err(|reject| reject.to_string()));
        let Ready { picture, quality, .. } = match coded {
            Ok(coded) => coded,
            Err(why) if still.name.is_empty() => {
                return Err(Fault::Unusable(format!("frame {sent} of the source: {why}")).into());
            }
            Err(why) => {
                bar.suspend(|| skipped.note(&still.name, &why));
                if skipped.is_every_file(sent) {
                    break;
                }
                continue;
            }
        };
        let frame_id = format!("{camera}-{run_id}-{sent:06}");
        let timestamp = match (still.place, args.start_time) {
            (Some(place), _) => start + place,
            // A source without timestamps is captured as it is read; a start time shifts all of it.
            (None, Some(start)) => start + began.elapsed().as_secs_f64(),
            (None, None) => unix_seconds(),
        };
        if let Some(usage) = ring.as_ref().filter(|_| picture.format == Format::Raw) {
            producer.set_ring(camera, &usage.with_room(picture.bytes.len() as u64))?;
        }
        let frame =
            Outbound { frame_id: &frame_id, camera_id: camera, timestamp, picture, quality };
        if args.max_length > 0 {
            let in_ring = producer.has_ring_for(&frame);
            mean.add(if in_ring { 0 } else { picture.bytes.len() });
            producer.limit_length(mean.entries(bytes_max, args.max_length));
        }
        if producer.enqueue(&frame)?.is_none() {
            break; // a stop was requested while the window was full
        }
        producer.settle()?;
        sent += 1;
        bar.set_position(sent);
    }
    let drain = Duration::from_millis(config.engine.drain_timeout_ms);
    let end = finish(&mut producer, &stop, drain);
    bar.finish_and_clear();
    let seconds = began.elapsed().as_secs_f64();
    let Sendings { confirmed, superseded, .. } = producer.counts().sendings;
    out::line(format!("{confirmed} frames of {camera} sent in {seconds:.1} s"))?;
    if superseded > 0 {
        out::line(format!(
            "{superseded} frames were refused and skipped, because later ones had been added"
        ))?;
    }
    if let Some(losses) = source.losses() {
        out::remark(losses);
    }
    end.and(skipped.end())
}

/// Waits until every frame is confirmed, however long the server is away; after a stop signal, at
/// most `drain`.
fn finish(producer: &mut Producer, stop: &Stop, drain: Duration) -> Result<(), Failure> {
    while !stop.is_draining() && producer.flush(LOOK) > 0 {
        producer.settle()?;
    }
    let unconfirmed = producer.flush(drain);
    producer.settle()?;
    if unconfirmed == 0 {
        return Ok(());
    }
    let text = format!("{unconfirmed} frames were not confirmed within {drain:?}");
    Err(Fault::Unusable(text).into())
}

/// Files that could not be sent.
#[derive(Default)]
struct Skipped {
    names: BTreeSet<String>,
    /// Number of frames sent when the last file was skipped, and number of skips in a row since.
    sent: u64,
    in_a_row: usize,
}

impl Skipped {
    /// Reports a file; only once, even if the folder is read repeatedly.
    fn note(&mut self, name: &str, why: &str) {
        if self.names.insert(name.to_owned()) {
            out::remark(format!("skipped {name}: {why}"));
        }
    }

    /// Whether a folder that is read repeatedly holds only skipped files: more skips in a row than
    /// there are skipped names, so one came a second time.
    fn is_every_file(&mut self, sent: u64) -> bool {
        self.in_a_row = if self.sent == sent { self.in_a_row + 1 } else { 1 };
        self.sent = sent;
        self.in_a_row > self.names.len()
    }

    fn end(self) -> Result<(), Failure> {
        match self.names.len() {
            0 => Ok(()),
            1 => Err(Fault::Unusable("1 file was skipped; its name is above".into()).into()),
            count => {
                Err(Fault::Unusable(format!("{count} files were skipped; their names are above"))
                    .into())
            }
        }
    }
}
