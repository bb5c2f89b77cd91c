//! The control plane: administrative commands through the `redis` crate, each with a limit on how
//! long it may take. A connection that failed once is dropped and made anew at the next command.

use std::collections::HashMap;
use std::time::Duration;

use redis::{Cmd, Connection, FromRedisValue, RedisError, Value, cmd};

use super::Address;
use crate::base::Fault;
use crate::frame::EntryId;

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
