//! Faults of the server: refused commands, silence and process ends.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::processes::CLOCK_STEPS;
use super::{Nemesis, Step};
use crate::Outcome;
use crate::chaos::draw::Planned;
use crate::chaos::kind::Kind;
use crate::chaos::names::{PASSWORD, USER};
use crate::chaos::node::{Link, free_port, until};

/// Counts iterations, as the clock stands still in a script.
const BUSY: &str = "local n = 0 while n < tonumber(ARGV[1]) do n = n + 1 end return n";
/// Iterations used to measure how many run per millisecond.
const SAMPLE: u64 = 1_000_000;

impl Nemesis {
    /// Begins a fault that a command causes.
    pub(super) fn trouble(&mut self, fault: &Planned) -> Outcome<Step> {
        let lasts = fault.lasts_ms.to_string();
        match fault.kind {
            Kind::ClientKill => self.tell(&["CLIENT", "KILL", "TYPE", "normal"])?,
            Kind::ClientPause => {
                let what = if fault.pick.is_multiple_of(2) { "ALL" } else { "WRITE" };
                self.tell(&["CLIENT", "PAUSE", &lasts, what])?;
                return Step::done(what);
            }
            Kind::ScriptFlush => self.tell(&["SCRIPT", "FLUSH"])?,
            Kind::ScriptKill => {
                self.tell(&["CONFIG", "SET", "busy-reply-threshold", "50"])?;
                self.keep_busy(vec!["EVAL".into(), BUSY.into(), "0".into(), "1e15".into()])?;
                std::thread::sleep(Duration::from_millis(fault.lasts_ms));
                let link = self.holder()?;
                // The script may not have begun yet.
                until("the script is killed", || link.run::<()>(&["SCRIPT", "KILL"]).is_ok())?;
            }
            Kind::LongScript => {
                self.tell(&["CONFIG", "SET", "busy-reply-threshold", "100"])?;
                let began = Instant::now();
                self.tell(&["EVAL", BUSY, "0", &SAMPLE.to_string()])?;
                let sample_ms = began.elapsed().as_millis().max(1) as u64;
                let steps = (fault.lasts_ms * SAMPLE / sample_ms).to_string();
                self.keep_busy(vec!["EVAL".into(), BUSY.into(), "0".into(), steps])?;
            }
            Kind::DebugSleep => {
                let seconds = (fault.lasts_ms as f64 / 1000.0).to_string();
                self.keep_busy(vec!["DEBUG".into(), "SLEEP".into(), seconds])?;
            }
            Kind::AclXack | Kind::AclXadd | Kind::AclXreadgroup | Kind::AclEvalsha => {
                self.tell(&["ACL", "SETUSER", USER, &format!("-{}", right(fault.kind))])?;
            }
            Kind::Password => {
                self.tell(&["ACL", "SETUSER", USER, &format!("<{PASSWORD}")])?;
                self.tell(&["CLIENT", "KILL", "USER", USER])?;
            }
            Kind::OutOfMemory => self.tell(&["CONFIG", "SET", "maxmemory", "1mb"])?,
            Kind::Misconf => {
                let node = &self.world.nodes[0];
                node.block_dump(true)?;
                self.tell(&["CONFIG", "SET", "save", "3600 1"])?;
                self.tell(&["BGSAVE"])?;
            }
            Kind::NoReplicas => self.tell(&["CONFIG", "SET", "min-replicas-to-write", "1"])?,
            Kind::ReadOnly => self.tell(&["REPLICAOF", "127.0.0.1", "1"])?,
            Kind::MaxClients => {
                // Enough for this process' own connections.
                self.tell(&["CONFIG", "SET", "maxclients", "5"])?;
                self.tell(&["CLIENT", "KILL", "USER", USER])?;
            }
            other => return Err(format!("{} is not a trouble of the server", other.name()).into()),
        }
        Step::done("")
    }

