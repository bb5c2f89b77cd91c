//! Finds and creates the consumer groups of the input streams, and recovers them after a loss.

use redis::{Cmd, ToRedisArgs, Value, cmd};

use super::converted;
use super::{Control, Tenure};
use crate::base::{Fault, limits};
use crate::frame::{EntryId, Recovery};
use crate::metrics::clock::unix_nanos;
use crate::redis::topology::Streams;

/// See [`Control::find_group`].
const FIND_GROUP: &str = concat!(
    "local LEASE = 4\n",
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/common.lua"),
    include_str!("../scripts/group.lua")
);

/// Prefix of identity consumers, which read nothing and identify their group; see `group.lua`.
const IDENTITY_PREFIX: &str = "framepress-group-";

/// The result of [`Control::find_group`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundGroup {
    /// Whether the group had to be created.
    pub created: bool,
    /// The last entry it has delivered.
    pub last_delivered: EntryId,
    /// The identity consumer of the group; empty if the account may not create one.
    pub identity: String,
    /// The entries in work that have left the stream.
    pub gone: Vec<EntryId>,
    /// Entries without a result that became pending.
    pub claimed: Vec<EntryId>,
    /// For each consumer, its pending entries; see [`Control::find_groups`].
    pub pending: Vec<Vec<EntryId>>,
}

impl Control {
    /// Whether a consumer is the identity of its group.
    pub fn is_identity(consumer: &str) -> bool {
        consumer.starts_with(IDENTITY_PREFIX)
    }

    /// Finds the consumer group of the input stream. If it does not exist, creates it at the
    /// beginning of the stream, and also the stream if necessary. The other two streams store its
    /// results and dead letters.
    ///
    /// After a loss, the entries of `recovery` that still exist become pending for `consumer` in
    /// the same step, and so do those from [`Recovery::start`] on that have no result. If the group
    /// has to be created, it continues behind them. It starts at the beginning if the stream itself
    /// was created again since `reached` was read.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn find_group(
        &mut self,
        streams: &Streams,
        group: &str,
        consumer: &str,
        recovery: Option<&Recovery>,
        reached: EntryId,
    ) -> Result<FoundGroup, Fault> {
        let is_apart = self.topology().is_cluster() && streams.is_apart();
        let all = streams.all();
        let keys = if is_apart { &all[..1] } else { &all[..] };
        let before = if recovery.is_some() { LOST } else { NONE_BEFORE };
        let command = find_group(keys, None, group, consumer, recovery, reached, before);
        self.run_on(&streams.input, "XGROUP CREATE", &command).map(found_group)
    }

    /// Finds or creates the group of each stream, as [`Control::find_group`] does without a
    /// recovery, and lists the pending entries of each of its consumers, oldest first, at most
    /// [`limits::LEFT_MAX`]. One round trip, unless the streams lie on different servers.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn find_groups(
        &mut self,
        group: &str,
        consumers_of: &[(&str, &[String])],
    ) -> Result<Vec<FoundGroup>, Fault> {
        let mut commands = Vec::new();
        for (stream, consumers) in consumers_of {
            let none = EntryId::default();
            let command =
                find_group(&[*stream], None, group, &consumers[0], None, none, NONE_BEFORE);
            commands.push((*stream, "XGROUP CREATE", command));
            for consumer in *consumers {
                let mut command = cmd("XPENDING");
                command.arg(stream).arg(group).arg("-").arg("+").arg(limits::LEFT_MAX);
                command.arg(consumer);
                commands.push((*stream, "XPENDING", command));
            }
        }
        let mut answers = self.run_each(commands)?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let mut all = Vec::new();
        for (_, consumers) in consumers_of {
            let mut found = found_group(converted(next()?)?);
            for _ in *consumers {
                let rows: Vec<(String, Value, Value, Value)> = converted(next()?)?;
                let ids = rows.iter().filter_map(|(id, ..)| EntryId::parse(id.as_bytes()));
                found.pending.push(ids.collect());
            }
            all.push(found);
        }
        Ok(all)
    }
}

/// Argument in place of a group's identity: the group was lost.
const LOST: &str = "1";
/// Argument in place of a group's identity: there was no group before.
pub(in crate::redis) const NONE_BEFORE: &str = "0";

/// Builds the command of [`Control::find_group`].
pub(in crate::redis) fn find_group(
    keys: &[impl ToRedisArgs],
    tenure: Option<&Tenure>,
    group: &str,
    consumer: &str,
    recovery: Option<&Recovery>,
    reached: EntryId,
    before: &str,
) -> Cmd {
    let name = format!("{IDENTITY_PREFIX}{:016x}{:08x}", unix_nanos(), std::process::id());
    let mut command = cmd("EVAL");
    command.arg(FIND_GROUP).arg(keys.len() + if tenure.is_some() { 2 } else { 0 }).arg(keys);
    if let Some(Tenure { lease, stream, .. }) = tenure {
        command.arg(lease).arg(stream);
    }
    command.arg(group).arg(consumer);
    let start = recovery.map_or_else(EntryId::default, |recovery| recovery.start);
    command.arg(start.to_string()).arg(reached.to_string());
    command.arg(name).arg(IDENTITY_PREFIX).arg(before);
    command.arg(recovery.map_or(0, |recovery| recovery.held.len()));
    for id in recovery.iter().flat_map(|recovery| recovery.held.iter().chain(&recovery.ended)) {
        command.arg(id.to_string());
    }
    command
}

pub(super) type Found = (bool, String, String, Vec<String>, Vec<String>);

pub(in crate::redis) fn found_group((created, last, identity, gone, claimed): Found) -> FoundGroup {
    let id_of = |text: &String| EntryId::parse(text.as_bytes()).unwrap_or_default();
    FoundGroup {
        created,
        last_delivered: id_of(&last),
        identity,
        gone: gone.iter().map(id_of).collect(),
        claimed: claimed.iter().map(id_of).collect(),
        pending: Vec::new(),
    }
}
