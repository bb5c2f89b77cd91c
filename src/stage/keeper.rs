//! The keeper: lists this engine as present, renews its leases, and decides which shards it is to
//! hold. All of that takes one round trip to each server.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::threads::{LoopHook, Role};
use crate::base::{Fault, Stop};
use crate::metrics::Counter;
use crate::metrics::clock::Tick;
use crate::redis::{LeaseAsk, LeaseClient, LeaseState, Members, Presence, Topology};
use crate::stage::group::Groups;
use crate::stage::lease::Leases;
use crate::stage::lease::assign::{Member, assign};
use crate::stage::retry::Attempts;

/// Shortest time between renewals, unless half of the lease is shorter.
const RENEWAL_MIN: Duration = Duration::from_millis(500);

/// How long the keeper waits for a change before it checks the stop signal again.
const SLICE: Duration = Duration::from_millis(200);

/// Shortest time between the beginnings of two rounds.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// Lower bound of the time-out for an answer.
const TIMEOUT_MIN: Duration = Duration::from_millis(500);

/// The time-out while the round trips to the servers are unknown.
const TIMEOUT_FIRST: Duration = Duration::from_secs(5);

/// Round trips that fit into the time-out.
const TIMEOUT_TRIPS: u32 = 4;

/// If a stream is free for this many lease lengths, any engine takes it: the engine that is to hold
/// it cannot, for a reason that the others do not see.
const LEFT_LYING: u32 = 2;

/// For how many lease lengths such a stream is then kept.
const KEPT: u32 = 15;

/// What the keeper needs to know.
#[derive(Clone, Debug)]
pub struct KeeperSettings {
    /// Where Redis is.
    pub topology: Topology,
    /// The names of the list of engines and of the stream that announces its changes.
    pub engines: [String; 2],
    /// The keys of the leases of all shards, held here or not.
    pub keys: Arc<[String]>,
    /// The shards that this engine may hold, in the order of its streams.
    pub own: Vec<usize>,
    /// Whether to go on after a lost connection.
    pub retry: bool,
    /// The loop hook, called at each loop iteration.
    pub loop_hook: LoopHook,
}

/// The name under which an engine is listed and holds leases. It is unique to this start and
/// contains the shards that the engine may hold.
pub fn member_name(consumer: &str, unique: &str, subset: Option<&[usize]>) -> String {
    let consumer = consumer.replace(['~', '/'], "_");
    match subset {
        None => format!("{consumer}~{unique}"),
        Some(subset) => {
            let numbers: Vec<String> = subset.iter().map(usize::to_string).collect();
            format!("{consumer}~{unique}/{}", numbers.join(","))
        }
    }
}

/// The member behind a name. A name of another form may hold nothing.
fn member_of(name: &str) -> Member {
    let subset = match name.rsplit_once('~') {
        None => Some(Vec::new()),
        Some((_, rest)) => rest.split_once('/').map(|(_, numbers)| {
            let mut subset: Vec<usize> =
                numbers.split(',').filter_map(|number| number.parse().ok()).collect();
            subset.sort_unstable();
            subset
        }),
    };
    Member { name: name.to_owned(), subset }
}

/// What is known of one shard.
#[derive(Clone, Copy, Debug, Default)]
struct SeenShard {
    /// Since when no engine has held it.
    free_since: Option<Tick>,
    /// Until when it is kept although another engine is assigned.
    kept_until: Option<Tick>,
    /// When a server that did not answer is asked again.
    asked_again: Option<Tick>,
}

/// The keeper, ready to run.
#[derive(Debug)]
pub struct LeaseKeeper {
    settings: KeeperSettings,
    client: LeaseClient,
    /// Longest wait for an answer.
    timeout: Duration,
    leases: Arc<Leases>,
    groups: Arc<Groups>,
    /// The holder of each shard, for the dashboard.
    holders: Arc<Mutex<Vec<String>>>,
    seen: Vec<SeenShard>,
    stop: Stop,
}

impl LeaseKeeper {
    /// A keeper that keeps `holders` up to date as well.
    ///
    /// # Errors
    /// As [`LeaseClient::new`].
    pub fn new(
        settings: KeeperSettings,
        leases: Arc<Leases>,
        groups: Arc<Groups>,
        holders: Arc<Mutex<Vec<String>>>,
        stop: Stop,
    ) -> Result<LeaseKeeper, Fault> {
        let (terms, engines) = (leases.terms().clone(), settings.engines.clone());
        let timeout = TIMEOUT_FIRST;
        let client = LeaseClient::new(&settings.topology, terms, engines, timeout)?;
        let seen = vec![SeenShard::default(); settings.keys.len()];
        Ok(LeaseKeeper { settings, client, timeout, leases, groups, holders, seen, stop })
    }

