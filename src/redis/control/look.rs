//! Reads the state of one shard in one round trip, once a second for housekeeping.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value, cmd};

use super::Control;
use super::GroupState;
use super::{LAST_GENERATED, converted, group_state};
use crate::base::Fault;
use crate::frame::EntryId;
use crate::metrics::clock::Tick;
use crate::redis::topology::Streams;

/// Maximum number of stale entries per look. More than an engine has in hand, because its own
/// entries are among them if the server does not let it renew them.
const STALE_PAGE: usize = 256;

/// State of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// Number of entries; 0 if there is no such stream.
    pub length: u64,
    /// Memory in bytes, estimated by Redis from a sample.
    pub memory_bytes: u64,
}

/// A server's clock.
#[derive(Clone, Debug)]
pub struct ServerTime {
    /// The server's time since the Unix epoch.
    pub time: Duration,
    /// When the command was sent.
    pub asked: Tick,
    /// The server's address.
    pub server: String,
}

/// State of a shard.
#[derive(Clone, Debug, Default)]
pub struct ShardState {
    /// The streams.
    pub streams: Streams<StreamState>,
    /// The group, if it exists.
    pub group: Option<GroupState>,
    /// The first pending entry of the group.
    pub first_pending: Option<EntryId>,
    /// Pending entries of any consumer that have been idle for too long.
    pub stale: Vec<EntryId>,
    /// Id of the last dead letter ever added; 0-0 if there was none, or if the account may not ask.
    pub last_dead_letter: EntryId,
}

impl Control {
    /// Reads the clock of the server that has `key`. Nothing else is asked, so the time until the
    /// answer is one round trip.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn server_time(&mut self, key: &str) -> Result<ServerTime, Fault> {
        let server = self.server_of(key)?;
        let asked = Tick::now();
        let (seconds, micros): (u64, u64) = self.run_on(key, "TIME", &cmd("TIME"))?;
        let time = Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros));
        Ok(ServerTime { time, asked, server })
    }

    /// Reads the state of a shard: its streams, its group, and entries pending for longer than
    /// `idle`.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn look(
        &mut self,
        streams: &Streams,
        group: &str,
        idle: Duration,
    ) -> Result<ShardState, Fault> {
        let Streams { input, dead_letters, .. } = streams;
        let (idle_ms, most) = (idle.as_millis().to_string(), STALE_PAGE.to_string());
        let of_group = vec![
            ("XINFO GROUPS", command(&["XINFO", "GROUPS", input])),
            ("XPENDING", command(&["XPENDING", input, group])),
            ("XPENDING", command(&["XPENDING", input, group, "IDLE", &idle_ms, "-", "+", &most])),
        ];
        let of_stream = |stream: &String| {
            let memory = command(&["MEMORY", "USAGE", stream]);
            [("XLEN", command(&["XLEN", stream])), ("MEMORY USAGE", memory)]
        };
        let of_dead_letters =
            ("XINFO STREAM", command(&["EVAL", LAST_GENERATED, "1", dead_letters]));
        // One round trip, unless the streams lie on different nodes.
        let mut answers = if self.topology().is_cluster() && streams.is_apart() {
            let mut answers = self.run_all(input, &of_group)?;
            for stream in streams.all() {
                answers.extend(self.run_all(stream, &of_stream(stream))?);
            }
            answers.extend(self.run_all(dead_letters, &[of_dead_letters])?);
            answers
        } else {
            let mut commands = of_group;
            commands.extend(streams.all().into_iter().flat_map(of_stream));
            commands.push(of_dead_letters);
            self.run_all(input, &commands)?
        }
        .into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let groups = unless_missing(next())?.unwrap_or_default();
        let summary: Option<(u64, Option<String>, Value, Value)> = unless_missing(next())?;
        let stale: Option<Vec<(String, Value, Value, Value)>> = unless_missing(next())?;
        let mut state = ShardState {
            group: group_of(groups, group),
            first_pending: summary.and_then(|(_, first, ..)| id_of(&first?)),
            stale: stale.unwrap_or_default().iter().filter_map(|(id, ..)| id_of(id)).collect(),
            ..ShardState::default()
        };
        for stream in state.streams.all_mut() {
            let (length, memory): (u64, Option<u64>) = (converted(next()?)?, converted(next()?)?);
            *stream = StreamState { length, memory_bytes: memory.unwrap_or(0) };
        }
        if let Ok(Value::BulkString(last)) = next() {
            state.last_dead_letter = EntryId::parse(&last).unwrap_or_default();
        }
        Ok(state)
    }
}

fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    words.iter().for_each(|word| {
        command.arg(*word);
    });
    command
}

fn group_of(groups: Vec<HashMap<String, Value>>, name: &str) -> Option<GroupState> {
    groups.iter().map(group_state).find(|group| group.name == name)
}

fn id_of(text: &String) -> Option<EntryId> {
    EntryId::parse(text.as_bytes())
}

/// Converts an answer to a type; `None` if there is no such stream or group.
fn unless_missing<T: FromRedisValue>(answer: Result<Value, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(value) => converted(value).map(Some),
        Err(fault) if fault.redis_code() == Some("NOGROUP") => Ok(None),
        Err(fault) if fault.to_string().contains("no such key") => Ok(None),
        Err(fault) => Err(fault),
    }
}
