//! A primary, two replicas and three Sentinels on this machine, for one round.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framepress::redis::Embedded;
use redis::FromRedisValue;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Outcome;

/// What the Sentinels call the primary.
const SERVICE: &str = "cabinet";

/// How long anything here may take before the round is given up.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; `what` it is, for the error.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> Outcome<()> {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > LIMIT {
            return Err(format!("not within {LIMIT:?}: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A server or a Sentinel; ended with the value.
pub struct Process {
    child: Child,
    pub port: u16,
    _folder: TempDir,
}

impl Process {
    /// Starts a server on a free port with a configuration file of those lines.
    fn start(options: &[&str], lines: &str) -> Outcome<Process> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let file = folder.path().join("redis.conf");
        let dir = folder.path().display();
        fs::write(&file, format!("bind 127.0.0.1\nport {port}\ndir {dir}\n{lines}"))?;
        let child = Command::new(Embedded::program())
            .arg(&file)
            .args(options)
            .stdout(Stdio::null())
            .spawn()?;
        let process = Process { child, port, _folder: folder };
        until("it answers", || process.ask::<String>(&["PING"]).is_ok())?;
        Ok(process)
    }

    pub fn connect(&self) -> Outcome<redis::Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(connection)
    }

    /// Runs one command on a fresh connection.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Outcome<T> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        Ok(command.query(&mut self.connect()?)?)
    }

    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Whether it is a replica that has all its primary has.
    fn is_in_step(&self) -> bool {
        let told = self.ask::<String>(&["INFO", "replication"]).unwrap_or_default();
        told.contains("role:slave") && told.contains("master_link_status:up")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole deployment. The first server is the primary at the beginning.
pub struct Deployment {
    pub servers: Vec<Process>,
    sentinels: Vec<Process>,
}

impl Deployment {
    /// Sentinels that count a primary as gone after `down_after` of silence.
    pub fn start(down_after: Duration) -> Outcome<Deployment> {
        let plain = "save \"\"\nrepl-diskless-sync-delay 0\n";
        let primary = Process::start(&[], plain)?;
        let port = primary.port;
        let mut servers = vec![primary];
        for _ in 0..2 {
            let lines = format!("{plain}replicaof 127.0.0.1 {port}\n");
            servers.push(Process::start(&[], &lines)?);
        }
        until("the replicas are in step", || servers[1..].iter().all(Process::is_in_step))?;
        let lines = format!(
            "sentinel monitor {SERVICE} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {SERVICE} {}\n\
             sentinel failover-timeout {SERVICE} 5000\n",
            down_after.as_millis()
        );
        let sentinels =
            (0..3).map(|_| Process::start(&["--sentinel"], &lines)).collect::<Outcome<Vec<_>>>()?;
        let knows_all = |sentinel: &Process| {
            let told = sentinel
                .ask::<std::collections::HashMap<String, String>>(&["SENTINEL", "MASTER", SERVICE]);
            let told = told.unwrap_or_default();
            let says = |key: &str| told.get(key).is_some_and(|count| count == "2");
            says("num-other-sentinels") && says("num-slaves")
        };
        until("the Sentinels know all", || sentinels.iter().all(knows_all))?;
        Ok(Deployment { servers, sentinels })
    }

    pub fn url(&self) -> String {
        let nodes: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis-sentinel://{}/{SERVICE}", nodes.join(","))
    }

    /// Orders a failover; when it was accepted.
    pub fn order(&self) -> Outcome<Instant> {
        let mut accepted = Instant::now();
        // A replica that has just come up is not good enough for a moment.
        until("the failover is accepted", || {
            accepted = Instant::now();
            self.sentinels[0].ask::<()>(&["SENTINEL", "FAILOVER", SERVICE]).is_ok()
        })?;
        Ok(accepted)
    }

    /// Waits until the server that was the primary is a replica.
    pub fn wait_for_old_primary(&self) -> Outcome<()> {
        until("the old primary is a replica", || self.servers[0].is_in_step())
    }
}
