//! Finds the primary through Sentinels.
//!
//! Specification: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>. Every
//! question has a time-out. A Sentinel that does not answer moves to the end of the list, so a dead
//! or silent one costs a single time-out. A Sentinel's answer is believed only if the named server
//! confirms it: `Connection::connect` asks for its ROLE.
//!
//! A replaced primary does not always say so. After an ordered failover it accepts writes for about
//! ten seconds, and these are lost; one whose host has lost power says nothing at all. So a
//! [`Lookout`] asks the Sentinels periodically on a separate thread, and no frame ever waits for a
//! Sentinel. When it finds another primary, every connection to the old one is closed within a
//! tick, even while it waits for an answer. Without a [`Lookout`], a caller that asks for the
//! primary also asks the Sentinels.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::{FromRedisValue, cmd};

use super::Topology;
use crate::base::threads::{self, Identity, Role, Running};
use crate::base::{Fault, Stop, limits};
use crate::metrics::clock::Tick;
use crate::redis::protocol::Address;
use crate::redis::protocol::connection::Connection;

/// Longest wait for one Sentinel.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How often to ask again about a healthy primary if there is no [`Lookout`].
const LOOK: Duration = Duration::from_secs(1);

/// The same after a Sentinel did not answer: waiting for it delays frames.
const LOOK_AFTER_SILENCE: Duration = Duration::from_secs(10);

pub(super) struct Sentinels {
    service: String,
    /// A server with the credentials and TLS settings of the primary.
    like: Address,
    timeout: Duration,
    stop: Stop,
    state: Mutex<SentinelState>,
    /// Number of running [`Lookout`] threads. Not in `state`, which is locked while a thread
    /// connects: a thread that ends must not wait for that.
    lookouts: AtomicUsize,
}

struct SentinelState {
    /// The Sentinel that answered last comes first.
    sentinels: Vec<Address>,
    /// The last known primary.
    primary: Option<Address>,
    /// A caller had trouble with the primary: ask the Sentinels again.
    is_doubted: bool,
    look_at: Tick,
}

impl SentinelState {
    /// Takes over an answer. If the primary has changed, callers with the old address are told.
    fn settle(&mut self, named: Address, service: &str) -> Address {
        self.is_doubted = false;
        self.look_at = Tick::now().after(LOOK);
        match &self.primary {
            Some(known) if known.is_at(&named) => return known.clone(),
            Some(known) => {
                tracing::info!("the primary {service} has moved to {named}");
                known.set_replaced();
            }
            None => tracing::info!("the primary {service} is at {named}"),
        }
        self.primary = Some(named.clone());
        named
    }

    /// Moves a Sentinel to the end of the list if it is still the first.
    fn pass_over(&mut self, sentinel: &Address) {
        if self.sentinels.first().is_some_and(|first| first.is_at(sentinel)) {
            self.sentinels.rotate_left(1);
        }
    }
}

impl Sentinels {
    pub(super) fn new(
        service: String,
        sentinels: Vec<Address>,
        like: Address,
        timeout: Duration,
        stop: &Stop,
    ) -> Sentinels {
        let state = Mutex::new(SentinelState {
            sentinels,
            primary: None,
            is_doubted: false,
            look_at: Tick::now(),
        });
        let timeout = timeout.min(ANSWER_LIMIT);
        let lookouts = AtomicUsize::new(0);
        Sentinels { service, like, timeout, stop: stop.clone(), state, lookouts }
    }

    /// The known primary, or the one named by the first Sentinel that answers. Other callers wait
    /// for the same answer.
    pub(super) fn primary(&self) -> Result<Address, Fault> {
        let mut state = self.state.lock();
        if let Some(known) = state.primary.clone().filter(|_| !state.is_doubted) {
            let is_unwatched = self.lookouts.load(Ordering::Relaxed) == 0;
            let is_due = is_unwatched && Tick::now() >= state.look_at;
            if !is_due || self.stop.is_draining() {
                return Ok(known);
            }
            return Ok(self.look_again(&mut state, known));
        }
        let mut faults = Vec::new();
        for _ in 0..state.sentinels.len() {
            match self.ask(&state.sentinels[0]) {
                Ok(named) => return Ok(state.settle(named, &self.service)),
                Err(fault) => faults.push(fault),
            }
            state.sentinels.rotate_left(1);
            if self.stop.is_now() {
                break;
            }
        }
        Err(self.no_primary(faults))
    }

    /// Asks again about a primary that seems well. Returns it, or the one that replaced it in an
    /// ordered failover.
    fn look_again(&self, state: &mut SentinelState, known: Address) -> Address {
        match self.ask(&state.sentinels[0]) {
            Ok(named) => state.settle(named, &self.service),
            Err(fault) => {
                tracing::warn!("{fault}");
                state.sentinels.rotate_left(1);
                state.look_at = Tick::now().after(LOOK_AFTER_SILENCE);
                known
            }
        }
    }

