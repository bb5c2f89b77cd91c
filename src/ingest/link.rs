//! Connection to one camera: an `ffmpeg` child, or a built-in client for MJPEG.

use std::io;

use super::link_end::{LinkEnd, LinkFinding, Loss};
use super::mjpeg::{self, About};
use super::web::Web;
use crate::base::{Fault, Stop};
use crate::camera::video::{
    DecodedPixels, LineLevel, LiveOptions, Location, LogLine, Nut, Piped, Reading, arguments,
    layout, planes_bytes,
};
use crate::camera::{Coding, Still};
use crate::image::RawLayout;
use crate::metrics::clock::{Tick, unix_seconds};

/// Maximum plausible age of a capture time; an older one is ignored.
const AGE_MAX_SECONDS: f64 = 60.0;

/// A connection to a camera.
pub(super) enum Link {
    Ffmpeg(Box<Ffmpeg>),
    Web(Box<Web>),
}

/// A camera read through `ffmpeg`.
pub(super) struct Ffmpeg {
    frames: Nut<Piped>,
    location: Location,
    reading: Reading,
    /// Layout of the pictures, known after the first one.
    layout: Option<RawLayout>,
    /// Size and pixel format of the decoder's output.
    input: Option<(u32, u32, String)>,
    codec: Option<String>,
    damages: u64,
    hardware_failed: bool,
    may_copy: bool,
}

impl Link {
    /// The camera's codec, if known.
    pub(super) fn codec(&self) -> Option<&str> {
        match self {
            Link::Ffmpeg(link) => link.codec.as_deref(),
            Link::Web(_) => Some("mjpeg"),
        }
    }

    /// Process id of the child, if there is one.
    pub(super) fn child(&mut self) -> Option<u32> {
        match self {
            Link::Ffmpeg(link) => Some(link.frames.input().id()),
            Link::Web(_) => None,
        }
    }

    /// Number of damaged pictures since the last call.
    pub(super) fn take_damages(&mut self) -> u64 {
        match self {
            Link::Ffmpeg(link) => {
                let now = link.frames.input().words().damages();
                let new = now - link.damages;
                link.damages = now;
                // A decoder writes several lines about one picture.
                u64::from(new > 0)
            }
            Link::Web(web) => web.take_broken(),
        }
    }

    /// The next waiting line of `ffmpeg`, without secrets.
    pub(super) fn take_line(&mut self) -> Option<LogLine> {
        match self {
            Link::Ffmpeg(link) => {
                let line = link.frames.input().words().take()?;
                let text = link.location.redact(&line.text);
                Some(LogLine { text, ..line })
            }
            Link::Web(_) => None,
        }
    }

    /// Waits for the next picture until `until`; returns its capture time.
    pub(super) fn next(&mut self, still: &mut Still, until: Tick) -> Result<f64, LinkEnd> {
        match self {
            Link::Ffmpeg(link) => link.next(still, until),
            Link::Web(web) => web.next(still, until),
        }
    }
}

impl Ffmpeg {
    pub(super) fn start(
        location: &Location,
        reading: Reading,
        options: &[(String, String)],
        may_copy: bool,
        stop: &Stop,
    ) -> Result<Ffmpeg, Fault> {
        let list = location.list(options);
        let list = list.as_ref().map(String::as_bytes);
        let child = Piped::start("ffmpeg", arguments(location, &reading), list, stop)?;
        Ok(Ffmpeg {
            frames: Nut::new(child),
            location: location.clone(),
            reading,
            layout: None,
            input: None,
            codec: None,
            damages: 0,
            hardware_failed: false,
            may_copy,
        })
    }

    fn next(&mut self, still: &mut Still, until: Tick) -> Result<f64, LinkEnd> {
        self.frames.input().wait_until(Some(until));
        let read = self.frames.next(&mut still.bytes);
        self.look_at_words()?;
        let time = match read {
            Ok(Some(time)) => time,
            Ok(None) => return Err(self.ended()),
            Err(error) => match error.kind() {
                io::ErrorKind::TimedOut => return Err(self.timed_out()),
                io::ErrorKind::UnexpectedEof => return Err(self.ended()),
                _ => return Err(Loss::new("ended", error.to_string()).into()),
            },
        };
        self.frames.input().words().forget();
        self.shape(still)?;
        Ok(capture_time(time))
    }

    /// Sets size and format of the bytes, and checks them against the stream header.
    fn shape(&mut self, still: &mut Still) -> Result<(), LinkEnd> {
        let header = self.frames.header();
        (still.width, still.height, still.channels) = (header.width, header.height, 3);
        let expected = match self.reading.pixels {
            DecodedPixels::Copy => {
                if header.fourcc != *b"MJPG" {
                    return Err(LinkEnd::Found(LinkFinding::NotMjpeg));
                }
                still.coding = Coding::File;
                return match mjpeg::mend(&mut still.bytes) {
                    Some(About { width, height, .. }) => {
                        (still.width, still.height) = (width, height);
                        Ok(())
                    }
                    None => {
                        still.bytes.clear();
                        Ok(())
                    }
                };
            }
            DecodedPixels::Rgb => {
                still.coding = Coding::Rgb;
                header.width as usize * header.height as usize * 3
            }
            DecodedPixels::Planes | DecodedPixels::JpegPlanes => {
                still.coding = Coding::Planes;
                planes_bytes(header.width, header.height)
            }
        };
        if still.bytes.len() != expected {
            return Err(LinkEnd::Found(LinkFinding::Resized));
        }
        if self.layout.is_none() {
            self.layout = layout(&mut self.frames, self.reading.pixels);
        }
        still.layout = self.layout.ok_or(LinkEnd::Found(LinkFinding::OtherColours))?;
        Ok(())
    }

