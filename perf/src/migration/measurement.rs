//! One measurement of one system: from the start of its processes to their end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use tempfile::TempDir;

use super::child::ChildProcess;
use super::coded::CodedFrames;
use super::intake::Intake;
use super::kafka::KafkaNode;
use super::ports::{ROLES, Role, Traffic};
use super::reader::ResultReader;
use super::store::RedisNode;
use super::{CAMERAS, Era};
use crate::Outcome;
use crate::common::Spread;
use crate::load::{guarded, now, sleep_until};

/// Time limit of a system's first results.
const START_LIMIT: Duration = Duration::from_secs(90);
/// Time limit to finish the rest at the end of the open loop.
const REST_LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(1);
/// Seconds at full load that are not counted.
const FULL_WARM: f64 = 1.0;
/// Bytes of frames in flight at full load, and bounds for their number.
const BACKLOG_BYTES: f64 = 64e6;
const BACKLOG: (f64, f64) = (16.0, 256.0);

/// Shared by all measurements of a run.
pub struct Stage {
    /// Path of `framepress`.
    pub bin: PathBuf,
    /// The interpreter with the packages of the peers.
    pub python: Option<String>,
    /// Runs for the whole run, as its start takes longer than a measurement.
    pub kafka: Option<KafkaNode>,
    folder: TempDir,
    runs: u32,
}

/// Parameters of a measurement.
#[derive(Clone, Copy)]
pub struct Plan {
    /// Frames per second of all cameras together.
    pub rate: f64,
    /// Seconds at that rate before the measured time.
    pub warm: f64,
    /// Seconds at that rate.
    pub seconds: f64,
    /// Seconds at full load.
    pub full_seconds: f64,
    /// Whether all clients go through the proxies, and bytes are counted.
    pub is_counted: bool,
}

/// A process of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Kafka,
    Redis,
    Processor,
    KafkaToRedis,
    RedisToKafka,
}

/// Usage of one process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PartUsage {
    pub part: Part,
    pub cpu_ms_per_frame: f64,
    /// The same at full load.
    pub full_cpu_ms_per_frame: f64,
    /// At the end of the open loop.
    pub rss_mib: f64,
}

/// Figures of one measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Measured frames of the open loop.
    pub frames: u64,
    /// Of those, frames whose result did not come in time.
    pub missing: u64,
    pub doubled: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Longest delay of the producer; part of the latency.
    pub late_ms_max: f64,
    /// Medians of the legs through Redis: until the frame was added to its stream, from then until
    /// the result was added, and from then until the reader had it.
    pub legs_ms: Option<[f64; 3]>,
    pub parts: Vec<PartUsage>,
    /// Bytes that the brokers store for a frame and its result.
    pub kafka_bytes_per_frame: f64,
    pub redis_bytes_per_frame: f64,
    /// Results per second at full load.
    pub full_fps: f64,
    /// Bytes by role, in a counted measurement.
    pub traffic: Option<[Traffic; ROLES.len()]>,
}

/// The running system.
struct System<'a> {
    kafka: Option<&'a mut KafkaNode>,
    redis: Option<RedisNode>,
    children: Vec<(Part, ChildProcess)>,
    intake: Intake,
    reader: ResultReader,
    topics: [String; 2],
}

impl Stage {
    pub fn open(bin: &Path, python: Option<String>, kafka: Option<KafkaNode>) -> Outcome<Stage> {
        if !bin.is_file() {
            return Err(format!("no program at {}; see --bin", bin.display()).into());
        }
        let folder = tempfile::Builder::new().prefix("framepress-migration-").tempdir()?;
        Ok(Stage { bin: std::path::absolute(bin)?, python, kafka, folder, runs: 0 })
    }

    /// Runs one measurement.
    pub fn measure(&mut self, era: Era, frames: &CodedFrames, plan: &Plan) -> Outcome<Measured> {
        let mut system = self.start(era, plan.is_counted)?;
        let mut sent = Sent::default();
        for _ in 0..CAMERAS {
            system.send(frames, &mut sent, now())?;
        }
        system.wait_for(sent.count(), START_LIMIT)?;
        if system.reader.frames()? < sent.count() {
            return Err(format!("{}: no result in {START_LIMIT:?}", era.name()).into());
        }
        let open = system.open_loop(frames, &mut sent, plan)?;
        let full = match plan.full_seconds > 0.0 {
            true => Some(system.closed_loop(frames, &mut sent, plan)?),
            false => None,
        };
        let measured = system.end(&sent, &open, full.as_ref())?;
        Ok(Measured { traffic: plan.is_counted.then_some(open.traffic), ..measured })
    }

