//! Stores messages of another system in a stream exactly once: each batch is stored together with
//! the place of its source (the offset of the next message), in one step.

use redis::{Cmd, Value, cmd};

use super::Control;
use super::converted;
use crate::base::{Fault, limits, text};
use crate::frame::EntryId;
use crate::redis::topology::{slot_of, tag_of};

const ADD: &str = include_str!("../scripts/places.lua");

/// The keys that a batch is stored under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceKeys {
    /// The stream that messages go to.
    pub stream: String,
    /// Hash of places: partition -> offset of the next message.
    pub places: String,
    /// The stream for messages that no reader could take.
    pub dead_letters: String,
}

impl PlaceKeys {
    /// The keys for an input stream and the topic that feeds it.
    pub fn of(stream: &str, dead_letters: &str, topic: &str) -> PlaceKeys {
        // Same Cluster slot as the stream.
        let places = match tag_of(stream) {
            Some(_) => format!("{stream}:bridge:{topic}"),
            None => format!("{{{stream}}}:bridge:{topic}"),
        };
        PlaceKeys { stream: stream.to_owned(), places, dead_letters: dead_letters.to_owned() }
    }

    /// Whether all keys are in one Cluster slot, so that one script can use them.
    pub fn are_together(&self) -> bool {
        let slot = slot_of(&self.stream);
        slot_of(&self.places) == slot && slot_of(&self.dead_letters) == slot
    }
}

/// A message in the form of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacedEntry {
    /// The offset after it.
    pub after: i64,
    /// Whether it goes to the dead letters.
    pub is_dead_letter: bool,
    /// Names and values, alternately.
    pub fields: Vec<Vec<u8>>,
}

/// A batch of messages of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedBatch<'a> {
    /// The keys to store it under.
    pub keys: &'a PlaceKeys,
    /// The partition.
    pub partition: i32,
    /// The place before them; `None` if there is none yet.
    pub expected: Option<i64>,
    /// The place after them.
    pub behind: i64,
    /// The messages in order; may be empty.
    pub entries: &'a [PlacedEntry],
}

/// The result of a batch.
#[derive(Debug)]
pub enum Placed {
    /// All of it is stored.
    All,
    /// The given number of messages is stored, up to the given place. The next one was refused.
    Some(usize, Option<i64>, Fault),
    /// Nothing is stored: the partition's place is this one, not the expected one.
    Elsewhere(Option<i64>),
}

impl Control {
    /// The places of partitions; `None` for a partition without one.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn places(
        &mut self,
        keys: &PlaceKeys,
        partitions: &[i32],
    ) -> Result<Vec<Option<i64>>, Fault> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = cmd("HMGET");
        command.arg(&keys.places).arg(partitions);
        self.run_on(&keys.places, "HMGET", &command)
    }

    /// Stores batches with their places, in one round trip for all of them, or in a Cluster one for
    /// each stream. Then waits up to a second for `wait_replicas` replicas to confirm. A refused
    /// batch does not affect the others.
    ///
    /// # Errors
    /// As [`Control::run`]. After a lost connection it is not known what was stored; repeating the
    /// call finds out.
    pub fn add_placed(
        &mut self,
        batches: &[PlacedBatch<'_>],
        dead_letters_max: u64,
        wait_replicas: u32,
    ) -> Result<Vec<Result<Placed, Fault>>, Fault> {
        let mut commands = Vec::with_capacity(batches.len() + 1);
        for batch in batches {
            commands.push((batch.keys.stream.as_str(), "EVAL", command(batch, dead_letters_max)));
        }
        if let Some(last) = batches.last().filter(|_| wait_replicas > 0) {
            let mut wait = cmd("WAIT");
            wait.arg(wait_replicas).arg(limits::REPLICAS_LIMIT.as_millis().to_string());
            commands.push((last.keys.stream.as_str(), "WAIT", wait));
        }
        let mut answers = self.run_each(commands)?;
        answers.truncate(batches.len());
        let endpoint = self.topology().to_string();
        Ok(answers.into_iter().map(|answer| placed(answer?, &endpoint)).collect())
    }
}

/// Current and past entries of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Entries in the stream.
    pub length: u64,
    /// Entries ever added; `None` before Redis 7, or if there is no such stream.
    pub added: Option<u64>,
    /// Id of the last entry ever added.
    pub last: EntryId,
}

impl StreamCounts {
    /// Entries that have left the stream.
    pub fn gone(&self) -> Option<u64> {
        self.added.map(|added| added.saturating_sub(self.length))
    }
}

