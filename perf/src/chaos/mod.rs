//! `chaos`: random faults under load. It checks that frames are not lost, not doubled, in order and
//! counted, except for each fault's permitted cost.
//!
//! A run consists of episodes. Each draws from the seed its setup (engines, delivery, retention,
//! codec, servers), and which faults happen when. The engines are the real program, the servers are
//! separate processes, and a proxy stands between them. The checker reads only the streams and the
//! engines' accounts; `cost` defines what each fault may cost. The seed and the number of an
//! episode replay it, as far as threads allow.

mod archive;
mod checker;
mod clock;
mod cost;
mod draw;
mod engines;
mod episode;
mod excuses;
mod kind;
mod names;
mod nemesis;
mod node;
mod producer;
mod report;
mod snapshot;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};

use self::draw::{Topology, Wishes};
use self::kind::Kind;
use self::report::Figures;
use crate::Outcome;
use crate::common::seed_of_now;
use crate::folder::{self, Folder};

/// Faults of a single-server episode, if that many are left.
const FAULTS_PER_EPISODE: u64 = 30;

/// Topologies of a run.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Where {
    Single,
    Sentinel,
    Cluster,
    /// All of them, mostly a single server
    All,
}

#[derive(Args)]
pub struct ChaosArgs {
    /// Seed of the random choices [default: the clock; always printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Faults over all episodes
    #[arg(long, default_value_t = 60)]
    faults: u64,
    /// Run only this episode of the seed
    #[arg(long)]
    episode: Option<u64>,
    /// How the servers are arranged
    #[arg(long, default_value = "single")]
    topology: Where,
    /// Draw only from these kinds of fault
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Number of engines [default: one to three at random]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=8))]
    engines: Option<u32>,
    /// exclusive or shared [default: random]
    #[arg(long, value_parser = ["exclusive", "shared"])]
    assignment: Option<String>,
    /// Pixels through Redis (none) or in a ring [default: random]
    #[arg(long, value_parser = ["none", "freshest", "lossless"])]
    ring: Option<String>,
    /// exactly_once or at_least_once [default: random]
    #[arg(long, value_parser = ["exactly_once", "at_least_once"])]
    delivery: Option<String>,
    /// End after the first episode with a finding
    #[arg(long)]
    first: bool,
    /// The program to test
    #[arg(long, default_value = "target/release/framepress")]
    bin: PathBuf,
    /// Write everything that happened here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the run into this folder, like a measured run
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keep the engines' output here
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
}

pub fn run(args: &ChaosArgs) -> Outcome<bool> {
    if !args.bin.is_file() {
        return Err(format!("no program at {}; see --bin", args.bin.display()).into());
    }
    let seed = args.seed.unwrap_or_else(seed_of_now);
    println!("seed {seed}, {} faults", args.faults);
    let mut skipped = Vec::new();
    let has_clocks = clock::is_installed();
    if !has_clocks {
        skipped.push(
            "steps of the clock, for libfaketime is missing (apt-get install faketime)".to_owned(),
        );
        eprintln!("SKIPPED: {}", skipped[0]);
    }
    use Topology::{Cluster, Sentinel, Single};
    let wishes = Wishes {
        topologies: match args.topology {
            Where::Single => vec![Single],
            Where::Sentinel => vec![Sentinel],
            Where::Cluster => vec![Cluster],
            Where::All => vec![Single, Single, Sentinel, Single, Single, Cluster],
        },
        only: args.only.clone(),
        engines: args.engines.map(|engines| engines as usize),
        assignment: args.assignment.clone(),
        ring: args.ring.clone(),
        delivery: args.delivery.clone(),
        has_clocks,
        faults_per_episode: FAULTS_PER_EPISODE,
    };
    let began = Instant::now();
    let mut records = Vec::new();
    let mut faults = 0;
    let mut number = args.episode.unwrap_or(1);
    while faults < args.faults {
        let (setup, plan) = draw::episode(seed, number, &wishes);
        if plan.is_empty() {
            return Err("none of these faults can happen there".into());
        }
        let record = episode::run(&setup, &plan, &args.bin, args.logs.as_deref())
            .map_err(|error| format!("seed {seed}, episode {number}: {error}"))?;
        faults += plan.len() as u64;
        println!("{}", report::line(&record));
        record.notes.iter().for_each(|note| println!("note: {note}"));
        let good = record.verdict.findings.is_empty();
        if !good {
            print!("{}", report::findings(seed, &record)?);
        }
        records.push(record);
        if args.episode.is_some() || (args.first && !good) {
            break;
        }
        number += 1;
    }
    let figures = Figures::of(seed, began.elapsed().as_secs_f64(), &records, skipped);
    let whole = serde_json::json!({ "figures": figures, "episodes": records });
    if let Some(path) = &args.json {
        std::fs::write(path, folder::rows(&whole)?)?;
    }
    match &args.out {
        Some(out) => {
            Folder::open(out.clone(), &args.bin)?.part("chaos", &whole, &figures.text()?)?
        }
        None => println!("\n{}", figures.text()?),
    }
    Ok(figures.good)
}
