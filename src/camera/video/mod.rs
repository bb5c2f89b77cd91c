//! Video files and network cameras, decoded by the `ffmpeg` program.
//!
//! A program rather than a library: a broken stream can crash only a child process, and `libav`
//! need not be built. Pictures come through a pipe, each with its size and time, and are read
//! directly into the frame's storage. `ffmpeg` always scales them to the requested or probed size,
//! so that a change of resolution within a video neither shears nor distorts pictures. It neither
//! repeats nor drops frames.

mod child;
mod colour;
mod command;
mod location;
mod nut;
mod probe;
mod words;

use std::ffi::OsStr;
use std::io;

pub(crate) use self::child::Piped;
pub(crate) use self::command::{DecodedPixels, LiveOptions, Reading, arguments};
pub(crate) use self::location::Location;
pub(crate) use self::nut::Nut;
pub(crate) use self::words::{LineLevel, LogLine};

use self::probe::{VideoShape, probe};
use super::{Coding, FrameSource, SIDE_MAX, Still};
use crate::base::{Fault, Stop};
use crate::image::{Matrix, PixelLayout, RawLayout};

/// A video being read. Dropping it ends its `ffmpeg`.
#[derive(Debug)]
pub struct Video {
    frames: Nut<Piped>,
    location: Location,
    shape: VideoShape,
    reading: Reading,
    layout: RawLayout,
    read: u64,
    ended: bool,
    stop: Stop,
}

impl Video {
    /// Opens a video file, or a URL with `rtsp`, `rtsps`, `http` or `https`.
    ///
    /// `scale` is the size of the frames in pixels; `None` keeps the video's own. Pictures of
    /// another aspect ratio are letterboxed. With `loop_` a file starts again at its end; a network
    /// camera ignores it. When `stop` is raised, the video ends within a fifth of a second, even if
    /// no bytes arrive. The calling thread must outlive the video, because `ffmpeg` ends with the
    /// thread that started it.
    ///
    /// [`Fault::Unusable`] if `ffmpeg` or `ffprobe` is not installed, the scheme is unknown, the
    /// location is not a video, `scale` is out of range, or `stop` is raised meanwhile.
    /// [`Fault::Io`] if there is no such file. Messages never show user, password or query of a
    /// URL.
    pub fn open(
        location: impl AsRef<OsStr>,
        scale: Option<(u32, u32)>,
        loop_: bool,
        stop: &Stop,
    ) -> Result<Video, Fault> {
        Video::open_as(location.as_ref(), DecodedPixels::Rgb, scale, loop_, stop)
    }

    /// As [`Video::open`], with a choice of the pixel format.
    pub(super) fn open_as(
        location: &OsStr,
        pixels: DecodedPixels,
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
        let size = Some((shape.width, shape.height));
        let reading = Reading { pixels, size, repeat: loop_, live: None };
        let frames = Video::start(&location, &reading, stop)?;
        let (layout, stop) = (RawLayout::default(), stop.clone());
        Ok(Video { frames, location, shape, reading, layout, read: 0, ended: false, stop })
    }

    fn start(location: &Location, reading: &Reading, stop: &Stop) -> Result<Nut<Piped>, Fault> {
        let list = location.list(&location.usual_options());
        let list = list.as_ref().map(String::as_bytes);
        Piped::start("ffmpeg", arguments(location, reading), list, stop).map(Nut::new)
    }

    /// Called after the last frame. Returns `Ok(false)` for an orderly end, else the reason.
    fn end(&mut self, broken: Option<io::Error>) -> Result<bool, Fault> {
        self.ended = true;
        let status = self.frames.input().finish()?;
        if self.stop.is_draining() {
            return Ok(false);
        }
        let (shown, read) = (self.location.shown(), self.read);
        let said = self.frames.input().words().explanation();
        let said = said.map(|line| self.location.redact(line));
        if !status.success() {
            let said = said.unwrap_or_else(|| status.to_string());
            return Err(Fault::Unusable(format!("{shown} broke off after {read} frames: {said}")));
        }
        if let Some(error) = broken {
            let why = match error.kind() {
                io::ErrorKind::UnexpectedEof => "the next frame is incomplete".to_owned(),
                _ => error.to_string(),
            };
            return Err(Fault::Unusable(format!("{shown} broke off after {read} frames: {why}")));
        }
        if read == 0 {
            let said = said.map(|line| format!(": {line}")).unwrap_or_default();
            return Err(Fault::Unusable(format!("{shown} contains no frame{said}")));
        }
        Ok(false)
    }
}

