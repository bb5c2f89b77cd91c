//! Output of a run: on the terminal, as JSON, and as the summary of its folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::checker::Class;
use super::episode::Record;
use super::kind::Kind;
use crate::Outcome;
use crate::common::Spread;

/// The whole run.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub seed: u64,
    pub episodes: u64,
    pub seconds: f64,
    pub faults: u64,
    pub faults_by_kind: BTreeMap<String, u64>,
    /// Faults that were impossible, such as one of an engine that did not run.
    pub faults_not_possible: u64,
    pub sent: u64,
    pub out: u64,
    pub lost_to_faults: u64,
    pub doubled_by_faults: u64,
    pub lost: u64,
    pub doubled: u64,
    pub out_of_order: u64,
    pub dead_lettered: u64,
    pub unknown: u64,
    pub unfinished: u64,
    pub miscounted: u64,
    pub misbehaved: u64,
    /// Episodes with findings.
    pub bad_episodes: Vec<u64>,
    pub good: bool,
    /// Milliseconds without results in each kind of failover.
    pub outage_ms: BTreeMap<String, Spread>,
    /// What was not done, and why.
    pub skipped: Vec<String>,
}

impl Figures {
    pub fn of(seed: u64, seconds: f64, records: &[Record], skipped: Vec<String>) -> Figures {
        let sum = |of: &dyn Fn(&Record) -> u64| records.iter().map(of).sum::<u64>();
        let found = |class: Class| sum(&|record| record.verdict.count(class));
        let begun =
            || records.iter().flat_map(|record| &record.log).filter(|line| line.what == "begin");
        let mut faults_by_kind = BTreeMap::new();
        for line in begun() {
            *faults_by_kind.entry(line.kind.name()).or_default() += 1;
        }
        let bad = records.iter().filter(|record| !record.verdict.findings.is_empty());
        let bad_episodes: Vec<u64> = bad.map(|record| record.setup.episode).collect();
        Figures {
            seed,
            episodes: records.len() as u64,
            seconds,
            faults: begun().count() as u64,
            faults_by_kind,
            faults_not_possible: begun()
                .filter(|line| line.note.starts_with("not possible"))
                .count() as u64,
            sent: sum(&|record| record.verdict.sent),
            out: sum(&|record| record.verdict.out),
            lost_to_faults: sum(&|record| record.verdict.lost_to_faults),
            doubled_by_faults: sum(&|record| record.verdict.doubled_by_faults),
            lost: found(Class::Lost),
            doubled: found(Class::Doubled),
            out_of_order: found(Class::OutOfOrder),
            dead_lettered: found(Class::DeadLettered),
            unknown: found(Class::Unknown),
            unfinished: found(Class::Unfinished),
            miscounted: found(Class::Miscounted),
            misbehaved: found(Class::Misbehaved),
            good: bad_episodes.is_empty(),
            bad_episodes,
            outage_ms: outages(records),
            skipped,
        }
    }

    /// The report text of the run.
    pub fn text(&self) -> Outcome<String> {
        let mut text = String::from("## Chaos\n\n");
        writeln!(
            text,
            "Seed {}: {} faults of {} kinds in {} episodes, {:.0} s.\n",
            self.seed,
            self.faults,
            self.faults_by_kind.len(),
            self.episodes,
            self.seconds
        )?;
        text.push_str("| what | frames |\n| --- | --- |\n");
        let rows = [
            ("sent", self.sent),
            ("results", self.out),
            ("taken away by faults", self.lost_to_faults),
            ("results beyond the first that faults excuse", self.doubled_by_faults),
            ("**lost**", self.lost),
            ("**doubled**", self.doubled),
            ("**out of order**", self.out_of_order),
            ("**given up (dead letters)**", self.dead_lettered),
            ("**unknown**", self.unknown),
            ("**accounts that are not true**", self.miscounted),
            ("**episodes that were not finished**", self.unfinished),
            ("**engines that ended or hung**", self.misbehaved),
        ];
        for (what, count) in rows {
            writeln!(text, "| {what} | {count} |")?;
        }
        text.push_str("\n| fault | times |\n| --- | --- |\n");
        for kind in Kind::all() {
            if let Some(count) = self.faults_by_kind.get(&kind.name()) {
                writeln!(text, "| {} | {count} |", kind.name())?;
            }
        }
        if !self.outage_ms.is_empty() {
            text.push_str("\n| failover | ms without results: least | median | most |\n");
            text.push_str("| --- | --- | --- | --- |\n");
        }
        for (kind, Spread { min, median, max }) in &self.outage_ms {
            writeln!(text, "| {kind} | {min:.0} | {median:.0} | {max:.0} |")?;
        }
        for skipped in &self.skipped {
            writeln!(text, "\nSkipped: {skipped}.")?;
        }
        let verdict = if self.good { "Nothing" } else { "Something" };
        writeln!(text, "\n{verdict} happened that no fault excuses.")?;
        if !self.good {
            writeln!(text, "\nSeed {}, episodes {:?}.", self.seed, self.bad_episodes)?;
        }
        Ok(text)
    }
}

fn outages(records: &[Record]) -> BTreeMap<String, Spread> {
    let mut by_kind: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for outage in records.iter().flat_map(|record| &record.outages) {
        by_kind.entry(outage.kind.name()).or_default().push(outage.ms as f64);
    }
    by_kind.into_iter().map(|(kind, all)| (kind, Spread::of(all))).collect()
}

/// One line about an episode.
pub fn line(record: &Record) -> String {
    let Record { setup, verdict, .. } = record;
    let clocks = if setup.clocks { ", clocks" } else { "" };
    let full = if setup.output_limit > 0 { ", output_full: block" } else { "" };
    let ring = if setup.ring == "none" { String::new() } else { format!(", {} ring", setup.ring) };
    let begun = record.log.iter().filter(|line| line.what == "begin").count();
    format!(
        "episode {} ({:?}, {} engines, {}, {}, {}, {}, {} cameras{full}{clocks}{ring}): {begun} faults, {} sent, \
         {} out, {} lost and {} doubled by faults, {:.1} s of which {:.1} s to finish: {}",
        setup.episode,
        setup.topology,
        setup.engines,
        setup.assignment,
        setup.delivery,
        setup.retention,
        setup.codec,
        setup.cameras,
        verdict.sent,
        verdict.out,
        verdict.lost_to_faults,
        verdict.doubled_by_faults,
        record.seconds,
        record.drain_seconds,
        if verdict.findings.is_empty() { "good" } else { "NOT good" }
    )
}

/// Details for examining an episode with findings.
pub fn findings(seed: u64, record: &Record) -> Outcome<String> {
    let mut text = String::new();
    writeln!(text, "seed {seed}, episode {}: {:?}", record.setup.episode, record.setup)?;
    for line in &record.log {
        writeln!(text, "  {}", line.text())?;
    }
    for finding in &record.verdict.findings {
        writeln!(text, "  {:?}: {} {}", finding.class, finding.count, finding.detail)?;
        for example in &finding.examples {
            writeln!(text, "    {}", example.replace('\n', "\n    "))?;
        }
    }
    for ended in &record.ended {
        let (engine, incarnation) = (ended.engine, ended.incarnation);
        writeln!(text, "  engine {engine} ({incarnation}), {}: {:?}", ended.status, ended.account)?;
    }
    Ok(text)
}