    /// Starts the processes of a system, with unused topics and streams.
    fn start(&mut self, era: Era, is_counted: bool) -> Outcome<System<'_>> {
        self.runs += 1;
        let run = self.runs;
        let topics = ["camera_frames", "processed_frames"].map(|name| format!("{name}_{run}"));
        let [input, output] = topics.each_ref().map(String::as_str);
        let kafka = if era.has_kafka() {
            Some(self.kafka.as_mut().ok_or("this needs Kafka")?)
        } else {
            None
        };
        if let Some(kafka) = &kafka {
            kafka.create([input, output], CAMERAS)?;
        }
        let redis = if era.has_redis() { Some(RedisNode::start()?) } else { None };
        let folder = self.folder.path();
        let mut children = Vec::new();
        match (&kafka, &redis) {
            (Some(kafka), None) => {
                let python = self.python.as_deref().ok_or("this needs the Python packages")?;
                let mut command = guarded(python);
                command
                    .arg("perf/peers/python/kafka_processor.py")
                    .env("PEER_KAFKA", kafka.bootstrap(Role::Processor, is_counted))
                    .env("PEER_INPUT", input)
                    .env("PEER_OUTPUT", output)
                    .env("PEER_GROUP", format!("stream_processor_{run}"))
                    .env("PEER_CONSUMER", "peer-0");
                let child = ChildProcess::start("the Python processor", command, folder)?;
                children.push((Part::Processor, child));
            }
            (kafka, Some(redis)) => {
                let streams = format!("  input_queue: {input}\n  output_queue: {output}\n");
                let start = |part: Part, name, role, words: &[&str], more: &str| {
                    let file = folder.join(format!("{run}-{name}.yaml"));
                    let url = redis.url(role, is_counted);
                    fs::write(&file, format!("redis_queue:\n  url: {url}\n{streams}{more}"))?;
                    let mut command = guarded(&self.bin.to_string_lossy());
                    command.args(words).arg("--config").arg(file);
                    Outcome::Ok((part, ChildProcess::start(name, command, folder)?))
                };
                let engine = "analysis: {ml_image: true, thumbnail: true}\nstats: {addr: null}\n";
                children.push(start(
                    Part::Processor,
                    "framepress",
                    Role::Processor,
                    &["run"],
                    engine,
                )?);
                if let Some(kafka) = kafka {
                    let section = format!(
                        "kafka:\n  bootstrap_servers: [\"{}\"]\n  input_topic: {input}\n  \
                         output_topic: {output}\n  bridge_group: framepress_bridge_{run}\n  \
                         begin: earliest\n  stats: {{kafka_to_redis: null, redis_to_kafka: null}}\n",
                        kafka.bootstrap(Role::Bridge, is_counted)
                    );
                    for (part, direction) in [
                        (Part::KafkaToRedis, "kafka-to-redis"),
                        (Part::RedisToKafka, "redis-to-kafka"),
                    ] {
                        let words = ["bridge", direction];
                        children.push(start(part, direction, Role::Bridge, &words, &section)?);
                    }
                }
            }
            (None, None) => {}
        }
        let intake = match (&kafka, &redis) {
            (Some(kafka), _) => Intake::into_kafka(kafka, is_counted, input)?,
            (None, Some(redis)) => Intake::into_redis(redis, is_counted, input)?,
            (None, None) => return Err("a system without a broker".into()),
        };
        let reader = match (&kafka, &redis) {
            (None, Some(redis)) => {
                ResultReader::of_redis(&redis.address(Role::Reader, is_counted), output)?
            }
            (Some(kafka), _) => ResultReader::of_kafka(kafka, is_counted, output, CAMERAS)?,
            (None, None) => return Err("a system without a broker".into()),
        };
        Ok(System { kafka, redis, children, intake, reader, topics })
    }
}

