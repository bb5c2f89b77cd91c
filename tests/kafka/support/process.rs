//! A process that does not outlive the tests, however they end.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::LONG;
use crate::common::wait_until;

/// Waits for the end of its input, which the kernel closes when the tests end, then kills the
/// process and removes its folder. A parent-death signal would come when the thread ends that
/// started the process, and the shared broker outlives that thread. The shared broker is a static,
/// so it is never dropped.
const WATCH: &str = r#"read -r _; kill -9 "$1"; sleep 0.3; rm -rf "$2""#;

/// A running process; dropping the value kills it.
pub struct Process {
    child: Child,
    watch: Child,
}

impl Process {
    /// Starts a program that works in `folder`.
    pub fn start(command: &mut Command, folder: &Path) -> Process {
        let child = command.spawn().unwrap();
        let watch = Command::new("sh")
            .args(["-c", WATCH, "sh", &child.id().to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests only; the watch reacts to their end.
            .process_group(0)
            .spawn()
            .unwrap();
        Process { child, watch }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends the process cleanly, by SIGTERM.
    #[track_caller]
    pub fn terminate(mut self) {
        self.signal(Signal::TERM);
        wait_until("the end of the process", LONG, || {
            std::thread::sleep(Duration::from_millis(10));
            !self.is_running()
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for child in [&mut self.watch, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