impl FrameSource for Video {
    fn next(&mut self, still: &mut Still) -> Result<bool, Fault> {
        if self.ended || self.stop.is_draining() {
            return Ok(false);
        }
        let VideoShape { width, height, .. } = self.shape;
        let mut read = self.frames.next(&mut still.bytes);
        if let (0, Ok(Some(_))) = (self.read, &read) {
            match layout(&mut self.frames, self.reading.pixels) {
                Some(layout) => self.layout = layout,
                None => {
                    self.reading.pixels = DecodedPixels::JpegPlanes;
                    self.layout = JPEG_PLANES;
                    self.frames = Video::start(&self.location, &self.reading, &self.stop)?;
                    read = self.frames.next(&mut still.bytes);
                }
            }
        }
        let place = match read {
            Ok(Some(place)) => place,
            Ok(None) => return self.end(None),
            Err(error) => return self.end(Some(error)),
        };
        let (coding, expected) = match self.reading.pixels {
            DecodedPixels::Planes | DecodedPixels::JpegPlanes => {
                (Coding::Planes, planes_bytes(width, height))
            }
            DecodedPixels::Rgb | DecodedPixels::Copy => {
                (Coding::Rgb, width as usize * height as usize * 3)
            }
        };
        if still.bytes.len() != expected {
            return self.end(Some(io::Error::other("a frame has another size")));
        }
        self.read += 1;
        still.place = Some(place.max(0.0));
        (still.width, still.height, still.channels) = (width, height, 3);
        (still.coding, still.layout, still.vehicle_share) = (coding, self.layout, None);
        Ok(true)
    }

    fn fps(&self) -> Option<f64> {
        self.shape.fps
    }

    fn frames(&self) -> Option<u64> {
        self.shape.frames
    }

    fn losses(&mut self) -> Option<String> {
        let words = self.frames.input().words();
        let (count, first) = (words.damages(), words.first_damage()?.to_owned());
        let shown = self.location.shown();
        let missing = match self.shape.frames {
            Some(frames) if self.ended && frames > self.read => {
                format!("; {} of {frames} frames are missing", frames - self.read)
            }
            _ => String::new(),
        };
        let first = self.location.redact(&first);
        Some(format!("{shown} is damaged: {count} decoding errors, the first: {first}{missing}"))
    }
}

/// Planes as in JPEG.
const JPEG_PLANES: RawLayout = RawLayout {
    pixels: Some(PixelLayout::Yuvj420p),
    row_stride: 0,
    range: None,
    matrix: Matrix::Bt601,
};

/// Layout of the pictures, known once the first one has arrived. `None` if an entry cannot name
/// their colour matrix; the caller then asks for [`DecodedPixels::JpegPlanes`].
pub(crate) fn layout(frames: &mut Nut<Piped>, pixels: DecodedPixels) -> Option<RawLayout> {
    match pixels {
        DecodedPixels::Rgb | DecodedPixels::Copy => Some(RawLayout::default()),
        DecodedPixels::JpegPlanes => Some(JPEG_PLANES),
        DecodedPixels::Planes => {
            // `ffmpeg` describes its output before the first picture.
            let child = frames.input();
            child.listen();
            child.words().output_video().and_then(colour::layout)
        }
    }
}

/// Size of a planar picture, in bytes.
pub(crate) fn planes_bytes(width: u32, height: u32) -> usize {
    let (width, height) = (width as usize, height as usize);
    width * height + 2 * width.div_ceil(2) * height.div_ceil(2)
}

#[cfg(test)]
mod tests;
