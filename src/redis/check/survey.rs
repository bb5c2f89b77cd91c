//! Collects facts from a server about itself and the streams, without judging them. If the account
//! may not ask a question, its answer is missing.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, Value, cmd};

use super::rights::{Missing, Usage, When};
use crate::base::Fault;
use crate::metrics::clock::{Tick, unix_seconds};
use crate::redis::control::{Control, Greeting, lease_key};
use crate::redis::topology::{Streams, Topology};

/// Number of questions asked to measure the round trip.
const QUESTIONS: usize = 3;

/// All facts collected.
#[derive(Clone, Debug)]
pub struct Survey {
    /// Server program and version.
    pub greeting: Greeting,
    /// How far the server's clock is ahead of ours, in seconds.
    pub clock_ahead_seconds: Option<f64>,
    /// The shortest measured round trip.
    pub round_trip: Duration,
    /// From INFO.
    pub info: Option<Info>,
    /// From CONFIG GET.
    pub settings: Option<Settings>,
    /// The streams of each shard.
    pub streams: Vec<Streams<KeyState>>,
    /// The consumer group on each input stream, if it exists.
    pub groups: Vec<Option<GroupFacts>>,
    /// For exclusive streams, the holder of each lease; empty if no engine holds it.
    pub holders: Vec<Option<String>>,
    /// Missing rights of the account, and missing commands of the server.
    pub missing: Vec<Missing>,
}

/// Facts from INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// `master` or `slave`, as the server says.
    pub role: String,
    /// The address of its primary, if it is a replica.
    pub primary: Option<String>,
    /// Number of connected replicas.
    pub replicas: u64,
    /// Size of the replication backlog in bytes.
    pub backlog_bytes: u64,
    /// Whether it is still loading its data from disk.
    pub loading: bool,
    /// Whether the append-only file is on.
    pub aof: bool,
    /// Whether the last write to the append-only file succeeded.
    pub aof_write_ok: bool,
    /// Whether the last snapshot succeeded.
    pub snapshot_ok: bool,
    /// Memory in use, in bytes.
    pub memory_bytes: u64,
    /// `maxmemory`, 0 for none.
    pub memory_bytes_max: u64,
    /// `maxmemory-policy`.
    pub policy: String,
    /// Memory of its host, in bytes.
    pub system_bytes: u64,
    /// Keys evicted since the start.
    pub evicted: u64,
    /// Whether it is a node of a Cluster.
    pub cluster: bool,
}

/// Facts from CONFIG GET. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `save`: empty for no snapshots.
    pub save: String,
    /// `appendfsync`.
    pub appendfsync: String,
    /// `stop-writes-on-bgsave-error`.
    pub stop_writes: bool,
    /// `client-output-buffer-limit` for normal clients.
    pub output_buffer: BufferLimit,
    /// `client-output-buffer-limit` for replicas.
    pub replica_buffer: BufferLimit,
    /// `proto-max-bulk-len`.
    pub bulk_bytes_max: u64,
    /// `client-query-buffer-limit`.
    pub query_bytes_max: u64,
    /// `timeout` of idle clients in seconds, 0 for never.
    pub idle_seconds_max: u64,
    /// `tcp-keepalive` in seconds, 0 for never.
    pub keepalive_seconds: u64,
}

/// One class of `client-output-buffer-limit`; 0 means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BufferLimit {
    /// Bytes above which a client is disconnected at once.
    pub hard: u64,
    /// Bytes above which a client is disconnected after `seconds`.
    pub soft: u64,
    /// See `soft`.
    pub seconds: u64,
}

/// State of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyState {
    /// Its name.
    pub name: String,
    /// Its type, `none` if there is no such key; `None` if the server refused to answer.
    pub kind: Option<String>,
    /// Number of entries.
    pub length: u64,
    /// Memory in bytes, estimated by the server.
    pub memory_bytes: u64,
}

/// State of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// Entries not delivered yet, if the server can tell.
    pub lag: Option<u64>,
    /// The pending entry with the smallest id.
    pub oldest: Option<OldestPending>,
    /// Its consumers.
    pub consumers: Vec<ConsumerFacts>,
}

/// The first entry of a pending entries list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldestPending {
    /// The consumer that has it.
    pub consumer: String,
    /// Time since its last delivery.
    pub idle: Duration,
    /// Its delivery count.
    pub deliveries: u64,
}

/// A consumer of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerFacts {
    /// Its name.
    pub name: String,
    /// Number of entries pending for it.
    pub pending: u64,
    /// Time since its last request.
    pub idle: Duration,
}

