//! Identifies the server program and checks that its version is recent enough.

use std::collections::HashMap;
use std::fmt;

use redis::{FromRedisValue, Value, cmd};

use super::Control;
use crate::base::Fault;

/// The version of a server, such as 7.0.15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The oldest usable version. It has XPENDING with IDLE and exclusive ranges, needed to find
    /// the frames of a dead engine, and XTRIM with MINID.
    pub const OLDEST: Version = Version(6, 2, 0);

    /// The first version that reports the lag of a consumer group. It also accepts rights on keys for
    /// reading or writing alone.
    pub const LAG: Version = Version(7, 0, 0);

    /// Parses `7.0.15`; a missing or non-numeric part counts as 0.
    pub fn parse(text: &str) -> Version {
        let mut numbers = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Version(next(), next(), next())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What a server tells every client about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// `redis`, or the name of a compatible server.
    pub server: String,
    /// Its version.
    pub version: Version,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
}

impl Greeting {
    /// Asks the server. HELLO needs no right; INFO is the fallback if HELLO is renamed or unknown.
    ///
    /// # Errors
    /// As [`Control::run`].
    pub fn ask(control: &mut Control) -> Result<Greeting, Fault> {
        let hello = control.run::<HashMap<String, Value>>("HELLO", &cmd("HELLO"));
        let (about, [server, version, mode]) = match hello {
            Ok(about) => (about, ["server", "version", "mode"]),
            Err(Fault::Refused { .. }) => {
                let about = control.info("server")?.into_iter();
                let about = about.map(|(key, value)| (key, Value::BulkString(value.into_bytes())));
                (about.collect(), ["", "redis_version", "redis_mode"])
            }
            Err(fault) => return Err(fault),
        };
        let text = |key: &str| {
            let value = about.get(key).and_then(|value| String::from_redis_value_ref(value).ok());
            value.unwrap_or_default()
        };
        let server = Some(text(server)).filter(|name| !name.is_empty());
        Ok(Greeting {
            server: server.unwrap_or_else(|| "redis".into()),
            version: Version::parse(&text(version)),
            mode: text(mode),
        })
    }

    /// A rule of ACL SETUSER in the words of this server: before 7.0, a key can only be granted for
    /// reading and writing.
    pub fn rule(&self, rule: &str) -> String {
        match self.version < Version::LAG {
            true => rule.replace("%R~", "~").replace("%W~", "~"),
            false => rule.to_owned(),
        }
    }

    /// Fails if the server lacks something that the engine needs.
    ///
    /// # Errors
    /// [`Fault::Unusable`] with what is missing.
    pub fn require(&self, endpoint: &dyn fmt::Display) -> Result<(), Fault> {
        match self.too_old() {
            Some(why) => Err(Fault::Unusable(format!("{self} at {endpoint} {why}"))),
            None => Ok(()),
        }
    }

    /// The reason why the server is too old; `None` if it is not.
    pub fn too_old(&self) -> Option<String> {
        (self.version < Version::OLDEST).then(|| {
            format!(
                "is too old: XPENDING has no IDLE before {}, so that frames of an engine that died \
                 would never be taken over; install Redis 6.2 or newer",
                Version::OLDEST
            )
        })
    }

    /// An optional feature that this server lacks, if any.
    pub fn lacks(&self) -> Option<&'static str> {
        (self.version < Version::LAG)
            .then_some("XINFO GROUPS reports the lag of a group only from 7.0.0 on")
    }
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.server.as_str() {
            "redis" => "Redis",
            "valkey" => "Valkey",
            other => other,
        };
        write!(f, "{name} {}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(version: &str) -> Greeting {
        let version = Version::parse(version);
        Greeting { server: "redis".into(), version, mode: "standalone".into() }
    }

    #[test]
    fn a_server_that_cannot_find_stale_frames_is_refused() {
        for (version, usable) in [("5.0.14", false), ("6.0.16", false), ("6.2.0", true)] {
            assert_eq!(greeting(version).require(&"here").is_ok(), usable, "{version}");
        }
        let fault = greeting("6.0.16").require(&"127.0.0.1:6379").unwrap_err().to_string();
        assert!(fault.contains("Redis 6.0.16 at 127.0.0.1:6379 is too old"), "{fault}");
        assert!(fault.contains("XPENDING"), "it names the command: {fault}");
    }

    #[test]
    fn the_lag_is_told_from_7_on() {
        assert!(greeting("6.2.14").lacks().is_some());
        assert!(greeting("7.0.15").lacks().is_none());
        assert!(greeting("10.1").lacks().is_none());
    }
}
