//! `framepress run` as a process that can be killed, stopped and resumed.

use std::process::{Child, Command, Stdio};

use framepress::internals::metrics::clock::Tick;
use rustix::process::{Pid, Signal, kill_process};

use super::LONG;

/// A running engine; dropping the value kills it by process id.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// An engine with that consumer name, with settings by dotted key.
    pub fn run(url: &str, name: &str, flags: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_framepress"));
        command.arg("run");
        let ordinary = [
            ("redis_queue.url", url),
            ("redis_queue.block_time_ms", "100"),
            ("redis_queue.timeout", "5"),
            ("redis_queue.retry_attempts", "1000"),
            ("redis_queue.consumer_name", name),
            ("engine.workers", "2"),
            ("engine.pin", "off"),
            ("stats.addr", "null"),
            ("log.level", "warn"),
        ];
        for (key, value) in ordinary.iter().chain(flags) {
            command.env(key.to_uppercase().replace('.', "__"), value);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        Process { child, name: name.to_owned() }
    }

    /// The consumer name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills the process, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops the process by SIGSTOP.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Resumes the process.
    pub fn wake(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the process cleanly.
    #[track_caller]
    pub fn terminate(mut self) {
        self.signal(Signal::TERM);
        let began = Tick::now();
        while began.elapsed() < LONG {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{}: {status}", self.name);
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("{} does not end", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
