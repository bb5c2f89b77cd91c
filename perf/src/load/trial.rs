//! One load on one side, from the start of all processes to their end.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use framepress::internals::instruments::{Size, backlog};
use serde::Serialize;

use super::feed::Fed;
use super::files::{Kind, Studio};
use super::group::Progress;
use super::side::{Program, Side, guarded, usage_of};
use super::{Collected, GROUP, now, sleep_until, streams};
use crate::Outcome;
use crate::common::CAMERAS;
use crate::server::Server;
use framepress::internals::redis::lease_key;

/// Time limit until a side reads.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time limit to finish the backlog after the last frame.
const REST_LIMIT: Duration = Duration::from_secs(60);
/// Between "all is ready" and the first frame.
const LEAD_SECONDS: f64 = 0.1;
/// How frames are sent.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Closed loop: enough frames always wait.
    Full,
    /// Open loop: this many per second, regardless of the results.
    Rate(f64),
}

pub struct Trial<'a> {
    pub program: &'a Program,
    pub size: Size,
    pub kind: Kind,
    pub cameras: u64,
    pub load: Load,
    /// Seconds before the measured time.
    pub warm: f64,
    /// Seconds of the measured time.
    pub seconds: f64,
    /// Where the HdrHistogram log goes.
    pub log: Option<PathBuf>,
    /// Seconds of one interval of that log, and of a sample.
    pub interval: f64,
}

/// The measured figures.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub load: Load,
    pub size: Size,
    pub kind: Kind,
    pub cameras: u64,
    /// Results per second, of frames due within the measured time.
    pub fps: f64,
    /// CPU time of the side's processes, per frame acknowledged.
    pub cpu_ms_per_frame: f64,
    pub redis_cpu_ms_per_frame: f64,
    /// CPU time of the feeder, per frame sent.
    pub producer_cpu_ms_per_frame: f64,
    /// Context switches of the side's threads.
    pub switches_per_frame: f64,
    pub page_faults_per_frame: f64,
    pub rss_mib_max: f64,
    pub bytes_in_per_frame: f64,
    pub bytes_out_per_frame: f64,
    /// Measured frames without a result.
    pub missing: u64,
    /// Longest delay of the feeder; part of the latency.
    pub late_ms_max: f64,
    pub results: Collected,
    pub samples: Vec<Sample>,
    /// Output of the side.
    #[serde(skip)]
    pub said: String,
}

/// The side at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// Seconds after the beginning of the measured time.
    pub at: f64,
    pub done: u64,
    pub waiting: u64,
    pub rss_mib: f64,
    pub cpu_seconds: f64,
    pub page_faults: u64,
}

impl<'a> Trial<'a> {
    /// A load by four cameras, measured for `seconds` after one second.
    pub fn new(program: &'a Program, (size, kind): (Size, Kind), load: Load, seconds: f64) -> Self {
        Trial {
            program,
            size,
            kind,
            cameras: CAMERAS as u64,
            load,
            warm: 1.0,
            seconds,
            log: None,
            interval: 1.0,
        }
    }

