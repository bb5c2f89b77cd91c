//! A program that writes to us: read without ever hanging, ended and reaped without fail.
//!
//! Its standard error is drained in the same wait as its output, so it can neither block on it nor
//! grow here. It runs in a process group of its own and ends with the thread that has started it.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::words::Words;
use crate::base::{Fault, Stop, children};
use crate::camera::readiness::{is_readable, readable};
use crate::metrics::clock::Tick;

/// How often, 10 ms apart, a program that has closed its output is asked whether it has ended.
const PATIENCE: u32 = 200;
/// Bytes that the pipe holds.
const PIPE_BYTES: usize = 256 << 10;
/// Reads of its standard error at a time, so that a flood does not hold the reader up.
const CHUNKS_MAX: u32 = 64;
/// How long its last words are waited for, which a grandchild may hold back.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running program with both its outputs piped to us.
#[derive(Debug)]
pub(crate) struct Piped {
    program: &'static str,
    child: Child,
    output: ChildStdout,
    errors: Option<ChildStderr>,
    words: Words,
    stop: Stop,
    until: Option<Tick>,
}

impl Piped {
    /// Starts `program` with `input` on its standard input, which must fit into a pipe. The calling
    /// thread must outlive it.
    pub(crate) fn start<A: AsRef<OsStr>>(
        program: &'static str,
        arguments: impl IntoIterator<Item = A>,
        input: Option<&[u8]>,
        stop: &Stop,
    ) -> Result<Self, Fault> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("AV_LOG_FORCE_NOCOLOR", "1")
            .stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            children::bind(&mut command).spawn().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Fault::Unusable(format!(
                    "the program {program} is not installed, and video is read through it; \
                     version 5.1 or later is needed: apt-get install ffmpeg"
                )),
                _ => Fault::io(format!("starting {program}"), error),
            })?;
        // A program that has ended already says why on its standard error.
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), input) {
            let _ = pipe.write_all(bytes);
        }
        let errors = child.stderr.take();
        let Some(output) = child.stdout.take() else {
            // Never so with Stdio::piped(), but the child must not outlive even that.
            children::end(&mut child);
            return Err(Fault::Unusable(format!("{program} has no standard output")));
        };
        // Fewer turns between both programs for a picture of 3 MB. Not more: a user may have 64 MiB in
        // all pipes, and once they are used up new ones have two pages.
        let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_BYTES);
        let words = Words::default();
        Ok(Piped { program, child, output, errors, words, stop: stop.clone(), until: None })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// From now on a read that waits beyond `until` fails as timed out.
    pub(crate) fn wait_until(&mut self, until: Option<Tick>) {
        self.until = until;
    }

    /// Takes what it has said until now, without waiting.
    pub(crate) fn listen(&mut self) {
        for _ in 0..CHUNKS_MAX {
            if !self.errors.as_ref().is_some_and(|errors| is_readable(errors.as_fd())) {
                break;
            }
            self.drain_errors();
        }
    }

    /// What it has said, as far as it was taken.
    pub(crate) fn words(&mut self) -> &mut Words {
        &mut self.words
    }

    /// Fills `buffer` as far as the output goes. Less than the whole: the output has ended, or the
    /// stop signal was raised.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                Err(error) => {
                    return Err(Fault::io(format!("reading from {}", self.program), error));
                }
            }
        }
        Ok(filled)
    }

    /// After the output has ended: how the program ended, killed if it does not end by itself.
    pub(crate) fn finish(&mut self) -> Result<ExitStatus, Fault> {
        let until = Tick::now().after(LAST_WORDS);
        while let Some(errors) = &self.errors {
            let ready = readable(errors.as_fd(), None, &self.stop, Some(until))?;
            if !ready.first {
                break;
            }
            self.drain_errors();
        }
        self.words.end();
        let failed = |error| Fault::io(format!("waiting for {}", self.program), error);
        for _ in 0..PATIENCE {
            match self.child.try_wait().map_err(failed)? {
                Some(status) => return Ok(status),
                None if self.stop.sleep(Duration::from_millis(10)) => break,
                None => {}
            }
        }
        children::end(&mut self.child);
        self.child.wait().map_err(failed)
    }

    /// One read, which does not block because there is something to be read.
    fn drain_errors(&mut self) {
        let Some(errors) = &mut self.errors else { return };
        let mut chunk = [0; 4096];
        match errors.read(&mut chunk) {
            Ok(0) => self.errors = None,
            Ok(count) => self.words.hear(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.errors = None,
        }
    }
}

impl Read for Piped {
    /// `Ok(0)` is the end of the output, or the stop signal.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let errors = self.errors.as_ref().map(AsFd::as_fd);
            let ready = readable(self.output.as_fd(), errors, &self.stop, self.until)
                .map_err(io::Error::other)?;
            if ready.second {
                self.drain_errors();
            }
            if ready.first {
                match self.output.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    done => return done,
                }
            } else if !ready.second {
                if self.stop.is_draining() {
                    return Ok(0);
                }
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        children::end(&mut self.child);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, stop: &Stop) -> Piped {
        Piped::start("sh", ["-c", script], None, stop).unwrap()
    }

    #[test]
    fn a_flood_on_standard_error_neither_blocks_nor_grows() {
        let script = "i=0; while [ $i -lt 20000 ]; do echo line $i >&2; i=$((i+1)); done; echo out";
        let stop = Stop::default();
        let mut child = shell(script, &stop);
        let mut buffer = [0; 16];
        assert_eq!(child.fill(&mut buffer).unwrap(), 4);
        assert!(child.finish().unwrap().success());
        assert_eq!(child.words.explanation(), Some("line 19999"));
    }

    #[test]
    fn a_stalled_program_is_left_as_soon_as_stop_is_raised_and_reaped() {
        let stop = Stop::default();
        let mut child = Piped::start("sleep", ["60"], None, &stop).unwrap();
        let pid = child.child.id();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| child.fill(&mut [0; 8]));
            assert!(!stop.sleep(Duration::from_millis(200)));
            stop.drain();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
        drop(child);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "no zombie is left");
    }

    #[test]
    fn a_silent_program_is_left_at_the_deadline_and_its_children_go_with_it() {
        let stop = Stop::default();
        let mut child = shell("sleep 61 & echo $!; wait", &stop);
        let mut line = [0; 32];
        let count = child.read(&mut line).unwrap();
        let grandchild = String::from_utf8_lossy(&line[..count]).trim().to_owned();
        child.wait_until(Some(Tick::now().after(Duration::from_millis(100))));
        assert_eq!(child.read(&mut line).unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(child);
        // The kernel delivers the signal in its own time.
        let state = || std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
        let has_ended = || state().map_or(true, |state| state.contains(") Z "));
        let began = Tick::now();
        while !has_ended() && began.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(has_ended(), "the grandchild has ended: {:?}", state());
    }

    #[test]
    fn a_missing_program_says_what_to_install() {
        let fault =
            Piped::start("framepress-no-such-program", ["x"], None, &Stop::default()).unwrap_err();
        assert!(matches!(&fault, Fault::Unusable(text) if text.contains("apt-get install ffmpeg")));
    }
}
