//! Reading under a lease. The lease is taken on the connection that reads and ends with it, so the
//! answering server has all the data that it had when the lease was taken.

use std::time::Duration;

use redis::{Cmd, Value};
use smallvec::SmallVec;

use super::StreamSource;
use super::leases::{is_not_compiled, lease_state};
use super::{LeaseAsk, LeaseState, LeaseTerms, Tenure};
use crate::base::Fault;

impl StreamSource {
    /// Sends a request about the lease `key`, with the given length.
    ///
    /// # Errors
    /// [`Fault::Connection`], or [`Fault::Refused`] with the server's message.
    pub fn lease(
        &mut self,
        terms: &LeaseTerms,
        key: &str,
        ask: &LeaseAsk,
        length: Duration,
    ) -> Result<LeaseState, Fault> {
        let answer = match self.query("the lease", &terms.command(key, ask, length, true)) {
            Err(fault) if is_not_compiled(&fault) => {
                self.query("the lease", &terms.command(key, ask, length, false))
            }
            answer => answer,
        };
        lease_state(answer?)
    }

    /// Reads under this lease from this call on.
    pub fn begin_tenure(&mut self, tenure: Tenure) {
        self.epoch = self.journal.epoch();
        self.tenure = Some(tenure);
    }

    /// The lease under which it reads, if the stream has one.
    pub fn tenure(&self) -> Option<&Tenure> {
        self.tenure.as_ref()
    }

    pub(super) fn query(&mut self, name: &'static str, command: &Cmd) -> Result<Value, Fault> {
        self.connection.query(name, command)
    }

    /// The same for several commands, in one round trip.
    pub(super) fn query_all(
        &mut self,
        commands: &[(&'static str, Cmd)],
    ) -> Result<Vec<Value>, Fault> {
        self.connection.query_all(commands)?.into_iter().collect()
    }

    /// The keys of a script that changes the stream: the stream, and the keys of `fence.lua`.
    pub(super) fn keys(&self) -> SmallVec<[String; 3]> {
        let mut keys = SmallVec::new();
        keys.push(self.options.stream.clone());
        if let Some(Tenure { lease, stream, .. }) = &self.tenure {
            keys.extend([lease.clone(), stream.clone()]);
        }
        keys
    }
}
