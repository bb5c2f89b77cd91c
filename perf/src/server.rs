//! The private redis-server of a run, and a plain connection to it.

use framepress::internals::base::Stop;
use framepress::internals::redis::{Address, Embedded};
use redis::FromRedisValue;

use crate::Outcome;

/// A running server, with a connection to it; dropping the value ends it.
pub struct Server {
    pub plain: Plain,
    // Declared last, so that connections are dropped first.
    embedded: Embedded,
}

/// A connection for plain commands.
pub struct Plain(redis::Connection);

impl Server {
    pub fn start() -> Outcome<Server> {
        let embedded = Embedded::start(&Stop::default())?;
        let plain = Plain::connect(embedded.address())?;
        Ok(Server { plain, embedded })
    }

    pub fn address(&self) -> &Address {
        self.embedded.address()
    }

    /// Its process id.
    pub fn process(&mut self) -> Outcome<u32> {
        let info: String = self.plain.run(&["INFO", "server"])?;
        let id = info.lines().find_map(|line| line.strip_prefix("process_id:"));
        Ok(id.ok_or("the server does not tell its process")?.trim().parse()?)
    }

    /// Its URL for the engine's configuration.
    pub fn url(&self) -> String {
        url(self.address())
    }
}

fn url(address: &Address) -> String {
    format!("redis+unix://{address}")
}

impl Plain {
    pub fn connect(address: &Address) -> Outcome<Plain> {
        Ok(Plain(redis::Client::open(url(address))?.get_connection()?))
    }

    /// Runs one command.
    pub fn run<T: FromRedisValue>(&mut self, words: &[&str]) -> Outcome<T> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        Ok(command.query(&mut self.0)?)
    }

    /// Runs several commands in one round trip.
    pub fn run_all<T: FromRedisValue>(&mut self, commands: &redis::Pipeline) -> Outcome<T> {
        Ok(commands.query(&mut self.0)?)
    }
}
