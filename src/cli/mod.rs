//! Floor 7: the command line, one file per subcommand.
//!
//! `output` writes and formats; `service` is how the process behaves towards its system: signals,
//! log, notifications to systemd.
//!
//! Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 130 stopped at once by a second
//! signal.

mod common;
mod failure;
mod output;
mod service;

mod bench;
mod bridge;
mod check;
mod client;
mod commands;
mod demo;
mod dlq;
mod generate;
mod health;
mod ingest;
mod inspect;
mod migrate;
mod run;
mod top;
mod tune;
mod typed;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use commands::Cli;
use output::out;
use service::{logging, panics, signals};

/// Parses the command line and runs the subcommand.
pub fn main() -> ExitCode {
    panics::show_cleanly();
    signals::survive_file_limits();
    let typed: Vec<OsString> = std::env::args_os().collect();
    let done = match Cli::try_parse_from(&typed) {
        Ok(cli) => commands::run(cli.command),
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
