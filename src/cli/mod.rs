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

/// Camera frames from a Redis stream in, analysed and compressed protobuf out.
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
    /// Put frames into the input stream
    Ingest(ingest::IngestArgs),
    /// Measure: frames through Redis, engine and back, as fast as they go or at a rate
    Bench(bench::BenchArgs),
    /// Measure what serves this machine best and write it as a configuration
    Tune(tune::TuneArgs),
    /// Read processed frames as a person would
    Inspect(inspect::InspectArgs),
    /// List, show, replay or purge dead letters
    Dlq(dlq::DlqArgs),
    /// Check configuration, Redis and this machine, and say what to mend
    Check(check::CheckArgs),
    /// Show the figures of a running engine, live
    Top(top::TopArgs),
    /// Say whether an engine on this machine lives, or is ready
    Health(health::HealthArgs),
    /// Carry frames from Kafka to Redis, or results from Redis to Kafka, each exactly once
    Bridge(bridge::BridgeArgs),
    /// Convert a configuration of the Kafka version
    MigrateConfig(migrate::MigrateArgs),
    /// Write the completions of a shell to standard output
    Completions(generate::CompletionsArgs),
    /// Write the manual pages
    Man(generate::ManArgs),
}

/// What every subcommand understands.
#[derive(Clone, Debug, Args)]
struct Common {
    /// Configuration file, YAML or JSON
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where Redis is: redis://, rediss://, redis+unix://, redis-sentinel://, redis-cluster:// or embedded://
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Common {
    /// The layers every subcommand shares; more flags may be laid on top.
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

    /// Loads the configuration and starts logging as it says.
    fn load(&self, loader: Loader) -> Result<Loaded, Failure> {
        let loaded = loader.load()?;
        logging::start(&loaded.config.log);
        for note in &loaded.notes {
            tracing::info!("{note}");
        }
        Ok(loaded)
    }

    /// For commands whose own output matters more than the log: only warnings, unless a level was
    /// asked for.
    fn quiet(&self, loader: Loader) -> Loader {
        let asked = self.log_level.is_some() || std::env::var_os("LOG__LEVEL").is_some();
        if asked { loader } else { loader.flag("log.level", LogLevel::Warn.to_string()) }
    }
}

/// Why a subcommand did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the configuration is wrong\n{0}")]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Fault(#[from] Fault),
    /// Nobody reads our output any more; not worth a word.
    #[error("the reader of the output has gone")]
    ReaderGone,
    /// What the reader of the command line says: wrong usage, explained in full.
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

    /// What is said about it, if anything.
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

/// Reads the command line and does what it says.
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
    // The others watch by themselves, for they have something to finish.
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
