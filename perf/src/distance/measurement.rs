//! One engine at one distance: a backlog, a steady rate, or more than the link carries.

use std::path::Path;
use std::time::{Duration, Instant};

use framepress::internals::camera::{Outbound, Producer};
use framepress::internals::image::{Format, InputImage};
use framepress::internals::instruments::Size;
use framepress_proxy::Link;
use redis::streams::{StreamInfoConsumersReply, StreamRangeReply};
use serde::Serialize;

use super::engine::{Engine, Names};
use super::place::Place;
use crate::Outcome;
use crate::load::files::{self, Kind, Studio};

/// Time limit until an engine reads.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Polling interval of a backlog.
const LOOK: Duration = Duration::from_millis(20);
/// Cameras of a load.
const CAMERAS: u64 = 4;
/// Results read from the output stream at once.
const PAGE: usize = 64;

/// What is sent, and through which link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub round_trip_ms: f64,
    pub input: Kind,
    pub size: Size,
    pub tls: bool,
}

impl Point {
    fn link(&self) -> Link {
        Link::with_round_trip(Duration::from_secs_f64(self.round_trip_ms / 1e3))
    }
}

/// A processed backlog.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Backlog {
    /// Results per second, from the first to the last.
    pub fps: f64,
    pub results: u64,
    pub engine_cpu_ms_per_frame: f64,
    /// Bytes that the link carried to the engine, per frame.
    pub read_bytes_per_frame: f64,
}

/// Percentiles of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Ages {
    pub p50: f64,
    pub p99: f64,
}

/// Frames at a steady rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Steady {
    pub sent: u64,
    pub results: u64,
    /// From the entry's id to the confirmed commit, as reported by the engine.
    pub engine_ms: Ages,
    /// From the entry's id to the id of its result.
    pub redis_ms: Ages,
    pub engine_cpu_ms_per_frame: f64,
}

/// More frames than the link carries.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Narrow {
    pub megabits: f64,
    pub round_trip_ms: f64,
    pub offered_fps: f64,
    pub carried_fps_at_most: f64,
    pub results_fps: f64,
    /// Age of the results, by their ids.
    pub age_ms: Ages,
    pub sent: u64,
    pub results: u64,
    pub shed: u64,
    pub reconnects: u64,
    /// Connections that the engine opened after it had begun to work.
    pub connections_opened: u64,
}

/// The server, the frames and a counter for unique names.
pub struct Stage<'a> {
    pub place: Place,
    pub studio: &'a Studio,
    runs: u64,
}

