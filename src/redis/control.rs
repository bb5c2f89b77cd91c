//! The control plane: administrative commands, each with a limit on how long it may take. Answers
//! are converted by the `redis` crate; they travel on connections of our own, so that encryption,
//! time-outs and the search for the right server are those of the data plane. A connection that
//! failed once is dropped and made anew at the next command.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value, cmd};

use super::connection::Connection;
use super::{Address, Seam, Topology};
use crate::base::{Fault, Stop};
use crate::frame::EntryId;

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

/// Most times one command is sent on by nodes of a Cluster.
pub(super) const HOPS_MAX: usize = 5;

/// A client for administrative commands.
pub struct Control {
    topology: Topology,
    timeout: Duration,
    /// One for each server spoken to so far.
    connections: Vec<Connection>,
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
    /// A client for one server, or for all servers of a topology; connects at the first command.
    /// `timeout` bounds connecting and each pause within an answer.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for servers that can never be spoken to; there are none so far.
    pub fn new(servers: impl Into<Topology>, timeout: Duration) -> Result<Control, Fault> {
        let topology = servers.into().through(Seam::default());
        Ok(Control { topology, timeout, connections: Vec::new() })
    }

    /// Where it speaks to, without credentials.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Runs a command that concerns no key: on the server, or on any node of a Cluster.
    ///
    /// # Errors
    /// [`Fault::Connection`] or [`Fault::Refused`], without any credentials in the text.
    pub fn run<T: FromRedisValue>(
        &mut self,
        name: &'static str,
        command: &Cmd,
    ) -> Result<T, Fault> {
        self.run_on("", name, command)
    }

    /// Runs a command on the server that has `key`.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn run_on<T: FromRedisValue>(
        &mut self,
        key: &str,
        name: &'static str,
        command: &Cmd,
    ) -> Result<T, Fault> {
        let mut sent_on = None;
        let mut hops = 0;
        loop {
            let address = match sent_on.take() {
                Some(address) => address,
                None => self.topology.primary_for(key)?.through(Seam::default()),
            };
            match self.run_at(&address, name, command) {
                Ok(value) => {
                    return T::from_redis_value(value).map_err(|error| {
                        Fault::connection(&address, format!("protocol error: {name}: {error}"))
                    });
                }
                Err(fault) => {
                    sent_on = self.topology.learn(&address, &fault);
                    hops += 1;
                    let follow = matches!(fault.redis_code(), Some("MOVED" | "ASK"));
                    if !follow || hops > HOPS_MAX {
                        return Err(fault);
                    }
                }
            }
        }
    }

    fn run_at(
        &mut self,
        address: &Address,
        name: &'static str,
        command: &Cmd,
    ) -> Result<Value, Fault> {
        let open = self.connections.iter().position(|open| open.address().is_same(address));
        let mut connection = match open {
            Some(at) => self.connections.swap_remove(at),
            None => Connection::connect(address, self.timeout, None, &Stop::default())?,
        };
        let answer = connection.query(name, command);
        // A refusal leaves the connection in order; anything else does not.
        if matches!(answer, Ok(_) | Err(Fault::Refused { .. })) {
            self.connections.push(connection);
        }
        answer
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
        match self.run_on::<Value>(stream, "XGROUP CREATE", command.arg("MKSTREAM")) {
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
        match self.run_on::<Value>(stream, "XGROUP CREATE", &command) {
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
        self.run_on(stream, "XLEN", cmd("XLEN").arg(stream))
    }

    /// Bytes of memory a key takes, estimated by Redis from a sample; 0 if there is none.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn memory(&mut self, key: &str) -> Result<u64, Fault> {
        let usage: Option<u64> =
            self.run_on(key, "MEMORY USAGE", cmd("MEMORY").arg("USAGE").arg(key))?;
        Ok(usage.unwrap_or(0))
    }

    /// The consumer groups of a stream; none if there is no such stream.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn groups(&mut self, stream: &str) -> Result<Vec<GroupState>, Fault> {
        let groups = self.run_on::<Vec<HashMap<String, Value>>>(
            stream,
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
            self.run_on(stream, "XPENDING", cmd("XPENDING").arg(stream).arg(group))?;
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
            self.run_on::<Value>(stream, "XCLAIM", &command)?;
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
        self.run_on::<Value>(stream, "XCLAIM", &command).map(|_| ())
    }

    /// The last entry a stream has ever had; 0-0 if there is no such stream.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn last_generated(&mut self, stream: &str) -> Result<EntryId, Fault> {
        let about = self.run_on::<HashMap<String, Value>>(
            stream,
            "XINFO STREAM",
            cmd("XINFO").arg("STREAM").arg(stream),
        );
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
        self.run_on(
            stream,
            "XTRIM",
            command.arg(stream).arg("MINID").arg("~").arg(first_kept.to_string()),
        )
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
        write!(f, "Control({})", self.topology)
    }
}
