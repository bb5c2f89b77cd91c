//! A child process whose output is read without hanging, and which is always ended and reaped.
//!
//! Its standard error is drained while waiting for output, so that it neither blocks the child nor
//! accumulates here. The child runs in its own process group and ends with the thread that started
//! it.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::words::FfmpegOutput;
use crate::base::{Fault, Stop, children};
use crate::camera::readiness::{is_readable, readable};
use crate::metrics::clock::Tick;

/// How often, 10 ms apart, to check whether a program that closed its output has ended.
const PATIENCE: u32 = 200;
/// Capacity of the output pipe, in bytes.
const PIPE_BYTES: usize = 256 << 10;
/// Maximum reads of standard error at a time, so that a flood does not delay the reader.
const CHUNKS_MAX: u32 = 64;
/// How long to wait for the end of standard error, which a grandchild may keep open.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A running program with standard output and standard error piped.
#[derive(Debug)]
pub(crate) struct Piped {
    program: &'static str,
    child: Child,
    output: ChildStdout,
    errors: Option<ChildStderr>,
    words: FfmpegOutput,
    stop: Stop,
    until: Option<Tick>,
}

impl Piped {
    /// Starts `program` with `input` on its standard input; `input` must fit into a pipe. The
    /// calling thread must outlive the program.
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
        // If the program has already ended, its standard error says why.
        if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), input) {
            let _ = pipe.write_all(bytes);
        }
        let errors = child.stderr.take();
        let Some(output) = child.stdout.take() else {
            // Cannot happen with Stdio::piped(), but even then the child must not be left running.
            children::end(&mut child);
            return Err(Fault::Unusable(format!("{program} has no standard output")));
        };
        // A larger pipe needs fewer context switches for a picture of 3 MB. It is not larger still,
        // because a user may have 64 MiB in all pipes; beyond that, new pipes get two pages.
        let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_BYTES);
        let words = FfmpegOutput::default();
        Ok(Piped { program, child, output, errors, words, stop: stop.clone(), until: None })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sets the deadline after which reads fail with `TimedOut`; `None` removes it.
    pub(crate) fn wait_until(&mut self, until: Option<Tick>) {
        self.until = until;
    }

    /// Reads the available standard error without waiting.
    pub(crate) fn listen(&mut self) {
        for _ in 0..CHUNKS_MAX {
            if !self.errors.as_ref().is_some_and(|errors| is_readable(errors.as_fd())) {
                break;
            }
            self.drain_errors();
        }
    }

    /// The standard error read so far.
    pub(crate) fn words(&mut self) -> &mut FfmpegOutput {
        &mut self.words
    }

    /// Fills `buffer` from the output. Returns less than its length if the output ended, the
    /// deadline passed or the stop signal was raised.
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

    /// Waits for the program after its output has ended, and kills it if it does not end by itself.
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

    /// Reads once from standard error. The caller must know that it is readable.
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
    /// `Ok(0)` means the end of the output, or the stop signal.
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
        // The kernel delivers the signal asynchronously.
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
