//! The control plane: administrative commands through the `redis` crate, each with a limit on how
//! long it may take. A connection that failed once is dropped and made anew at the next command.

use std::collections::HashMap;
use std::time::Duration;

use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{Cmd, Connection, FromRedisValue, RedisError, Value, cmd};

use super::{Address, DEAD_LETTER_FIELDS};
use crate::base::Fault;
use crate::frame::EntryId;

const REPLAY: &str = include_str!("replay.lua");

/// See [`Control::restore_group`].
const RESTORE_GROUP: &str = "
local stream, group, start, consumer = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local created = redis.pcall('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM')
if created.err then
  return created
end
for index = 4, #ARGV do
  redis.call('XCLAIM', stream, group, consumer, '0', ARGV[index], 'FORCE', 'JUSTID')
end
return 1";

/// See [`Control::renew`].
const RENEW: &str = "
local stream, group, consumer, id = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if #redis.call('XRANGE', stream, id, id) > 0 then
  redis.call('XCLAIM', stream, group, consumer, '0', id, 'JUSTID')
end
return 1";

/// See [`Control::make_pending`].
const MAKE_PENDING: &str = "
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
for index = 3, #ARGV do
  local id = ARGV[index]
  if #redis.call('XPENDING', stream, group, id, id, 1) == 0 then
    redis.call('XCLAIM', stream, group, consumer, '0', id, 'FORCE', 'JUSTID')
  end
end
return 1";

/// A client for administrative commands.
pub struct Control {
    client: redis::Client,
    address: Address,
    timeout: Duration,
    connection: Option<Connection>,
}

/// A consumer group as XINFO describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Its name.
    pub name: String,
    /// Consumers known.
    pub consumers: u64,
    /// Entries delivered but not acknowledged.
    pub pending: u64,
    /// Last entry delivered.
    pub last_delivered: EntryId,
    /// Entries not delivered yet; `None` when Redis cannot tell.
    pub lag: Option<u64>,
}

impl Control {
    /// A client for the server at `address`; connects at the first command. `timeout` bounds
    /// connecting and each answer.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if the address cannot be used.
    pub fn new(address: &Address, timeout: Duration) -> Result<Control, Fault> {
        let client = address.client()?;
        Ok(Control { client, address: address.clone(), timeout, connection: None })
    }

