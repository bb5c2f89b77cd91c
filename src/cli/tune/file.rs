//! Writes the resulting configuration file: all keys, with the measured results as comments above
//! their keys.

use std::fmt::Write as _;

use super::TuneArgs;
use super::trial::{TrialComparison, TrialVerdict, Trials};
use crate::config::Config;
use crate::instruments::machine;

/// The text of the file. Everything else stays as configured, but secrets are not written.
pub(super) fn text(
    best: &Config,
    asked: &Config,
    args: &TuneArgs,
    trials: &Trials,
    found: &[TrialComparison],
) -> String {
    let mut text = String::new();
    let mut comment = |line: &str| {
        // Writing to memory cannot fail.
        let _ = writeln!(text, "#{}{line}", if line.is_empty() { "" } else { " " });
    };
    let goal = format!("{:?}", args.goal).to_lowercase();
    comment(&format!("Written by framepress tune --goal {goal} --size {}.", args.size));
    let about = machine();
    let word = |key: &str| about[key].to_string().trim_matches('"').to_owned();
    comment(&format!("Machine: {}, {} cores, {}.", word("cpu"), word("cores"), word("system")));
    comment(&format!(
        "{:?} frames of {} cameras. As it was before: {}, p50 {:.1} ms at full load.",
        args.input,
        args.cameras,
        trials.first(),
        trials.first().p50_ms
    ));
    comment(
        "Candidates alternated with the setting so far, and were chosen only if better each time",
    );
    comment("and by more than the noise of the other. \"Times as good\" refers to the goal.");
    comment(
        "One engine uses all cores: run one on each machine; more of them only share these cores.",
    );
    text.push('\n');

    for line in best.to_yaml().lines() {
        let key = line.trim_start().split(':').next().unwrap_or_default();
        for comparison in found {
            if comparison.knob.ends_with(&format!(".{key}")) && line.starts_with("  ") {
                let _ = writeln!(text, "  # {comparison}");
            }
        }
        let queue = &asked.redis_queue;
        let secret = match key {
            "url" if queue.url.to_string() != queue.url.expose() => Some("REDIS_QUEUE__URL"),
            "sentinel_password" if queue.sentinel_password.is_some() => {
                Some("REDIS_QUEUE__SENTINEL_PASSWORD")
            }
            "token" if asked.stats.token.is_some() => Some("STATS__TOKEN"),
            _ => None,
        };
        if let Some(variable) = secret {
            let _ = writeln!(text, "  # Secrets are not written here: set {variable}.");
            let _ = writeln!(text, "  #{}", &line[1..]);
        } else {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// The changed settings, for the terminal.
pub(super) fn changes(found: &[TrialComparison]) -> String {
    let taken =
        found.iter().filter(|comparison| matches!(comparison.verdict, TrialVerdict::Better(_)));
    let lines: Vec<String> = taken.map(|comparison| format!("  {comparison}")).collect();
    if lines.is_empty() {
        "nothing was better than the configuration as it is, beyond the noise".into()
    } else {
        format!("changed:\n{}", lines.join("\n"))
    }
}
