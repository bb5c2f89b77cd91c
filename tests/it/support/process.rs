//! The program as a process.

use std::ffi::OsString;
use std::fs::File;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{LONG, RedisServer, wait_until};

/// The program under test. `FRAMEPRESS_BIN` names another than the one just built: a script that
/// runs a build for another processor.
pub fn program() -> OsString {
    std::env::var_os("FRAMEPRESS_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_framepress").into())
}

/// A figure of `/proc/PID/status`, such as `VmRSS` in KiB; none once the process has ended.
pub fn status_of(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A running `framepress`; dropping the value kills it by process id.
pub struct FramepressProcess {
    child: Child,
    folder: TempDir,
}

impl FramepressProcess {
    /// Starts the program with arguments and environment variables.
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> FramepressProcess {
        let folder = tempfile::Builder::new().prefix("framepress-test-").tempdir().unwrap();
        let sink = |name: &str| Stdio::from(File::create(folder.path().join(name)).unwrap());
        let (out, err) = (sink("out"), sink("err"));
        let child = Command::new(program())
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap();
        FramepressProcess { child, folder }
    }

    /// `framepress run` on a server, without a stats page.
    pub fn run(server: &RedisServer, environment: &[(&str, &str)]) -> FramepressProcess {
        let url = server.url();
        let mut all = vec![
            ("REDIS_QUEUE__URL", &*url),
            ("REDIS_QUEUE__BLOCK_TIME_MS", "100"),
            ("REDIS_QUEUE__CONSUMER_NAME", "process"),
            ("ENGINE__PIN", "off"),
            ("STATS__ADDR", "null"),
        ];
        all.extend(environment);
        FramepressProcess::start(&["run"], &all)
    }

    /// Standard output and standard error so far.
    pub fn said(&self) -> String {
        let read = |name: &str| {
            let bytes = std::fs::read(self.folder.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        read("out") + &read("err")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Kills the program, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        wait_until(&format!("the end of the program; it said:\n{}", self.said()), limit, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Waits for its end, asserts the exit code, and returns its output.
    #[track_caller]
    pub fn ends_with(&mut self, code: i32) -> String {
        let status = self.wait(LONG);
        let said = self.said();
        assert_eq!(status.code(), Some(code), "{status}; it said:\n{said}");
        assert_sum_holds(&said);
        said
    }
}

impl Drop for FramepressProcess {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("framepress said:\n{}", self.said());
        }
    }
}

/// A clean end reports where every frame went: the sum must balance, with nothing in flight.
#[track_caller]
fn assert_sum_holds(said: &str) {
    let Some(line) = said.lines().rfind(|line| line.contains("ended: ")) else { return };
    let figures = line.split("ended: ").nth(1).unwrap_or_default();
    let numbers: Vec<u64> = figures
        .split(", ")
        .map(|figure| figure.split(' ').next().and_then(|number| number.parse().ok()).unwrap())
        .collect();
    let (read, rest) = numbers.split_first().unwrap();
    assert_eq!(*read, rest.iter().sum::<u64>(), "the sum does not hold: {line}");
    assert_eq!((rest.len(), rest.last()), (6, Some(&0)), "something is in flight: {line}");
}