    /// Address without credentials.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Runs a command.
    ///
    /// # Errors
    /// [`Fault::Connection`] or [`Fault::Refused`], without any credentials in the text.
    pub fn run<T: FromRedisValue>(
        &mut self,
        name: &'static str,
        command: &Cmd,
    ) -> Result<T, Fault> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        match command.query::<T>(&mut connection) {
            Ok(value) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Err(error) => {
                // A refusal leaves the connection in order; anything else does not.
                let fault = self.fault(name, &error);
                if matches!(fault, Fault::Refused { .. }) {
                    self.connection = Some(connection);
                }
                Err(fault)
            }
        }
    }

    fn connect(&self) -> Result<Connection, Fault> {
        let connection = self
            .client
            .get_connection_with_timeout(self.timeout)
            .map_err(|error| self.fault("AUTH", &error))?;
        connection
            .set_read_timeout(Some(self.timeout))
            .and(connection.set_write_timeout(Some(self.timeout)))
            .map_err(|error| self.fault("connect", &error))?;
        Ok(connection)
    }

    fn fault(&self, command: &'static str, error: &RedisError) -> Fault {
        match error.code() {
            Some(code) => Fault::Refused {
                endpoint: self.address.to_string(),
                command,
                message: format!("{code} {}", error.detail().unwrap_or_default()),
            },
            None if error.kind() == redis::ErrorKind::AuthenticationFailed => Fault::Refused {
                endpoint: self.address.to_string(),
                command,
                message: error.to_string(),
            },
            None => Fault::connection(&self.address, error),
        }
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn ping(&mut self) -> Result<(), Fault> {
        self.run::<Value>("PING", &cmd("PING")).map(|_| ())
    }

    /// Creates the consumer group, and the stream with it, unless it exists. Says whether it was
    /// created. It begins after `start`.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn ensure_group(
        &mut self,
        stream: &str,
        group: &str,
        start: EntryId,
    ) -> Result<bool, Fault> {
        let mut command = cmd("XGROUP");
        command.arg("CREATE").arg(stream).arg(group);
        if start == EntryId::default() {
            command.arg("0");
        } else {
            command.arg(start.to_string());
        }
        match self.run::<Value>("XGROUP CREATE", command.arg("MKSTREAM")) {
            Ok(_) => Ok(true),
            Err(fault) if fault.redis_code() == Some("BUSYGROUP") => Ok(false),
            // A server out of memory refuses the command before it looks whether the group exists.
            Err(fault) if fault.redis_code() == Some("OOM") => {
                let exists = self.groups(stream)?.iter().any(|known| known.name == group);
                if exists { Ok(false) } else { Err(fault) }
            }
            Err(fault) => Err(fault),
        }
    }

    /// Creates a consumer group that is gone, to begin after `start`, and makes the entries `held`
    /// pending for `consumer` again, in one step: an entry in work that was not pending would
    /// count as ended by somebody else. Says whether it was created; if it is there, nothing is
    /// done.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn restore_group(
        &mut self,
        stream: &str,
        group: &str,
        start: EntryId,
        consumer: &str,
        held: &[EntryId],
    ) -> Result<bool, Fault> {
        let mut command = cmd("EVAL");
        command.arg(RESTORE_GROUP).arg(1).arg(stream).arg(group).arg(start.to_string());
        command.arg(consumer);
        for id in held {
            command.arg(id.to_string());
        }
        match self.run::<Value>("XGROUP CREATE", &command) {
            Ok(_) => Ok(true),
            Err(fault) if fault.redis_code() == Some("BUSYGROUP") => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Ends the blocked read of another connection; its reply is then "nothing".
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn unblock(&mut self, client_id: i64) -> Result<(), Fault> {
        self.run::<Value>("CLIENT UNBLOCK", cmd("CLIENT").arg("UNBLOCK").arg(client_id)).map(|_| ())
    }

    /// Entries in a stream; 0 if there is none.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn length(&mut self, stream: &str) -> Result<u64, Fault> {
        self.run("XLEN", cmd("XLEN").arg(stream))
    }

    /// Bytes of memory a key takes, estimated by Redis from a sample; 0 if there is none.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn memory(&mut self, key: &str) -> Result<u64, Fault> {
        let usage: Option<u64> = self.run("MEMORY USAGE", cmd("MEMORY").arg("USAGE").arg(key))?;
        Ok(usage.unwrap_or(0))
    }

    /// The consumer groups of a stream; none if there is no such stream.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn groups(&mut self, stream: &str) -> Result<Vec<GroupState>, Fault> {
        let groups = self.run::<Vec<HashMap<String, Value>>>(
            "XINFO GROUPS",
            cmd("XINFO").arg("GROUPS").arg(stream),
        );
        let groups = match groups {
            Ok(groups) => groups,
            Err(fault) if fault.to_string().contains("no such key") => return Ok(Vec::new()),
            Err(fault) => return Err(fault),
        };
        Ok(groups.iter().map(group_state).collect())
    }

    /// First pending entry of a group, if any is pending.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn first_pending(&mut self, stream: &str, group: &str) -> Result<Option<EntryId>, Fault> {
        let summary: (u64, Option<String>, Value, Value) =
            self.run("XPENDING", cmd("XPENDING").arg(stream).arg(group))?;
        Ok(summary.1.and_then(|id| EntryId::parse(id.as_bytes())))
    }

    /// Resets the idle time of entries that `consumer` has in work, so that nobody takes them over.
    ///
    /// An entry whose body has been trimmed meanwhile is left as it is: Redis 7 would drop it from
    /// the pending list, and with it the fence for the result that is still to come. One by one,
    /// for looking at a body costs Redis a copy of it.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn renew(
        &mut self,
        stream: &str,
        group: &str,
        consumer: &str,
        ids: &[EntryId],
    ) -> Result<(), Fault> {
        for id in ids {
            let mut command = cmd("EVAL");
            command.arg(RENEW).arg(1).arg(stream).arg(group).arg(consumer).arg(id.to_string());
            self.run::<Value>("XCLAIM", &command)?;
        }
        Ok(())
    }

    /// Makes entries pending for `consumer` that are not pending for anybody, as far as they exist.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn make_pending(
        &mut self,
        stream: &str,
        group: &str,
        consumer: &str,
        ids: &[EntryId],
    ) -> Result<(), Fault> {
        let mut command = cmd("EVAL");
        command.arg(MAKE_PENDING).arg(1).arg(stream).arg(group).arg(consumer);
        for id in ids {
            command.arg(id.to_string());
        }
        self.run::<Value>("XCLAIM", &command).map(|_| ())
    }

    /// The last entry a stream has ever had; 0-0 if there is no such stream.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn last_generated(&mut self, stream: &str) -> Result<EntryId, Fault> {
        let about = self
            .run::<HashMap<String, Value>>("XINFO STREAM", cmd("XINFO").arg("STREAM").arg(stream));
        match about {
            Ok(about) => {
                let id = about.get("last-generated-id").map(String::from_redis_value_ref);
                Ok(id
                    .and_then(Result::ok)
                    .and_then(|id| EntryId::parse(id.as_bytes()))
                    .unwrap_or_default())
            }
            Err(fault) if fault.to_string().contains("no such key") => Ok(EntryId::default()),
            Err(fault) => Err(fault),
        }
    }

    /// Removes entries before `first_kept`.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn trim_before(&mut self, stream: &str, first_kept: EntryId) -> Result<u64, Fault> {
        let mut command = cmd("XTRIM");
        self.run("XTRIM", command.arg(stream).arg("MINID").arg("~").arg(first_kept.to_string()))
    }

    /// A section of INFO, or all of it for an empty name, as keys and values.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn info(&mut self, section: &str) -> Result<HashMap<String, String>, Fault> {
        let mut command = cmd("INFO");
        if !section.is_empty() {
            command.arg(section);
        }
        let text: String = self.run("INFO", &command)?;
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect())
    }
}

