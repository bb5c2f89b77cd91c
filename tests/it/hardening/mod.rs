//! Attacks on a machine at the roadside: by another user of the machine, a page in the operator's
//! browser, a server, a camera, a file. One module for each kind.

mod clocks;
mod configuration;
mod descriptors;
mod files;
mod hosts;
mod private;
mod secrets;
mod signals;
mod texts;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// The program run after a line of shell, such as `umask 000` or `ulimit -n 64`.
fn limited(line: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{line}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_framepress")])
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command
}

/// Runs the program to its end; a run of more than two minutes fails.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let line = "exec timeout -k 1 120 \"$0\" \"$@\"";
    limited(line, arguments, environment).output().unwrap()
}

/// Standard output and standard error together.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A program whose output goes to a file. Dropping the value ends it.
struct Guest {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Guest {
    fn start(mut command: Command) -> Guest {
        let log = tempfile::NamedTempFile::new().unwrap();
        let sink = || Stdio::from(log.as_file().try_clone().unwrap());
        let child = command.stdout(sink()).stderr(sink()).spawn().unwrap();
        Guest { child, log }
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log.path()).unwrap()).into_owned()
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(id, signal).unwrap();
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("it said:\n{}", self.said());
        }
    }
}

/// Paths of everything in a folder, recursively.
fn inside(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        found.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(inside(&entry.path()));
        }
    }
    found
}
