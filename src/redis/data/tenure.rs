//! Reading under a lease. The lease is taken on the connection that reads and ends with it, so the
//! answering server has all the data that it had when the lease was taken.

use std::time::Duration;

use redis::{Cmd, Value, cmd};
use smallvec::SmallVec;

use super::StreamSource;
use crate::base::{Fault, limits};
use crate::frame::{EntryId, Recovery};
use crate::redis::control::groups::{NONE_BEFORE, find_group, found_group};
use crate::redis::control::leases::{is_not_compiled, lease_state};
use crate::redis::control::{FoundGroup, LeaseAsk, LeaseState, LeaseTerms, Tenure, converted};
use crate::redis::topology::Streams;

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

    /// Finds the group of `streams` for the holder of a new lease, on this connection. `before` is
    /// the identity of the group that `recovery` describes, empty if it is not known. If the
    /// identity has changed, the group is recovered as in [`Control::find_group`](crate::redis::Control::find_group).
    ///
    /// # Errors
    /// [`Fault::Connection`], or [`Fault::Refused`] with the server's message.
    pub fn adopt_group(
        &mut self,
        streams: &Streams,
        tenure: &Tenure,
        recovery: &Recovery,
        reached: EntryId,
        before: &str,
    ) -> Result<FoundGroup, Fault> {
        let options = self.options.clone();
        let (group, consumer) = (options.group.as_str(), options.consumer.as_str());
        let mut known = Recovery { start: recovery.start, held: Vec::new(), ended: Vec::new() };
        let before = if before.is_empty() { NONE_BEFORE } else { before };
        if before != NONE_BEFORE {
            known = recovery.clone();
        }
        let (recovery, tenure) = (Some(&known), Some(tenure));
        let command =
            find_group(&streams.all(), tenure, group, consumer, recovery, reached, before);
        let mut listed = cmd("XPENDING");
        listed.arg(&streams.input).arg(group).arg("-").arg("+").arg(limits::LEFT_MAX);
        let commands = [("XGROUP CREATE", command), ("XPENDING", listed)];
        let mut answers = self.query_all(&commands)?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let mut found = found_group(converted(next())?);
        let rows: Vec<(String, Value, Value, Value)> = converted(next())?;
        let ids = rows.iter().filter_map(|(id, ..)| EntryId::parse(id.as_bytes()));
        found.pending.push(ids.collect());
        Ok(found)
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

    pub(in crate::redis) fn query(
        &mut self,
        name: &'static str,
        command: &Cmd,
    ) -> Result<Value, Fault> {
        self.connection.query(name, command)
    }

    /// The same for several commands, in one round trip.
    pub(in crate::redis) fn query_all(
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
