//! Explores the model exhaustively: with all safeguards no invariant breaks; without any one of
//! them an invariant breaks.
#![allow(missing_docs)]

use framepress_lease_model::{Event, Limits, Safeguards, World};
use stateright::{Checker, Model, Property};

struct Explored {
    engines: u8,
    limits: Limits,
    safeguards: Safeguards,
}

impl Model for Explored {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.engines)]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Event>) {
        actions.extend(state.events(self.limits, self.safeguards));
    }

    fn next_state(&self, state: &World, action: Event) -> Option<World> {
        Some(state.after(action, self.limits, self.safeguards))
    }

    fn within_boundary(&self, state: &World) -> bool {
        state.server.epoch <= self.limits.epochs
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "results are in order, and each entry has one at most",
                |_, world: &World| world.is_ordered(),
            ),
            Property::always(
                "what was delivered has a result or is pending",
                |_, world: &World| world.is_complete(),
            ),
            Property::always("no entry is overtaken", |_, world: &World| world.is_none_overtaken()),
            Property::sometimes("all entries have results", |model: &Explored, world: &World| {
                world.is_done(model.limits)
            }),
        ]
    }
}

/// One kind of fault at a time; together they would take hours.
const TROUBLES: [(&str, Limits); 3] = [
    ("failover", Limits { entries: 2, epochs: 2, failovers: 1, crashes: 0, losses: 0 }),
    ("crash", Limits { entries: 2, epochs: 2, failovers: 0, crashes: 1, losses: 0 }),
    ("lost connection", Limits { entries: 2, epochs: 2, failovers: 0, crashes: 0, losses: 1 }),
];

/// One exploration at a time: each keeps millions of states in memory.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// The broken invariant, and the first kind of fault that breaks one.
fn broken(safeguards: Safeguards) -> Option<(&'static str, &'static str)> {
    let _alone = ALONE.lock();
    TROUBLES.into_iter().find_map(|(trouble, limits)| {
        let checker = Explored { engines: 2, limits, safeguards }
            .checker()
            .threads(2)
            .finish_when(stateright::HasDiscoveries::AnyFailures)
            .spawn_bfs()
            .join();
        let found = checker.discoveries();
        let broken = found.keys().find(|name| **name != "all entries have results").copied();
        let states = checker.unique_state_count();
        println!("{trouble}: {broken:?} in {states} states, with {safeguards:?}");
        broken.map(|name| (trouble, name))
    })
}

#[test]
fn with_all_safeguards_no_invariant_breaks() {
    let _alone = ALONE.lock();
    for (trouble, limits) in TROUBLES {
        let safeguards = Safeguards::ALL;
        let checker =
            Explored { engines: 2, limits, safeguards }.checker().threads(2).spawn_bfs().join();
        println!("{trouble}: {} states", checker.unique_state_count());
        checker.assert_properties();
    }
}

/// With `delivery: at_least_once` each result is still stored once.
#[test]
fn leases_alone_keep_results_single_and_in_order() {
    let safeguards = Safeguards { pending_fence: false, ..Safeguards::ALL };
    assert_eq!(broken(safeguards), None);
}

/// The pending fence alone already fences commits, so the lease fence is only missed without it.
#[test]
fn each_safeguard_is_missed() {
    let all = Safeguards::ALL;
    let without = [
        Safeguards { fenced_commits: false, pending_fence: false, ..all },
        Safeguards { fenced_reads: false, ..all },
        Safeguards { connection_ends_tenure: false, ..all },
        Safeguards { pending_first: false, ..all },
    ];
    for safeguards in without {
        assert!(broken(safeguards).is_some(), "{safeguards:?}");
    }
}
