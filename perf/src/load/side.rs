//! The measured side: its processes, and the kernel's figures about them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use framepress::config::Config;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::{GROUP, INPUT, OUTPUT};
use crate::Outcome;

/// Time limit of a requested end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// What can be measured.
#[derive(Clone)]
pub enum Program {
    /// `framepress run` with a configuration, as several engines that share the group. Its Redis
    /// URL is replaced.
    Engine { bin: PathBuf, config: Box<Config>, engines: usize },
    /// Another program, as several processes that share the group. It finds the socket, the
    /// streams, the group and its own number in `PEER_...` variables.
    Peer { command: Vec<String>, processes: usize },
}

impl Program {
    /// One engine.
    pub fn engine(bin: &Path, config: Config) -> Program {
        Program::Engine { bin: bin.to_owned(), config: Box::new(config), engines: 1 }
    }

    /// Number of shards whose streams it reads and writes.
    pub fn shards(&self) -> usize {
        match self {
            Program::Engine { config, .. } => config.redis_queue.shards,
            Program::Peer { .. } => 1,
        }
    }

    /// Folder of the ring, if the pixels do not go through Redis.
    pub fn ring_folder(&self) -> Option<&Path> {
        match self {
            Program::Engine { config, .. } => config.ring.dir.as_deref(),
            Program::Peer { .. } => None,
        }
    }

    /// Whether each shard is read by one process at a time.
    pub fn is_exclusive(&self) -> bool {
        match self {
            Program::Engine { config, .. } => config.redis_queue.is_exclusive(),
            Program::Peer { .. } => false,
        }
    }
}

/// Running processes; dropping the value kills them.
pub struct Side {
    children: Vec<Child>,
    folder: PathBuf,
}

/// The kernel's counts for a process so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Usage {
    pub cpu_seconds: f64,
    /// Page faults.
    pub page_faults: u64,
    /// Voluntary and involuntary context switches.
    pub switches: u64,
    pub rss_bytes: u64,
}

impl Side {
    /// Starts a program on a server that listens on `socket`; its output goes into `folder`.
    pub fn start(program: &Program, socket: &Path, folder: &Path) -> Outcome<Side> {
        let mut side = Side { children: Vec::new(), folder: folder.to_owned() };
        match program {
            Program::Engine { bin, config, engines } => {
                if !bin.is_file() {
                    return Err(format!("no program at {}; see --bin", bin.display()).into());
                }
                let mut config = (**config).clone();
                let url = format!("redis+unix://{}", socket.display());
                config.redis_queue.url = framepress::config::RedisUrl::parse(&url)?;
                config.stats.addr = None;
                let file = folder.join("framepress.yaml");
                fs::write(&file, changes(&config))?;
                for index in 0..*engines {
                    let mut command = guarded(bin.as_os_str().to_str().unwrap_or_default());
                    command.arg("run").arg("--config").arg(&file);
                    // Print the allocator's statistics at the end, if it supports that.
                    command.env("MIMALLOC_SHOW_STATS", "1");
                    if *engines > 1 {
                        command.env("REDIS_QUEUE__CONSUMER_NAME", format!("engine-{index}"));
                    }
                    side.spawn(command, index)?;
                }
            }
            Program::Peer { command: words, processes } => {
                for index in 0..*processes {
                    let [program, rest @ ..] = &words[..] else { return Err("no command".into()) };
                    let mut command = guarded(program);
                    command.args(rest);
                    command
                        .env("PEER_SOCKET", socket)
                        .env("PEER_CONSUMER", format!("peer-{index}"));
                    command.env("PEER_INPUT", INPUT).env("PEER_OUTPUT", OUTPUT);
                    command.env("PEER_GROUP", GROUP);
                    side.spawn(command, index)?;
                }
            }
        }
        Ok(side)
    }

