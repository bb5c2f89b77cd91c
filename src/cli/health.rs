//! `framepress health`: checks whether an engine on this machine is alive, for containers and
//! scripts without an HTTP client.

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::output::out;
use crate::base::Fault;

/// Arguments of `health`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    framepress health\n  \
    framepress health --ready --url http://127.0.0.1:8081\n\n\
    Prints the answer of the statistics server. Exit codes: 0 alive (or ready), 1 not alive (or\n\
    not ready), or no answer within two seconds. Needs no token. Works for `run`, `ingest` and\n\
    `bridge`, if they serve statistics.")]
pub(super) struct HealthArgs {
    /// URL of the statistics server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Ask /readyz (connected and working) instead of /livez
    #[arg(long)]
    ready: bool,
}

pub(super) fn run(args: &HealthArgs) -> Result<(), Failure> {
    let client = Client::new(&args.url, None)?;
    let path = if args.ready { "/readyz" } else { "/livez" };
    match client.get(path).map_err(Fault::Unusable)? {
        (200, text) => out::line(text.trim_end()),
        (status, text) => {
            let why = format!("{}{path}: status {status}: {}", client.shown(), text.trim());
            Err(Fault::Unusable(why).into())
        }
    }
}
