//! A program that writes to us: read without ever hanging, ended and reaped without fail.
//!
//! Its standard error is drained in the same wait as its output, so it can neither block on it nor
//! grow here: only the end is kept. It runs in a process group of its own, so that Ctrl-C at the
//! terminal reaches this engine alone and the stop stays orderly.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::base::{Fault, Stop};
use crate::camera::readiness::readable;

/// Bytes of standard error that are kept.
const LAST_WORDS_BYTES: usize = 4096;
/// How often, 10 ms apart, a program that has closed its output is asked whether it has ended.
const PATIENCE: u32 = 200;

/// A running program with both its outputs piped to us.
#[derive(Debug)]
pub(super) struct Piped {
    program: &'static str,
    child: Child,
    output: ChildStdout,
    errors: Option<ChildStderr>,
    last_words: Vec<u8>,
}

impl Piped {
    /// Starts `program` with nothing on its standard input.
    pub(super) fn start<A: AsRef<OsStr>>(
        program: &'static str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, Fault> {
        let mut child = Command::new(program)
            .args(arguments)
            .env("AV_LOG_FORCE_NOCOLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Fault::Unusable(format!(
                    "the program {program} is not installed, and video is read through it; \
                     version 5.1 or later is needed: apt-get install ffmpeg"
                )),
                _ => Fault::io(format!("starting {program}"), error),
            })?;
        let errors = child.stderr.take();
        let Some(output) = child.stdout.take() else {
            // Never so with Stdio::piped(), but the child must not outlive even that.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Fault::Unusable(format!("{program} has no standard output")));
        };
        Ok(Piped { program, child, output, errors, last_words: Vec::new() })
    }

    /// Fills `buffer` as far as the output goes. Less than the whole: the output has ended, or the
    /// stop signal was raised.
    pub(super) fn read(&mut self, buffer: &mut [u8], stop: &Stop) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            let errors = self.errors.as_ref().map(AsFd::as_fd);
            let ready = readable(self.output.as_fd(), errors, stop)?;
            if ready.second {
                self.drain_errors();
            }
            if ready.first {
                match self.output.read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        return Err(Fault::io(format!("reading from {}", self.program), error));
                    }
                }
            } else if !ready.second {
                break;
            }
        }
        Ok(filled)
    }

    /// After the output has ended: how the program ended, killed if it does not end by itself.
    pub(super) fn finish(&mut self, stop: &Stop) -> Result<ExitStatus, Fault> {
        while let Some(errors) = &self.errors {
            let ready = readable(errors.as_fd(), None, stop)?;
            if !ready.first {
                break;
            }
            self.drain_errors();
        }
        for _ in 0..PATIENCE {
            let ended = self.child.try_wait();
            match ended
                .map_err(|error| Fault::io(format!("waiting for {}", self.program), error))?
            {
                Some(status) => return Ok(status),
                None if stop.sleep(Duration::from_millis(10)) => break,
                None => {}
            }
        }
        let _ = self.child.kill();
        self.child.wait().map_err(|error| Fault::io(format!("waiting for {}", self.program), error))
    }

    /// The last line that the program wrote to its standard error.
    pub(super) fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.last_words);
        text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
    }

    /// One read, which does not block because there is something to be read.
    fn drain_errors(&mut self) {
        let Some(errors) = &mut self.errors else { return };
        let mut chunk = [0; 1024];
        match errors.read(&mut chunk) {
            Ok(0) => self.errors = None,
            Ok(count) => {
                let surplus = (self.last_words.len() + count).saturating_sub(LAST_WORDS_BYTES);
                self.last_words.drain(..surplus.min(self.last_words.len()));
                self.last_words.extend_from_slice(&chunk[..count]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.errors = None,
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // Both fail only if it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Piped {
        Piped::start("sh", ["-c", script]).unwrap()
    }

    #[test]
    fn a_flood_on_standard_error_neither_blocks_nor_grows() {
        let script = "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; echo out";
        let (mut child, stop) = (shell(script), Stop::default());
        let mut buffer = [0; 16];
        assert_eq!(child.read(&mut buffer, &stop).unwrap(), 4);
        assert!(child.finish(&stop).unwrap().success());
        assert_eq!(child.last_line().as_deref(), Some("line 19999"));
        assert!(child.last_words.len() <= LAST_WORDS_BYTES);
    }

    #[test]
    fn a_stalled_program_is_left_as_soon_as_stop_is_raised_and_reaped() {
        let stop = Stop::default();
        let mut child = Piped::start("sleep", ["60"]).unwrap();
        let pid = child.child.id();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| child.read(&mut [0; 8], &stop));
            assert!(!stop.sleep(Duration::from_millis(200)));
            stop.drain();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "no zombie is left");
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let fault = Piped::start("framepress-no-such-program", ["x"]).unwrap_err();
        assert!(matches!(&fault, Fault::Unusable(text) if text.contains("apt-get install ffmpeg")));
    }
}
