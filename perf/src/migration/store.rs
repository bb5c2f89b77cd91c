//! One redis-server on a loopback port with default settings, but without persistence.

use std::time::{Duration, Instant};

use framepress::internals::redis::{Address, Embedded};
use redis::streams::StreamRangeReply;
use tempfile::TempDir;

use super::child::ChildProcess;
use super::ports::{Ports, Role, free_ports};
use crate::Outcome;
use crate::load::guarded;
use crate::server::Plain;

/// Time limit of the server's first answer.
const START_LIMIT: Duration = Duration::from_secs(10);

/// The running server; dropping the value removes its folder.
pub struct RedisNode {
    pub process: ChildProcess,
    pub ports: Ports,
    plain: Plain,
    // Declared last, so that the folder is removed after the process has ended.
    _folder: TempDir,
}

impl RedisNode {
    pub fn start() -> Outcome<RedisNode> {
        let folder = tempfile::Builder::new().prefix("framepress-migration-").tempdir()?;
        let [port] = free_ports::<1>()?;
        let socket = folder.path().join("redis.sock");
        let mut command = guarded(&Embedded::program().to_string_lossy());
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--daemonize", "no", "--maxmemory-policy", "noeviction"]);
        command.arg("--dir").arg(folder.path()).arg("--unixsocket").arg(&socket);
        let mut process = ChildProcess::start("redis-server", command, folder.path())?;
        let address = Address::unix(&socket);
        let began = Instant::now();
        loop {
            if let Ok(mut plain) = Plain::connect(&address)
                && plain.run::<String>(&["PING"]).is_ok()
            {
                let ports = Ports::of_one(port)?;
                return Ok(RedisNode { process, ports, plain, _folder: folder });
            }
            process.check()?;
            if began.elapsed() > START_LIMIT {
                return Err("redis-server does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Where clients of a role connect.
    pub fn address(&self, role: Role, is_counted: bool) -> Address {
        Address::tcp("127.0.0.1", self.ports.of_role(role, is_counted))
    }

    /// The same as a URL.
    pub fn url(&self, role: Role, is_counted: bool) -> String {
        format!("redis://127.0.0.1:{}/0", self.ports.of_role(role, is_counted))
    }

    /// The results of a stream: the number of the frame, and when the frame and the result were
    /// added, in milliseconds.
    pub fn added(&mut self, output: &str) -> Outcome<Vec<(usize, f64, f64)>> {
        let reply: StreamRangeReply = self.plain.run(&["XRANGE", output, "-", "+"])?;
        let entries = reply.ids.into_iter().filter_map(|entry| {
            let text = |name: &str| entry.get::<String>(name);
            let number = text("frame_id")?.strip_prefix("frame-")?.parse().ok()?;
            Some((number, millis(&text("source_id")?)?, millis(&entry.id)?))
        });
        Ok(entries.collect())
    }

    /// Bytes of memory of the streams, by `MEMORY USAGE` of all their entries.
    pub fn stored(&mut self, streams: [&str; 2]) -> Outcome<u64> {
        let mut bytes = 0;
        for stream in streams {
            let usage: Option<u64> =
                self.plain.run(&["MEMORY", "USAGE", stream, "SAMPLES", "0"])?;
            bytes += usage.unwrap_or(0);
        }
        Ok(bytes)
    }
}

/// The middle of the millisecond of an entry's id.
fn millis(id: &str) -> Option<f64> {
    Some(id.split('-').next()?.parse::<f64>().ok()? + 0.5)
}
