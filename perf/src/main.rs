//! Measurements of Framepress' speed and reliability on this machine.
//!
//! Each subcommand starts its own redis-server, on a Unix socket in a temporary folder, and
//! compares only what it has measured in the same run.
#![allow(clippy::disallowed_methods)] // measurements read the clock directly

mod all;
mod bytes;
mod chaos;
mod cite;
mod common;
mod compare;
mod distance;
mod floor;
mod folder;
mod latency;
mod load;
mod migration;
mod path;
mod peers;
mod plot;
mod scale;
mod server;
mod shards;
mod soak;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The allocator of the program `framepress`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An error ends the program with its message.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures Framepress against the floor of its work, and disturbs it to see what is lost
#[derive(Parser)]
#[command(name = "framepress-perf", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All measurements into one folder: floor, peers, latency, scale, soak, profiles
    All(all::AllArgs),
    /// CPU per frame of the engine against that of the unavoidable work alone
    Floor(floor::FloorArgs),
    /// Size, CPU and similarity of every format, quality and effort, compared with Pillow
    Bytes(bytes::BytesArgs),
    /// Random faults under load: nothing lost, doubled, reordered or miscounted
    Chaos(chaos::ChaosArgs),
    /// Frames per second through a Cluster, by number of shards
    Shards(shards::ShardsArgs),
    /// Latency at shares of the measured maximum, without coordinated omission
    Latency(latency::LatencyArgs),
    /// The engine compared with Python and Node programs that do the same work
    Peers(peers::PeersArgs),
    /// Throughput by workers, cameras, frame size and batch size
    Scale(scale::ScaleArgs),
    /// The engine far from its Redis, and behind a narrow link
    Distance(distance::DistanceArgs),
    /// Cost of a frame in producer, Redis and engine, with pixels through Redis or in a ring
    Path(path::PathArgs),
    /// Kafka and Python, Framepress, and both with the bridge between them
    Migration(migration::MigrationArgs),
    /// Memory and latency over time
    Soak(soak::SoakArgs),
    /// The shipped profiles, or two builds of the engine, measured alternately
    Compare(compare::CompareArgs),
    /// Put the tables of a run into a text such as perf/runs/README.md
    Cite(cite::CiteArgs),
    /// Part of a load: adds frames
    #[command(hide = true)]
    Feed(load::feed::FeedArgs),
    /// Part of a load: reads results
    #[command(hide = true)]
    Collect(load::collect::CollectArgs),
}

fn main() -> ExitCode {
    match dispatch(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3), // measured, and a goal was missed
        Err(error) => {
            eprintln!("framepress-perf: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Outcome<bool> {
    match cli.command {
        Command::All(args) => all::run(&args, |words| dispatch(Cli::try_parse_from(words)?)),
        Command::Floor(args) => floor::run(&args),
        Command::Bytes(args) => bytes::run(&args),
        Command::Chaos(args) => chaos::run(&args),
        Command::Shards(args) => shards::run(&args),
        Command::Latency(args) => latency::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Distance(args) => distance::run(&args),
        Command::Path(args) => path::run(&args),
        Command::Migration(args) => migration::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Cite(args) => cite::run(&args),
        Command::Feed(args) => load::feed::run(&args),
        Command::Collect(args) => load::collect::run(&args),
    }
}