    /// Keeps the leases until draining has begun and every lease has been given back.
    ///
    /// # Errors
    /// With `retry` off, the first fault.
    pub fn run(mut self) -> Result<(), Fault> {
        let longest = self.settings.topology.pause_longest();
        let mut attempts = Attempts::new("renewing the leases", longest);
        while !self.stop.is_now() && (!self.stop.is_draining() || self.leases.count() > 0) {
            self.settings.loop_hook.call(Role::Lease);
            let began = Tick::now();
            match self.round() {
                Ok((members, pause)) => {
                    attempts.succeeded();
                    self.leases.set_trouble(None);
                    self.fit_timeout()?;
                    self.wait(&members, began, pause);
                }
                Err(fault) => {
                    self.leases.set_trouble(Some(fault.to_string()));
                    attempts.failed(&fault);
                    if !self.settings.retry {
                        return Err(fault);
                    }
                    attempts.pause(&self.stop, true);
                }
            }
        }
        let _ = self.client.round(Presence::Gone, &[]);
        Ok(())
    }

    /// Sets the time-out. A silent server must not delay the renewal of other leases, but a distant
    /// server needs time to answer.
    fn fit_timeout(&mut self) -> Result<(), Fault> {
        let length = self.leases.terms().length;
        let far = self.leases.trip_longest() * TIMEOUT_TRIPS;
        let timeout = (length / 2).max(TIMEOUT_MIN).max(far);
        // A new client costs a connection, so make one only for a large change.
        if timeout > self.timeout || timeout < self.timeout / 2 {
            let (terms, engines) = (self.leases.terms().clone(), self.settings.engines.clone());
            self.client = LeaseClient::new(&self.settings.topology, terms, engines, timeout)?;
            self.timeout = timeout;
        }
        Ok(())
    }

    /// Time between two renewals.
    fn interval(&self) -> Duration {
        let length = self.leases.terms().length;
        (length / 3).max(RENEWAL_MIN).min(length / 2)
    }

    /// One round: returns the engines that are present, and how long the next round can wait.
    /// Leases whose servers have answered are handled even if other servers fail.
    fn round(&mut self) -> Result<(Members, Duration), Fault> {
        let is_leaving = self.stop.is_draining();
        let presence = if is_leaving { Presence::Gone } else { Presence::Here };
        let asked: Vec<usize> = (0..self.settings.keys.len())
            .filter(|&shard| self.seen[shard].asked_again.is_none_or(|at| at <= Tick::now()))
            .collect();
        let keys = Arc::clone(&self.settings.keys);
        let asks: Vec<(&str, LeaseAsk, Duration)> = asked
            .iter()
            .map(|&shard| {
                let ask = match self.own(shard) {
                    Some(own) => self.leases.ask(own, || self.groups.handover(own)),
                    None => LeaseAsk::Look,
                };
                let length = self.own(shard).map(|own| self.leases.length(own));
                let length = length.unwrap_or(self.leases.terms().length);
                (keys[shard].as_str(), ask, length)
            })
            .collect();
        let sent = Tick::now();
        let (members, answers) = self.client.round(presence, &asks);
        let asks: Vec<_> = asks.into_iter().map(|(_, ask, length)| (ask, length)).collect();
        let mut states = vec![None; self.settings.keys.len()];
        let mut first = None;
        for ((shard, (ask, length)), answer) in asked.into_iter().zip(asks).zip(answers) {
            match answer {
                Ok(state) => {
                    self.seen[shard].asked_again = None;
                    self.take_answer(shard, &ask, &state, (sent, length));
                    states[shard] = Some(state);
                }
                // Waiting for one server must not keep the others' leases from being renewed.
                Err(fault) => {
                    let pause = self.leases.terms().length / 2;
                    self.seen[shard].asked_again = Some(Tick::now().after(pause));
                    first.get_or_insert(fault);
                }
            }
        }
        let members = members?;
        self.leases.set_present(&members.names);
        self.decide(&members, &states, is_leaving);
        match first {
            Some(fault) if states.iter().all(Option::is_none) => Err(fault),
            Some(fault) => {
                tracing::debug!("cannot ask every server about its leases: {fault}");
                Ok((members, self.pause(&states)))
            }
            None => Ok((members, self.pause(&states))),
        }
    }

