//! The ports of a server: one that clients reach directly, and one for each role behind a proxy
//! that counts its bytes.

use framepress_proxy::{Link, Proxy};
use serde::Serialize;

use crate::Outcome;
use crate::distance::place::free_port;

/// The clients of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Producer,
    Processor,
    Bridge,
    Reader,
}

pub const ROLES: [Role; 4] = [Role::Producer, Role::Processor, Role::Bridge, Role::Reader];

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Producer => "producer",
            Role::Processor => "processor",
            Role::Bridge => "bridge",
            Role::Reader => "reader",
        }
    }
}

/// TCP payload bytes between one role and a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Traffic {
    pub to_broker: f64,
    pub from_broker: f64,
}

impl Traffic {
    pub fn sum(self) -> f64 {
        self.to_broker + self.from_broker
    }

    pub fn plus(self, other: Traffic) -> Traffic {
        Traffic {
            to_broker: self.to_broker + other.to_broker,
            from_broker: self.from_broker + other.from_broker,
        }
    }

    /// The increase since `before`, per frame.
    pub fn since(self, before: Traffic, frames: f64) -> Traffic {
        Traffic {
            to_broker: (self.to_broker - before.to_broker) / frames,
            from_broker: (self.from_broker - before.from_broker) / frames,
        }
    }
}

/// Ports of one server. Dropping the value ends the proxies' threads.
pub struct Ports {
    /// Port for clients that are not counted.
    pub direct: u16,
    counted: [Proxy; ROLES.len()],
}

impl Ports {
    /// For a server that listens on one port.
    pub fn of_one(direct: u16) -> Outcome<Ports> {
        Ports::of(direct, [direct; ROLES.len()])
    }

    /// For a server that listens on `behind` for the roles' proxies.
    pub fn of(direct: u16, behind: [u16; ROLES.len()]) -> Outcome<Ports> {
        let [a, b, c, d] = behind.map(|port| Proxy::before_port(port, Link::default()));
        Ok(Ports { direct, counted: [a?, b?, c?, d?] })
    }

    /// The port for a role.
    pub fn of_role(&self, role: Role, is_counted: bool) -> u16 {
        if is_counted { self.counted[role as usize].port() } else { self.direct }
    }

    /// Bytes of each role so far.
    pub fn traffic(&self) -> [Traffic; ROLES.len()] {
        ROLES.map(|role| {
            let counts = self.counted[role as usize].counts();
            Traffic {
                to_broker: counts.request_bytes as f64,
                from_broker: counts.answer_bytes as f64,
            }
        })
    }
}

/// Different loopback ports that are free at present.
pub fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    let mut ports = [0; N];
    for at in 0..N {
        while ports[at] == 0 || ports[..at].contains(&ports[at]) {
            ports[at] = free_port()?;
        }
    }
    Ok(ports)
}
