//! Random choices before an episode begins: its setup, its faults and their times.

use clap::ValueEnum;
use framepress::internals::instruments::Size;
use serde::Serialize;

use super::cost::Cost;
use super::kind::{Kind, Lane};
use crate::common::Chance;

/// How long the system is left alone at the beginning, in milliseconds.
const CALM_MS: u64 = 400;
/// Longest time between the beginnings of two faults, in milliseconds.
const GAP_MS: u64 = 650;
/// Time between the end of a fault and the next one in its lane, in milliseconds.
const REST_MS: u64 = 120;

/// How the servers are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One server
    Single,
    /// A primary, two replicas, three Sentinels
    Sentinel,
    /// Three nodes of a Cluster
    Cluster,
}

/// Setup of an episode.
#[derive(Clone, Debug, Serialize)]
pub struct Setup {
    pub episode: u64,
    pub topology: Topology,
    pub engines: usize,
    /// Whether one engine at a time reads the stream, under a lease, or all of them.
    pub assignment: &'static str,
    /// Whether pixels lie in a ring, and how its slots are reused: `none`, `freshest` or
    /// `lossless`.
    pub ring: &'static str,
    pub delivery: &'static str,
    pub retention: &'static str,
    pub codec: &'static str,
    pub size: Size,
    pub cameras: usize,
    /// Frames per second at most.
    pub rate: u64,
    /// Frames sent at once.
    pub burst: u64,
    /// Most frames waiting or in work; beyond that the producer pauses.
    pub backlog: u64,
    /// `output_full: block` at this many results; 0 for an output without a limit.
    pub output_limit: u64,
    /// Whether clocks can be set, for which libfaketime is loaded into all processes.
    pub clocks: bool,
    /// Whether only faults that keep the data are drawn.
    pub keeps_data: bool,
    pub claim_idle_ms: u64,
    /// Between the engines and a server without Sentinels or nodes.
    pub round_trip_ms: u64,
    pub timeout_s: u64,
    pub batch_size: u64,
    pub drain_timeout_ms: u64,
}

/// A planned fault.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Planned {
    pub at_ms: u64,
    pub lasts_ms: u64,
    pub kind: Kind,
    /// The engine concerned, if the fault concerns one.
    pub engine: usize,
    /// Random parameter of the fault: how many, which ones, how far.
    pub pick: u64,
}

/// Command-line settings for all episodes.
#[derive(Clone, Debug)]
pub struct Wishes {
    pub topologies: Vec<Topology>,
    pub only: Vec<Kind>,
    pub engines: Option<usize>,
    pub assignment: Option<String>,
    pub ring: Option<String>,
    pub delivery: Option<String>,
    pub has_clocks: bool,
    pub faults_per_episode: u64,
}

/// Draws an episode. The result depends only on the seed, the number and the wishes.
pub fn episode(seed: u64, number: u64, wishes: &Wishes) -> (Setup, Vec<Planned>) {
    // Mix first: with consecutive numbers as seeds, the generators would follow one sequence.
    let mixed = Chance::new(number).below(u64::MAX);
    let mut chance = Chance::new(seed ^ mixed);
    let mut setup = setup(&mut chance, number, wishes);
    // A separate generator, so that the rest of an episode is the same in both modes.
    setup.assignment = match wishes.assignment.as_deref() {
        Some("exclusive") => "exclusive",
        Some(_) => "shared",
        None => one_of(&mut Chance::new(seed ^ mixed ^ 1), &["exclusive", "shared"]),
    };
    let drawn =
        one_of(&mut Chance::new(seed ^ mixed ^ 2), &["none", "none", "freshest", "lossless"]);
    setup.ring = match wishes.ring.as_deref() {
        Some("none") => "none",
        Some("freshest") => "freshest",
        Some(_) => "lossless",
        None => drawn,
    };
    if setup.ring == "lossless" {
        match setup.topology {
            // In this topology nothing may be removed from the streams.
            Topology::Sentinel => setup.ring = "freshest",
            Topology::Single | Topology::Cluster => setup.retention = "delete",
        }
    }
    let plan = plan(&mut chance, &setup, wishes);
    (setup, plan)
}

fn one_of<T: Copy>(chance: &mut Chance, choices: &[T]) -> T {
    choices[chance.below(choices.len() as u64) as usize]
}