/// When each frame was due.
#[derive(Default)]
struct Sent(Vec<f64>);

impl Sent {
    fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

/// CPU seconds and bytes of memory of each process at one moment.
type Look = Vec<(Part, f64, u64)>;

/// Figures of the open loop.
struct OpenLoop {
    /// The first measured frame, and the one after the last.
    frames: std::ops::Range<usize>,
    late_ms_max: f64,
    looks: [Look; 2],
    added: Option<Vec<(usize, f64, f64)>>,
    stored: [f64; 2],
    traffic: [Traffic; ROLES.len()],
}

/// Figures of the closed loop.
struct ClosedLoop {
    from: f64,
    until: f64,
    looks: [Look; 2],
}

impl System<'_> {
    fn send(&mut self, frames: &CodedFrames, sent: &mut Sent, due: f64) -> Outcome<()> {
        let number = sent.count();
        sent.0.push(due);
        self.intake.send(frames, number, due, CAMERAS)
    }

    /// Waits for `results` results, or until `limit`.
    fn wait_for(&mut self, results: u64, limit: Duration) -> Outcome<()> {
        let began = Instant::now();
        while self.reader.frames()? < results && began.elapsed() < limit {
            self.check()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn check(&mut self) -> Outcome<()> {
        let kafka = self.kafka.iter_mut().map(|kafka| &mut kafka.process);
        let redis = self.redis.iter_mut().map(|redis| &mut redis.process);
        let children = self.children.iter_mut().map(|(_, child)| child);
        kafka.chain(redis).chain(children).try_for_each(ChildProcess::check)
    }

    fn look(&self) -> Outcome<Look> {
        let kafka = self.kafka.iter().map(|kafka| (Part::Kafka, &kafka.process));
        let redis = self.redis.iter().map(|redis| (Part::Redis, &redis.process));
        let children = self.children.iter().map(|(part, child)| (*part, child));
        kafka
            .chain(redis)
            .chain(children)
            .map(|(part, process)| {
                let usage = process.usage()?;
                Ok((part, usage.cpu_seconds, usage.rss_bytes))
            })
            .collect()
    }

    /// Bytes of each role, with both brokers together.
    fn traffic(&self) -> [Traffic; ROLES.len()] {
        let mut sum = [Traffic::default(); ROLES.len()];
        let kafka = self.kafka.iter().map(|kafka| &kafka.ports);
        for ports in kafka.chain(self.redis.iter().map(|redis| &redis.ports)) {
            for (sum, traffic) in sum.iter_mut().zip(ports.traffic()) {
                *sum = sum.plus(traffic);
            }
        }
        sum
    }

    /// Frames at a fixed rate, regardless of the results. Memory and stored bytes are read when all
    /// results are there.
    fn open_loop(
        &mut self,
        frames: &CodedFrames,
        sent: &mut Sent,
        plan: &Plan,
    ) -> Outcome<OpenLoop> {
        let begin = now();
        let (warm, all) = ((plan.warm * plan.rate) as u64, plan.seconds * plan.rate);
        let all = warm + (all as u64).max(1);
        let mut first = sent.0.len();
        let mut before = (self.look()?, self.traffic());
        let mut late_ms_max: f64 = 0.0;
        for number in 0..all {
            let due = begin + number as f64 / plan.rate;
            sleep_until(due);
            if number == warm {
                first = sent.0.len();
                before = (self.look()?, self.traffic());
            }
            late_ms_max = late_ms_max.max((now() - due) * 1e3);
            self.send(frames, sent, due)?;
        }
        self.intake.flush()?;
        self.wait_for(sent.count(), REST_LIMIT)?;
        let after = self.look()?;
        let measured = (sent.0.len() - first) as f64;
        let mut traffic = self.traffic();
        for (after, before) in traffic.iter_mut().zip(before.1) {
            *after = after.since(before, measured);
        }
        let [input, output] = self.topics.each_ref().map(String::as_str);
        let count = sent.count() as f64;
        let kafka = self.kafka.as_ref().map(|kafka| kafka.stored([input, output])).transpose()?;
        let redis = self.redis.as_mut().map(|redis| redis.stored([input, output])).transpose()?;
        let added = self.redis.as_mut().map(|redis| redis.added(output)).transpose()?;
        Ok(OpenLoop {
            frames: first..sent.0.len(),
            late_ms_max,
            looks: [before.0, after],
            added,
            stored: [kafka, redis].map(|bytes| bytes.unwrap_or(0) as f64 / count),
            traffic,
        })
    }

    /// As many frames as keep a backlog full.
    fn closed_loop(
        &mut self,
        frames: &CodedFrames,
        sent: &mut Sent,
        plan: &Plan,
    ) -> Outcome<ClosedLoop> {
        let backlog = (BACKLOG_BYTES / frames.bytes()).clamp(BACKLOG.0, BACKLOG.1) as u64;
        let from = now() + FULL_WARM;
        let until = from + plan.full_seconds;
        let mut before = None;
        while now() < until {
            if before.is_none() && now() >= from {
                before = Some(self.look()?);
            }
            if sent.count() - self.reader.frames()? < backlog {
                self.send(frames, sent, now())?;
            } else {
                self.check()?;
                std::thread::sleep(LOOK);
            }
        }
        let after = self.look()?;
        Ok(ClosedLoop { from, until, looks: [before.unwrap_or_else(|| after.clone()), after] })
    }

    /// Ends the processes, and computes the figures. Discards the backlog at full load.
    fn end(self, sent: &Sent, open: &OpenLoop, full: Option<&ClosedLoop>) -> Outcome<Measured> {
        let System { kafka, redis, children, intake, reader, topics } = self;
        let arrivals = reader.end();
        drop(intake);
        for (_, child) in children.into_iter().rev() {
            child.end()?;
        }
        drop(redis);
        if let Some(kafka) = kafka {
            kafka.remove(topics.each_ref().map(String::as_str))?;
        }
        let mut latencies: Vec<f64> = open
            .frames
            .clone()
            .filter_map(|number| Some((arrivals.of(number)? - sent.0[number]) * 1e3))
            .collect();
        latencies.sort_by(f64::total_cmp);
        let legs_ms = open.added.as_ref().map(|added| {
            let mut legs: [Vec<f64>; 3] = Default::default();
            for &(number, frame, result) in added.iter().filter(|it| open.frames.contains(&it.0)) {
                let seen = arrivals.of(number).map_or(f64::NAN, |at| at * 1e3);
                let moments = [sent.0[number] * 1e3, frame, result, seen];
                for (leg, ends) in legs.iter_mut().zip(moments.windows(2)) {
                    leg.push(ends[1] - ends[0]);
                }
            }
            legs.map(|leg| Spread::of(leg).median)
        });
        let measured = open.frames.len() as f64;
        let (full_fps, done) = full.map_or((0.0, 1.0), |full| {
            let mut moments = arrivals.moments();
            moments.retain(|at| (full.from..full.until).contains(at));
            let span = moments.last().unwrap_or(&0.0) - moments.first().unwrap_or(&0.0);
            let fps = if span > 0.0 { (moments.len() - 1) as f64 / span } else { 0.0 };
            (fps, moments.len().max(1) as f64)
        });
        let cpu_ms = |looks: &[Look; 2], at: usize, frames: f64| {
            (looks[1][at].1 - looks[0][at].1) * 1e3 / frames
        };
        let parts = open.looks[1].iter().enumerate().map(|(at, &(part, _, rss))| PartUsage {
            part,
            cpu_ms_per_frame: cpu_ms(&open.looks, at, measured),
            full_cpu_ms_per_frame: full.map_or(0.0, |full| cpu_ms(&full.looks, at, done)),
            rss_mib: rss as f64 / f64::from(1 << 20),
        });
        Ok(Measured {
            frames: open.frames.len() as u64,
            missing: open.frames.len() as u64 - latencies.len() as u64,
            doubled: arrivals.doubled,
            p50_ms: share(&latencies, 0.5),
            p99_ms: share(&latencies, 0.99),
            late_ms_max: open.late_ms_max,
            legs_ms,
            parts: parts.collect(),
            kafka_bytes_per_frame: open.stored[0],
            redis_bytes_per_frame: open.stored[1],
            full_fps,
            traffic: None,
        })
    }
}

/// The value at a share of sorted ones.
fn share(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
