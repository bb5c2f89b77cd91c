//! `framepress check`: reports what is in order, what is not, why it matters, and what to do.
//!
//! Facts are gathered first, from the server ([`Survey`]) and from this machine. Each file here
//! judges one subject with plain functions from facts to findings.

mod cameras;
mod distance;
mod finding;
mod kafka;
mod keys;
mod machine;
mod memory;
mod rights;
mod rings;
mod server;
mod show;
mod timing;

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::common::Common;
use super::failure::Failure;
use super::output::terminal::Stream;
use super::output::{out, terminal};
use crate::base::{Fault, Stop};
use crate::config::{Config, Origin, Retention, Scheme};
use crate::engine::{self, Hooks, Plan};
use crate::redis::Survey;
use crate::redis::check::rights::{Account, Usage, When, is_unknown_command};
use finding::{Finding, Severity};

/// Maximum wait for one answer, because a user is waiting.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  framepress check --config framepress.yaml\n  \
    framepress check --for ingest --redis-url redis://camera:secret@10.0.0.1\n  \
    framepress check --show-acl\n\n\
    Exit codes: 0 no error, 1 at least one error, 2 the configuration is wrong.")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    common: Common,
    /// Show the effective configuration
    #[arg(long)]
    show_config: bool,
    /// Print the ACL SETUSER lines with the minimal rights this configuration needs, and exit
    #[arg(long)]
    show_acl: bool,
    /// Check the rights of the account that runs this subcommand. With ingest, each camera of the
    /// configuration is opened once; with bridge, the brokers are asked
    #[arg(long = "for", value_enum, value_name = "SUBCOMMAND", default_value = "run")]
    account: AccountArg,
    /// Print one JSON object instead of text; docs/check.md describes its form
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AccountArg {
    Run,
    Ingest,
    Inspect,
    Dlq,
    Bridge,
}

impl AccountArg {
    fn account(self) -> Account {
        match self {
            AccountArg::Run => Account::Engine,
            AccountArg::Ingest => Account::Producer,
            AccountArg::Inspect => Account::Inspect,
            AccountArg::Dlq => Account::DeadLetters,
            AccountArg::Bridge => Account::Bridge,
        }
    }
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let loaded = match args.common.load(args.common.quiet(args.common.loader())) {
        Ok(loaded) => loaded,
        Err(Failure::Config(error)) => {
            if args.json {
                out::json(&format!("{:#}", show::faults_json(&error)))?;
            }
            return Err(error.into());
        }
        Err(failure) => return Err(failure),
    };
    let config = loaded.config;
    if args.show_acl {
        for account in Account::ALL {
            out::line(usage(&config, account).setuser(account.subcommand()))?;
        }
        return Ok(());
    }
    let mut findings = vec![Finding::ok("configuration.valid", "the configuration is valid")];
    findings.extend(loaded.notes.iter().map(|note| Finding::note("configuration.note", note)));
    if args.show_config && !args.json {
        out::line(format!("{}{}", config.to_yaml(), origins(&loaded.origins)))?;
    }
    let endpoint = examine(&mut findings, &config, args.account.account());
    if matches!(args.account, AccountArg::Ingest) {
        findings.extend(cameras::judge(&config));
    }
    if matches!(args.account, AccountArg::Bridge) {
        findings.extend(kafka::judge(&config));
    }
    let broken = show::count(&findings, Severity::Error);
    if args.json {
        let code = u8::from(broken > 0);
        out::json(&format!("{:#}", show::json(&findings, endpoint.as_deref(), code)))?;
    } else {
        out::coloured(&show::text(&findings, terminal::colours(Stream::Output)))?;
    }
    match broken {
        0 => Ok(()),
        _ => Err(Fault::Unusable(
            "check has found errors; Framepress cannot work as configured".into(),
        )
        .into()),
    }
}

/// The origins of all values that are not built in, as comments after the configuration.
fn origins(origins: &[(String, String, Origin)]) -> String {
    if origins.is_empty() {
        return "\n# every value is built in\n".into();
    }
    let mut text = "\n# Where values came from; all others are built in.\n".to_owned();
    for (key, typed, origin) in origins {
        let by = if key == typed { String::new() } else { format!(", as {typed}") };
        text.push_str(&format!("# {key}: {origin}{by}\n"));
    }
    text
}

