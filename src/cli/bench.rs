//! `framepress bench`: a measured run against Redis, open loop at a given rate or closed loop at
//! the maximum rate.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;

use super::common::Common;
use super::failure::Failure;
use super::output::report::{self, Report};
use super::output::{out, progress};
use super::service::logging;
use super::service::signals::SignalWatch;
use crate::base::{Fault, Stop};
use crate::config::Config;
use crate::engine::{Engine, EngineView, Hooks};
use crate::instruments::{Frames, Input, Load, Progress, Size};
use crate::metrics::clock::{Tick, unix_millis};
use crate::metrics::{Metrics, Timer};
use crate::redis::{Control, Streams};

/// How often a progress line is printed if the output is not a terminal.
const LINE: Duration = Duration::from_secs(5);

/// Maximum duration of a run.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress bench\n  \
    framepress bench --size 1920x1080 --rate 30 --frames 900 --report bench.json\n\n\
    Without --redis-url and --config, bench starts a private redis-server for the run. It uses\n\
    streams of its own and removes them afterwards. In an open loop (--rate) the latency of a\n\
    frame counts from the time at which it should have been sent.")]
pub(super) struct BenchArgs {
    #[command(flatten)]
    common: Common,
    /// How many frames
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    frames: u64,
    /// Size of the frames
    #[arg(long, value_name = "WxH", default_value = "640x480")]
    size: Size,
    /// Frames per second over all cameras, or max
    #[arg(long, value_name = "F", default_value = "max")]
    rate: Rate,
    /// Encoding of the frames in the input stream
    #[arg(long, value_enum, default_value_t = Input::Raw)]
    input: Input,
    /// How many cameras
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    cameras: u32,
    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Frames per second; `None` for as many as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(Option<f64>);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "max" {
            return Ok(Rate(None));
        }
        let rate = text.parse().ok().filter(|rate| (0.001..=1e6).contains(rate));
        rate.map(|rate| Rate(Some(rate)))
            .ok_or_else(|| "frames per second, from 0.001 to 1000000, or max".into())
    }
}

pub(super) fn run(args: &BenchArgs) -> Result<(), Failure> {
    args.report.as_deref().map(report::can_be_written).transpose()?;
    let config = configuration(args)?;
    let stop = Stop::default();
    let enough = Stop::default();
    let signals = SignalWatch::start(&enough)?;
    let painting = SignalWatch::at_once()?;
    let frames = Frames::render(args.size, args.input, &enough)?;
    drop(painting);
    let _reporter = logging::Reporter::start()?;
    let engine = Engine::start(&config, Hooks::default(), stop.clone())?;
    let view = engine.view().clone();
    let pace = match args.rate.0 {
        Some(rate) => format!("{rate} frames/s"),
        None => "as fast as they go".to_owned(),
    };
    out::line(format!(
        "{} frames of {}, {pace}, from {} cameras\nthrough Redis at {}",
        args.frames, args.size, args.cameras, view.topology
    ))?;
    let load = Load {
        frames,
        cameras: args.cameras,
        rate: args.rate.0,
        count: args.frames,
        limit: LIMIT,
        warm: Duration::ZERO,
        wait_for_rest: true,
    };
    let timeout = Duration::from_secs(config.redis_queue.timeout);
    let began = Tick::now();
    let mut shown = BenchProgress::new(args.frames, began);
    let driven = load.drive(&view, timeout, &enough, |progress, own| shown.show(progress, own));
    shown.bar.finish_and_clear();
    let report = Report::take(&view, &config, began);
    stop.drain();
    let end = leave(engine, &view, timeout);
    drop(signals);
    let driven = driven?;
    end?;

    let report = report.timed(&driven.latency);
    out::line(format!("\n{}", report.to_text()))?;
    if let Some(path) = &args.report {
        report.write(path)?;
        out::line(format!("report written to {}", path.display()))?;
    }
    if driven.received < driven.sent || !report.is_complete() {
        let text = format!("{} frames sent, {} results", driven.sent, driven.received);
        return Err(Fault::Unusable(text).into());
    }
    Ok(())
}

/// Ends the engine and removes the run's streams, because the server may live on.
fn leave(engine: Engine, view: &EngineView, timeout: Duration) -> Result<(), Fault> {
    let mut control = Control::new(&view.topology, timeout);
    let mut streams = view.plan.streams.iter().flat_map(Streams::all);
    let removed = streams.try_for_each(|stream| control.remove(stream));
    engine.wait().and(removed)
}

/// The configuration, but with a private server unless one is named, and with separate streams.
fn configuration(args: &BenchArgs) -> Result<Config, Failure> {
    let run_id = unix_millis();
    let mut loader = args.common.quiet(args.common.loader());
    let named = args.common.redis_url.is_some() || std::env::var_os("REDIS_QUEUE__URL").is_some();
    if !named && args.common.config.is_none() {
        loader = loader.flag("redis_queue.url", "embedded://");
    }
    loader = loader
        .flag("redis_queue.input_queue", format!("framepress_bench:{{{run_id}}}:in"))
        .flag("redis_queue.output_queue", format!("framepress_bench:{{{run_id}}}:out"))
        .flag("redis_queue.shards", "1")
        .flag("redis_queue.shard_subset", "null")
        .flag("redis_queue.assignment", "shared")
        .flag("redis_queue.retention", "delete")
        // A run ends if Redis is lost.
        .flag("redis_queue.retry_on_failure", "false");
    Ok(args.common.load(loader)?.config)
}

/// The progress line.
struct BenchProgress {
    bar: ProgressBar,
    began: Tick,
    line_at: Tick,
}

impl BenchProgress {
    fn new(frames: u64, began: Tick) -> BenchProgress {
        let bar = progress::styled(ProgressBar::new(frames), "{bar:15} {pos}/{len}  {wide_msg}");
        BenchProgress { bar, began, line_at: began }
    }

    #[allow(clippy::cast_precision_loss)]
    fn show(&mut self, progress: &Progress, own: &Metrics) {
        let on_pipe = self.bar.is_hidden();
        if on_pipe && self.line_at.elapsed() < LINE {
            return;
        }
        let rate = progress.received as f64 / self.began.elapsed().as_secs_f64().max(1e-9);
        let p99 = own.distribution(Timer::EndToEnd).quantile_ms(0.99);
        let line = format!("{} sent, {rate:.1} frames/s, p99 {p99:.1} ms", progress.sent);
        if on_pipe {
            self.line_at = Tick::now();
            let seconds = self.began.elapsed().as_secs_f64();
            let _ = out::line(format!("{seconds:5.1} s  {} out, {line}", progress.received));
        } else {
            self.bar.set_position(progress.received);
            self.bar.set_message(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_positive_number_or_the_maximum() {
        assert_eq!("max".parse(), Ok(Rate(None)));
        assert_eq!("12.5".parse(), Ok(Rate(Some(12.5))));
        for wrong in ["", "fast", "0", "-1", "NaN", "inf", "1e9"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }
}
