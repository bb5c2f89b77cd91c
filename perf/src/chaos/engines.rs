//! The engine processes of an episode: started, signalled, watched, and asked for their accounts.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use framepress_proxy::{Direction, Link, Proxy};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::draw::{Setup, Topology};
use super::names::GROUP;
use super::world::World;
use crate::Outcome;

/// Time limit of a requested engine end; the engine's own limit is five seconds.
const END_LIMIT: Duration = Duration::from_secs(12);
/// Length of a lease, in milliseconds: shorter than the claim time, so that a stopped engine loses
/// its lease.
const LEASE_MS: u64 = 900;
/// A piece of this size, in bytes, is inside a frame or a result.
pub(super) const INSIDE_A_BULK: usize = 2_000;
/// Time limit of an engine's answer about its state.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// An engine's account of the frames it read. Other fields are ignored.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    pub read: u64,
    pub out: u64,
    pub rejected: u64,
    pub dead_lettered: u64,
    pub shed: u64,
    pub lost: u64,
    #[serde(default)]
    pub superseded: u64,
    #[serde(default)]
    pub abandoned: u64,
    #[serde(default)]
    pub handed_over: u64,
    pub in_flight: u64,
    pub balanced: bool,
}

/// How one process of an engine ended, and its last account.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    pub engine: usize,
    pub incarnation: usize,
    /// `None` after SIGKILL, as the process could not report.
    pub account: Option<Account>,
    pub status: String,
    /// Whether it was the last one, after everything was healed.
    pub at_the_end: bool,
}

/// One engine: its configuration, its proxy, and its process if there is one.
pub struct Engine {
    pub index: usize,
    pub proxy: Option<Proxy>,
    pub clock: Option<Clock>,
    bin: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
    incarnation: usize,
    /// Whether this process has reported ready since it started.
    pub was_ready: bool,
    /// When it was asked to end.
    asked: Option<Instant>,
    pub is_stopped: bool,
}