    /// Ends such a fault.
    pub(super) fn relieve(&mut self, fault: &Planned) -> Outcome<Step> {
        match fault.kind {
            Kind::ScriptKill | Kind::LongScript | Kind::DebugSleep => {
                for thread in self.busy.drain(..) {
                    let _ = thread.join();
                }
                self.tell(&["CONFIG", "SET", "busy-reply-threshold", "5000"])?;
            }
            Kind::AclXack | Kind::AclXadd | Kind::AclXreadgroup | Kind::AclEvalsha => {
                self.tell(&["ACL", "SETUSER", USER, &format!("+{}", right(fault.kind))])?;
            }
            Kind::Password => self.tell(&["ACL", "SETUSER", USER, &format!(">{PASSWORD}")])?,
            Kind::OutOfMemory => self.tell(&["CONFIG", "SET", "maxmemory", "0"])?,
            Kind::Misconf => {
                self.tell(&["CONFIG", "SET", "save", ""])?;
                self.world.nodes[0].block_dump(false)?;
            }
            Kind::NoReplicas => self.tell(&["CONFIG", "SET", "min-replicas-to-write", "0"])?,
            Kind::ReadOnly => self.tell(&["REPLICAOF", "NO", "ONE"])?,
            Kind::MaxClients => self.tell(&["CONFIG", "SET", "maxclients", "1000"])?,
            // CLIENT PAUSE ends by itself.
            _ => {}
        }
        Step::done("")
    }

    fn tell(&mut self, words: &[&str]) -> Outcome<()> {
        let _: redis::Value = self.holder()?.insist(words)?;
        Ok(())
    }

    /// Runs a long command on a separate connection.
    fn keep_busy(&mut self, words: Vec<String>) -> Outcome<()> {
        let port = self.holder()?.port();
        self.busy.push(std::thread::spawn(move || {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // A killed script answers with an error.
            let _: Result<redis::Value, _> = Link::to(port).run(&words);
        }));
        Ok(())
    }

    /// Faults of the server's process and its clock.
    pub(super) fn disturb_server(&mut self, fault: &Planned) -> Outcome<Step> {
        let pause = Duration::from_millis(fault.lasts_ms);
        match fault.kind {
            Kind::StopServer => {
                self.world.nodes[0].signal(Signal::STOP)?;
                std::thread::sleep(pause);
                self.world.nodes[0].signal(Signal::CONT)?;
            }
            Kind::ClockOfServer => {
                let step = CLOCK_STEPS[fault.pick as usize % CLOCK_STEPS.len()];
                let Some(clock) = self.world.nodes[0].clock() else {
                    return Step::done("it has no clock of its own");
                };
                clock.step(step)?;
                return Step::done(format!("{step:+} s"));
            }
            Kind::RestartServer | Kind::CrashServer => {
                let signal =
                    if fault.kind == Kind::RestartServer { Signal::TERM } else { Signal::KILL };
                let node = &mut self.world.nodes[0];
                node.end(signal)?;
                std::thread::sleep(pause);
                node.spawn(&[])?;
            }
            _ => {
                self.world.nodes[0].end(Signal::KILL)?;
                // Restarted on another port, where no engine connects, to find out what is lost.
                let port = free_port()?;
                self.world.nodes[0].spawn(&["--port", &port.to_string()])?;
                let usual = std::mem::replace(&mut self.admin, Link::to(port));
                let gone = self.snapshot_of(&[], true);
                self.admin = usual;
                let node = &mut self.world.nodes[0];
                node.end(Signal::KILL)?;
                node.wipe()?;
                std::thread::sleep(pause);
                node.spawn(&[])?;
                return self.input_is_gone(&gone?);
            }
        }
        // All earlier connections may be broken.
        self.admin = Link::to(self.admin.port());
        Step::done("")
    }

    pub(super) fn right_clock_of_server(&mut self) -> Outcome<Step> {
        if let Some(clock) = self.world.nodes[0].clock() {
            clock.step(0)?;
        }
        Step::done("")
    }
}

fn right(kind: Kind) -> &'static str {
    match kind {
        Kind::AclXack => "xack",
        Kind::AclXadd => "xadd",
        Kind::AclXreadgroup => "xreadgroup",
        _ => "evalsha",
    }
}
