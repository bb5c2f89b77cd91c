//! `all`: every measurement, one after the other, into one folder.

use std::time::Instant;

use clap::Args;

use crate::Outcome;
use crate::folder::RunArgs;

#[derive(Args, Clone)]
pub struct AllArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Minutes of the soak
    #[arg(long, default_value_t = 3.0)]
    pub minutes: f64,
    /// A minute or two, to check that everything works; the figures are not meaningful
    #[arg(long)]
    pub quick: bool,
}

/// Runs each part like its own command line; a missed goal does not end the run.
pub fn run(args: &AllArgs, dispatch: impl Fn(Vec<String>) -> Outcome<bool>) -> Outcome<bool> {
    let folder = args.run.folder()?;
    let out = folder.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let bin = args.run.bin.to_string_lossy().into_owned();
    let minutes = if args.quick { 0.2 } else { args.minutes }.to_string();
    // Extra arguments of each part in a quick run.
    let parts = [
        ("floor", "--rounds 2 --frames 80"),
        ("peers", "--rounds 1 --seconds 1 --size 640x480"),
        ("latency", "--seconds 2 --full-seconds 1 --full-runs 1 --percent 50 --size 640x480"),
        ("scale", "--seconds 1 --cameras 1,10 --sizes 320x240,640x480 --batches 1,20"),
        ("soak", "--size 640x480 --rate 20"),
        ("compare", "--seconds 1 --rounds 1"),
    ];
    let mut met = true;
    let mut failed = Vec::new();
    for (part, quick) in parts {
        let began = Instant::now();
        let mut words = vec!["framepress-perf".to_owned(), part.to_owned()];
        words.extend(["--out".to_owned(), out.clone()]);
        if part != "floor" {
            words.extend(["--bin".to_owned(), bin.clone()]);
        }
        if part == "soak" {
            words.extend(["--minutes".to_owned(), minutes.clone()]);
        }
        if args.quick {
            words.extend(quick.split_whitespace().map(str::to_owned));
        }
        println!("\n=== {part}");
        match dispatch(words) {
            Ok(good) => met &= good,
            Err(error) => {
                eprintln!("{part} failed: {error}");
                failed.push(part);
            }
        }
        println!("=== {part} took {:.0} s", began.elapsed().as_secs_f64());
    }
    println!("\nwritten to {out}/summary.md");
    if failed.is_empty() { Ok(met) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}
