//! `framepress tune`: measures this machine and writes the best configuration for it.
//!
//! Tries one knob after the other. The present setting and the candidate are measured alternately,
//! several times. The candidate wins only if it is better every time and by more than the noise of
//! the present setting. So on a busy machine the defaults stay, instead of changing by chance.

mod file;
mod knobs;
mod trial;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::common::Common;
use super::failure::Failure;
use super::output::{out, progress, report};
use super::service::logging;
use super::service::signals::SignalWatch;
use crate::base::{Fault, Stop, files};
use crate::config::{Config, RedisUrl};
use crate::engine::find_server;
use crate::instruments::{Frames, Input, Size};
use crate::metrics::clock::{Tick, unix_millis};
use crate::redis::Embedded;
use trial::{TimeBounds, TrialComparison, TrialVerdict, Trials};

/// Arguments of `tune`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress tune --write framepress.yaml\n  \
    framepress tune --goal latency --size 1920x1080 --seconds 180 --write framepress.yaml\n\n\
    Run nothing else on the machine meanwhile. Without --redis-url and --config, tune starts a\n\
    private redis-server; it always uses streams of its own.")]
pub(super) struct TuneArgs {
    #[command(flatten)]
    common: Common,
    /// Maximum duration in seconds
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    /// What to optimise
    #[arg(long, value_enum, default_value_t = Goal::Throughput)]
    goal: Goal,
    /// Write the configuration to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Size of the frames
    #[arg(long, value_name = "WxH", default_value = "640x480")]
    size: Size,
    /// Encoding of the frames in the input stream
    #[arg(long, value_enum, default_value_t = Input::Raw)]
    input: Input,
    /// How many cameras
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cameras: u32,
}

/// The figure that configurations are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Goal {
    /// 99th percentile of the latency at half the maximum rate
    Latency,
    /// Frames per second
    Throughput,
    /// Bytes per result, with encoding within engine.latency_target_ms
    Bandwidth,
}

pub(super) fn run(args: &TuneArgs) -> Result<(), Failure> {
    let began = Tick::now();
    args.write.as_deref().map(report::can_be_written).transpose()?;
    let asked = args.common.load(args.common.quiet(args.common.loader()))?.config;
    let stop = Stop::default();
    let signals = SignalWatch::start(&stop)?;
    let _reporter = logging::Reporter::start()?;
    let server = Server::start(args, &asked, &stop)?;
    let painting = SignalWatch::at_once()?;
    let frames = Frames::render(args.size, args.input, &stop)?;
    drop(painting);
    let whole = Duration::from_secs(args.seconds);
    let mut tuning = Tuning {
        trials: Trials::new(
            args.goal,
            frames,
            args.cameras,
            TimeBounds { began, whole },
            stop.clone(),
        ),
        shown: TuneProgress::new(),
        asked,
        measured_with: server.url,
        run_id: unix_millis(),
        found: Vec::new(),
    };
    let best = tuning.search()?;
    drop(signals);
    tuning.shown.bar.finish_and_clear();
    let text = file::text(&best, &tuning.asked, args, &tuning.trials, &tuning.found);
    match &args.write {
        Some(path) => {
            files::replace(path, text.as_bytes())
                .map_err(|source| Fault::io(format!("cannot write {}", path.display()), source))?;
            out::line(file::changes(&tuning.found))?;
            out::line(format!("written to {}", path.display()))?;
        }
        None => out::line(text.trim_end())?,
    }
    Ok(())
}

/// The server used for measuring.
struct Server {
    url: RedisUrl,
    _embedded: Option<Embedded>,
}

impl Server {
    fn start(args: &TuneArgs, asked: &Config, stop: &Stop) -> Result<Server, Failure> {
        let named = args.common.redis_url.is_some()
            || args.common.config.is_some()
            || std::env::var_os("REDIS_QUEUE__URL").is_some();
        if named {
            return Ok(Server { url: asked.redis_queue.url.clone(), _embedded: None });
        }
        let embedded = |message: String| Failure::Fault(Fault::Unusable(message));
        let url = RedisUrl::parse("embedded://").map_err(embedded)?;
        let mut queue = Config::builtin().redis_queue;
        queue.url = url;
        let (topology, server) = find_server(&queue, stop)?;
        let url = RedisUrl::parse(&format!("redis+unix://{topology}")).map_err(embedded)?;
        Ok(Server { url, _embedded: server })
    }
}

/// The state of the search.
struct Tuning {
    trials: Trials,
    shown: TuneProgress,
    /// The user's configuration.
    asked: Config,
    measured_with: RedisUrl,
    run_id: u64,
    found: Vec<TrialComparison>,
}

impl Tuning {
    fn search(&mut self) -> Result<Config, Failure> {
        let mut best = self.asked.clone();
        let start = self.measurable(&best);
        self.shown.step("the configuration as it is");
        self.trials.prepare(&start)?;
        let goal = self.trials.goal();
        let mut left: usize =
            knobs::ALL.iter().map(|knob| knob.candidates(&best, goal).len()).sum();
        for knob in knobs::ALL {
            for candidate in knob.candidates(&best, goal) {
                if self.trials.is_stopped() {
                    return Err(Fault::Unusable("stopped before the end".into()).into());
                }
                let from = knob.value(&best);
                let to = knob.value(&candidate);
                self.shown.step(&format!("{}: {from} against {to}", knob.name()));
                let verdict = match candidate.check() {
                    Err(_) => TrialVerdict::NotValid,
                    Ok(()) => {
                        let pair = [self.measurable(&best), self.measurable(&candidate)];
                        self.trials.compare(&pair, left)?
                    }
                };
                left = left.saturating_sub(1);
                if matches!(verdict, TrialVerdict::Better(_)) {
                    best = candidate;
                }
                let comparison = TrialComparison { knob: knob.name(), from, to, verdict };
                self.shown.result(&comparison);
                self.found.push(comparison);
            }
        }
        Ok(best)
    }

    /// The same configuration with separate streams on the server used for measuring.
    fn measurable(&self, config: &Config) -> Config {
        let mut config = config.clone();
        let queue = &mut config.redis_queue;
        queue.url = self.measured_with.clone();
        queue.input_queue = format!("framepress_tune:{{{}}}:in", self.run_id);
        queue.output_queue = format!("framepress_tune:{{{}}}:out", self.run_id);
        queue.shards = 1;
        queue.shard_subset = None;
        queue.assignment = crate::config::Assignment::Shared;
        queue.retention = crate::config::Retention::Delete;
        queue.output_full = crate::config::OutputFull::TrimOldest;
        queue.max_queue_length = 500;
        queue.retry_on_failure = false;
        config
    }
}

/// Shows the progress: a changing line on a terminal, plain lines on a pipe. Standard output is
/// reserved for the configuration.
struct TuneProgress {
    bar: ProgressBar,
}

impl TuneProgress {
    fn new() -> TuneProgress {
        let bar = progress::styled(ProgressBar::new_spinner(), "{spinner} {elapsed}  {msg}");
        bar.enable_steady_tick(Duration::from_millis(120));
        TuneProgress { bar }
    }

    fn step(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    fn result(&self, comparison: &TrialComparison) {
        if self.bar.is_hidden() {
            out::remark(comparison);
        } else {
            self.bar.println(comparison.to_string());
        }
    }
}