    /// Evaluates what `ffmpeg` reports about input and filters, which decides how the camera is
    /// read.
    fn look_at_words(&mut self) -> Result<(), LinkEnd> {
        let mut found = None;
        let words = self.frames.input().words();
        for line in words.notes() {
            if let Some(stream) = line.split_once(": Video: ").map(|(_, stream)| stream) {
                if line.contains("(pipe") || self.codec.is_some() {
                    continue;
                }
                let codec: String =
                    stream.chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
                if codec == "mjpeg" && self.may_copy {
                    found = found.or(Some(LinkFinding::Mjpeg));
                }
                let fields = ["top first", "bottom first", "top coded first", "bottom coded first"];
                if fields.iter().any(|field| stream.contains(field)) {
                    found = found.or(Some(LinkFinding::Interlaced));
                }
                self.codec = Some(codec);
            } else if line.starts_with("[graph 0 input") {
                let input = input_form(&line);
                if let (Some(before), Some(now)) = (&self.input, &input) {
                    let is_resized = (before.0, before.1) != (now.0, now.1);
                    if before.2 != now.2 || is_resized && self.reading.size.is_none() {
                        found = Some(LinkFinding::Resized);
                    }
                }
                self.input = input;
            } else if line.contains("hwaccel initialisation returned error")
                || line.contains("Device creation failed")
                || line.contains("No device available for decoder")
            {
                self.hardware_failed = true;
            }
        }
        let live = self.reading.live.as_ref();
        match found {
            Some(LinkFinding::Mjpeg) if self.reading.pixels == DecodedPixels::Copy => Ok(()),
            Some(LinkFinding::Interlaced) if live.is_some_and(|live| live.interlaced) => Ok(()),
            Some(finding) => Err(LinkEnd::Found(finding)),
            None if self.hardware_failed && live.is_some_and(|live| live.hwaccel.is_some()) => {
                Err(LinkEnd::Found(LinkFinding::NoHardware))
            }
            None => Ok(()),
        }
    }

    fn ended(&mut self) -> LinkEnd {
        let child = self.frames.input();
        let status = child.finish();
        // After an orderly end, warnings are no explanation.
        let said = match &status {
            Ok(status) if status.success() => child.words().error(),
            _ => child.words().explanation(),
        };
        let said = said.map(str::to_owned);
        if let Err(end) = self.look_at_words() {
            return end;
        }
        let said = said.map(|said| self.location.redact(&said));
        let text = match (said, status) {
            (Some(said), _) => said,
            (None, Ok(status)) if status.success() => "the camera has ended the stream".to_owned(),
            (None, Ok(status)) => status.to_string(),
            (None, Err(fault)) => fault.to_string(),
        };
        Loss::new(reason_of(&text), text).into()
    }

    fn timed_out(&mut self) -> LinkEnd {
        let said = self.frames.input().words().explanation().map(str::to_owned);
        let said =
            said.map(|said| format!("; {}", self.location.redact(&said))).unwrap_or_default();
        Loss::new("timeout", format!("no picture arrived in time{said}")).into()
    }
}

/// The reason that an explanation implies.
fn reason_of(text: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["401", "403", "Unauthorized", "Forbidden", "authorization failed"]) {
        "auth"
    } else if has(&["461", "onmatching transport", "Unsupported Transport"]) {
        "transport"
    } else if has(&["refused", "No route", "unreachable", "resolve", "timed out", "reset by peer"])
    {
        "unreachable"
    } else {
        "ended"
    }
}

fn input_form(line: &str) -> Option<(u32, u32, String)> {
    let of = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
    let side = |name: &str| of(name)?.parse().ok();
    Some((side("w:")?, side("h:")?, of("pixfmt:")?.to_owned()))
}

/// The arrival time of the bytes, if it is plausible; else the current time.
fn capture_time(time: f64) -> f64 {
    let now = unix_seconds();
    if (now - AGE_MAX_SECONDS..=now).contains(&time) { time } else { now }
}

/// Settings with which `ffmpeg` reads a live camera.
pub(super) fn live(threads: u32, keyframes: bool, interlaced: bool) -> LiveOptions {
    LiveOptions { threads, keyframes, interlaced, hwaccel: None, options: Vec::new() }
}

/// Whether a line is worth logging.
pub(super) fn is_worth(line: &LogLine) -> bool {
    const NOISE: [&str; 5] = [
        "deprecated pixel format",
        "Non-monotonous DTS",
        "Using AVStream.codec",
        "Could not find codec parameters",
        "Thread message queue",
    ];
    line.level >= LineLevel::Warning && !NOISE.iter().any(|noise| line.text.contains(noise))
}
