//! Programs that this process starts, and that do not outlive it.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Lets the program lead a process group of its own, so that Ctrl-C at the terminal reaches this
/// process alone, and has the kernel end it when the thread that starts it ends: after a SIGKILL,
/// nothing else would. The thread must live as long as the program is wanted.
pub fn bind(command: &mut Command) -> &mut Command {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = rustix::process::getpid();
        let tie = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before the request reached the kernel.
            if rustix::process::getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure makes two system calls; it takes no lock and
        // allocates nothing.
        unsafe { command.pre_exec(tie) };
    }
    command
}

/// Ends the program and everything it has started, and reaps it.
pub fn end(child: &mut Child) {
    // A child that was reaped has no id any more that could be sent a signal by mistake.
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // The group is there from the moment of the fork; without it the program alone is ended.
        if kill_process_group(pid, Signal::KILL).is_err() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = child.wait();
}