impl<'a> Stage<'a> {
    pub fn open(studio: &'a Studio) -> Outcome<Stage<'a>> {
        Ok(Stage { place: Place::open()?, studio, runs: 0 })
    }

    /// Unused names of an output stream and a group.
    fn names(&mut self) -> (String, String) {
        self.runs += 1;
        (format!("results-{}", self.runs), format!("group-{}", self.runs))
    }

    /// Fills the stream `input`.
    pub fn fill(&mut self, input: &str, point: &Point, frames: u64) -> Outcome<()> {
        let mut sender = Sender::open(self, input, point.size, point.input)?;
        (0..frames).try_for_each(|number| sender.send(number))
    }

    pub fn remove(&mut self, stream: &str) -> Outcome<()> {
        self.place.plain.run(&["UNLINK", stream])
    }

    /// Processes `frames` frames of `input`, or as many as possible within `limit`.
    pub fn backlog(
        &mut self,
        bin: &Path,
        point: &Point,
        input: &str,
        frames: u64,
        limit: Duration,
    ) -> Outcome<Backlog> {
        let (output, group) = self.names();
        let plain = &mut self.place.plain;
        plain.run::<()>(&["XGROUP", "CREATE", input, &group, "0"])?;
        let proxy = self.place.link(point.tls, point.link())?;
        let names = Names { input, output: &output, group: &group, max_frame_age_ms: 0 };
        let mut engine = Engine::start(bin, &self.place, &proxy, point.tls, &names)?;
        let plain = &mut self.place.plain;
        let (began, mut first_at) = (Instant::now(), None);
        loop {
            let results: u64 = plain.run(&["XLEN", &output])?;
            if results > 0 {
                first_at.get_or_insert_with(Instant::now);
            }
            if results >= frames || first_at.is_some_and(|at| at.elapsed() > limit) {
                break;
            }
            engine.check()?;
            if first_at.is_none() && began.elapsed() > START_LIMIT {
                return Err("the engine makes nothing of its backlog".into());
            }
            std::thread::sleep(LOOK);
        }
        let results: u64 = plain.run(&["XLEN", &output])?;
        let first: StreamRangeReply = plain.run(&["XRANGE", &output, "-", "+", "COUNT", "1"])?;
        let last: StreamRangeReply = plain.run(&["XREVRANGE", &output, "+", "-", "COUNT", "1"])?;
        let cpu_seconds = engine.usage()?.cpu_seconds;
        let read = proxy.counts().answer_bytes as f64;
        drop(engine);
        let [first, last] = [first, last].map(|page| page.ids.first().map(|it| millis(&it.id)));
        let span = (last.unwrap_or(0.0) - first.unwrap_or(0.0)).max(1.0) / 1e3;
        plain.run::<()>(&["UNLINK", &output])?;
        plain.run::<()>(&["XGROUP", "DESTROY", input, &group])?;
        Ok(Backlog {
            fps: results.saturating_sub(1) as f64 / span,
            results,
            engine_cpu_ms_per_frame: cpu_seconds * 1e3 / results.max(1) as f64,
            read_bytes_per_frame: read / results.max(1) as f64,
        })
    }

    /// Frames at a rate; those of the first `warm` seconds are not counted.
    pub fn steady(
        &mut self,
        bin: &Path,
        point: &Point,
        rate: f64,
        warm: f64,
        seconds: f64,
    ) -> Outcome<Steady> {
        let run = self.run(bin, point.tls, point.link(), point, rate, warm, seconds, 0)?;
        let latency = &run.metrics["performance_metrics"];
        // The last ten seconds, if the build reports them.
        let mut engine = &latency["recent"]["latency_ms"];
        if engine.is_null() || seconds < 10.0 {
            engine = &latency["latency_ms"];
        }
        let of_engine = |share: &str| engine[share].as_f64().unwrap_or(f64::NAN);
        Ok(Steady {
            sent: run.sent,
            results: run.ages.len() as u64,
            engine_ms: Ages { p50: of_engine("p50"), p99: of_engine("p99") },
            redis_ms: ages(run.ages),
            engine_cpu_ms_per_frame: run.cpu_seconds * 1e3 / run.sent_in_all.max(1) as f64,
        })
    }

    /// Twice as many frames as a link of `megabits` carries.
    pub fn narrow(
        &mut self,
        bin: &Path,
        point: &Point,
        megabits: f64,
        seconds: f64,
        max_frame_age_ms: u64,
    ) -> Outcome<Narrow> {
        let bytes = files::load(&self.studio.frames(point.size, point.input)?)?;
        let mean = bytes.iter().map(Vec::len).sum::<usize>() as f64 / bytes.len() as f64;
        let bytes_per_second = megabits * 1e6 / 8.0;
        let carried = bytes_per_second / mean;
        let link = Link { bytes_per_second: Some(bytes_per_second as u64), ..point.link() };
        // Wait until the queue has reached its maximum age.
        let warm = max_frame_age_ms as f64 / 1e3 + 1.0;
        let rate = carried * 2.0;
        let run = self.run(bin, point.tls, link, point, rate, warm, seconds, max_frame_age_ms)?;
        Ok(Narrow {
            megabits,
            round_trip_ms: point.round_trip_ms,
            offered_fps: rate,
            carried_fps_at_most: carried,
            results_fps: run.ages.len() as f64 / seconds,
            results: run.ages.len() as u64,
            age_ms: ages(run.ages),
            sent: run.sent,
            shed: run.metrics["conservation"]["shed"].as_u64().unwrap_or(0),
            reconnects: run.metrics["connections"]["reconnects"].as_u64().unwrap_or(0),
            connections_opened: run.connections_opened,
        })
    }

    #[allow(clippy::too_many_arguments)] // one caller for each mode
    fn run(
        &mut self,
        bin: &Path,
        tls: bool,
        link: Link,
        point: &Point,
        rate: f64,
        warm: f64,
        seconds: f64,
        max_frame_age_ms: u64,
    ) -> Outcome<Run> {
        let (output, group) = self.names();
        let input = format!("frames-{}", self.runs);
        let plain = &mut self.place.plain;
        plain.run::<()>(&["XGROUP", "CREATE", &input, &group, "0", "MKSTREAM"])?;
        let proxy = self.place.link(tls, link)?;
        let names = Names { input: &input, output: &output, group: &group, max_frame_age_ms };
        let mut engine = Engine::start(bin, &self.place, &proxy, tls, &names)?;
        self.wait_for_reader(&mut engine, &input, &group)?;
        let mut sender = Sender::open(self, &input, point.size, point.input)?;
        let (began, mut sent, mut counted_from) = (Instant::now(), 0_u64, None);
        let mut connections = proxy.counts().connections;
        while began.elapsed().as_secs_f64() < warm + seconds {
            let due = Duration::from_secs_f64(sent as f64 / rate);
            if due.as_secs_f64() >= warm && counted_from.is_none() {
                counted_from = Some((sent, self.now_millis()?));
                connections = proxy.counts().connections;
            }
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            sender.send(sent)?;
            sent += 1;
        }
        let until = self.now_millis()?;
        // Frames in flight still count; those waiting in front of a narrow link do not.
        let rest = link.delay.as_secs_f64() * 6.0 + 0.5;
        std::thread::sleep(Duration::from_secs_f64(rest));
        engine.check()?;
        let metrics = engine.metrics()?;
        let cpu_seconds = engine.usage()?.cpu_seconds;
        let connections_opened = proxy.counts().connections - connections;
        if max_frame_age_ms == 0 {
            engine.end()?;
        } else {
            drop(engine);
        }
        let (first, from) = counted_from.unwrap_or((0, 0.0));
        let ages = self.ages_of(&output, from, until, max_frame_age_ms > 0)?;
        self.remove(&output)?;
        self.remove(&input)?;
        let sent_in_all = sent;
        let sent = sent - first;
        Ok(Run { sent, sent_in_all, ages, metrics, cpu_seconds, connections_opened })
    }

    fn wait_for_reader(&mut self, engine: &mut Engine, input: &str, group: &str) -> Outcome<()> {
        let began = Instant::now();
        loop {
            let consumers: StreamInfoConsumersReply =
                self.place.plain.run(&["XINFO", "CONSUMERS", input, group])?;
            if !consumers.consumers.is_empty() {
                return Ok(());
            }
            engine.check()?;
            if began.elapsed() > START_LIMIT {
                return Err("the engine does not begin to read".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The server's time, in milliseconds.
    fn now_millis(&mut self) -> Outcome<f64> {
        let (seconds, micros): (f64, f64) = self.place.plain.run(&["TIME"])?;
        Ok(seconds * 1e3 + micros / 1e3)
    }

    /// Age of each result in the stream, for frames added between two moments, or with `by_result`,
    /// for results added between them.
    fn ages_of(
        &mut self,
        output: &str,
        from: f64,
        until: f64,
        by_result: bool,
    ) -> Outcome<Vec<f64>> {
        let (mut ages, mut begin) = (Vec::new(), "-".to_owned());
        loop {
            let page: StreamRangeReply = self.place.plain.run(&[
                "XRANGE",
                output,
                &begin,
                "+",
                "COUNT",
                &PAGE.to_string(),
            ])?;
            for entry in &page.ids {
                let source: String = entry.get("source_id").ok_or("a result without source_id")?;
                let (added, stored) = (millis(&source), millis(&entry.id));
                let counts = if by_result { stored } else { added };
                if (from..until).contains(&counts) {
                    ages.push(stored - added);
                }
            }
            match page.ids.last() {
                Some(last) => begin = format!("({}", last.id),
                None => return Ok(ages),
            }
        }
    }
}

/// Figures of a run at a rate.
struct Run {
    /// Counted frames only.
    sent: u64,
    sent_in_all: u64,
    ages: Vec<f64>,
    metrics: serde_json::Value,
    cpu_seconds: f64,
    connections_opened: u64,
}

/// Frames, and the connection they go through.
struct Sender {
    frames: Vec<Vec<u8>>,
    size: Size,
    kind: Kind,
    producer: Producer,
}

impl Sender {
    fn open(stage: &Stage<'_>, input: &str, size: Size, kind: Kind) -> Outcome<Sender> {
        let frames = files::load(&stage.studio.frames(size, kind)?)?;
        let producer = crate::common::producer(&stage.place.address, input)?;
        Ok(Sender { frames, size, kind, producer })
    }

    fn send(&mut self, number: u64) -> Outcome<()> {
        let (camera, of_camera) = (number % CAMERAS, number / CAMERAS);
        let at = (of_camera + camera) as usize % self.frames.len();
        let format = if self.kind == Kind::Raw { Format::Raw } else { Format::Jpeg };
        let Size { width, height } = self.size;
        self.producer.send(&Outbound {
            frame_id: &format!("frame-{of_camera:08}"),
            camera_id: &format!("camera-{camera}"),
            timestamp: crate::load::now(),
            picture: InputImage {
                format,
                width,
                height,
                channels: 3,
                layout: Default::default(),
                bytes: &self.frames[at],
            },
            quality: 0,
        })?;
        Ok(())
    }
}

/// The milliseconds of an entry's id.
fn millis(id: &str) -> f64 {
    id.split('-').next().and_then(|millis| millis.parse().ok()).unwrap_or(0.0)
}

fn ages(mut ages: Vec<f64>) -> Ages {
    ages.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let rank = (ages.len() as f64 * share).ceil() as usize;
        ages.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    };
    Ages { p50: at(0.5), p99: at(0.99) }
}
