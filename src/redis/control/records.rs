//! Reads, replays and removes single entries on the control plane.

use std::collections::HashMap;
use std::time::Duration;

use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{Cmd, FromRedisValue, Value, cmd};

use super::Control;
use super::DEAD_LETTER_FIELDS;
use crate::base::Fault;
use crate::frame::EntryId;
use crate::redis::topology::slot_of;

const REPLAY: &str = include_str!("../scripts/replay.lua");

/// An entry as the control plane reads it: its id and its fields.
pub type Record = (EntryId, HashMap<String, Vec<u8>>);

impl Control {
    /// Up to `count` entries before `before`, or the last ones of the stream; newest first.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn before(
        &mut self,
        stream: &str,
        before: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<Record>, Fault> {
        let from = before.map_or_else(|| "+".into(), |before| format!("({before}"));
        let mut command = cmd("XREVRANGE");
        command.arg(stream).arg(from).arg("-").arg("COUNT").arg(count);
        let reply: StreamRangeReply = self.run_on(stream, "XREVRANGE", &command)?;
        Ok(records(reply.ids))
    }

    /// Up to `count` entries after `after`, oldest first. Waits up to `block` if there is none yet;
    /// `block` must be shorter than the client's time-out.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn after(
        &mut self,
        stream: &str,
        after: EntryId,
        count: usize,
        block: Duration,
    ) -> Result<Vec<Record>, Fault> {
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(count).arg("BLOCK").arg(block.as_millis().max(1).to_string());
        command.arg("STREAMS").arg(stream).arg(after.to_string());
        let reply: Option<StreamReadReply> = self.run_on(stream, "XREAD", &command)?;
        let streams = reply.map(|reply| reply.keys).unwrap_or_default();
        Ok(streams.into_iter().flat_map(|stream| records(stream.ids)).collect())
    }

    /// An entry; `None` if there is no such entry.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn entry(&mut self, stream: &str, id: EntryId) -> Result<Option<Record>, Fault> {
        let mut command = cmd("XRANGE");
        command.arg(stream).arg(id.to_string()).arg(id.to_string());
        let reply: StreamRangeReply = self.run_on(stream, "XRANGE", &command)?;
        Ok(records(reply.ids).pop())
    }

    /// Puts dead letters back into their input stream in this order and removes them, each in one
    /// step and all in one round trip. Returns for each whether there was such a dead letter. A
    /// refusal does not affect the others. Between two nodes of a Cluster each takes two steps: if
    /// they are interrupted, the entry is in both streams.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn replay(
        &mut self,
        dead_letters: &str,
        input: &str,
        ids: &[EntryId],
    ) -> Result<Vec<Result<bool, Fault>>, Fault> {
        if self.topology().is_cluster() && slot_of(dead_letters) != slot_of(input) {
            return Ok(ids.iter().map(|id| self.replay_apart(dead_letters, input, *id)).collect());
        }
        let commands = ids.iter().map(|id| {
            let mut command = cmd("EVAL");
            command.arg(REPLAY).arg(2).arg(dead_letters).arg(input).arg(id.to_string());
            command.arg(DEAD_LETTER_FIELDS.len());
            ("EVAL", command)
        });
        self.each_one(dead_letters, commands.collect())
    }

    /// Runs commands in one round trip. Returns for each whether it had something to do.
    fn each_one(
        &mut self,
        key: &str,
        commands: Vec<(&'static str, Cmd)>,
    ) -> Result<Vec<Result<bool, Fault>>, Fault> {
        let answers = self.run_all(key, &commands)?;
        let is_done = |answer: Value| !matches!(answer, Value::Nil | Value::Int(0));
        Ok(answers.into_iter().map(|answer| answer.map(is_done)).collect())
    }

    fn replay_apart(
        &mut self,
        dead_letters: &str,
        input: &str,
        id: EntryId,
    ) -> Result<bool, Fault> {
        let Some(mut fields) = self.fields(dead_letters, id)? else { return Ok(false) };
        fields.truncate(fields.len().saturating_sub(2 * DEAD_LETTER_FIELDS.len()));
        if fields.is_empty() {
            return Err(Fault::Refused {
                endpoint: self.topology().to_string(),
                command: "the replay",
                message: "EMPTY this dead letter holds no original field: its entry was trimmed \
                          before"
                    .into(),
            });
        }
        let mut command = cmd("XADD");
        command.arg(input).arg("*").arg(&fields);
        self.run_on::<Value>(input, "XADD", &command)?;
        self.delete(dead_letters, &[id])?;
        Ok(true)
    }

    /// Copies an entry with all its fields, followed by `added`, to a stream on another node.
    /// `length_max` limits that stream approximately. `whole`, if given, replaces `data` and
    /// `ring`.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub(in crate::redis) fn copy(
        &mut self,
        (from, id): (&str, EntryId),
        to: &str,
        (whole, added): (Option<&[u8]>, &[(&str, String)]),
        length_max: u64,
    ) -> Result<(), Fault> {
        let fields = self.fields(from, id)?.unwrap_or_default();
        let is_kept =
            |field: &&[Vec<u8>]| whole.is_none() || !matches!(&field[0][..], b"data" | b"ring");
        let mut command = cmd("XADD");
        command.arg(to);
        if length_max > 0 {
            command.arg("MAXLEN").arg("~").arg(length_max);
        }
        command.arg("*");
        for field in fields.chunks_exact(2).filter(is_kept) {
            command.arg(field);
        }
        if let Some(whole) = whole {
            command.arg("data").arg(whole);
        }
        for (name, value) in added {
            command.arg(name).arg(value);
        }
        self.run_on::<Value>(to, "XADD", &command).map(|_| ())
    }

    /// Names and values of an entry, alternately and in order; `None` if there is no such entry.
    fn fields(&mut self, stream: &str, id: EntryId) -> Result<Option<Vec<Vec<u8>>>, Fault> {
        let id = id.to_string();
        let mut command = cmd("XRANGE");
        command.arg(stream).arg(&id).arg(&id);
        let found: Vec<(String, Vec<Vec<u8>>)> = self.run_on(stream, "XRANGE", &command)?;
        Ok(found.into_iter().next().map(|(_, fields)| fields))
    }

    /// Removes a key if it exists.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn remove(&mut self, key: &str) -> Result<(), Fault> {
        self.run_on::<Value>(key, "UNLINK", cmd("UNLINK").arg(key)).map(|_| ())
    }

    /// Removes entries in one round trip. Returns for each whether it existed.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn delete(
        &mut self,
        stream: &str,
        ids: &[EntryId],
    ) -> Result<Vec<Result<bool, Fault>>, Fault> {
        let commands = ids.iter().map(|id| {
            let mut command = cmd("XDEL");
            command.arg(stream).arg(id.to_string());
            ("XDEL", command)
        });
        self.each_one(stream, commands.collect())
    }

    /// The value of a configuration parameter; `None` if the server does not report it.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn setting(&mut self, name: &str) -> Result<Option<String>, Fault> {
        let all: HashMap<String, String> =
            self.run("CONFIG GET", cmd("CONFIG").arg("GET").arg(name))?;
        Ok(all.into_values().next())
    }

    /// The type of a key: `stream`, `none` if there is no such key, or something else.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn kind(&mut self, key: &str) -> Result<String, Fault> {
        self.run_on(key, "TYPE", cmd("TYPE").arg(key))
    }
}

fn records(ids: Vec<StreamId>) -> Vec<Record> {
    let fields = |map: HashMap<String, Value>| {
        map.into_iter()
            .filter_map(|(name, value)| Some((name, Vec::<u8>::from_redis_value(value).ok()?)))
            .collect()
    };
    ids.into_iter()
        .filter_map(|entry| Some((EntryId::parse(entry.id.as_bytes())?, fields(entry.map))))
        .collect()
}