    pub fn run(&self, studio: &Studio) -> Outcome<Measured> {
        let frames = studio.frames(self.size, self.kind)?;
        let mut server = Server::start()?;
        let inputs: Vec<String> =
            streams(self.program.shards()).into_iter().map(|[input, _]| input).collect();
        for input in &inputs {
            server.plain.run::<()>(&["XGROUP", "CREATE", input, GROUP, "0", "MKSTREAM"])?;
        }
        let redis = server.process()?;
        let socket = PathBuf::from(server.address().to_string());
        let folder = tempfile::tempdir()?;
        let mut side = Side::start(self.program, &socket, folder.path())?;
        self.wait_for_side(&mut side, &mut server, &inputs)?;

        let mut feeder = self.feeder(&socket, &frames)?;
        let begin = now() + LEAD_SECONDS;
        let from = begin + self.warm;
        let until = from + self.seconds;
        let mut consumer = self.consumer(&socket, from, until)?;
        feeder.tell(&format!("{begin} {from} {until}\n"))?;

        sleep_until(from);
        let (before, redis_before) = (side.usage()?, usage_of(redis)?);
        let producer_before = usage_of(feeder.child.id())?;
        let done_before = Progress::of(&mut server.plain, &inputs)?.done;
        let samples = self.watch(&mut side, &mut server, &inputs, from, until)?;
        let (after, redis_after) = (side.usage()?, usage_of(redis)?);
        // It may have ended, but this process has not waited for it, so the kernel still has its
        // figures.
        let producer_after = usage_of(feeder.child.id())?;
        let done = Progress::of(&mut server.plain, &inputs)?.done.saturating_sub(done_before);

        let fed: Fed = serde_json::from_str(&feeder.last_line()?)?;
        rest(&mut side, &mut server, &inputs)?;
        for [_, output] in streams(self.program.shards()) {
            server.plain.run::<()>(&["XADD", &output, "*", "end", "1"])?;
        }
        let results: Collected = serde_json::from_str(&consumer.last_line()?)?;
        let said = side.end()?;
        let per_frame = |amount: f64| amount / done.max(1) as f64;
        Ok(Measured {
            load: self.load,
            size: self.size,
            kind: self.kind,
            cameras: self.cameras,
            fps: results.frames as f64 / self.seconds,
            cpu_ms_per_frame: per_frame((after.cpu_seconds - before.cpu_seconds) * 1e3),
            redis_cpu_ms_per_frame: per_frame(
                (redis_after.cpu_seconds - redis_before.cpu_seconds) * 1e3,
            ),
            producer_cpu_ms_per_frame: (producer_after.cpu_seconds - producer_before.cpu_seconds)
                * 1e3
                / fed.sent_measured.max(1) as f64,
            switches_per_frame: per_frame(after.switches.saturating_sub(before.switches) as f64),
            page_faults_per_frame: per_frame((after.page_faults - before.page_faults) as f64),
            rss_mib_max: samples.iter().map(|sample| sample.rss_mib).fold(0.0, f64::max),
            bytes_in_per_frame: fed.bytes as f64 / fed.sent.max(1) as f64,
            bytes_out_per_frame: results.bytes as f64 / results.frames.max(1) as f64,
            missing: fed.sent_measured.saturating_sub(results.frames),
            late_ms_max: fed.late_ms_max,
            results,
            samples,
            said,
        })
    }

