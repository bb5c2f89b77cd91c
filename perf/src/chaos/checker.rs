//! The checker: it compares what was sent, the results and the engines' accounts, and uses nothing
//! else.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::archive::Stored;
use super::draw::{Setup, Topology};
use super::engines::Ended;
use super::episode::line_of;
use super::excuses::Excuses;
use super::producer::Sent;

/// Deaths of its engine after which an entry may be given up; `retry_attempts` of the engines.
const DEATHS: u32 = 3;
/// Longest delay between a fault and a commit that it left without an answer, in milliseconds. A
/// full output, for example, delays a commit.
const HELD_UP_MS: u64 = 5_000;
/// Most frames that a finding names.
const NAMED: usize = 30;

/// Classes of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    Lost,
    Doubled,
    OutOfOrder,
    DeadLettered,
    Unknown,
    Unfinished,
    Miscounted,
    Misbehaved,
}

/// A violation that no fault excuses.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub class: Class,
    pub count: u64,
    pub detail: String,
    pub examples: Vec<String>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub entry: String,
    pub frame: String,
    pub reason: String,
}

/// The checker's input.
pub struct Evidence<'a> {
    pub setup: &'a Setup,
    pub sent: &'a [Sent],
    pub results: &'a [Stored],
    pub dead_letters: &'a [DeadLetter],
    pub ended: &'a [Ended],
    pub complaints: &'a [String],
    pub excuses: &'a Excuses,
    /// Work left after everything was healed.
    pub unfinished: Option<String>,
    /// Frames that are still in the input stream.
    pub input_left: &'a HashSet<String>,
}

/// The checker's result.
#[derive(Debug, Default, Serialize)]
pub struct Verdict {
    pub sent: u64,
    /// Of those, frames whose sending had no answer.
    pub sent_perhaps: u64,
    pub out: u64,
    /// Frames without a result that faults removed.
    pub lost_to_faults: u64,
    /// Results beyond the first that faults excuse.
    pub doubled_by_faults: u64,
    pub findings: Vec<Finding>,
}

impl Verdict {
    fn add(&mut self, class: Class, detail: impl Into<String>, examples: Vec<String>) {
        if examples.is_empty() {
            return;
        }
        let count = examples.len() as u64;
        let examples = examples.into_iter().take(NAMED).collect();
        self.findings.push(Finding { class, count, detail: detail.into(), examples });
    }

    /// Number of findings of a class.
    pub fn count(&self, class: Class) -> u64 {
        self.findings.iter().filter(|it| it.class == class).map(|it| it.count).sum()
    }
}

/// Checks all promises.
pub fn check(evidence: &Evidence<'_>) -> Verdict {
    let Evidence { sent, results, .. } = evidence;
    let mut verdict = Verdict {
        sent: sent.len() as u64,
        sent_perhaps: sent.iter().filter(|sent| sent.entry.is_none()).count() as u64,
        out: results.len() as u64,
        ..Verdict::default()
    };
    let mut by_frame: HashMap<&str, Vec<&Stored>> = HashMap::new();
    for stored in *results {
        by_frame.entry(&stored.frame).or_default().push(stored);
    }
    lost(evidence, &by_frame, &mut verdict);
    doubled(evidence, &by_frame, &mut verdict);
    unknown(evidence, &mut verdict);
    order(evidence, &mut verdict);
    dead_letters(evidence, &mut verdict);
    accounts(evidence, &mut verdict);
    let left = evidence.unfinished.iter().cloned().collect();
    verdict.add(Class::Unfinished, "left after everything was healed", left);
    let complaints = evidence.complaints.to_vec();
    verdict.add(Class::Misbehaved, "engines that did what they must not", complaints);
    verdict
}

fn lost(evidence: &Evidence<'_>, out: &HashMap<&str, Vec<&Stored>>, verdict: &mut Verdict) {
    let Evidence { setup, excuses, .. } = evidence;
    let dead: HashSet<&str> = evidence.dead_letters.iter().map(|it| it.frame.as_str()).collect();
    let mut missing = Vec::new();
    for sent in evidence.sent {
        let frame = sent.frame.as_str();
        if out.contains_key(frame) || dead.contains(frame) {
            continue;
        }
        let is_there = evidence.input_left.contains(frame);
        let unreplicated = |&(from, to): &(u64, u64)| sent.answered_ms >= from && sent.at_ms <= to;
        let was_never_there = sent.entry.is_none() && !is_there;
        if was_never_there && (setup.topology != Topology::Single || !excuses.lost.contains(frame))
        {
            continue;
        }
        let excused = sent.is_overwritten
            || excuses.lost.contains(frame)
            || (!is_there && excuses.unreplicated.iter().any(unreplicated));
        if excused {
            verdict.lost_to_faults += 1;
            continue;
        }
        let entry = sent.entry.as_deref().unwrap_or("entry not known");
        let left = if is_there { ", still in the input" } else { "" };
        missing.push(format!("{frame} ({entry}), sent at {} ms{left}", sent.answered_ms));
    }
    verdict.add(Class::Lost, "frames without a result", missing);
}

