//! Video files and network cameras, decoded by the `ffmpeg` program.
//!
//! A program and not a library: a broken stream can crash no more than a child process, and nobody
//! has to build `libav`. Pixels come through a pipe straight into the frame's storage. `ffmpeg`
//! scales to the size asked for (or to the probed one, always, so that a camera that changes its
//! resolution cannot shift the pixels of later frames), and neither repeats nor drops frames.

mod child;
mod location;
mod probe;

use std::ffi::OsString;

use self::child::Piped;
use self::location::Location;
use self::probe::{Shape, probe};
use super::{Coding, SIDE_MAX, Source, Still};
use crate::base::{Fault, Stop};

/// A video being read. Dropping it ends its `ffmpeg`.
#[derive(Debug)]
pub struct Video {
    child: Piped,
    location: Location,
    shape: Shape,
    read: u64,
    ended: bool,
    stop: Stop,
}

impl Video {
    /// Opens a video file, or a URL with `rtsp`, `rtsps`, `http` or `https`.
    ///
    /// `scale` is the size of the frames, the video's own if `None`. With `loop_` a file begins anew
    /// at its end; a network camera has none and ignores it. When `stop` is raised, the video ends
    /// within a fifth of a second, even if nothing arrives any more.
    ///
    /// # Errors
    /// [`Fault::Unusable`] if `ffmpeg` or `ffprobe` is not installed, the location is of an unknown
    /// scheme or no video, `scale` is out of range, or `stop` was raised meanwhile; [`Fault::Io`] if
    /// there is no such file. Messages never show user, password or query of a URL.
    pub fn open(
        location: &str,
        scale: Option<(u32, u32)>,
        loop_: bool,
        stop: &Stop,
    ) -> Result<Video, Fault> {
        let location = Location::new(location)?;
        let mut shape = probe(&location, stop)?;
        if let Some((width, height)) = scale {
            if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
                return Err(Fault::Unusable(format!(
                    "a video cannot be scaled to {width}x{height}: both sides must be 1 to {SIDE_MAX}"
                )));
            }
            (shape.width, shape.height) = (width, height);
        }
        if !location.is_file() || loop_ {
            shape.frames = None;
        }
        let child = Piped::start("ffmpeg", arguments(&location, shape, loop_))?;
        Ok(Video { child, location, shape, read: 0, ended: false, stop: stop.clone() })
    }

    /// After a frame that was not whole: the orderly end, or the reason why it is none.
    fn end(&mut self, arrived: usize, expected: usize) -> Result<bool, Fault> {
        self.ended = true;
        let status = self.child.finish(&self.stop)?;
        if self.stop.is_draining() {
            return Ok(false);
        }
        let (shown, read) = (self.location.shown(), self.read);
        if !status.success() {
            let said = self.child.last_line();
            let said = said.map_or_else(|| status.to_string(), |line| self.location.redact(&line));
            return Err(Fault::Unusable(format!("{shown} broke off after {read} frames: {said}")));
        }
        if arrived > 0 {
            let missing = expected - arrived;
            return Err(Fault::Unusable(format!(
                "{shown} broke off after {read} frames: {missing} bytes of the next are missing"
            )));
        }
        if read == 0 {
            let said =
                self.child.last_line().map(|line| format!(": {}", self.location.redact(&line)));
            let said = said.unwrap_or_default();
            return Err(Fault::Unusable(format!("{shown} holds not a single frame{said}")));
        }
        Ok(false)
    }
}

/// The command line of `ffmpeg`, after the program's name.
fn arguments(location: &Location, shape: Shape, loop_: bool) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["-nostdin", "-v", "error"].map(OsString::from).into();
    arguments.extend(location.options().into_iter().map(OsString::from));
    if loop_ && location.is_file() {
        arguments.extend(["-stream_loop", "-1"].map(OsString::from));
    }
    arguments.extend(["-i".into(), location.argument()]);
    let scale = format!("scale={}:{}", shape.width, shape.height);
    arguments.extend(["-map", "0:v:0", "-vf", &scale].map(OsString::from));
    arguments.extend(["-fps_mode", "passthrough"].map(OsString::from));
    arguments.extend(["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"].map(OsString::from));
    arguments
}

impl Source for Video {
    fn next(&mut self, still: &mut Still) -> Result<bool, Fault> {
        if self.ended || self.stop.is_draining() {
            return Ok(false);
        }
        let Shape { width, height, .. } = self.shape;
        let expected = width as usize * height as usize * 3;
        still.bytes.resize(expected, 0);
        let arrived = self.child.read(&mut still.bytes, &self.stop)?;
        if arrived < expected {
            return self.end(arrived, expected);
        }
        self.read += 1;
        (still.width, still.height, still.channels) = (width, height, 3);
        (still.coding, still.vehicle_share) = (Coding::Rgb, None);
        Ok(true)
    }

    fn fps(&self) -> Option<f64> {
        self.shape.fps
    }

    fn frames(&self) -> Option<u64> {
        self.shape.frames
    }
}

#[cfg(test)]
mod tests;
