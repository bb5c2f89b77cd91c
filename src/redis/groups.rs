//! Finding the consumer groups of the input streams, creating them, and restoring them after a loss.

use redis::{Cmd, Value, cmd};

use super::control::converted;
use super::slot::slot_of;
use super::{Control, Source, Tenure};
use crate::base::{Fault, limits};
use crate::frame::{EntryId, Recovery};
use crate::metrics::clock::unix_nanos;

/// See [`Control::find_group`].
const FIND_GROUP: &str = concat!(
    "local LEASE = 4\n",
    include_str!("fence.lua"),
    include_str!("common.lua"),
    include_str!("group.lua")
);

/// How the names of consumers begin that read nothing and stand for their group; see `group.lua`.
const IDENTITY_PREFIX: &str = "framepress-group-";

/// A consumer group as [`Control::find_group`] leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundGroup {
    /// Whether it had to be created.
    pub created: bool,
    /// The last entry it has delivered.
    pub last_delivered: EntryId,
    /// The consumer by which it is known; empty if the account may not give it one.
    pub identity: String,
    /// Of the entries in work, those that are not in the stream any more.
    pub gone: Vec<EntryId>,
    /// Entries without a result that became pending.
    pub claimed: Vec<EntryId>,
    /// By consumer, what it has pending; see [`Control::find_groups`].
    pub pending: Vec<Vec<EntryId>>,
}

impl Control {
    /// Whether a name is that of a consumer which stands for its group.
    pub fn is_identity(consumer: &str) -> bool {
        consumer.starts_with(IDENTITY_PREFIX)
    }

    /// Finds the consumer group of the first of `streams`, or creates it and the stream with it, at
    /// the beginning. The other two are where its results and dead letters are stored.
    ///
    /// After a loss, the entries of `recovery` become pending for `consumer` as far as they exist,
    /// in the same step, and those from [`Recovery::start`] on that have no result. A group that has
    /// to be created then goes on behind them; or at the beginning, if the stream is another one
    /// than that of which `reached` was read.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn find_group(
        &mut self,
        streams: &[String; 3],
        group: &str,
        consumer: &str,
        recovery: Option<&Recovery>,
        reached: EntryId,
    ) -> Result<FoundGroup, Fault> {
        let [stream, stored @ ..] = streams;
        let is_apart = self.topology().is_cluster()
            && stored.iter().any(|key| slot_of(key) != slot_of(stream));
        let keys = if is_apart { &streams[..1] } else { &streams[..] };
        let before = if recovery.is_some() { LOST } else { NONE_BEFORE };
        let command = find_group(keys, None, group, consumer, recovery, reached, before);
        self.run_on(stream, "XGROUP CREATE", &command).map(found_group)
    }

    /// Finds the group of each stream as [`Control::find_group`] does where nothing was lost, and the
    /// entries that each of its consumers has pending, the oldest first: the first
    /// [`limits::LEFT_MAX`] of them. One round trip, unless the streams lie on different servers.
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
            let (keys, none) = ([(*stream).to_owned()], EntryId::default());
            let command = find_group(&keys, None, group, &consumers[0], None, none, NONE_BEFORE);
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

impl Source {
    /// Finds the group of `streams` for the holder of a new lease, on this connection. `before` is the
    /// identity of the group that `recovery` is about, empty if it is not known: if it is another one
    /// by now, the group is restored as [`Control::find_group`] does it.
    ///
    /// # Errors
    /// [`Fault::Connection`], or [`Fault::Refused`] with the server's words.
    pub fn adopt_group(
        &mut self,
        streams: &[String; 3],
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
        let command = find_group(streams, tenure, group, consumer, recovery, reached, before);
        let mut listed = cmd("XPENDING");
        listed.arg(&streams[0]).arg(group).arg("-").arg("+").arg(limits::LEFT_MAX);
        let commands = [("XGROUP CREATE", command), ("XPENDING", listed)];
        let mut answers = self.query_all(&commands)?.into_iter();
        let mut next = || answers.next().unwrap_or(Value::Nil);
        let mut found = found_group(converted(next())?);
        let rows: Vec<(String, Value, Value, Value)> = converted(next())?;
        let ids = rows.iter().filter_map(|(id, ..)| EntryId::parse(id.as_bytes()));
        found.pending.push(ids.collect());
        Ok(found)
    }
}

/// What the script is told instead of the identity of a group: that it was lost, or that there was
/// none.
const LOST: &str = "1";
/// See [`LOST`].
const NONE_BEFORE: &str = "0";

/// The command of [`Control::find_group`].
fn find_group(
    keys: &[String],
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

type Found = (bool, String, String, Vec<String>, Vec<String>);

fn found_group((created, last, identity, gone, claimed): Found) -> FoundGroup {
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
