//! The control plane: administrative commands, each with a time limit. The `redis` crate converts
//! the answers. The connections are our own, so encryption, time-outs and server discovery are
//! those of the data plane. After a failure the connection is closed; the next command opens
//! another.

mod dead_letters;
mod embedded;
mod greeting;
pub(in crate::redis) mod groups;
pub(in crate::redis) mod leases;
mod look;
mod pages;
mod places;
mod records;

pub use dead_letters::{DEAD_LETTER_FIELDS, DeadLetterNote};
pub use embedded::Embedded;
pub use greeting::{Greeting, Version};
pub use groups::FoundGroup;
pub use leases::{
    Handover, LeaseAsk, LeaseClient, LeaseState, LeaseTerms, Members, Presence, Tenure,
    engines_keys, lease_key,
};
pub use look::{ServerTime, ShardState, StreamState};
pub use pages::{Pages, bytes_of};
pub use places::{PlaceKeys, Placed, PlacedBatch, PlacedEntry, StreamCounts};
pub use records::Record;

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value, cmd};

use crate::base::{Fault, Stop};
use crate::frame::EntryId;
use crate::redis::protocol::connection::Connection;
use crate::redis::protocol::{Address, FaultPoint};
use crate::redis::topology::open::Open;
use crate::redis::topology::route::is_sent_on;
use crate::redis::topology::slot_of;
use crate::redis::topology::{Route, Topology};

/// See [`Control::trim_acked`].
const TRIM_ACKED: &str = concat!(
    "local LEASE = 2\n",
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/common.lua"),
    include_str!("../scripts/trim_acked.lua")
);

/// The id of the last entry ever added to a stream. The answer of XINFO itself would transfer two
/// whole entries.
pub(super) const LAST_GENERATED: &str = "
local answer = redis.pcall('XINFO', 'STREAM', KEYS[1])
for index = 1, #answer, 2 do
  if answer[index] == 'last-generated-id' then
    return answer[index + 1]
  end
end
return '0-0'";

/// See [`Control::set_deliveries`].
const SET_DELIVERIES: &str = concat!(
    "local LEASE = 2\n",
    include_str!("../scripts/fence.lua"),
    "
local stream, group, id, count = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local row = redis.call('XPENDING', stream, group, id, id, 1)[1]
if row and #redis.call('XRANGE', stream, id, id) > 0 then
  redis.call('XCLAIM', stream, group, row[2], '0', id, 'RETRYCOUNT', count, 'JUSTID')
end
return 1"
);

/// See [`Control::renew`].
const RENEW: &str = "
local stream, group, consumer, id = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
if #redis.call('XRANGE', stream, id, id) > 0 then
  redis.call('XCLAIM', stream, group, consumer, '0', id, 'JUSTID')
end
return 1";

/// A client for administrative commands.
pub struct Control {
    route: Route,
    timeout: Duration,
    connections: Open<Connection>,
}

/// State of a consumer group from XINFO.
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
    /// Entries up to the last one delivered; `None` when Redis cannot tell.
    pub read: Option<u64>,
}

impl Control {
    /// A client for one server or for all servers of a topology. Connects at the first command.
    /// `timeout` bounds connecting and each pause within an answer.
    pub fn new(servers: impl Into<Topology>, timeout: Duration) -> Control {
        let route = Route::new(&servers.into().through(FaultPoint::default()));
        Control { route, timeout, connections: Open::default() }
    }

    /// The servers it speaks to, without credentials.
    pub fn topology(&self) -> &Topology {
        self.route.topology()
    }