    fn spawn(&mut self, mut command: Command, index: usize) -> Outcome<()> {
        let log = File::create(self.log(index))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| {
            format!("cannot start {}: {error}", command.get_program().to_string_lossy())
        })?;
        self.children.push(child);
        Ok(())
    }

    fn log(&self, index: usize) -> PathBuf {
        self.folder.join(format!("side-{index}.log"))
    }

    pub fn processes(&self) -> usize {
        self.children.len()
    }

    /// An error with its last output if one of the processes has ended.
    pub fn check(&mut self) -> Outcome<()> {
        for index in 0..self.children.len() {
            if let Some(status) = self.children[index].try_wait()? {
                let said = fs::read_to_string(self.log(index)).unwrap_or_default();
                let lines: Vec<&str> = said.lines().rev().take(8).collect();
                let last = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(format!("it ended with {status}:\n{last}").into());
            }
        }
        Ok(())
    }

    pub fn usage(&self) -> Outcome<Usage> {
        self.children.iter().try_fold(Usage::default(), |sum, child| {
            let usage = usage_of(child.id())?;
            Ok(Usage {
                cpu_seconds: sum.cpu_seconds + usage.cpu_seconds,
                page_faults: sum.page_faults + usage.page_faults,
                switches: sum.switches + usage.switches,
                rss_bytes: sum.rss_bytes + usage.rss_bytes,
            })
        })
    }

    /// Asks all processes to end and waits; returns their output.
    pub fn end(mut self) -> Outcome<String> {
        for child in &self.children {
            if let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                kill_process(id, Signal::TERM)?;
            }
        }
        let began = Instant::now();
        for child in &mut self.children {
            while child.try_wait()?.is_none() {
                if began.elapsed() > END_LIMIT {
                    return Err("it does not end when it is asked to".into());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let logs = (0..self.children.len()).map(|index| fs::read_to_string(self.log(index)));
        Ok(logs.collect::<Result<Vec<_>, _>>()?.concat())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The differences of a configuration from the built-in one, as YAML, so that a build that lacks
/// some of the keys can read it.
fn changes(config: &Config) -> String {
    let lines = |config: &Config| -> Vec<(String, String)> {
        let (mut section, mut lines) = (String::new(), Vec::new());
        for line in config.to_yaml().lines() {
            if line.starts_with(' ') {
                lines.push((section.clone(), line.to_owned()));
            } else {
                line.clone_into(&mut section);
            }
        }
        lines
    };
    let builtin: BTreeSet<_> = lines(&Config::builtin()).into_iter().collect();
    let (mut text, mut open) = (String::new(), String::new());
    for (section, line) in lines(config).into_iter().filter(|line| !builtin.contains(line)) {
        if section != open {
            text.push_str(&section);
            text.push('\n');
            open = section;
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Under `setpriv`, if available, the kernel kills the child with this process, even after SIGKILL.
pub fn guarded(program: &str) -> Command {
    if Path::new("/usr/bin/setpriv").exists() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", program]);
        command
    } else {
        Command::new(program)
    }
}

/// The kernel's counts for process `id`, with all its threads and ended children.
pub fn usage_of(id: u32) -> Outcome<Usage> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name may hold any characters but ends with the last bracket; fields are counted after it.
    let fields: Vec<u64> = stat
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(|field| field.trim().parse().unwrap_or(0))
        .collect();
    let at = |index: usize| fields.get(index).copied().unwrap_or(0);
    let ticks: u64 = (11..15).map(at).sum();
    let mut switches = 0;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let status = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        for line in status.lines().filter(|line| line.contains("ctxt_switches")) {
            switches += line.rsplit('\t').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        }
    }
    Ok(Usage {
        cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        page_faults: at(7),
        switches,
        rss_bytes: at(21) * rustix::param::page_size() as u64,
    })
}

/// Bytes of memory available without swapping.
pub fn memory_available() -> Outcome<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kilobytes.ok_or("/proc/meminfo does not say how much memory is free")? << 10)
}
