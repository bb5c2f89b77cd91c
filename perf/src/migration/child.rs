//! A child process of a measurement: its output goes into a file, its usage comes from the kernel.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Outcome;
use crate::load::{Usage, usage_of};

/// Time limit of a requested end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A running process; dropping the value kills it.
pub struct ChildProcess {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl ChildProcess {
    /// Starts a program. Its output goes into a file of `folder`.
    pub fn start(name: &'static str, mut command: Command, folder: &Path) -> Outcome<ChildProcess> {
        let log = folder.join(format!("{}.log", name.replace(' ', "-")));
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| format!("{name} cannot start: {error}"))?;
        Ok(ChildProcess { name, child, log })
    }

    /// An error with its last output if it has ended.
    pub fn check(&mut self) -> Outcome<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                Err(format!("{} ended with {status}:\n{}", self.name, self.last_words()).into())
            }
        }
    }

    /// The end of its output.
    pub fn last_words(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    pub fn usage(&self) -> Outcome<Usage> {
        usage_of(self.child.id())
    }

    /// Asks it to end, and waits.
    pub fn end(mut self) -> Outcome<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > END_LIMIT {
                return Err(format!("{} does not end when it is asked to", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
