//! The subcommands and their arguments.

use clap::{CommandFactory as _, Parser, Subcommand};

use super::failure::Failure;
use super::service::signals::SignalWatch;
use super::{
    bench, bridge, check, demo, dlq, generate, health, ingest, inspect, migrate, run, top, tune,
};

/// Reads camera frames from a Redis stream and writes analysed, compressed protobuf results.
#[derive(Debug, Parser)]
#[command(name = "framepress", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Examples:\n  \
    framepress demo                                   the whole system at work for 20 seconds\n  \
    framepress check --config framepress.yaml         is everything in order?\n  \
    framepress run --config framepress.yaml           the engine, until stopped\n  \
    framepress top                                    live figures of a running engine")]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
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

/// Runs the subcommand.
pub(super) fn run(command: Command) -> Result<(), Failure> {
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
        Command::Completions(args) => generate::completions(&args, Cli::command()),
        Command::Man(args) => generate::man(&args, Cli::command()),
    }
}