    /// Waits until every process reads and, with leases, holds a shard.
    fn wait_for_side(
        &self,
        side: &mut Side,
        server: &mut Server,
        inputs: &[String],
    ) -> Outcome<()> {
        let began = Instant::now();
        loop {
            let wanted = side.processes();
            let are_reading = match self.program {
                Program::Peer { .. } => {
                    Progress::of(&mut server.plain, inputs)?.consumers >= wanted as u64
                }
                Program::Engine { .. } if self.program.is_exclusive() => {
                    holders(server, inputs)? >= wanted.min(inputs.len())
                }
                // The server knows a consumer only after its first entry, but counts blocked
                // clients.
                Program::Engine { .. } => waiting(server)? >= wanted * inputs.len(),
            };
            if are_reading {
                return Ok(());
            }
            side.check()?;
            if began.elapsed() > START_LIMIT {
                return Err("it does not begin to read".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn feeder(&self, socket: &Path, frames: &Path) -> Outcome<Companion> {
        let mut command = guarded(&own_path()?);
        command.arg("feed").arg("--socket").arg(socket).arg("--frames").arg(frames);
        command.args(["--size", &self.size.to_string(), "--kind", self.kind.name()]);
        command.args(["--cameras", &self.cameras.to_string()]);
        command.args(["--shards", &self.program.shards().to_string()]);
        if let Some(folder) = self.program.ring_folder() {
            command.arg("--ring").arg(folder);
        }
        match self.load {
            Load::Rate(rate) => command.args(["--rate", &rate.to_string()]),
            Load::Full => {
                let backlog = backlog(self.size);
                command.args(["--backlog", &backlog.to_string()])
            }
        };
        Companion::start(command)
    }

    fn consumer(&self, socket: &Path, from: f64, until: f64) -> Outcome<Companion> {
        let mut command = guarded(&own_path()?);
        command.arg("collect").arg("--socket").arg(socket);
        command.args(["--shards", &self.program.shards().to_string()]);
        command.args(["--from", &from.to_string(), "--until", &until.to_string()]);
        command.args(["--interval", &self.interval.to_string()]);
        if let Some(log) = &self.log {
            command.arg("--log").arg(log);
        }
        Companion::start(command)
    }

    /// Takes samples until the measured time is over.
    fn watch(
        &self,
        side: &mut Side,
        server: &mut Server,
        inputs: &[String],
        from: f64,
        until: f64,
    ) -> Outcome<Vec<Sample>> {
        let mut samples = Vec::new();
        loop {
            side.check()?;
            let usage = side.usage()?;
            let progress = Progress::of(&mut server.plain, inputs)?;
            let at = now();
            samples.push(Sample {
                at: at - from,
                done: progress.done,
                waiting: progress.waiting,
                rss_mib: usage.rss_bytes as f64 / f64::from(1 << 20),
                cpu_seconds: usage.cpu_seconds,
                page_faults: usage.page_faults,
            });
            if at >= until {
                return Ok(samples);
            }
            sleep_until((from + samples.len() as f64 * self.interval).max(at).min(until));
        }
    }
}

/// Waits until the side has finished the backlog.
fn rest(side: &mut Side, server: &mut Server, inputs: &[String]) -> Outcome<()> {
    let began = Instant::now();
    loop {
        let left = Progress::of(&mut server.plain, inputs)?.waiting;
        if left == 0 {
            return Ok(());
        }
        side.check()?;
        if began.elapsed() > REST_LIMIT {
            return Err(format!("{left} frames are left after {REST_LIMIT:?}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How many connections wait for entries.
fn waiting(server: &mut Server) -> Outcome<usize> {
    let info: String = server.plain.run(&["INFO", "clients"])?;
    let blocked = info.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    Ok(blocked.ok_or("the server does not tell who waits")?.trim().parse()?)
}

/// How many engines hold a shard.
fn holders(server: &mut Server, inputs: &[String]) -> Outcome<usize> {
    let mut questions = redis::pipe();
    for input in inputs {
        questions.cmd("HGET").arg(lease_key(input, GROUP)).arg("holder");
    }
    let answers: Vec<Option<String>> = server.plain.run_all(&questions)?;
    if answers.iter().any(|holder| holder.as_deref().unwrap_or_default().is_empty()) {
        return Ok(0);
    }
    Ok(answers.into_iter().collect::<BTreeSet<_>>().len())
}

fn own_path() -> Outcome<String> {
    Ok(std::env::current_exe()?.to_string_lossy().into_owned())
}

/// A feeder or consumer, ready; dropping the value kills it.
struct Companion {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Companion {
    fn start(mut command: Command) -> Outcome<Companion> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let out = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut companion = Companion { child, out };
        match companion.line()?.as_str() {
            "ready" => Ok(companion),
            other => Err(format!("a companion said {other:?} instead of being ready").into()),
        }
    }

    fn tell(&mut self, text: &str) -> Outcome<()> {
        let input = self.child.stdin.as_mut().ok_or("no standard input")?;
        Ok(input.write_all(text.as_bytes())?)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.out.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Its final output line.
    fn last_line(&mut self) -> Outcome<String> {
        let line = self.line()?;
        let status = self.child.wait()?;
        if status.success() && !line.is_empty() {
            Ok(line)
        } else {
            Err(format!("a companion ended with {status}").into())
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
