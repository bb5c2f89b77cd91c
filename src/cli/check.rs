//! `framepress check`: what is in order, what is not, and what to do about it.

use std::time::Duration;

use clap::Args;

use super::{Common, Failure};
use crate::base::{Fault, Stop, threads};
use crate::config::{Config, OutputFull};
use crate::engine::{self, Hooks, Plan};
use crate::image;
use crate::redis::Control;

/// Oldest server that can do all that is asked of it: XPENDING with IDLE.
const OLDEST_SERVER: (u32, u32) = (6, 2);

/// First server that tells the lag of a group.
const LAG_SERVER: (u32, u32) = (7, 0);

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  framepress check --config framepress.yaml\n\n\
    Exit code 1 when something would keep the engine from working.")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    common: Common,
    /// Show the whole configuration as it takes effect
    #[arg(long)]
    show_config: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Good,
    Warning,
    Broken,
}

#[derive(Debug, Default)]
struct Findings {
    broken: usize,
    warnings: usize,
}

impl Findings {
    fn say(&mut self, grade: Grade, what: impl std::fmt::Display) {
        let mark = match grade {
            Grade::Good => "ok     ",
            Grade::Warning => "warning",
            Grade::Broken => "broken ",
        };
        self.warnings += usize::from(grade == Grade::Warning);
        self.broken += usize::from(grade == Grade::Broken);
        println!("{mark}  {what}");
    }
}

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let loaded = args.common.load(args.common.quiet(args.common.loader()))?;
    let config = loaded.config;
    let mut findings = Findings::default();
    findings.say(Grade::Good, "the configuration is valid");
    for note in &loaded.notes {
        findings.say(Grade::Warning, note);
    }
    if args.show_config {
        println!("\n{}", config.to_yaml());
    }
    machine(&mut findings, &config);
    if let Err(fault) = redis(&mut findings, &config) {
        findings.say(Grade::Broken, fault);
    }
    println!("\n{} broken, {} warnings", findings.broken, findings.warnings);
    if findings.broken > 0 {
        return Err(Fault::Unusable("the engine would not work as configured".into()).into());
    }
    Ok(())
}

fn machine(findings: &mut Findings, config: &Config) {
    match image::supported_cpu() {
        Ok(()) => findings.say(Grade::Good, format!("codecs: {}", simd())),
        Err(fault) => findings.say(Grade::Broken, fault),
    }
    let cores = threads::allowed_cores();
    let workers = config.engine.workers.or(threads::parallelism());
    findings.say(Grade::Good, format!("{} cores may be used, {workers} workers", cores.len()));
    if workers > cores.len() {
        findings.say(
            Grade::Warning,
            format!(
                "engine.workers is {workers}, but only {} cores may be used: workers would take \
                 turns; set engine.workers to auto",
                cores.len()
            ),
        );
    }
}

/// What the SIMD code of the codecs finds on this processor.
fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") {
            return "libjpeg-turbo with AVX2";
        }
        "libjpeg-turbo with SSE2"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "libjpeg-turbo with NEON"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "libjpeg-turbo"
    }
}

fn redis(findings: &mut Findings, config: &Config) -> Result<(), Fault> {
    let (topology, _embedded) = engine::find_server(&config.redis_queue, &Stop::default())?;
    let plan = Plan::new(config, &topology, &Hooks::default());
    let mut control = Control::new(&topology, Duration::from_secs(config.redis_queue.timeout))?;
    control.ping()?;
    let server = control.info("server")?;
    let text = server.get("redis_version").cloned().unwrap_or_default();
    let mut numbers = text.split('.').map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    findings.say(Grade::Good, format!("Redis {text} answers at {topology}"));
    if version < OLDEST_SERVER {
        findings.say(
            Grade::Broken,
            format!("Redis {text} is too old: 6.2 or newer is needed to find stale entries"),
        );
    } else if version < LAG_SERVER {
        findings.say(
            Grade::Warning,
            format!("Redis {text} does not tell the lag of a group; 7.0 or newer does"),
        );
    }

    let replication = control.info("replication")?;
    if replication.get("role").is_some_and(|role| role != "master") {
        findings.say(
            Grade::Broken,
            format!("{topology} is a replica: it cannot be written to; name the primary"),
        );
    }
    memory(findings, &mut control, config)?;
    for [input, output, dead_letter] in &plan.streams {
        for key in [input, output, dead_letter] {
            match control.kind(key)?.as_str() {
                "stream" => {
                    let length = control.length(key)?;
                    findings.say(Grade::Good, format!("{key}: a stream of {length} entries"));
                }
                "none" => findings.say(Grade::Good, format!("{key}: will be created")),
                other => findings.say(
                    Grade::Broken,
                    format!("{key}: a {other}, not a stream; choose another name"),
                ),
            }
        }
        let groups = control.groups(input)?;
        if let Some(group) = groups.iter().find(|group| group.name == plan.group) {
            let lag = group.lag.map_or_else(|| "unknown".into(), |lag| lag.to_string());
            findings.say(
                Grade::Good,
                format!("group {}: {} pending, lag {lag}", group.name, group.pending),
            );
        }
    }
    Ok(())
}

fn memory(findings: &mut Findings, control: &mut Control, config: &Config) -> Result<(), Fault> {
    // CONFIG is often forbidden on servers run by others: then there is less to say, no more.
    let Ok(Some(policy)) = control.setting("maxmemory-policy") else {
        findings.say(
            Grade::Warning,
            "the server does not show its settings; make sure that maxmemory-policy is noeviction",
        );
        return Ok(());
    };
    let limit: u64 = control.setting("maxmemory")?.and_then(|text| text.parse().ok()).unwrap_or(0);
    if policy != "noeviction" {
        findings.say(
            Grade::Warning,
            format!(
                "maxmemory-policy is {policy}: Redis may evict a whole stream when memory is \
                 short; CONFIG SET maxmemory-policy noeviction"
            ),
        );
    } else {
        findings.say(Grade::Good, "maxmemory-policy is noeviction");
    }
    if limit == 0 {
        findings.say(
            Grade::Warning,
            "maxmemory is not set: a backlog of frames may take all memory of the machine",
        );
    }
    if config.redis_queue.output_full == OutputFull::TrimOldest {
        findings.say(
            Grade::Good,
            format!(
                "{}: the oldest results are trimmed beyond about {} entries",
                config.redis_queue.output_queue, config.redis_queue.max_queue_length
            ),
        );
    }
    Ok(())
}