/// Runs all checks. Returns the address of the server, if one was found.
fn examine(findings: &mut Vec<Finding>, config: &Config, account: Account) -> Option<String> {
    findings.extend(timing::judge(config));
    let url = &config.redis_queue.url;
    let (topology, _embedded) = match engine::find_server(&config.redis_queue, &Stop::default()) {
        Ok(found) => found,
        Err(fault) => {
            findings.push(unreachable(&fault));
            return None;
        }
    };
    let endpoint = topology.to_string();
    let plan = Plan::new(config, &topology, &Hooks::default());
    let local = machine::is_local(&endpoint);
    findings.extend(machine::judge(&machine::Machine::look(), &plan, config, local));
    if local {
        findings.extend(rings::judge(config));
    }
    let usage = usage(config, account);
    let timeout = Duration::from_secs(config.redis_queue.timeout).min(ANSWER_LIMIT);
    match Survey::take(&topology, &usage, timeout) {
        Ok(survey) => {
            findings.extend(server::judge(&survey, config, &endpoint));
            findings.push(distance::judge(survey.round_trip, config));
            findings.extend(memory::judge(&survey));
            findings.extend(rights::judge(&survey, &usage, url.username().unwrap_or("default")));
            findings.extend(keys::judge(&survey, config));
            if local {
                findings.extend(rings::gain(&survey));
            }
        }
        // Without SELECT no connection can be opened, so nothing else can be checked.
        Err(Fault::Refused { command: "SELECT", message, .. })
            if message.contains("'select'") || is_unknown_command(&message) =>
        {
            let user = url.username().unwrap_or("default");
            findings.push(rights::no_select(&usage, user, &message));
        }
        Err(fault) => findings.push(unreachable(&fault)),
    }
    Some(endpoint)
}

fn unreachable(fault: &Fault) -> Finding {
    let (why, remedy) = match fault {
        Fault::Refused { .. } => (
            "the server answers, but refuses the login",
            "check user and password in redis_queue.url, and ACL LIST on the server",
        ),
        Fault::Connection { detail, .. } if detail.contains("max number of clients") => (
            "all connections that the server allows are in use; the engine keeps trying",
            "raise maxclients (CONFIG SET maxclients), or close clients in CLIENT LIST that are \
             not needed",
        ),
        Fault::Connection { .. } => (
            "without the server the engine cannot read frames",
            "check that redis-server runs at this address, and that bind and firewalls allow \
             connections",
        ),
        _ => ("without a server the engine cannot read frames", "correct redis_queue.url"),
    };
    Finding::error("server.reachable", fault.to_string()).why(why).mend(remedy)
}

/// What an account does on the server under this configuration.
fn usage(config: &Config, account: Account) -> Usage {
    let queue = &config.redis_queue;
    let scheme = queue.url.scheme();
    let shows_cameras = matches!(account, Account::Engine | Account::Producer)
        && config.cameras.iter().any(|camera| camera.enabled && camera.has_source());
    let conditions = [
        (When::Database, queue.url.database() != 0),
        (When::Delete, queue.retention == Retention::Delete),
        (When::TrimAcked, queue.retention == Retention::TrimAcked),
        (When::Sentinel, scheme == Scheme::Sentinel || !queue.sentinel_nodes.is_empty()),
        (When::Cluster, scheme == Scheme::Cluster),
        (When::Exclusive, queue.is_exclusive()),
        (When::LosslessRing, account == Account::Producer && config.has_lossless_ring()),
        (When::WaitReplicas, queue.wait_replicas > 0),
        (When::Cameras, shows_cameras),
    ];
    Usage {
        account,
        streams: engine::all_streams(config),
        group: queue.consumer_group.clone(),
        database: queue.url.database(),
        conditions: conditions.iter().filter(|(_, is)| *is).map(|(when, _)| *when).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;
    use crate::redis::check::survey::{ConsumerFacts, GroupFacts, Info, KeyState, Settings};
    use crate::redis::{Greeting, Streams, Version};

    pub(super) fn config(flags: &[(&str, &str)]) -> Config {
        let loader =
            flags.iter().fold(Loader::new(), |loader, (key, value)| loader.flag(*key, *value));
        loader.load().unwrap().config
    }

    pub(super) fn usage_of(config: &Config) -> Usage {
        usage(config, Account::Engine)
    }

    /// A server without anything to report, with a running engine.
    pub(super) fn healthy() -> Survey {
        let key =
            |name: String| KeyState { name, kind: Some("stream".into()), ..KeyState::default() };
        let reader = ConsumerFacts { name: "host-0".into(), ..ConsumerFacts::default() };
        Survey {
            greeting: Greeting {
                server: "redis".into(),
                version: Version(7, 2, 4),
                mode: "standalone".into(),
            },
            clock_ahead_seconds: Some(0.001),
            round_trip: Duration::from_micros(80),
            info: Some(Info {
                role: "master".into(),
                aof: true,
                aof_write_ok: true,
                snapshot_ok: true,
                memory_bytes: 1 << 30,
                memory_bytes_max: 8 << 30,
                policy: "noeviction".into(),
                system_bytes: 32 << 30,
                backlog_bytes: 256 << 20,
                ..Info::default()
            }),
            settings: Some(Settings {
                save: "3600 1".into(),
                appendfsync: "everysec".into(),
                stop_writes: true,
                bulk_bytes_max: 512 << 20,
                query_bytes_max: 1 << 30,
                keepalive_seconds: 60,
                ..Settings::default()
            }),
            streams: vec![Streams::new("camera_frames", "processed_frames").map(key)],
            holders: vec![None],
            groups: vec![Some(GroupFacts {
                lag: Some(0),
                consumers: vec![reader],
                ..GroupFacts::default()
            })],
            missing: Vec::new(),
        }
    }
}
