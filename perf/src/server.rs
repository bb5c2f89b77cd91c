//! The private redis-server of a run, and a plain connection to it.

use framepress::base::Stop;
use framepress::redis::{Address, Embedded};
use redis::FromRedisValue;

use crate::Outcome;

/// A running server; gone when dropped.
pub struct Server {
    connection: redis::Connection,
    // Declared last: connections go first.
    embedded: Embedded,
}

impl Server {
    pub fn start() -> Outcome<Server> {
        let embedded = Embedded::start(&Stop::default())?;
        let client = redis::Client::open(format!("redis+unix://{}", embedded.address()))?;
        Ok(Server { connection: client.get_connection()?, embedded })
    }

    pub fn address(&self) -> &Address {
        self.embedded.address()
    }

    /// Where it listens, as the engine's configuration wants it.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.address())
    }

    /// Runs one command.
    pub fn run<T: FromRedisValue>(&mut self, words: &[&str]) -> Outcome<T> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        Ok(command.query(&mut self.connection)?)
    }

    /// Entries of a group that are not delivered, or delivered and not acknowledged.
    pub fn unfinished(&mut self, stream: &str, group: &str) -> Outcome<u64> {
        use redis::streams::{StreamInfoGroupsReply, StreamPendingReply};
        let groups: StreamInfoGroupsReply = self.run(&["XINFO", "GROUPS", stream])?;
        let ours = groups.groups.iter().find(|ours| ours.name == group);
        let lag = ours.and_then(|ours| ours.lag).unwrap_or(0) as u64;
        let pending: StreamPendingReply = self.run(&["XPENDING", stream, group])?;
        Ok(lag + pending.count() as u64)
    }
}
