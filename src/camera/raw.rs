//! Raw RGB frames without separators, for example from a pipe.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use super::readiness::readable;
use super::{Coding, FrameSource, SIDE_MAX, Still};
use crate::base::{Fault, Stop};

/// Reads frames of one size from a reader.
pub struct RawInput {
    reader: Box<dyn Read + Send>,
    width: u32,
    height: u32,
    read: u64,
    ended: bool,
    stop: Stop,
}

impl RawInput {
    /// Reads frames of `width * height * 3` bytes from `reader` until it ends.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for a size of 0 or above 16384.
    pub fn new(
        reader: impl Read + Send + 'static,
        width: u32,
        height: u32,
    ) -> Result<RawInput, Fault> {
        if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
            return Err(Fault::Unusable(format!(
                "raw frames cannot be {width}x{height}: both sides must be 1 to {SIDE_MAX}"
            )));
        }
        let reader = Box::new(reader);
        Ok(RawInput { reader, width, height, read: 0, ended: false, stop: Stop::default() })
    }

    /// Reads frames from standard input. The input ends when `stop` is raised, even while no bytes
    /// arrive.
    ///
    /// # Errors
    /// As [`RawInput::new`], and [`Fault::Io`] if there is no standard input.
    pub fn stdin(width: u32, height: u32, stop: &Stop) -> Result<RawInput, Fault> {
        let input = io::stdin().as_fd().try_clone_to_owned();
        let input = input.map_err(|error| Fault::io("opening standard input", error))?;
        let patient = Patient { input: File::from(input), stop: stop.clone() };
        Ok(RawInput { stop: stop.clone(), ..RawInput::new(patient, width, height)? })
    }
}

impl FrameSource for RawInput {
    fn next(&mut self, still: &mut Still) -> Result<bool, Fault> {
        if self.ended {
            return Ok(false);
        }
        let expected = self.width as usize * self.height as usize * 3;
        still.bytes.resize(expected, 0);
        let mut filled = 0;
        while filled < expected {
            match self.reader.read(&mut still.bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended = true;
                    return Err(Fault::io("reading raw frames", error));
                }
            }
        }
        if filled < expected {
            self.ended = true;
            if filled == 0 || self.stop.is_draining() {
                return Ok(false);
            }
            return Err(Fault::Unusable(format!(
                "raw input ended within frame {}: {} of its {expected} bytes are missing ({}x{} RGB)",
                self.read + 1,
                expected - filled,
                self.width,
                self.height
            )));
        }
        self.read += 1;
        (still.width, still.height, still.channels) = (self.width, self.height, 3);
        (still.coding, still.vehicle_share) = (Coding::Rgb, None);
        Ok(true)
    }

    fn fps(&self) -> Option<f64> {
        None
    }

    fn frames(&self) -> Option<u64> {
        None
    }
}

/// A reader that ends when the stop signal is raised.
struct Patient {
    input: File,
    stop: Stop,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready =
            readable(self.input.as_fd(), None, &self.stop, None).map_err(io::Error::other)?;
        if ready.first { self.input.read(buffer) } else { Ok(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns one byte at a time, like a slow pipe.
    struct Trickle(Vec<u8>);

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(byte) = self.0.pop() else { return Ok(0) };
            buffer[0] = byte;
            Ok(1)
        }
    }

    #[test]
    fn whole_frames_come_however_the_bytes_arrive() {
        let mut source = RawInput::new(Trickle((0..24).rev().collect()), 2, 2).unwrap();
        let mut still = Still::default();
        assert!(source.next(&mut still).unwrap());
        assert_eq!(still.bytes, (0..12).collect::<Vec<u8>>());
        assert!(source.next(&mut still).unwrap());
        assert_eq!((still.bytes[0], still.width, still.coding), (12, 2, Coding::Rgb));
        assert!(!source.next(&mut still).unwrap());
    }

    #[test]
    fn a_last_frame_cut_short_says_what_is_missing() {
        let mut source = RawInput::new(io::Cursor::new(vec![7; 12 + 5]), 2, 2).unwrap();
        let mut still = Still::default();
        assert!(source.next(&mut still).unwrap());
        let said = source.next(&mut still).unwrap_err().to_string();
        assert!(said.contains("frame 2: 7 of its 12 bytes are missing"), "{said}");
        assert!(!source.next(&mut still).unwrap());
        assert!(RawInput::new(io::empty(), 0, 2).is_err());
    }

    #[test]
    fn a_silent_input_ends_when_stop_is_raised() {
        let (silent, writer) = io::pipe().unwrap();
        let stop = Stop::default();
        let input = File::from(std::os::fd::OwnedFd::from(silent));
        let mut patient = Patient { input, stop: stop.clone() };
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || patient.read(&mut [0; 4]));
            assert!(!stop.sleep(std::time::Duration::from_millis(150)));
            stop.drain();
            assert_eq!(reader.join().unwrap().unwrap(), 0);
        });
        drop(writer);
    }
}