fn setup(chance: &mut Chance, number: u64, wishes: &Wishes) -> Setup {
    let at = number.saturating_sub(1) as usize % wishes.topologies.len();
    let topology = wishes.topologies[at];
    let single = topology == Topology::Single;
    let drawn = one_of(chance, &[1, 1, 1, 2, 2, 3]);
    let engines = wishes.engines.unwrap_or(drawn);
    let delivery =
        one_of(chance, &["exactly_once", "exactly_once", "exactly_once", "at_least_once"]);
    let delivery = match wishes.delivery.as_deref() {
        Some("at_least_once") => "at_least_once",
        Some(_) => "exactly_once",
        None => delivery,
    };
    let retention = one_of(chance, &["keep", "delete", "trim_acked"]);
    let slow = chance.below(3) == 0;
    let blocks = chance.below(3) == 0 || wishes.only.contains(&Kind::OutputFull);
    let clocks = chance.below(3) == 0 && single && wishes.has_clocks;
    let rate = if slow { 200 } else { one_of(chance, &[100, 250, 1_000]) };
    // In other topologies, results are unknown before the end.
    let (rate, backlog) = match (single, slow) {
        (true, true) => (rate, 40),
        (true, false) => (rate, 80),
        (false, true) => (15, u64::MAX),
        (false, false) => (100, u64::MAX),
    };
    Setup {
        episode: number,
        topology,
        engines,
        assignment: "shared",
        ring: "none",
        delivery,
        // After a failover, the streams of the new primary show what happened to each frame, as
        // long as nothing is removed from them.
        retention: if topology == Topology::Sentinel { "keep" } else { retention },
        codec: if slow { "webp" } else { "jpeg" },
        size: if slow { Size::VGA } else { Size { width: 320, height: 240 } },
        cameras: one_of(chance, &[1, 2, 4, 8]),
        burst: one_of(chance, &[1, 10, 40]),
        rate,
        backlog,
        output_limit: if blocks && single { 60 } else { 0 },
        clocks,
        keeps_data: chance.below(2) == 0,
        claim_idle_ms: one_of(chance, &[1_000, 1_500, 2_000]),
        round_trip_ms: match topology {
            // Half of these episodes have no delay.
            Topology::Single => one_of(chance, &[0, 0, 10, 50]),
            Topology::Sentinel | Topology::Cluster => 0,
        },
        timeout_s: one_of(chance, &[2, 3, 5]),
        batch_size: one_of(chance, &[1, 8, 20, 50]),
        drain_timeout_ms: one_of(chance, &[500, 2_000, 5_000]),
    }
}

/// Kinds that an episode with this setup can have, each as often as its weight says.
fn bag(setup: &Setup, wishes: &Wishes) -> Vec<Kind> {
    let possible = |kind: &Kind| {
        let wanted = wishes.only.is_empty() || wishes.only.contains(kind);
        let safe = !setup.keeps_data || Cost::of(*kind).keeps_data() || !wishes.only.is_empty();
        let failover = setup.topology == Topology::Sentinel;
        let clocked = setup.clocks || !matches!(kind, Kind::ClockOfEngine | Kind::ClockOfServer);
        let full = setup.output_limit > 0 || *kind != Kind::OutputFull;
        kind.is_of(setup.topology) && wanted && (safe || failover) && clocked && full
    };
    let kinds = Kind::all().iter().copied().filter(possible);
    kinds.flat_map(|kind| vec![kind; kind.weight(setup.topology)]).collect()
}

fn plan(chance: &mut Chance, setup: &Setup, wishes: &Wishes) -> Vec<Planned> {
    let few = if setup.topology == Topology::Sentinel { 3 } else { 1 };
    let count = (wishes.faults_per_episode / few).max(1);
    let mut bag_left = Vec::new();
    // When each lane is free again: the server, the consumer, then processes, then connections.
    let mut free_at = vec![CALM_MS; 2 + 2 * setup.engines];
    let mut cursor = CALM_MS;
    let mut planned = Vec::new();
    while (planned.len() as u64) < count {
        if bag_left.is_empty() {
            bag_left = bag(setup, wishes);
            if bag_left.is_empty() {
                break;
            }
        }
        let drawn = chance.below(bag_left.len() as u64) as usize;
        let kind = bag_left.swap_remove(drawn);
        let engine = chance.below(setup.engines as u64) as usize;
        let (least, most) = kind.lasts(setup.claim_idle_ms);
        let lasts_ms = least + chance.below(most - least + 1);
        let lane = match kind.lane() {
            Lane::Server => 0,
            Lane::Consumer => 1,
            Lane::Process => 2 + engine,
            Lane::Network => 2 + setup.engines + engine,
        };
        cursor += 30 + chance.below(GAP_MS);
        let at_ms = cursor.max(free_at[lane]);
        free_at[lane] = at_ms + lasts_ms + REST_MS;
        planned.push(Planned { at_ms, lasts_ms, kind, engine, pick: chance.below(1 << 32) });
    }
    planned.sort_by_key(|planned| planned.at_ms);
    planned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(topologies: &[Topology]) -> Wishes {
        Wishes {
            topologies: topologies.to_vec(),
            only: Vec::new(),
            engines: None,
            assignment: None,
            ring: None,
            delivery: None,
            has_clocks: true,
            faults_per_episode: 30,
        }
    }

    #[test]
    fn an_episode_depends_on_its_seed_and_number_alone() {
        let wishes = wishes(&[Topology::Single]);
        let text = |seed, number| format!("{:?}", episode(seed, number, &wishes));
        assert_eq!(text(7, 3), text(7, 3));
        assert_ne!(text(7, 3), text(7, 4));
        assert_ne!(text(7, 3), text(8, 3));
    }

    #[test]
    fn a_run_draws_every_kind_that_its_topologies_have() {
        use Topology::{Cluster, Sentinel, Single};
        let wishes = wishes(&[Single, Sentinel, Single, Cluster]);
        let drawn = |number| episode(1, number, &wishes).1.into_iter().map(|fault| fault.kind);
        let all: std::collections::BTreeSet<Kind> = (1..=60).flat_map(drawn).collect();
        assert_eq!(all.len(), Kind::all().len());
    }

    #[test]
    fn an_episode_that_keeps_the_data_has_no_fault_that_does_not() {
        let wishes = wishes(&[Topology::Single]);
        for (setup, plan) in (1..=40).map(|number| episode(1, number, &wishes)) {
            let keeps = |fault: &Planned| Cost::of(fault.kind).keeps_data();
            assert!(!setup.keeps_data || plan.iter().all(keeps));
        }
    }
}
