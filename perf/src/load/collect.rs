//! The consumer: a process that reads every result and measures the time from when its frame should
//! have been sent to when the result was read.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use framepress::internals::redis::{RespHeader, RespLimits, RespReader};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder};
use serde::{Deserialize, Serialize};

use super::{now, streams};
use crate::Outcome;

/// Longest latency recorded, in microseconds: ten minutes.
const LONGEST_US: u64 = 600_000_000;
/// Three significant digits: a thousandth of the value.
const DIGITS: u8 = 3;
/// Longest silence, and longest life after the due time of the last frame.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args)]
pub struct CollectArgs {
    #[arg(long)]
    socket: PathBuf,
    /// Shards whose results are read
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Frames due before this moment are not measured
    #[arg(long)]
    from: f64,
    /// When the last frame is due
    #[arg(long)]
    until: f64,
    /// Where the HdrHistogram log goes, one histogram per interval
    #[arg(long)]
    log: Option<PathBuf>,
    /// Seconds of an interval
    #[arg(long, default_value_t = 1.0)]
    interval: f64,
}

/// Figures of the results read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Collected {
    /// Results of measured frames.
    pub frames: u64,
    /// Results that came after one of a later frame of their camera, measured or not.
    pub out_of_order: u64,
    /// Bytes of their `data`.
    pub bytes: u64,
    /// Latency percentiles, in milliseconds.
    pub latency_ms: Latency,
    /// Milliseconds at shares that approach one, for plotting.
    pub percentiles: Vec<(f64, f64)>,
    pub intervals: Vec<Interval>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    pub mean: f64,
}

/// One interval of the run, by when its frames were due.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Interval {
    /// Seconds after the beginning of the measured time.
    pub at: f64,
    pub frames: u64,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    fn of(times: &Histogram<u64>) -> Latency {
        let at = |share: f64| times.value_at_quantile(share) as f64 / 1000.0;
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: times.max() as f64 / 1000.0,
            mean: times.mean() / 1000.0,
        }
    }
}

/// Reads until each stream has had an entry with the field `end`.
pub fn run(args: &CollectArgs) -> Outcome<bool> {
    let mut io = UnixStream::connect(&args.socket)?;
    io.set_read_timeout(Some(PATIENCE))?;
    let mut reader = RespReader::new(RespLimits::REDIS);
    let mut tally = Tally::new(args)?;
    let outputs = streams(args.shards).into_iter().map(|[_, output]| output.into_bytes());
    let mut places: Vec<(Vec<u8>, Vec<u8>)> = outputs.map(|name| (name, b"0".to_vec())).collect();
    let mut request = Vec::new();
    let last_moment = args.until + PATIENCE.as_secs_f64();
    println!("ready");
    while now() < last_moment {
        ask(&mut request, &places);
        io.write_all(&request)?;
        let with_entries = match reader.header(&mut io)? {
            RespHeader::Nil => continue,
            RespHeader::Array(count) => count,
            other => return Err(format!("XREAD answered {other:?}").into()),
        };
        for _ in 0..with_entries {
            array(&mut reader, &mut io)?;
            let name = small(&mut reader, &mut io)?;
            let at = places.iter().position(|(place, _)| *place == name);
            let at = at.ok_or("XREAD answered with a stream that was not asked for")?;
            let mut has_ended = false;
            for _ in 0..array(&mut reader, &mut io)? {
                array(&mut reader, &mut io)?;
                places[at].1 = small(&mut reader, &mut io)?;
                let entry = Entry::read(&mut reader, &mut io)?;
                has_ended |= entry.is_end;
                if let Some(due) = entry.due {
                    tally.count(due, now(), &entry)?;
                }
            }
            if has_ended {
                places.remove(at);
            }
        }
        if places.is_empty() {
            println!("{}", serde_json::to_string(&tally.finish()?)?);
            return Ok(true);
        }
    }
    Err("the end of the run was never announced".into())
}