/// See [`Control::counts`]. The answer of XINFO itself would transfer two whole entries.
const COUNTS: &str = "
local answer = redis.pcall('XINFO', 'STREAM', KEYS[1])
local found = {}
for index = 1, #answer, 2 do
  found[answer[index]] = answer[index + 1]
end
return {found['length'] or 0, found['entries-added'] or -1, found['last-generated-id'] or '0-0'}";

impl Control {
    /// Counts of a stream; zeros if there is no such stream.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn counts(&mut self, stream: &str) -> Result<StreamCounts, Fault> {
        let mut command = cmd("EVAL");
        command.arg(COUNTS).arg(1).arg(stream);
        let (length, added, last): (u64, i64, String) =
            self.run_on(stream, "XINFO STREAM", &command)?;
        let last = EntryId::parse(last.as_bytes()).unwrap_or_default();
        Ok(StreamCounts { length, added: u64::try_from(added).ok(), last })
    }

    /// Makes the ids of new entries greater than `last`, which the stream has not reached.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn raise_ids(&mut self, stream: &str, last: EntryId) -> Result<(), Fault> {
        let mut command = cmd("XSETID");
        command.arg(stream).arg(last.to_string());
        self.run_on::<Value>(stream, "XSETID", &command).map(|_| ())
    }

    /// Moves a consumer group to an entry. `read` is the number of entries up to it, if known.
    /// Creates the group and the stream if they do not exist.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn move_group(
        &mut self,
        stream: &str,
        group: &str,
        to: EntryId,
        read: Option<u64>,
    ) -> Result<(), Fault> {
        let with_count = |command: &mut Cmd| {
            if let Some(read) = read {
                command.arg("ENTRIESREAD").arg(read);
            }
        };
        let mut command = cmd("XGROUP");
        command.arg("SETID").arg(stream).arg(group).arg(to.to_string());
        with_count(&mut command);
        match self.run_on::<Value>(stream, "XGROUP SETID", &command) {
            Err(fault)
                if fault.redis_code() == Some("NOGROUP")
                    || fault.to_string().contains("requires the key to exist") =>
            {
                let mut command = cmd("XGROUP");
                command.arg("CREATE").arg(stream).arg(group).arg(to.to_string()).arg("MKSTREAM");
                with_count(&mut command);
                self.run_on::<Value>(stream, "XGROUP CREATE", &command).map(|_| ())
            }
            done => done.map(|_| ()),
        }
    }
}

fn command(batch: &PlacedBatch<'_>, dead_letters_max: u64) -> Cmd {
    let PlacedBatch { keys, partition, expected, behind, entries } = batch;
    let mut command = cmd("EVAL");
    command.arg(ADD).arg(3).arg(&keys.stream).arg(&keys.places).arg(&keys.dead_letters);
    command.arg(partition).arg(expected.map_or_else(String::new, |place| place.to_string()));
    let before = entries.first().map_or(*behind, |entry| entry.after - 1);
    command.arg(behind).arg(dead_letters_max).arg(entries.len()).arg(before);
    for PlacedEntry { after, is_dead_letter, fields } in *entries {
        command.arg(after).arg(if *is_dead_letter { 3 } else { 1 }).arg(fields.len()).arg(fields);
    }
    command
}

fn placed(answer: Value, endpoint: &str) -> Result<Placed, Fault> {
    let (added, place, refusal): (i64, String, String) = converted(answer)?;
    let place = match place.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| {
            let message = format!("ERR the stored position of a partition is not a number: {text}");
            Fault::Refused {
                endpoint: endpoint.into(),
                command: "HGET",
                message: text::line(&message),
            }
        })?),
    };
    Ok(match usize::try_from(added) {
        Err(_) => Placed::Elsewhere(place),
        Ok(_) if refusal.is_empty() => Placed::All,
        Ok(added) => {
            let endpoint = endpoint.to_owned();
            Placed::Some(
                added,
                place,
                Fault::Refused { endpoint, command: "XADD", message: refusal },
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_in_the_slot_of_their_stream() {
        let plain = PlaceKeys::of("camera_frames", "camera_frames:dlq", "frames");
        assert_eq!(plain.places, "{camera_frames}:bridge:frames");
        assert_eq!(slot_of(&plain.places), slot_of("camera_frames"));
        assert!(!plain.are_together(), "the dead letters are elsewhere");
        let shard = PlaceKeys::of("camera_frames:{3}", "camera_frames:{3}:dlq", "frames");
        assert_eq!(shard.places, "camera_frames:{3}:bridge:frames");
        assert!(shard.are_together());
    }
}
