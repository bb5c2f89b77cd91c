//! `framepress migrate-config`: converts a configuration of the Kafka version.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::output::out;
use crate::config;

/// Arguments of `migrate-config`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress migrate-config old.yaml > framepress.yaml\n  \
    framepress migrate-config .env > framepress.yaml\n\n\
    The configuration goes to standard output; what has no counterpart is named in its comments\n\
    and on standard error. Passwords are not copied.")]
pub(super) struct MigrateArgs {
    /// A configuration of the Kafka version: YAML, JSON, or an environment file (.env)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let migrated = config::migrate(&args.file)?;
    for line in &migrated.left_out {
        out::remark(format!("not carried over: {line}"));
    }
    out::line(migrated.yaml.trim_end())
}