/// An entry as the control plane reads it: its id and its fields.
pub type Record = (EntryId, HashMap<String, Vec<u8>>);

impl Control {
    /// The last `count` entries of a stream, the oldest first.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn latest(&mut self, stream: &str, count: usize) -> Result<Vec<Record>, Fault> {
        let mut command = cmd("XREVRANGE");
        command.arg(stream).arg("+").arg("-").arg("COUNT").arg(count);
        let reply: StreamRangeReply = self.run("XREVRANGE", &command)?;
        let mut records = records(reply.ids);
        records.reverse();
        Ok(records)
    }

    /// Up to `count` entries after `after`, the oldest first; waits for up to `block` if there is
    /// none yet. `block` must be shorter than the limit on answers.
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
        let reply: Option<StreamReadReply> = self.run("XREAD", &command)?;
        let streams = reply.map(|reply| reply.keys).unwrap_or_default();
        Ok(streams.into_iter().flat_map(|stream| records(stream.ids)).collect())
    }

    /// Up to `count` entries from `first` on, the oldest first.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn range(
        &mut self,
        stream: &str,
        first: EntryId,
        count: usize,
    ) -> Result<Vec<Record>, Fault> {
        let mut command = cmd("XRANGE");
        command.arg(stream).arg(first.to_string()).arg("+").arg("COUNT").arg(count);
        let reply: StreamRangeReply = self.run("XRANGE", &command)?;
        Ok(records(reply.ids))
    }

    /// Puts a dead letter back into the stream it came from and removes it, in one step; `None`
    /// if there is no such dead letter.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn replay(
        &mut self,
        dead_letters: &str,
        input: &str,
        id: EntryId,
    ) -> Result<Option<String>, Fault> {
        let mut command = cmd("EVAL");
        command.arg(REPLAY).arg(2).arg(dead_letters).arg(input).arg(id.to_string());
        self.run("EVAL", command.arg(DEAD_LETTER_FIELDS.len()))
    }

    /// Removes a key, if there is one.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn remove(&mut self, key: &str) -> Result<(), Fault> {
        self.run::<Value>("UNLINK", cmd("UNLINK").arg(key)).map(|_| ())
    }

    /// Removes an entry; says whether there was one.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn delete(&mut self, stream: &str, id: EntryId) -> Result<bool, Fault> {
        self.run("XDEL", cmd("XDEL").arg(stream).arg(id.to_string()))
    }

    /// The value of a configuration parameter; `None` if the server does not say.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn setting(&mut self, name: &str) -> Result<Option<String>, Fault> {
        let all: HashMap<String, String> =
            self.run("CONFIG GET", cmd("CONFIG").arg("GET").arg(name))?;
        Ok(all.into_values().next())
    }

    /// The type of a key: `stream`, `none` if there is none, or something else.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn kind(&mut self, key: &str) -> Result<String, Fault> {
        self.run("TYPE", cmd("TYPE").arg(key))
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

fn group_state(fields: &HashMap<String, Value>) -> GroupState {
    let text = |key: &str| {
        fields
            .get(key)
            .and_then(|value| String::from_redis_value_ref(value).ok())
            .unwrap_or_default()
    };
    let number = |key: &str| {
        fields.get(key).and_then(|value| Option::<u64>::from_redis_value_ref(value).ok()).flatten()
    };
    GroupState {
        name: text("name"),
        consumers: number("consumers").unwrap_or(0),
        pending: number("pending").unwrap_or(0),
        last_delivered: EntryId::parse(text("last-delivered-id").as_bytes()).unwrap_or_default(),
        lag: number("lag"),
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({})", self.address)
    }
}