/// Writes the request for the entries after `places`: streams, and the last entry seen of each.
fn ask(request: &mut Vec<u8>, places: &[(Vec<u8>, Vec<u8>)]) {
    request.clear();
    let words = ["XREAD", "COUNT", "32", "BLOCK", "500", "STREAMS"].map(str::as_bytes);
    let names = places.iter().map(|(name, _)| &name[..]);
    let ids = places.iter().map(|(_, id)| &id[..]);
    request.extend_from_slice(format!("*{}\r\n", words.len() + 2 * places.len()).as_bytes());
    for word in words.into_iter().chain(names).chain(ids) {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
}

/// The relevant fields of a result.
#[derive(Default)]
struct Entry {
    due: Option<f64>,
    camera: Vec<u8>,
    /// `frame-` and a number of eight digits, so that ids of later frames compare greater.
    frame: Vec<u8>,
    bytes: u64,
    is_end: bool,
}

impl Entry {
    fn read(reader: &mut RespReader, io: &mut UnixStream) -> Outcome<Entry> {
        let mut entry = Entry::default();
        for _ in 0..array(reader, io)? / 2 {
            let name = small(reader, io)?;
            let len = match reader.header(io)? {
                RespHeader::Bulk(len) => len,
                other => return Err(format!("expected a string, got {other:?}").into()),
            };
            match &name[..] {
                b"data" => {
                    entry.bytes = len;
                    reader.bulk_discard(io, len)?;
                }
                b"timestamp" => {
                    entry.due = std::str::from_utf8(reader.bulk_small(io, len)?)?.parse().ok();
                }
                b"camera_id" => entry.camera = reader.bulk_small(io, len)?.to_vec(),
                b"frame_id" => entry.frame = reader.bulk_small(io, len)?.to_vec(),
                name => {
                    entry.is_end |= name == b"end";
                    reader.bulk_discard(io, len)?;
                }
            }
        }
        Ok(entry)
    }
}

fn array(reader: &mut RespReader, io: &mut UnixStream) -> Outcome<usize> {
    match reader.header(io)? {
        RespHeader::Array(len) => Ok(len),
        other => Err(format!("expected an array, got {other:?}").into()),
    }
}

fn small(reader: &mut RespReader, io: &mut UnixStream) -> Outcome<Vec<u8>> {
    match reader.header(io)? {
        RespHeader::Bulk(len) => Ok(reader.bulk_small(io, len)?.to_vec()),
        other => Err(format!("expected a string, got {other:?}").into()),
    }
}

/// Everything counted so far.
struct Tally {
    from: f64,
    interval: f64,
    log: Option<PathBuf>,
    whole: Histogram<u64>,
    parts: Vec<Histogram<u64>>,
    bytes: u64,
    /// The latest frame of each camera, by camera id.
    latest: HashMap<Vec<u8>, Vec<u8>>,
    out_of_order: u64,
}

impl Tally {
    fn new(args: &CollectArgs) -> Outcome<Tally> {
        Ok(Tally {
            from: args.from,
            interval: args.interval,
            log: args.log.clone(),
            whole: histogram()?,
            parts: Vec::new(),
            bytes: 0,
            latest: HashMap::new(),
            out_of_order: 0,
        })
    }

    fn count(&mut self, due: f64, seen: f64, entry: &Entry) -> Outcome<()> {
        match self.latest.get_mut(&entry.camera) {
            Some(latest) if entry.frame < *latest => self.out_of_order += 1,
            Some(latest) => latest.clone_from(&entry.frame),
            None => _ = self.latest.insert(entry.camera.clone(), entry.frame.clone()),
        }
        if due < self.from {
            return Ok(());
        }
        let micros = ((seen - due).max(0.0) * 1e6) as u64;
        let part = ((due - self.from) / self.interval) as usize;
        while self.parts.len() <= part {
            self.parts.push(histogram()?);
        }
        self.whole.saturating_record(micros.max(1));
        self.parts[part].saturating_record(micros.max(1));
        self.bytes += entry.bytes;
        Ok(())
    }

    fn finish(self) -> Outcome<Collected> {
        if let Some(path) = &self.log {
            self.write_log(path)?;
        }
        let intervals = self.parts.iter().enumerate().map(|(index, part)| {
            let Latency { p50, p99, max, .. } = Latency::of(part);
            Interval { at: index as f64 * self.interval, frames: part.len(), p50, p99, max }
        });
        let percentiles = self
            .whole
            .iter_quantiles(5)
            .map(|step| (step.quantile(), step.value_iterated_to() as f64 / 1000.0));
        Ok(Collected {
            frames: self.whole.len(),
            out_of_order: self.out_of_order,
            bytes: self.bytes,
            latency_ms: Latency::of(&self.whole),
            percentiles: percentiles.collect(),
            intervals: intervals.collect(),
        })
    }

    /// The format of HdrHistogram's own tools: V2, deflated, base64, in microseconds.
    fn write_log(&self, path: &PathBuf) -> Outcome<()> {
        let mut file = File::create(path)?;
        let mut serializer = V2DeflateSerializer::new();
        let start = UNIX_EPOCH + Duration::from_secs_f64(self.from);
        let mut log: IntervalLogWriter<'_, '_, File, V2DeflateSerializer> =
            IntervalLogWriterBuilder::new()
                .add_comment("latency in microseconds, by when each frame was due")
                .with_base_time(start)
                .with_start_time(start)
                .begin_log_with(&mut file, &mut serializer)?;
        for (index, part) in self.parts.iter().enumerate() {
            let at = Duration::from_secs_f64(index as f64 * self.interval);
            log.write_histogram(part, at, Duration::from_secs_f64(self.interval), None)
                .map_err(|error| format!("cannot write the histogram log: {error:?}"))?;
        }
        Ok(())
    }
}

fn histogram() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LONGEST_US, DIGITS)?)
}