    /// Asks the Sentinels one after the other, until one answers, whether the primary has changed.
    /// Only the calling thread waits. `open` is the connection to the Sentinel that answered the
    /// last time.
    fn look_out(&self, open: &mut Option<Connection>, until: &Stop) {
        let (sentinels, known) = {
            let state = self.state.lock();
            (state.sentinels.clone(), state.primary.clone())
        };
        let Some(known) = known else { return }; // the first caller asks
        for sentinel in &sentinels {
            if until.is_now() {
                return;
            }
            let kept = open.take().filter(|kept| kept.address().is_at(sentinel));
            let asked = match kept {
                Some(kept) => Ok(kept),
                None => Connection::connect(sentinel, self.timeout, None, until),
            };
            let answer = asked.and_then(|mut asked| Ok((self.named_by(&mut asked)?, asked)));
            match answer {
                Ok((named, asked)) => {
                    if named.is_at(&known) || self.take_over(named, until) {
                        *open = Some(asked);
                        return;
                    }
                }
                Err(fault) => tracing::debug!("cannot ask a Sentinel for the primary: {fault}"),
            }
            self.state.lock().pass_over(sentinel);
        }
    }

    /// Takes over a new primary if that server confirms its role: an isolated Sentinel may name an
    /// outdated one.
    fn take_over(&self, named: Address, until: &Stop) -> bool {
        let confirmed = Connection::connect(&named, self.timeout, None, until);
        match &confirmed {
            Ok(_) => {
                self.state.lock().settle(named, &self.service);
            }
            Err(fault) => tracing::debug!(
                "a Sentinel named a primary {} that does not confirm its role: {fault}",
                self.service
            ),
        }
        confirmed.is_ok()
    }

    /// Doubts the primary at `at`: the answer was wrong, or the server is gone. With `was_wrong`,
    /// another Sentinel is asked next.
    pub(in crate::redis) fn forget(&self, at: &Address, was_wrong: bool) {
        let mut state = self.state.lock();
        if !state.is_doubted && state.primary.as_ref().is_some_and(|primary| primary.is_at(at)) {
            state.is_doubted = true;
            if was_wrong {
                state.sentinels.rotate_left(1);
            }
        }
    }

    fn ask(&self, sentinel: &Address) -> Result<Address, Fault> {
        self.named_by(&mut Connection::connect(sentinel, self.timeout, None, &self.stop)?)
    }

    /// The primary according to the Sentinel on this connection.
    fn named_by(&self, sentinel: &mut Connection) -> Result<Address, Fault> {
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let answer = sentinel.query("SENTINEL GET-MASTER-ADDR-BY-NAME", &command)?;
        match Option::<(String, u16)>::from_redis_value(answer) {
            Ok(Some((host, port))) => Ok(self.like.elsewhere(&host, port).primary_only()),
            Ok(None) => Err(Fault::Unusable(format!(
                "the Sentinel at {} watches no primary called {}; set \
                 redis_queue.sentinel_service_name to the name in its `sentinel monitor` line",
                sentinel.endpoint(),
                self.service
            ))),
            Err(error) => Err(Fault::connection(sentinel.endpoint(), error)),
        }
    }

    /// Chooses one fault of all: one that the operator can fix comes before temporary ones.
    fn no_primary(&self, faults: Vec<Fault>) -> Fault {
        let text: Vec<String> = faults.iter().map(Fault::to_string).collect();
        let passing = |fault: &Fault| matches!(fault, Fault::Connection { .. });
        match faults.into_iter().find(|fault| !passing(fault)) {
            Some(mendable) => mendable,
            None => Fault::connection(
                self,
                if text.is_empty() { "no Sentinel to ask".into() } else { text.join("; ") },
            ),
        }
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the primary {} of the Sentinels", self.service)
    }
}

/// A thread that asks for another primary periodically, for the lifetime of this value.
#[derive(Debug)]
pub struct Lookout {
    topology: Topology,
    ended: Stop,
    running: Option<Running>,
}

impl Lookout {
    /// Starts the thread if Sentinels name the primary of `topology`. A panic of the thread raises
    /// `stop`.
    ///
    /// # Errors
    /// [`Fault::Io`] if the operating system refuses another thread.
    pub fn start(topology: &Topology, stop: &Stop) -> Result<Option<Lookout>, Fault> {
        let Some(sentinels) = topology.sentinels() else { return Ok(None) };
        let (ended, looking) = (Stop::default(), topology.clone());
        let identity = Identity { role: Role::Watch, index: 1, core: None };
        let until = ended.clone();
        let running = threads::spawn(identity, stop, move || {
            let mut open = None;
            while !until.sleep(limits::LOOKOUT_PERIOD) {
                if let Some(sentinels) = looking.sentinels() {
                    sentinels.look_out(&mut open, &until);
                }
            }
            Ok(())
        })?;
        sentinels.lookouts.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Lookout { topology: topology.clone(), ended, running: Some(running) }))
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.ended.now();
        if let Some(sentinels) = self.topology.sentinels() {
            sentinels.lookouts.fetch_sub(1, Ordering::Relaxed);
        }
        // Its waits watch the stop signal, but connecting may take longer: do not wait for the
        // thread.
        if let Some(running) = self.running.take_if(|running| !running.is_finished()) {
            running.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookout_ends_while_another_thread_waits_for_a_sentinel() {
        let (stop, nowhere) = (Stop::default(), Address::tcp("127.0.0.1", 1));
        let timeout = Duration::from_secs(1);
        let topology =
            Topology::sentinel("cabinet", vec![nowhere.clone()], nowhere, timeout, &stop);
        let lookout = Lookout::start(&topology, &stop).unwrap().expect("there are Sentinels");
        let sentinels = topology.sentinels().unwrap();
        let waiting = sentinels.state.lock();
        assert_eq!(sentinels.lookouts.load(Ordering::Relaxed), 1);
        drop(lookout);
        assert_eq!(sentinels.lookouts.load(Ordering::Relaxed), 0);
        drop(waiting);
    }
}
