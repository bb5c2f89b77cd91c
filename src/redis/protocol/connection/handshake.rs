//! The handshake: credentials, database, role, name and clock.

use std::sync::Arc;
use std::time::Duration;

use super::{Connection, Socket, text};
use crate::base::{Fault, Stop};
use crate::metrics::clock::Tick;
use crate::metrics::{Counter, Metrics};
use crate::redis::protocol::Address;
use crate::redis::protocol::address::Login;
use crate::redis::protocol::request::Request;
use crate::redis::protocol::resp::{RespLimits, RespReader};

impl Connection {
    /// Sends all commands of the handshake at once, for one round trip.
    pub(super) fn connect_as(
        name: Option<&str>,
        asks_time: bool,
        address: &Address,
        timeout: Duration,
        metrics: Option<&Arc<Metrics>>,
        stop: &Stop,
    ) -> Result<Connection, Fault> {
        let socket = Socket::open(address, timeout, stop)
            .map_err(|error| Fault::connection(address, error))?;
        if let Some(metrics) = metrics {
            metrics.add(Counter::ConnectionsOpened, 1);
        }
        let mut connection = Connection {
            socket,
            reader: RespReader::new(RespLimits::REDIS),
            address: address.clone(),
            endpoint: address.to_string(),
            answered: false,
            metrics: metrics.map(Arc::clone),
            round_trip: metrics
                .map(|metrics| metrics.round_trips.of(&address.to_string()))
                .unwrap_or_default(),
        };
        let Login { username, password, database } = address.login();
        let mut request = Request::default();
        if let Some(password) = password {
            request.command(if username.is_some() { 3 } else { 2 }).arg("AUTH");
            if let Some(user) = username {
                request.arg(user);
            }
            request.arg(password);
        }
        if *database != 0 {
            request.command(2).arg("SELECT").number(database);
        }
        if address.must_be_primary() {
            request.command(1).arg("ROLE");
        }
        if let Some(name) = name {
            let name: Vec<u8> = name
                .bytes()
                .map(|byte| if byte.is_ascii_graphic() { byte } else { b'_' })
                .collect();
            request.command(3).arg("CLIENT").arg("SETNAME").arg(name);
        }
        if asks_time {
            request.command(1).arg("TIME");
        }
        if request.text().is_empty() {
            return Ok(connection);
        }
        let asked = Tick::now();
        connection.send(&request, &[])?;
        if password.is_some() {
            connection.number("AUTH").map_err(without_arguments)?;
        }
        if *database != 0 {
            connection.number("SELECT")?;
        }
        if address.must_be_primary() {
            connection.confirm_primary()?;
        }
        // The name and the clock are optional: an account may lack the right to CLIENT or TIME.
        if name.is_some() {
            unless_refused(connection.number("CLIENT"))?;
            connection.round_trip.sample(asked.elapsed());
            connection.answered = true;
        }
        if asks_time {
            connection.take_clock(asked)?;
        }
        Ok(connection)
    }

    /// Reads the answer to TIME.
    fn take_clock(&mut self, asked: Tick) -> Result<(), Fault> {
        match self.array("TIME") {
            Ok(Some(2)) => {}
            Ok(_) => return Err(self.surprised()),
            Err(Fault::Refused { .. }) => return Ok(()),
            Err(fault) => return Err(fault),
        }
        let mut part = || -> Result<u64, Fault> {
            let digits = self.small_text()?;
            let number = std::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok());
            number.ok_or_else(|| self.surprised())
        };
        let time = Duration::from_secs(part()?).saturating_add(Duration::from_micros(part()?));
        if let Some(metrics) = &self.metrics {
            metrics.redis_clock.sample(time, asked);
        }
        Ok(())
    }

    /// Fails if the server is not a primary: the Sentinel or node that named it was wrong or late.
    fn confirm_primary(&mut self) -> Result<(), Fault> {
        let count = self.array("ROLE")?.unwrap_or(0);
        if count == 0 {
            return Err(self.surprised());
        }
        let role = self.small_text()?;
        for _ in 1..count {
            self.skip_answer()?;
        }
        if role.as_slice() == b"master" {
            return Ok(());
        }
        let role = text(&role);
        Err(self.refused("ROLE", format!("READONLY it is a {role}, not the primary")))
    }
}

/// Removes the arguments (the password) that a server without AUTH repeats in its error.
fn without_arguments(fault: Fault) -> Fault {
    match fault {
        Fault::Refused { endpoint, command, message } => {
            let message = message.split(", with args").next().unwrap_or_default().to_owned();
            Fault::Refused { endpoint, command, message }
        }
        other => other,
    }
}

fn unless_refused(answer: Result<i64, Fault>) -> Result<i64, Fault> {
    match answer {
        Err(Fault::Refused { .. }) => Ok(0),
        other => other,
    }
}