fn doubled(evidence: &Evidence<'_>, out: &HashMap<&str, Vec<&Stored>>, verdict: &mut Verdict) {
    let Evidence { setup, excuses, .. } = evidence;
    // Every result but the last may be one whose answer was lost.
    let unanswered = |stored: &&&Stored| {
        let at = stored.at_ms;
        setup.delivery == "at_least_once"
            && excuses.unanswered.iter().any(|&(from, to)| at >= from && at <= to + HELD_UP_MS)
    };
    let mut twice = Vec::new();
    for (frame, results) in out {
        let extra = (results.len() - 1) as u32;
        let allowed = excuses.doubled.get(*frame).copied().unwrap_or(0);
        let repeated = results[..results.len() - 1].iter().filter(unanswered).count() as u32;
        let excused = extra.min(allowed + repeated);
        verdict.doubled_by_faults += u64::from(excused);
        if extra > excused {
            let lines: Vec<String> = results.iter().map(|stored| line_of(stored)).collect();
            twice.push(lines.join("; "));
        }
    }
    twice.sort();
    verdict.add(Class::Doubled, "frames with more results than faults excuse", twice);
}

fn unknown(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let sent: HashMap<&str, &Sent> =
        evidence.sent.iter().map(|sent| (sent.frame.as_str(), sent)).collect();
    let is_strange = |stored: &&Stored| match sent.get(stored.frame.as_str()) {
        Some(sent) => sent.entry.as_ref().is_some_and(|entry| *entry != stored.source),
        None => true,
    };
    let strange = evidence.results.iter().filter(is_strange).map(line_of).collect();
    verdict.add(Class::Unknown, "results of frames that were not sent like that", strange);
}

/// With one engine, or with leases, the first results of a camera's frames come in the order of the
/// frames.
fn order(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let is_shared = evidence.setup.assignment == "shared";
    if is_shared && (evidence.setup.engines > 1 || evidence.excuses.reordered) {
        return;
    }
    let places: HashMap<&str, (usize, u64)> =
        evidence.sent.iter().map(|it| (it.frame.as_str(), (it.camera, it.number))).collect();
    let mut newest: HashMap<usize, (u64, &Stored)> = HashMap::new();
    let mut seen = HashSet::new();
    let mut late = Vec::new();
    for stored in evidence.results {
        let Some(&(camera, number)) = places.get(stored.frame.as_str()) else { continue };
        if !seen.insert(&stored.frame) {
            continue;
        }
        match newest.get(&camera) {
            Some((before, other)) if number < *before => {
                late.push(format!("{} after {}", line_of(stored), line_of(other)));
            }
            _ => {
                newest.insert(camera, (number, stored));
            }
        }
    }
    verdict.add(Class::OutOfOrder, "results behind a later one of their camera", late);
}

fn dead_letters(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let deaths = |entry: &String| evidence.excuses.hits.get(entry).copied().unwrap_or(0);
    let is_wrong =
        |letter: &&DeadLetter| letter.reason != "max_deliveries" || deaths(&letter.entry) < DEATHS;
    let wrong = evidence.dead_letters.iter().filter(is_wrong).map(|letter| {
        let DeadLetter { entry, frame, reason } = letter;
        format!("{frame} ({entry}): {reason}; its engine died {} times", deaths(entry))
    });
    verdict.add(
        Class::DeadLettered,
        "frames given up although nothing was wrong with them",
        wrong.collect(),
    );
}

/// Compares the accounts of the engines with the streams.
fn accounts(evidence: &Evidence<'_>, verdict: &mut Verdict) {
    let Evidence { setup, excuses, ended, .. } = evidence;
    let mut wrong = Vec::new();
    for Ended { engine, incarnation, account, at_the_end, .. } in *ended {
        let Some(account) = account else { continue };
        let name = format!("engine {engine} (process {incarnation})");
        if !account.balanced {
            wrong.push(format!("{name}: the sum does not hold: {account:?}"));
        }
        if *at_the_end && account.in_flight > 0 {
            wrong.push(format!("{name}: {} in flight with nothing left to do", account.in_flight));
        }
        // A killed or stopped process counts as another engine for its successor.
        let by_others = excuses.hits.len() as u64;
        if setup.engines == 1 && account.superseded > by_others && !excuses.miscounted {
            wrong.push(format!(
                "{name}: {} finished first by another engine, and {by_others} may have been",
                account.superseded
            ));
        }
    }
    let told: Vec<_> = ended.iter().filter_map(|ended| ended.account).collect();
    let all_told = told.len() == ended.len() && evidence.complaints.is_empty();
    let sum = |of: fn(&super::engines::Account) -> u64| told.iter().map(of).sum::<u64>();
    let (out, results) = (sum(|account| account.out), verdict.out);
    if out > results && !excuses.miscounted {
        wrong.push(format!("the engines count {out} results, there are {results}"));
    }
    // Frames given up at a stop may have been stored, and so may frames in hand when the stream was
    // lost. `at_least_once` counts a frame once that it had to store twice. Frames in hand when a
    // lease was lost may have been stored, too.
    let handed_over = sum(|account| account.handed_over);
    let given_up: u64 = ended
        .iter()
        .filter(|it| !it.at_the_end)
        .filter_map(|it| it.account)
        .map(|it| it.lost)
        .sum();
    let repeated = if setup.delivery == "at_least_once" { verdict.doubled_by_faults } else { 0 };
    let unsure = given_up + handed_over + excuses.untold + repeated;
    if all_told && !excuses.miscounted && out + unsure < results {
        wrong.push(format!(
            "the engines count {out} results and are unsure of {unsure}, there are {results}"
        ));
    }
    let (letters, counted) =
        (evidence.dead_letters.len() as u64, sum(|account| account.dead_lettered));
    if all_told && !excuses.miscounted && letters != counted {
        wrong.push(format!("the engines count {counted} dead letters, there are {letters}"));
    }
    verdict.add(Class::Miscounted, "accounts that are not true", wrong);
}
