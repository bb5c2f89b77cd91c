//! Finding the primary through Sentinels.
//!
//! Specification: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>. Every
//! question has a time-out. A Sentinel that does not answer goes to the end of the line, so that a
//! dead or silent one costs one time-out and no more. What a Sentinel says is believed only when
//! the server itself says so too: see `Connection::connect`, which asks for its ROLE.
//!
//! After an ordered failover the old primary goes on taking writes, in vain, for about ten seconds:
//! nothing there tells us to leave. So a Sentinel is asked again every [`LOOK`], by whoever asks
//! for the primary next.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{FromRedisValue, cmd};

use super::Address;
use super::connection::Connection;
use crate::base::{Fault, Stop};
use crate::metrics::clock::Tick;

/// Longest time one Sentinel is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// How often a primary that seems well is asked for again.
const LOOK: Duration = Duration::from_secs(1);

/// The same, after a Sentinel that did not answer: waiting for it holds frames up.
const LOOK_AFTER_SILENCE: Duration = Duration::from_secs(10);

pub(super) struct Sentinels {
    service: String,
    /// Any server with the credentials and the encryption of the primary.
    like: Address,
    timeout: Duration,
    stop: Stop,
    state: Mutex<State>,
}

struct State {
    /// The one that answered last comes first.
    sentinels: Vec<Address>,
    primary: Option<Address>,
    look_at: Tick,
}

impl Sentinels {
    pub(super) fn new(
        service: String,
        sentinels: Vec<Address>,
        like: Address,
        timeout: Duration,
        stop: &Stop,
    ) -> Sentinels {
        let state = Mutex::new(State { sentinels, primary: None, look_at: Tick::now() });
        let timeout = timeout.min(ANSWER_LIMIT);
        Sentinels { service, like, timeout, stop: stop.clone(), state }
    }

    /// The primary, as known, or as the first Sentinel that answers says. Others who ask meanwhile
    /// wait for the same answer.
    pub(super) fn primary(&self) -> Result<Address, Fault> {
        let mut state = self.state.lock();
        if let Some(known) = state.primary.clone() {
            return Ok(self.look_again(&mut state, known));
        }
        let mut faults = Vec::new();
        for _ in 0..state.sentinels.len() {
            match self.ask(&state.sentinels[0]) {
                Ok(primary) => {
                    tracing::info!("the primary {} is at {primary}", self.service);
                    state.primary = Some(primary.clone());
                    state.look_at = Tick::now().after(LOOK);
                    return Ok(primary);
                }
                Err(fault) => faults.push(fault),
            }
            state.sentinels.rotate_left(1);
            if self.stop.is_now() {
                break;
            }
        }
        Err(self.nobody_knows(faults))
    }

    /// The primary that is known, or the one that has taken its place by order.
    fn look_again(&self, state: &mut State, known: Address) -> Address {
        if Tick::now() < state.look_at || self.stop.is_draining() {
            return known;
        }
        match self.ask(&state.sentinels[0]) {
            Ok(primary) => {
                state.look_at = Tick::now().after(LOOK);
                if primary.is_at(&known) {
                    return known;
                }
                tracing::info!("the primary {} has moved to {primary}", self.service);
                state.primary = Some(primary.clone());
                primary
            }
            Err(fault) => {
                tracing::warn!("{fault}");
                state.sentinels.rotate_left(1);
                state.look_at = Tick::now().after(LOOK_AFTER_SILENCE);
                known
            }
        }
    }

    /// The answer was wrong, or its server is gone. With `was_wrong`, somebody else is asked next.
    pub(super) fn forget(&self, at: &Address, was_wrong: bool) {
        let mut state = self.state.lock();
        if state.primary.as_ref().is_some_and(|primary| primary.is_at(at)) {
            state.primary = None;
            if was_wrong {
                state.sentinels.rotate_left(1);
            }
        }
    }

    fn ask(&self, sentinel: &Address) -> Result<Address, Fault> {
        let mut connection = Connection::connect(sentinel, self.timeout, None, &self.stop)?;
        let mut command = cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let answer = connection.query("SENTINEL GET-MASTER-ADDR-BY-NAME", &command)?;
        match Option::<(String, u16)>::from_redis_value(answer) {
            Ok(Some((host, port))) => Ok(self.like.elsewhere(&host, port).primary_only()),
            Ok(None) => Err(Fault::Unusable(format!(
                "the Sentinel at {sentinel} watches no primary called {}; set \
                 redis_queue.sentinel_service_name to the name in its `sentinel monitor` line",
                self.service
            ))),
            Err(error) => Err(Fault::connection(sentinel, error)),
        }
    }

    /// One fault out of all: what can be mended comes before what may pass.
    fn nobody_knows(&self, faults: Vec<Fault>) -> Fault {
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
