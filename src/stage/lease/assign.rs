//! Which engine is to hold which shard. This is a pure function, so that every engine computes the
//! same answer from the same list. If engines see different lists for a moment, no harm is done,
//! because the lease of a shard decides.
//!
//! The result is optimal in two respects, in this order:
//! 1. The loads differ as little as the members' subsets allow; without subsets by at most one.
//! 2. As few shards as possible change their holder.
//!
//! It is a minimum-cost flow: each member's load costs its square, each move costs a little, and
//! negative cycles are removed until there is none (Klein, "A primal method for minimal cost
//! flows", 1967). The graph has one node for each member and one for the loads, so its size does
//! not depend on the number of shards.

/// An engine that may hold shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, by which lists are sorted.
    pub name: String,
    /// The shards that it may hold, in order; `None` for all.
    pub subset: Option<Vec<usize>>,
}

impl Member {
    /// Whether it may hold this shard.
    pub fn may_hold(&self, shard: usize) -> bool {
        self.subset.as_ref().is_none_or(|subset| subset.binary_search(&shard).is_ok())
    }
}

/// Cost of an edge that does not exist.
const NONE: i64 = i64::MAX / 4;

/// For each shard the index of its holder in `members`, which are sorted by name; `None` if no
/// member may hold it. `holders` are the present holders, as indices too.
pub fn assign(members: &[Member], holders: &[Option<usize>]) -> Vec<Option<usize>> {
    let may_hold = |member: usize, shard: usize| {
        members.get(member).is_some_and(|member| member.may_hold(shard))
    };
    let mut found: Vec<Option<usize>> = Vec::with_capacity(holders.len());
    let mut loads = vec![0_i64; members.len()];
    for (shard, holder) in holders.iter().enumerate() {
        let holder = holder.filter(|&member| may_hold(member, shard));
        if let Some(member) = holder {
            loads[member] += 1;
        }
        found.push(holder);
    }
    for (shard, holder) in found.iter_mut().enumerate().filter(|(_, holder)| holder.is_none()) {
        let able = (0..members.len()).filter(|&member| may_hold(member, shard));
        *holder = able.min_by_key(|&member| loads[member]);
        if let Some(member) = *holder {
            loads[member] += 1;
        }
    }
    // Each iteration improves the result; in practice far fewer are needed.
    for _ in 0..4 * (holders.len() + members.len()) {
        let graph = Graph::of(members, holders, &found, &loads);
        let Some(cycle) = graph.negative_cycle() else { break };
        for (from, to) in cycle {
            if let Some(shard) = graph.shard(from, to) {
                found[shard] = Some(to);
                loads[from] -= 1;
                loads[to] += 1;
            }
        }
    }
    found
}

/// The costs of moving one shard from a member to another. The last node stands for the loads: an
/// edge from it takes a shard off a member's load, an edge to it adds one.
struct Graph {
    nodes: usize,
    costs: Vec<i64>,
    /// The shard that is moved along an edge.
    shards: Vec<Option<usize>>,
}

impl Graph {
    fn of(
        members: &[Member],
        holders: &[Option<usize>],
        found: &[Option<usize>],
        loads: &[i64],
    ) -> Graph {
        let nodes = members.len() + 1;
        let mut graph =
            Graph { nodes, costs: vec![NONE; nodes * nodes], shards: vec![None; nodes * nodes] };
        for (shard, from) in found.iter().enumerate() {
            let Some(from) = *from else { continue };
            let moved = |member: usize| i64::from(holders[shard].is_some_and(|own| own != member));
            for to in (0..members.len()).filter(|&to| to != from) {
                let cost = moved(to) - moved(from);
                let edge = graph.edge(from, to);
                if members[to].may_hold(shard) && cost < graph.costs[edge] {
                    graph.costs[edge] = cost;
                    graph.shards[edge] = Some(shard);
                }
            }
        }
        // One step of balance outweighs all moves together.
        let weight = 2 * (i64::try_from(found.len()).unwrap_or(i64::MAX / 8) + 1);
        for (member, load) in loads.iter().enumerate() {
            let (taken, added) = (graph.edge(nodes - 1, member), graph.edge(member, nodes - 1));
            graph.costs[taken] = -weight * load;
            graph.costs[added] = weight * (load + 1);
        }
        graph
    }

    fn edge(&self, from: usize, to: usize) -> usize {
        from * self.nodes + to
    }

    fn shard(&self, from: usize, to: usize) -> Option<usize> {
        self.shards[self.edge(from, to)]
    }