impl Engine {
    /// Restores the network: the proxy forwards everything and breaks no connection.
    pub fn heal_network(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.reset_inside(Direction::Answer, 0);
            proxy.reset_inside(Direction::Request, 0);
            proxy.stall(false);
        }
    }

    /// Engine number `index` of `world`, with its configuration and output in `folder`.
    pub fn new(
        index: usize,
        setup: &Setup,
        world: &World,
        bin: &Path,
        folder: &Path,
    ) -> Outcome<Engine> {
        // A proxy is impossible if servers announce each other's addresses.
        let proxy = match setup.topology {
            Topology::Single => Some(Proxy::before_port(
                world.nodes[0].port,
                Link::with_round_trip(Duration::from_millis(setup.round_trip_ms)),
            )?),
            Topology::Sentinel | Topology::Cluster => None,
        };
        let url = world.url(proxy.as_ref().map_or(0, Proxy::port));
        let name = format!("engine-{index}");
        let clock = setup.clocks.then(|| Clock::new(folder, &name)).transpose()?;
        let streams = &world.streams;
        let mut config = String::from("redis_queue:\n");
        writeln!(config, "  url: {url}\n  input_queue: '{}'", streams.input)?;
        writeln!(config, "  output_queue: '{}'", streams.output)?;
        writeln!(config, "  consumer_group: {GROUP}\n  consumer_name: {name}")?;
        writeln!(config, "  assignment: {}\n  lease_ms: {LEASE_MS}", setup.assignment)?;
        writeln!(config, "  delivery: {}\n  retention: {}", setup.delivery, setup.retention)?;
        writeln!(
            config,
            "  claim_idle_ms: {}\n  timeout: {}",
            setup.claim_idle_ms, setup.timeout_s
        )?;
        writeln!(config, "  batch_size: {}", setup.batch_size)?;
        writeln!(config, "  compression_format: {}\n  webp_method: 4", setup.codec)?;
        match setup.output_limit {
            0 => writeln!(config, "  max_queue_length: 1000000000")?,
            limit => writeln!(config, "  output_full: block\n  max_queue_length: {limit}")?,
        }
        writeln!(config, "engine:\n  workers: 2")?;
        writeln!(config, "  drain_timeout_ms: {}", setup.drain_timeout_ms)?;
        writeln!(config, "ring:\n  dir: '{}'", world.rings.display())?;
        config.push_str("stats:\n  addr: 127.0.0.1:0\nlog:\n  level: info\n");
        fs::write(folder.join(format!("{name}.yaml")), config)?;
        Ok(Engine {
            index,
            proxy,
            clock,
            bin: bin.to_owned(),
            folder: folder.to_owned(),
            child: None,
            incarnation: 0,
            was_ready: false,
            asked: None,
            is_stopped: false,
        })
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(format!("engine-{}-{}.log", self.index, self.incarnation))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn start(&mut self) -> Outcome<()> {
        self.incarnation += 1;
        self.was_ready = false;
        self.asked = None;
        self.is_stopped = false;
        let mut command = Command::new(&self.bin);
        command
            .arg("run")
            .arg("--config")
            .arg(self.folder.join(format!("engine-{}.yaml", self.index)));
        if let Some(clock) = &self.clock {
            clock.rule(&mut command, false);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.log_file())?)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it has started and was not asked to end.
    pub fn is_at_work(&self) -> bool {
        self.child.is_some() && self.was_ready && self.asked.is_none()
    }

    /// Whether it was asked to end and still runs.
    pub fn is_ending(&self) -> bool {
        self.child.is_some() && self.asked.is_some()
    }

    pub fn signal(&mut self, signal: Signal) -> Outcome<()> {
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), signal)?;
        }
        if signal == Signal::TERM {
            self.asked = Some(Instant::now());
        }
        Ok(())
    }

    /// Kills the process.
    pub fn kill(&mut self) -> Outcome<Option<Ended>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        child.kill()?;
        let status = child.wait()?;
        Ok(Some(self.ended(status, None)))
    }

    fn ended(&self, status: ExitStatus, account: Option<Account>) -> Ended {
        let (engine, incarnation) = (self.index, self.incarnation);
        Ended { engine, incarnation, account, status: status.to_string(), at_the_end: false }
    }

    /// Checks whether it has ended: as requested (`Ok`), or otherwise (the complaint).
    pub fn look(&mut self) -> Outcome<Option<Result<Ended, String>>> {
        if !self.was_ready && self.child.is_some() && !self.is_stopped {
            self.was_ready = self.log().contains("INFO running:");
        }
        let Some(child) = &mut self.child else { return Ok(None) };
        let name = format!("engine {} (process {})", self.index, self.incarnation);
        let Some(status) = child.try_wait()? else {
            if self.asked.is_some_and(|asked| asked.elapsed() > END_LIMIT) {
                child.kill()?;
                child.wait()?;
                self.child = None;
                let tail = self.tail();
                return Ok(Some(Err(format!("{name} did not end within {END_LIMIT:?}:\n{tail}"))));
            }
            return Ok(None);
        };
        self.child = None;
        if self.asked.is_none() {
            let tail = self.tail();
            return Ok(Some(Err(format!("{name} ended by itself, {status}:\n{tail}"))));
        }
        let account = last_account(&self.log());
        Ok(Some(Ok(self.ended(status, account))))
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Its current account, over its statistics port.
    pub fn account(&self) -> Outcome<Account> {
        let log = self.log();
        let address = log.lines().find_map(|line| line.split("statistics on http://").nth(1));
        let address = address.ok_or("it has not said where its statistics are")?.trim();
        let mut stream = TcpStream::connect_timeout(&address.parse()?, ASK_LIMIT)?;
        stream.set_read_timeout(Some(ASK_LIMIT))?;
        let path = "/api/v1/system/metrics";
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split("\r\n\r\n").nth(1).ok_or("no body")?;
        let whole: serde_json::Value = serde_json::from_str(body.trim())?;
        Ok(serde_json::from_value(whole["conservation"].clone())?)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The account in the last line of a log: `ended: 10 read, 9 out, ... 0 in flight`.
fn last_account(log: &str) -> Option<Account> {
    if log.contains("stopped before it could start") {
        return Some(Account { balanced: true, ..Account::default() });
    }
    let line = log.lines().rev().find_map(|line| line.split("ended: ").nth(1))?;
    let of = |name: &str| {
        let part = line.split(", ").find(|part| part.trim_end().ends_with(name));
        part.and_then(|part| part.split(' ').next()?.parse().ok()).unwrap_or(0)
    };
    let mut account = Account {
        read: of("read"),
        out: of("out"),
        rejected: of("rejected"),
        dead_lettered: of("dead-lettered"),
        shed: of("shed"),
        lost: of("lost"),
        handed_over: of("handed over"),
        in_flight: of("in flight"),
        ..Account::default()
    };
    account.balanced = account.read
        == account.out
            + account.rejected
            + account.dead_lettered
            + account.shed
            + account.lost
            + account.handed_over
            + account.in_flight;
    Some(account)
}