    /// Runs a command that concerns no key, on the server or on any node of a Cluster.
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
        let mut value = None;
        let server = self.at_server_of(key, |connection| {
            value = Some(connection.query(name, command)?);
            Ok(())
        })?;
        T::from_redis_value(value.unwrap_or(Value::Nil))
            .map_err(|error| Fault::connection(server, format!("protocol error: {name}: {error}")))
    }

    /// Runs `step` on a connection to the server that has `key`. Returns the server.
    pub(super) fn at_server_of(
        &mut self,
        key: &str,
        mut step: impl FnMut(&mut Connection) -> Result<(), Fault>,
    ) -> Result<Address, Fault> {
        let Control { route, timeout, connections } = self;
        let topology = route.topology().clone();
        connections.tidy();
        route.follow(key, |address| {
            let at = connections.at(address, &topology, || {
                Connection::connect(address, *timeout, None, &Stop::default())
            })?;
            let end = step(&mut connections[at]);
            // After a refusal the connection is usable; after any other fault it is not.
            if !matches!(end, Ok(()) | Err(Fault::Refused { .. })) {
                connections.close(at);
            }
            end.map(|()| address.clone())
        })
    }

    /// Runs commands in one round trip on the server that has `key`. A refused command does not
    /// affect the others.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn run_all(
        &mut self,
        key: &str,
        commands: &[(&'static str, Cmd)],
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let mut answers = Vec::new();
        self.at_server_of(key, |connection| {
            answers = connection.query_all(commands)?;
            let is_elsewhere = |answer: &Result<Value, Fault>| {
                matches!(answer, Err(fault) if fault.redis_code().is_some_and(is_sent_on))
            };
            match answers.iter().position(is_elsewhere) {
                Some(at) => answers.swap_remove(at).map(|_| ()),
                None => Ok(()),
            }
        })?;
        Ok(answers)
    }

    /// Runs commands, each on the server that has its key: in one round trip, or in a Cluster one
    /// for each run of keys in the same slot.
    pub(super) fn run_each(
        &mut self,
        commands: Vec<(&str, &'static str, Cmd)>,
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let is_cluster = self.topology().is_cluster();
        let mut answers = Vec::with_capacity(commands.len());
        let mut rest = commands.into_iter().peekable();
        while let Some((key, name, command)) = rest.next() {
            let mut together = vec![(name, command)];
            while let Some((_, name, command)) =
                rest.next_if(|(other, ..)| !is_cluster || slot_of(other) == slot_of(key))
            {
                together.push((name, command));
            }
            answers.extend(self.run_all(key, &together)?);
        }
        Ok(answers)
    }

    /// The address of the server that has `key`.
    ///
    /// # Errors
    /// As [`Topology::primary_for`].
    pub fn server_of(&mut self, key: &str) -> Result<String, Fault> {
        self.topology().primary_for(key).map(|address| address.to_string())
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn ping(&mut self) -> Result<(), Fault> {
        self.run::<Value>("PING", &cmd("PING")).map(|_| ())
    }

    /// The type of each key: `stream`, `none` if there is none, or something else. One round trip,
    /// unless the keys lie on different servers.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn kinds(&mut self, keys: &[&str]) -> Result<Vec<String>, Fault> {
        let commands = keys.iter().map(|key| {
            let mut command = cmd("TYPE");
            command.arg(key);
            (*key, "TYPE", command)
        });
        let answers = self.run_each(commands.collect())?;
        answers.into_iter().map(|answer| converted(answer?)).collect()
    }

    /// Sets the delivery count of a pending entry. An entry whose body was trimmed is left as it
    /// is; see [`Control::renew`].
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn set_deliveries(
        &mut self,
        stream: &str,
        group: &str,
        id: EntryId,
        deliveries: u32,
        tenure: Option<&Tenure>,
    ) -> Result<(), Fault> {
        let mut command = cmd("EVAL");
        fenced(command.arg(SET_DELIVERIES), stream, tenure).arg(group);
        command.arg(id.to_string()).arg(deliveries);
        self.run_on::<Value>(stream, "XCLAIM", &command).map(|_| ())
    }

    /// Number of entries in a stream; 0 if there is no such stream.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn length(&mut self, stream: &str) -> Result<u64, Fault> {
        self.run_on(stream, "XLEN", cmd("XLEN").arg(stream))
    }

    /// Memory of a key in bytes, estimated by Redis from a sample; 0 if there is no such key.
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

    /// Smallest id pending in a group, if any is pending.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn first_pending(&mut self, stream: &str, group: &str) -> Result<Option<EntryId>, Fault> {
        let summary: (u64, Option<String>, Value, Value) =
            self.run_on(stream, "XPENDING", cmd("XPENDING").arg(stream).arg(group))?;
        Ok(summary.1.and_then(|id| EntryId::parse(id.as_bytes())))
    }

    /// Resets the idle time of entries that `consumer` is processing, so that no other engine takes
    /// them over.
    ///
    /// An entry whose body has been trimmed is left as it is: Redis 7 would drop it from the
    /// pending entries list, and with it the fence for the result that is still to come. Each entry
    /// has a script call, because looking at a body makes Redis copy it.
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
        let commands: Vec<_> = ids
            .iter()
            .map(|id| {
                let mut command = cmd("EVAL");
                command.arg(RENEW).arg(1).arg(stream).arg(group).arg(consumer).arg(id.to_string());
                ("XCLAIM", command)
            })
            .collect();
        self.run_all(stream, &commands)?.into_iter().try_for_each(|answer| answer.map(|_| ()))
    }

    /// Removes the entries that every group of a stream has ended, if `group` exists and has the
    /// given identity. Entries from `held` on are kept: this engine is processing them. Returns how
    /// many were removed.
    /// # Errors
    /// As [`Control::run`].
    pub fn trim_acked(
        &mut self,
        stream: &str,
        group: &str,
        identity: &str,
        held: Option<EntryId>,
    ) -> Result<u64, Fault> {
        self.trim_acked_under(None, stream, group, identity, held)
    }

    /// The same for the holder of a lease. The script fails if the lease is lost.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn trim_acked_under(
        &mut self,
        tenure: Option<&Tenure>,
        stream: &str,
        group: &str,
        identity: &str,
        held: Option<EntryId>,
    ) -> Result<u64, Fault> {
        let mut command = cmd("EVAL");
        fenced(command.arg(TRIM_ACKED), stream, tenure).arg(group);
        command.arg(held.unwrap_or_default().to_string()).arg(identity);
        self.run_on(stream, "XTRIM", &command)
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

/// Adds the keys of a script that changes a stream: the stream, and the keys of `fence.lua`.
fn fenced<'c>(command: &'c mut Cmd, stream: &str, tenure: Option<&Tenure>) -> &'c mut Cmd {
    match tenure {
        None => command.arg(1).arg(stream),
        Some(Tenure { lease, stream: own, .. }) => command.arg(3).arg(stream).arg(lease).arg(own),
    }
}

/// Converts an answer to a type.
pub(super) fn converted<T: FromRedisValue>(value: Value) -> Result<T, Fault> {
    T::from_redis_value(value)
        .map_err(|error| Fault::connection("the server", format!("protocol error: {error}")))
}

pub(super) fn group_state(fields: &HashMap<String, Value>) -> GroupState {
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
        read: number("entries-read"),
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Control({})", self.topology())
    }
}