impl Survey {
    /// Asks a server everything. In a Cluster, questions about a key go to its node and other
    /// questions to any node. `timeout` bounds each question.
    ///
    /// # Errors
    /// [`Fault::Connection`] if the server cannot be reached, [`Fault::Refused`] if it rejects the
    /// login.
    pub fn take(topology: &Topology, usage: &Usage, timeout: Duration) -> Result<Survey, Fault> {
        let mut control = Control::new(topology, timeout);
        let greeting = Greeting::ask(&mut control)?;
        let info = permitted(control.info(""))?.map(|info| Info::parse(&info));
        let settings = Settings::ask(&mut control)?;
        let clock_ahead_seconds = clock_ahead(&mut control)?;
        let round_trip = round_trip(&mut control)?;
        let mut streams = Vec::new();
        let (mut groups, mut holders) = (Vec::new(), Vec::new());
        let is_exclusive = usage.conditions.contains(&When::Exclusive);
        for Streams { input, output, dead_letters } in &usage.streams {
            let mut key = |name: &String| KeyState::ask(&mut control, name);
            streams.push(Streams {
                input: key(input)?,
                output: key(output)?,
                dead_letters: key(dead_letters)?,
            });
            groups.push(GroupFacts::ask(&mut control, input, &usage.group)?);
            let lease = is_exclusive.then(|| lease_key(input, &usage.group));
            holders.push(lease.map(|key| holder(&mut control, &key)).transpose()?.flatten());
        }
        // On a separate connection, because the server may close it after a trial.
        let missing = usage.missing(&mut Control::new(topology, timeout))?;
        Ok(Survey {
            greeting,
            clock_ahead_seconds,
            round_trip,
            info,
            settings,
            streams,
            groups,
            holders,
            missing,
        })
    }
}