    /// The index of a shard among this engine's streams.
    fn own(&self, shard: usize) -> Option<usize> {
        self.settings.own.iter().position(|own| *own == shard)
    }

    fn take_answer(
        &self,
        shard: usize,
        ask: &LeaseAsk,
        state: &LeaseState,
        sent: (Tick, Duration),
    ) {
        let Some(own) = self.own(shard) else { return };
        match *ask {
            LeaseAsk::Renew(epoch, _) if state.done => self.leases.renewed(own, epoch, sent),
            LeaseAsk::Renew(epoch, _) => {
                if self.groups.end_tenure(own, epoch, Counter::LeasesLost) {
                    tracing::warn!(
                        "this engine lost the lease of {} and stops reading it; the present holder \
                         is {:?}",
                        self.settings.keys[shard],
                        state.holder
                    );
                }
                self.leases.seen(own, state);
            }
            _ => self.leases.seen(own, state),
        }
    }

    /// Decides which shards this engine is to hold.
    fn decide(&mut self, members: &Members, states: &[Option<LeaseState>], is_leaving: bool) {
        let (length, caller) = (self.leases.terms().length, &self.leases.terms().holder);
        let mut engines: Vec<Member> = members.names.iter().map(|name| member_of(name)).collect();
        engines.sort_by(|one, other| one.name.cmp(&other.name));
        engines.dedup_by(|one, other| one.name == other.name);
        let holders: Vec<Option<&str>> = states
            .iter()
            .map(|state| {
                let state = state.as_ref().filter(|state| !state.left.is_zero() || state.done);
                state.map(|state| state.holder.as_str()).filter(|holder| !holder.is_empty())
            })
            .collect();
        let place = |name: &&str| engines.iter().position(|engine| engine.name == *name);
        let present: Vec<Option<usize>> =
            holders.iter().map(|holder| holder.as_ref().and_then(place)).collect();
        let assigned = assign(&engines, &present);
        let me = place(&caller.as_str());
        for (shard, seen) in self.seen.iter_mut().enumerate() {
            let is_free = holders[shard].is_none() && states[shard].is_some();
            seen.free_since = is_free.then(|| seen.free_since.unwrap_or_else(Tick::now));
            let Some(own) = self.settings.own.iter().position(|own| *own == shard) else {
                continue;
            };
            let is_lying =
                seen.free_since.is_some_and(|since| since.elapsed() > LEFT_LYING * length);
            if is_lying && assigned[shard] != me {
                seen.kept_until = Some(Tick::now().after(KEPT * length));
            }
            let is_kept = seen.kept_until.is_some_and(|until| until > Tick::now());
            let is_assigned = me.is_some() && assigned[shard] == me;
            self.leases.want(own, !is_leaving && (is_assigned || is_kept));
        }
        *self.holders.lock() =
            holders.iter().map(|holder| holder.unwrap_or_default().to_owned()).collect();
    }

    /// Time until the next renewal, or until the first lease of another engine may end.
    fn pause(&self, states: &[Option<LeaseState>]) -> Duration {
        let caller = &self.leases.terms().holder;
        let others = states.iter().flatten().filter(|state| state.holder != *caller);
        let ends = others.map(|state| state.left).filter(|left| !left.is_zero());
        let first = ends.min().map_or(Duration::MAX, |left| left + Duration::from_millis(2));
        self.interval().min(first).max(PAUSE_MIN)
    }

    /// Waits for the next round: until `pause` after the last one began, or until a change is
    /// announced.
    fn wait(&mut self, members: &Members, began: Tick, pause: Duration) {
        let was_leaving = self.stop.is_draining();
        loop {
            let left = pause.saturating_sub(began.elapsed());
            if left.is_zero() || self.stop.is_now() || self.stop.is_draining() != was_leaving {
                return;
            }
            if was_leaving {
                self.stop.sleep_unless_now(left.min(PAUSE_MIN));
                if self.leases.count() == 0 {
                    return;
                }
                continue;
            }
            match self.client.await_change(members.last_change, left.min(SLICE)) {
                Ok(false) => {}
                Ok(true) => return,
                Err(fault) => {
                    tracing::debug!("cannot wait for a change of the list of engines: {fault}");
                    self.stop.sleep(left.min(SLICE));
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_shards_its_engine_may_hold() {
        let all = member_of(&member_name("box~7/a", "1f", None));
        assert_eq!(all.subset, None);
        let some = member_of(&member_name("box", "1f", Some(&[0, 12])));
        assert_eq!(some.subset, Some(vec![0, 12]));
        assert_eq!(member_of("a stranger").subset, Some(Vec::new()));
    }
}