    /// The edges of a cycle of negative cost, found by the algorithm of Bellman and Ford.
    fn negative_cycle(&self) -> Option<Vec<(usize, usize)>> {
        let nodes = self.nodes;
        let (mut costs, mut before) = (vec![0_i64; nodes], vec![0_usize; nodes]);
        let mut last = None;
        for _ in 0..nodes {
            last = None;
            for from in 0..nodes {
                for to in 0..nodes {
                    let cost = self.costs[self.edge(from, to)];
                    if cost < NONE && costs[from] + cost < costs[to] {
                        costs[to] = costs[from] + cost;
                        before[to] = from;
                        last = Some(to);
                    }
                }
            }
        }
        // After this many steps back the node is on the cycle.
        let start = (0..nodes).fold(last?, |node, _| before[node]);
        let mut cycle = Vec::new();
        let mut node = start;
        loop {
            cycle.push((before[node], node));
            node = before[node];
            if node == start {
                return Some(cycle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn members(subsets: &[Option<Vec<usize>>]) -> Vec<Member> {
        let named = subsets.iter().enumerate().map(|(number, subset)| {
            let subset = subset.clone().map(|mut subset| {
                subset.sort_unstable();
                subset.dedup();
                subset
            });
            Member { name: format!("engine-{number}"), subset }
        });
        named.collect()
    }

    fn loads(members: usize, found: &[Option<usize>]) -> Vec<usize> {
        (0..members).map(|it| found.iter().filter(|holder| **holder == Some(it)).count()).collect()
    }

    /// The cost of a result: shards without a holder, the sum of squared loads, the moves.
    fn cost(
        members: usize,
        holders: &[Option<usize>],
        found: &[Option<usize>],
    ) -> (usize, usize, usize) {
        let squares = loads(members, found).iter().map(|load| load * load).sum();
        let is_moved = |(was, is): (&Option<usize>, &Option<usize>)| {
            was.is_some() && is.is_some() && was != is
        };
        let moves = holders.iter().zip(found).filter(|pair| is_moved(*pair)).count();
        let missing = found.iter().filter(|holder| holder.is_none()).count();
        (missing, squares, moves)
    }

    /// The least cost of all allowed results.
    fn least_cost(members: &[Member], holders: &[Option<usize>]) -> (usize, usize, usize) {
        let mut results = vec![Vec::new()];
        for shard in 0..holders.len() {
            let able: Vec<Option<usize>> =
                (0..members.len()).filter(|&it| members[it].may_hold(shard)).map(Some).collect();
            let able = if able.is_empty() { vec![None] } else { able };
            results = results
                .into_iter()
                .flat_map(|result: Vec<Option<usize>>| {
                    able.iter().map(move |it| [result.clone(), vec![*it]].concat())
                })
                .collect();
        }
        results.iter().map(|found| cost(members.len(), holders, found)).min().unwrap()
    }

    fn holder() -> impl Strategy<Value = Option<usize>> {
        option::of(0_usize..4)
    }

    proptest! {
        #[test]
        fn without_subsets_all_is_assigned_and_no_load_exceeds_another_by_two(
            count in 1_usize..8, holders in vec(option::of(0_usize..9), 1..40),
        ) {
            let members = members(&vec![None; count]);
            let found = assign(&members, &holders);
            prop_assert!(found.iter().all(Option::is_some));
            let loads = loads(count, &found);
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        }

        #[test]
        fn no_other_result_is_better_balanced_or_moves_less(
            subsets in vec(option::of(vec(0_usize..5, 0..4)), 1..4), holders in vec(holder(), 0..6),
        ) {
            let members = members(&subsets);
            let kept: Vec<Option<usize>> = holders
                .iter()
                .enumerate()
                .map(|(shard, it)| it.filter(|&it| members.get(it).is_some_and(|m| m.may_hold(shard))))
                .collect();
            let found = assign(&members, &holders);
            prop_assert_eq!(
                cost(members.len(), &kept, &found),
                least_cost(&members, &kept)
            );
        }

        #[test]
        fn what_is_assigned_stays(
            subsets in vec(option::of(vec(0_usize..20, 0..9)), 1..6), holders in vec(holder(), 0..20),
        ) {
            let members = members(&subsets);
            let found = assign(&members, &holders);
            prop_assert_eq!(assign(&members, &found), found);
        }

        #[test]
        fn a_member_that_leaves_moves_only_what_it_had(
            count in 2_usize..6, shards in 1_usize..40, leaves in 0_usize..6,
        ) {
            let leaves = leaves % count;
            let before = assign(&members(&vec![None; count]), &vec![None; shards]);
            let without = |it: usize| (it != leaves).then(|| it - usize::from(it > leaves));
            let holders: Vec<_> = before.iter().map(|it| it.and_then(without)).collect();
            let after = assign(&members(&vec![None; count - 1]), &holders);
            for (was, is) in holders.iter().zip(&after) {
                prop_assert!(was.is_none() || was == is);
            }
        }
    }

    #[test]
    fn no_member_holds_anything_where_there_is_none() {
        assert_eq!(assign(&[], &[None, Some(3)]), [None, None]);
    }
}