/// The answer, unless the server refused to give one.
fn permitted<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Fault::Refused { .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The holder of a lease; empty for none, `None` if the account may not ask.
fn holder(control: &mut Control, key: &str) -> Result<Option<String>, Fault> {
    let mut command = cmd("HMGET");
    command.arg(key).arg("holder");
    let answer = permitted(control.run_on::<Vec<Option<String>>>(key, "HMGET", &command))?;
    Ok(answer.map(|values| values.into_iter().flatten().next().unwrap_or_default()))
}

fn round_trip(control: &mut Control) -> Result<Duration, Fault> {
    let mut shortest = Duration::MAX;
    for _ in 0..QUESTIONS {
        let asked = Tick::now();
        // A refusal takes as long as an answer.
        permitted(control.ping())?;
        shortest = shortest.min(asked.elapsed());
    }
    Ok(shortest)
}

/// Estimates the clock difference, assuming that request and answer take equally long.
fn clock_ahead(control: &mut Control) -> Result<Option<f64>, Fault> {
    let asked = unix_seconds();
    let parts = permitted(control.run::<Vec<f64>>("TIME", &cmd("TIME")))?;
    let middle = f64::midpoint(asked, unix_seconds());
    Ok(parts.and_then(|parts| Some(parts.first()? + parts.get(1)? / 1e6 - middle)))
}

impl Info {
    /// Parses the lines of INFO.
    pub fn parse(lines: &HashMap<String, String>) -> Info {
        let text = |key: &str| lines.get(key).map(String::as_str).unwrap_or_default();
        let number = |key: &str| text(key).parse().unwrap_or(0);
        let primary = (!text("master_host").is_empty())
            .then(|| format!("{}:{}", text("master_host"), text("master_port")));
        Info {
            role: text("role").to_owned(),
            primary,
            replicas: number("connected_slaves"),
            backlog_bytes: number("repl_backlog_size"),
            loading: text("loading") == "1",
            aof: text("aof_enabled") == "1",
            aof_write_ok: text("aof_last_write_status") != "err",
            snapshot_ok: text("rdb_last_bgsave_status") != "err",
            memory_bytes: number("used_memory"),
            memory_bytes_max: number("maxmemory"),
            policy: text("maxmemory_policy").to_owned(),
            system_bytes: number("total_system_memory"),
            evicted: number("evicted_keys"),
            cluster: text("cluster_enabled") == "1",
        }
    }
}

impl Settings {
    fn ask(control: &mut Control) -> Result<Option<Settings>, Fault> {
        let Some(Some(save)) = permitted(control.setting("save"))? else { return Ok(None) };
        let mut text = |name: &str| Ok(permitted(control.setting(name))?.flatten());
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let limits = text("client-output-buffer-limit")?.unwrap_or_default();
        let class = |name| BufferLimit::parse(&limits, name);
        Ok(Some(Settings {
            save,
            appendfsync: text("appendfsync")?.unwrap_or_default(),
            stop_writes: text("stop-writes-on-bgsave-error")?.as_deref() == Some("yes"),
            output_buffer: class("normal").unwrap_or_default(),
            replica_buffer: class("slave").or_else(|| class("replica")).unwrap_or_default(),
            bulk_bytes_max: number(text("proto-max-bulk-len")?),
            query_bytes_max: number(text("client-query-buffer-limit")?),
            idle_seconds_max: number(text("timeout")?),
            keepalive_seconds: number(text("tcp-keepalive")?),
        }))
    }
}

impl BufferLimit {
    /// Parses one class out of `normal 0 0 0 slave 268435456 67108864 60 ...`.
    fn parse(limits: &str, class: &str) -> Option<BufferLimit> {
        let mut words = limits.split(' ').skip_while(|word| *word != class).skip(1);
        let mut number = || words.next()?.parse().ok();
        Some(BufferLimit { hard: number()?, soft: number()?, seconds: number()? })
    }
}

impl KeyState {
    fn ask(control: &mut Control, name: &str) -> Result<KeyState, Fault> {
        let kind = permitted(control.kind(name))?;
        let is_stream = kind.as_deref() == Some("stream");
        let length = if is_stream { permitted(control.length(name))?.unwrap_or(0) } else { 0 };
        let memory = if is_stream { permitted(control.memory(name))?.unwrap_or(0) } else { 0 };
        Ok(KeyState { name: name.to_owned(), kind, length, memory_bytes: memory })
    }
}

impl GroupFacts {
    fn ask(control: &mut Control, stream: &str, group: &str) -> Result<Option<GroupFacts>, Fault> {
        let groups = permitted(control.groups(stream))?.unwrap_or_default();
        let Some(found) = groups.into_iter().find(|known| known.name == group) else {
            return Ok(None);
        };
        let mut command = cmd("XPENDING");
        command.arg(stream).arg(group).arg("-").arg("+").arg(1);
        let pending =
            control.run_on::<Vec<(String, String, u64, u64)>>(stream, "XPENDING", &command);
        let oldest = permitted(pending)?.and_then(|entries| entries.into_iter().next());
        let mut command = cmd("XINFO");
        command.arg("CONSUMERS").arg(stream).arg(group);
        let consumers =
            control.run_on::<Vec<HashMap<String, Value>>>(stream, "XINFO CONSUMERS", &command);
        let consumers = permitted(consumers)?.unwrap_or_default();
        Ok(Some(GroupFacts {
            pending: found.pending,
            lag: found.lag,
            oldest: oldest.map(|(_, consumer, idle, deliveries)| OldestPending {
                consumer,
                idle: Duration::from_millis(idle),
                deliveries,
            }),
            consumers: consumers
                .iter()
                .map(ConsumerFacts::parse)
                .filter(|consumer| !Control::is_identity(&consumer.name))
                .collect(),
        }))
    }
}

impl ConsumerFacts {
    fn parse(fields: &HashMap<String, Value>) -> ConsumerFacts {
        let number = |key: &str| {
            let value = fields.get(key).and_then(|value| u64::from_redis_value_ref(value).ok());
            value.unwrap_or(0)
        };
        let name = fields.get("name").and_then(|value| String::from_redis_value_ref(value).ok());
        ConsumerFacts {
            name: name.unwrap_or_default(),
            pending: number("pending"),
            idle: Duration::from_millis(number("idle")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_class_are_found_by_its_name() {
        let limits = "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60";
        let replica = BufferLimit { hard: 268_435_456, soft: 67_108_864, seconds: 60 };
        assert_eq!(BufferLimit::parse(limits, "slave"), Some(replica));
        assert_eq!(BufferLimit::parse(limits, "normal"), Some(BufferLimit::default()));
        assert_eq!(BufferLimit::parse(limits, "replica"), None);
        assert_eq!(BufferLimit::parse("normal 1", "normal"), None);
    }

    #[test]
    fn info_of_a_replica_names_its_primary() {
        let lines = [("role", "slave"), ("master_host", "10.0.0.1"), ("master_port", "6379")];
        let lines = lines.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let info = Info::parse(&lines);
        assert_eq!(info.primary.as_deref(), Some("10.0.0.1:6379"));
        assert!(info.snapshot_ok && info.aof_write_ok, "not said to have failed");
    }
}
