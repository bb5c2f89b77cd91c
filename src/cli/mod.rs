//! Floor 7: the command line, one file per subcommand.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 130 stopped at once by a second
//! signal.

mod bench;
mod bridge;
mod check;
mod client;
mod demo;
mod dlq;
mod generate;
mod health;
mod ingest;
mod inspect;
mod keeper;
mod load;
mod logging;
mod migrate;
mod notify;
mod out;
mod panics;
mod progress;
mod report;
mod run;
mod signals;
mod size;
mod summary;
mod terminal;
mod top;
mod tune;
mod typed;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::base::Fault;
use crate::config::{ConfigError, Loaded, Loader, LogLevel};
use signals::SignalWatch;

/// Reads camera frames from a Redis stream and writes analysed, compressed protobuf results.
#[derive(Debug, Parser)]
#[command(name = "framepress", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Examples:\n  \
    framepress demo                                   the whole system at work for 20 seconds\n  \
    framepress check --config framepress.yaml         is everything in order?\n  \
    framepress run --config framepress.yaml           the engine, until stopped\n  \
    framepress top                                    live figures of a running engine")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine until it is stopped
    Run(run::RunArgs),
    /// Show the whole system on this machine: cameras, Redis, engine, report
    Demo(demo::DemoArgs),
    /// Send frames to the input stream
    Ingest(ingest::IngestArgs),
    /// Measure the path of frames through Redis and the engine, at a rate or at the maximum
    Bench(bench::BenchArgs),
    /// Find the best settings for this machine by measurement and write a configuration
    Tune(tune::TuneArgs),
    /// Show processed frames in readable form
    Inspect(inspect::InspectArgs),
    /// List, show, replay or purge dead letters
    Dlq(dlq::DlqArgs),
    /// Check configuration, Redis and this machine, and say what to fix
    Check(check::CheckArgs),
    /// Show live statistics of a running engine
    Top(top::TopArgs),
    /// Check whether an engine on this machine is alive or ready
    Health(health::HealthArgs),
    /// Move frames from Kafka to Redis, or results from Redis to Kafka, each exactly once
    Bridge(bridge::BridgeArgs),
    /// Convert a configuration of the Kafka version
    MigrateConfig(migrate::MigrateArgs),
    /// Write shell completions to standard output
    Completions(generate::CompletionsArgs),
    /// Write the manual pages
    Man(generate::ManArgs),
}

/// The options that all subcommands share.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Configuration file, YAML or JSON
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// URL of Redis: redis://, rediss://, redis+unix://, redis-sentinel://, redis-cluster:// or
    /// embedded://
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Log level: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Common {
    /// The configuration layers that all subcommands share; more flags may be added.
    fn loader(&self) -> Loader {
        let mut loader = Loader::new().file(self.config.clone()).process_environment();
        if let Some(url) = &self.redis_url {
            loader = loader.flag("redis_queue.url", url);
        }
        if let Some(level) = &self.log_level {
            loader = loader.flag("log.level", level);
        }
        loader
    }

    /// Loads the configuration and starts logging accordingly.
    fn load(&self, loader: Loader) -> Result<Loaded, Failure> {
        let loaded = loader.load()?;
        logging::start(&loaded.config.log);
        for note in &loaded.notes {
            tracing::info!("{note}");
        }
        Ok(loaded)
    }

    /// Logs only warnings unless a level was requested, for commands whose own output matters more
    /// than the log.
    fn quiet(&self, loader: Loader) -> Loader {
        let asked = self.log_level.is_some() || std::env::var_os("LOG__LEVEL").is_some();
        if asked { loader } else { loader.flag("log.level", LogLevel::Warn.to_string()) }
    }
}

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the configuration is wrong\n{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The reader of standard output is gone; ends silently.
    #[error("the reader of the output has gone")]
    ReaderGone,
    /// Wrong usage, explained by the command-line parser.
    #[error("{0}")]
    Typed(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Config(_) | Failure::Usage(_) | Failure::Typed(_) => 2,
            Failure::Fault(_) => 1,
            Failure::ReaderGone => 0,
        }
    }

    /// The message to show, if any.
    fn text(&self) -> Option<String> {
        match self {
            Failure::ReaderGone => None,
            Failure::Typed(text) => Some(text.trim_end().to_owned()),
            Failure::Config(_) | Failure::Usage(_) | Failure::Fault(_) => {
                Some(format!("framepress: {self}"))
            }
        }
    }
}

/// Parses the command line and runs the subcommand.
pub fn main() -> ExitCode {
    panics::show_cleanly();
    signals::survive_file_limits();
    let typed: Vec<OsString> = std::env::args_os().collect();
    let done = match Cli::try_parse_from(&typed) {
        Ok(cli) => run(cli.command),
        Err(error) => Err(typed::explain(&error)),
    };
    let code = match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                out::remark(typed::hide_secrets(&text, &typed));
            }
            ExitCode::from(failure.code())
        }
    };
    logging::finish();
    code
}

fn run(command: Command) -> Result<(), Failure> {
    // The other commands install their own watch, because they have work to finish.
    let _signals = match &command {
        Command::Dlq(_)
        | Command::Check(_)
        | Command::Health(_)
        | Command::MigrateConfig(_)
        | Command::Completions(_)
        | Command::Man(_) => Some(SignalWatch::at_once()?),
        _ => None,
    };
    match command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Ingest(args) => ingest::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Dlq(args) => dlq::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Bridge(args) => bridge::run(&args),
        Command::MigrateConfig(args) => migrate::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
    }
}
