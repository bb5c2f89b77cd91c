//! A redis-server process, and a connection to it that reconnects.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framepress::internals::redis::Embedded;
use redis::FromRedisValue;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::clock::Clock;
use crate::Outcome;
use crate::common::{Chance, seed_of_now};

/// Time limit for a server to start, end or answer.
const LIMIT: Duration = Duration::from_secs(15);
/// How long a command is repeated that the server cannot execute at present.
const INSIST: Duration = Duration::from_secs(10);

/// Waits until `condition` holds; `what` names it in the error.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) -> Outcome<()> {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > LIMIT {
            return Err(format!("not within {LIMIT:?}: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Server ports lie below the range that the system assigns to outgoing connections, as a client
/// must not take the port of a server that restarts.
const PORTS: std::ops::Range<u16> = 12_000..22_000;

/// A loopback port on which nothing listens at present, nor on the port 10,000 above it, where
/// Cluster nodes talk to each other.
pub fn free_port() -> Outcome<u16> {
    let mut chance = Chance::new(seed_of_now());
    for _ in 0..100 {
        let port = PORTS.start + chance.below(PORTS.len() as u64) as u16;
        if [port, port + 10_000].iter().all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        {
            return Ok(port);
        }
    }
    Err("no free ports".into())
}

/// The redis-server program of this run.
fn server_program() -> String {
    Embedded::program().to_string_lossy().into_owned()
}

/// A server or a Sentinel; dropping the value ends it.
pub struct Node {
    child: Option<Child>,
    pub port: u16,
    program: String,
    words: Vec<String>,
    clock: Option<Clock>,
    folder: TempDir,
}

impl Node {
    /// Starts a server on a free port with a configuration file of those lines.
    pub fn server(lines: &str, clock: Option<Clock>) -> Outcome<Node> {
        let common = "save \"\"\nenable-debug-command yes\nrepl-diskless-sync-delay 0\n";
        Node::start(server_program(), &[], &format!("{common}{lines}"), clock)
    }

    /// Starts a Sentinel.
    pub fn sentinel(lines: &str) -> Outcome<Node> {
        Node::start(server_program(), &["--sentinel"], lines, None)
    }

    fn start(program: String, words: &[&str], lines: &str, clock: Option<Clock>) -> Outcome<Node> {
        let folder = tempfile::Builder::new().prefix("framepress-chaos-").tempdir()?;
        let port = free_port()?;
        let dir = folder.path().display();
        let head = format!("bind 127.0.0.1\nport {port}\ndir {dir}\ndaemonize no\n");
        fs::write(folder.path().join("redis.conf"), head + lines)?;
        let words = words.iter().map(|&word| word.to_owned()).collect();
        let mut node = Node { child: None, port, program, words, clock, folder };
        node.spawn(&[])?;
        Ok(node)
    }

    /// Starts the process with further options and waits until it answers.
    pub fn spawn(&mut self, options: &[&str]) -> Outcome<()> {
        let port = options.iter().position(|&option| option == "--port");
        let port = port.and_then(|at| options.get(at + 1)?.parse().ok()).unwrap_or(self.port);
        let mut link = Link::to(port);
        let mut failed = None;
        until("the server answers", || {
            if let Some(child) = &mut self.child
                && matches!(child.try_wait(), Ok(Some(_)))
            {
                // Connections of the previous process may still hold the port.
                self.child = None;
            }
            if self.child.is_none() {
                match self.launch(options) {
                    Ok(child) => self.child = Some(child),
                    Err(error) => failed = Some(error),
                }
            }
            failed.is_some() || link.run::<String>(&["PING"]).is_ok()
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn launch(&self, options: &[&str]) -> Outcome<Child> {
        let log = self.folder.path().join("server.log");
        let log = fs::File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&self.program);
        command.arg(self.folder.path().join("redis.conf")).args(&self.words).args(options);
        command.current_dir(self.folder.path());
        if let Some(clock) = &self.clock {
            clock.rule(&mut command, true);
        }
        let child = command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null()).spawn();
        Ok(child.map_err(|error| format!("{}: {error}", self.program))?)
    }

    pub fn signal(&self, signal: Signal) -> Outcome<()> {
        match &self.child {
            Some(child) => Ok(kill_process(Pid::from_child(child), signal)?),
            None => Ok(()),
        }
    }

    /// Sends the signal and waits for the end of the process.
    pub fn end(&mut self, signal: Signal) -> Outcome<()> {
        self.signal(signal)?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let ended = until("the server ends", || !matches!(child.try_wait(), Ok(None)));
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ended
    }

    /// Its last output, if it has ended unexpectedly.
    pub fn ended_by_itself(&mut self) -> Outcome<Option<String>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        self.child = None;
        let log = fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        Ok(Some(format!("the server ended by itself, {status}:\n{tail}")))
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Removes the server's files except its configuration and its log.
    pub fn wipe(&self) -> Outcome<()> {
        for entry in fs::read_dir(self.folder.path())? {
            let entry = entry?;
            let name = entry.file_name();
            if name == "redis.conf" || name == "server.log" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Creates a folder in place of the server's dump file, so that saving fails, or removes it.
    pub fn block_dump(&self, block: bool) -> Outcome<()> {
        let path = self.folder.path().join("dump.rdb");
        let done = if block {
            let _ = fs::remove_file(&path);
            fs::create_dir(path)
        } else {
            fs::remove_dir(path)
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }
    }

    pub fn clock(&self) -> Option<&Clock> {
        self.clock.as_ref()
    }

    /// A separate connection.
    pub fn link(&self) -> Link {
        Link::to(self.port)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A connection that opens on demand, and again after it broke.
pub struct Link {
    port: u16,
    patience: Duration,
    connection: Option<redis::Connection>,
}

impl Link {
    pub fn to(port: u16) -> Link {
        Link::with_patience(port, LIMIT)
    }

    /// A link with this time limit for each answer.
    pub fn with_patience(port: u16, patience: Duration) -> Link {
        Link { port, patience, connection: None }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs one command, once.
    pub fn run<T: FromRedisValue>(&mut self, words: &[&str]) -> Result<T, redis::RedisError> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        self.query(&command)
    }

    /// The same with a prepared command.
    pub fn query<T: FromRedisValue>(
        &mut self,
        command: &redis::Cmd,
    ) -> Result<T, redis::RedisError> {
        self.with(|connection| command.query(connection))
    }

    /// Runs `what` on the connection.
    pub fn with<T>(
        &mut self,
        what: impl FnOnce(&mut redis::Connection) -> Result<T, redis::RedisError>,
    ) -> Result<T, redis::RedisError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
                let made = client.get_connection_with_timeout(Duration::from_secs(2))?;
                made.set_read_timeout(Some(self.patience))?;
                made.set_write_timeout(Some(self.patience))?;
                made
            }
        };
        let answer = what(&mut connection);
        // After an answer of the server the connection is in sync; after any other error it may not
        // be.
        if answer.as_ref().err().is_none_or(|error| error.code().is_some()) {
            self.connection = Some(connection);
        }
        answer
    }

    /// Repeats an idempotent command until the server executes it.
    pub fn insist<T: FromRedisValue>(&mut self, words: &[&str]) -> Outcome<T> {
        let began = Instant::now();
        loop {
            match self.run(words) {
                Ok(answer) => return Ok(answer),
                Err(error) if began.elapsed() > INSIST || is_final(&error) => {
                    return Err(format!("{}: {error}", words.join(" ")).into());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// Whether repeating the command would not help.
fn is_final(error: &redis::RedisError) -> bool {
    let passing = ["BUSY", "LOADING", "MASTERDOWN", "OOM", "MISCONF", "READONLY", "NOREPLICAS"];
    error.code().is_some_and(|code| !passing.contains(&code))
}
