//! Child processes that do not outlive this process.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Puts the program into its own process group, so that Ctrl-C at the terminal reaches only this
/// process. Also has the kernel kill the program when the thread that starts it ends, because
/// nothing else would after a SIGKILL. The thread must live as long as the program is needed.
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
    // A reaped child has no id; a signal could hit another process.
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // The group exists from the fork on. Without it, only the program is ended.
        if kill_process_group(pid, Signal::KILL).is_err() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    let _ = child.wait();
}
