//! Reads one camera in one thread, and opens it again after a loss.
//!
//! 1. Nothing here waits for Redis: a picture goes into the slot of its camera.
//! 2. Every wait is bounded: each picture and each pause has a deadline.
//! 3. A link that ended leaves nothing behind: its child is ended and reaped before the next link
//!    starts.

use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::coder::{Coder, Form};
use super::link::{Ffmpeg, Link, is_worth, live};
use super::link_end::{LinkEnd, LinkFinding, Loss};
use super::pause::Pauses;
use super::slot::{FrameSlot, Shot};
use super::source::{OpenLocation, Spec};
use super::status::{IngestStatus, SendOutcome, State};
use super::web::Web;
use crate::base::{Fault, Reject, Stop};
use crate::camera::Still;
use crate::camera::video::{DecodedPixels, Reading};
use crate::config::{Config, FeedConfig, FeedFormat, Hwaccel, RtspTransport};
use crate::image::{Format, InputImage};
use crate::metrics::clock::{Tick, unix_seconds};

/// Maximum immediate reconnections because of findings.
const FINDINGS_MAX: u32 = 6;
/// Maximum lines of `ffmpeg` logged per period, and the period.
const LINES_MAX: u32 = 5;
const LINES_PER: Duration = Duration::from_secs(10);
/// If capture times step back by more, the clock was set; a decoder reorders pictures by less.
const CLOCK_STEP_SECONDS: f64 = 2.0;
/// Number of failures after which the other source is tried.
const FALLBACK_AFTER: u32 = 3;
/// How often the picture shown on pages is replaced.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Findings about a source, beyond its configuration.
#[derive(Clone, Debug, Default)]
struct KnownSource {
    mjpeg: Option<bool>,
    interlaced: bool,
    other_colours: bool,
    udp: bool,
    no_hardware: bool,
    not_web: bool,
    codec: Option<String>,
}

/// The reader of one camera.
pub(super) struct CameraReader {
    pub(super) spec: Spec,
    pub(super) slot: Arc<FrameSlot>,
    pub(super) status: Arc<IngestStatus>,
    pub(super) stop: Stop,
    /// Whether the first loss ends the reader.
    pub(super) once: bool,
    pub(super) coder: Coder,
}

/// State from picture to picture.
struct SessionState {
    began: Tick,
    last: Option<Tick>,
    cell: Option<i64>,
    captured: f64,
    digest: u64,
    changed: Tick,
    shown: Option<Tick>,
    lines: u32,
    lines_since: Tick,
    left_out: u32,
    cpu: f64,
}

/// The coder for a camera's pictures.
pub(super) fn coder(config: &Config, feed: &FeedConfig) -> Result<Coder, Fault> {
    let form = match feed.format {
        // A ring takes uncompressed pixels.
        FeedFormat::Auto if feed.ring > 0 => Form::AsFound,
        FeedFormat::Auto | FeedFormat::Copy => Form::FoundOrJpeg,
        FeedFormat::Jpeg => Form::Coded(Format::Jpeg),
        FeedFormat::Webp => Form::Coded(Format::Webp),
        FeedFormat::Png => Form::Coded(Format::Png),
        FeedFormat::Raw => Form::Coded(Format::Raw),
        FeedFormat::Yuv420p => Form::AsFound,
    };
    Coder::new(config, form)
}

impl CameraReader {
    /// Reads until the stop signal or, with `once`, the first loss.
    pub(super) fn run(mut self) -> Result<(), Fault> {
        let mut pauses = Pauses::new(self.spec.feed.backoff_ms, &self.spec.id);
        let mut places = [KnownSource::default(), KnownSource::default()];
        let mut failures = 0_u32;
        while !self.stop.is_draining() {
            self.status.enter(State::Connecting);
            let other = self.spec.fallback.is_some() && (failures / FALLBACK_AFTER) % 2 == 1;
            let began = Tick::now();
            let loss = match self.session(other, &mut places[usize::from(other)]) {
                Ok(()) => break,
                Err(loss) => loss,
            };
            if self.stop.is_draining() {
                break;
            }
            let frames = self.status.last_frame().is_some() && self.status.state().0 == State::Live;
            if frames {
                failures = 0;
                pauses.worked_for(began.elapsed());
            }
            failures += 1;
            self.status.fail(loss.reason, &loss.text);
            let id = self.spec.id.as_str();
            if self.once {
                return Err(Fault::Unusable(format!("camera {id}: {}", loss.text)));
            }
            let state = match loss.reason {
                "auth" => State::AuthFailed,
                "stalled" | "same_frame" => State::Stalled,
                _ => State::Backoff,
            };
            self.status.enter(state);
            self.status.touch();
            let pause = pauses.next(loss.reason == "auth");
            let seconds = pause.as_secs_f64();
            tracing::warn!(camera = id, "{}; again in {seconds:.1} s", loss.text);
            let place = self.spec.place(other);
            let probe = place.ok().filter(|_| loss.reason == "unreachable");
            if pauses.wait(pause, probe.and_then(|place| place.authority()), &self.stop) {
                failures = failures.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Opens links until one is lost.
    fn session(&mut self, other: bool, known: &mut KnownSource) -> Result<(), Loss> {
        let place = self.spec.place(other).map_err(|text| Loss::new("config", text))?;
        self.status.opens(&place.location.shown());
        let mut findings = 0;
        loop {
            let end = match self.open(&place, known) {
                Ok(mut link) => self.watch(&mut link, known),
                Err(end) => end,
            };
            if self.stop.is_draining() {
                return Ok(());
            }
            match end {
                LinkEnd::Lost(loss) if loss.reason == "transport" && !known.udp => {
                    if self.spec.feed.transport == RtspTransport::Udp {
                        return Err(loss);
                    }
                    let camera = self.spec.id.as_str();
                    tracing::warn!(
                        camera,
                        "the camera does not send over TCP; ingest reads it over UDP"
                    );
                    known.udp = true;
                }
                LinkEnd::Lost(loss) => {
                    if self.spec.feed.transport == RtspTransport::Auto && loss.reason != "auth" {
                        known.udp = !known.udp;
                    }
                    return Err(loss);
                }
                LinkEnd::Found(finding) => {
                    if self.spec.feed.format == FeedFormat::Copy && finding == LinkFinding::NotMjpeg
                    {
                        let text = "the camera sends no JPEG files, which format: copy needs; set \
                                    another format";
                        return Err(Loss::new("config", text));
                    }
                    self.take(finding, known);
                }
            }
            findings += 1;
            if findings > FINDINGS_MAX {
                return Err(Loss::new("changed", "the camera changes its stream again and again"));
            }
        }
    }

    fn take(&self, finding: LinkFinding, known: &mut KnownSource) {
        let camera = self.spec.id.as_str();
        match finding {
            LinkFinding::Mjpeg => known.mjpeg = Some(true),
            LinkFinding::NotMjpeg => known.mjpeg = Some(false),
            LinkFinding::Interlaced => known.interlaced = true,
            LinkFinding::NotWeb => known.not_web = true,
            LinkFinding::OtherColours => known.other_colours = true,
            LinkFinding::Resized => tracing::info!(
                camera,
                "the camera has changed the size of its pictures; ingest opens it again"
            ),
            LinkFinding::NoHardware => {
                known.no_hardware = true;
                self.status.hardware_failed();
                tracing::warn!(
                    camera,
                    "the hardware cannot decode this camera; ingest decodes it in software"
                );
            }
        }
    }

    fn open(&self, place: &OpenLocation, known: &KnownSource) -> Result<Link, LinkEnd> {
        let feed = &self.spec.feed;
        let location = &place.location;
        let may_copy = feed.size.is_none()
            && matches!(feed.format, FeedFormat::Auto | FeedFormat::Copy | FeedFormat::Jpeg);
        let until = Tick::now().after(Duration::from_millis(feed.open_timeout_ms));
        let web = location.secret_url().filter(|url| url.starts_with("http://"));
        if let Some(url) = web.filter(|_| may_copy && !known.not_web) {
            let web = Web::open(url, &location.shown(), until, &self.stop)?;
            return Ok(Link::Web(Box::new(web)));
        }
        // An RTSP camera rarely sends JPEG, so copying is tried only if it is configured or found.
        let copies = known.mjpeg.unwrap_or(feed.format == FeedFormat::Copy);
        let pixels = match feed.format {
            FeedFormat::Raw | FeedFormat::Png => DecodedPixels::Rgb,
            _ if may_copy && copies => DecodedPixels::Copy,
            _ if known.other_colours => DecodedPixels::JpegPlanes,
            _ => DecodedPixels::Planes,
        };
        let mut live = live(feed.threads, feed.keyframes_only, known.interlaced);
        if !known.no_hardware {
            let codec = known.codec.clone().unwrap_or_else(|| "h264".into());
            live.hwaccel = feed.hwaccel.map(|kind: Hwaccel| (kind.to_string(), codec));
        }
        let mut options = place.options(feed, known.udp);
        for arg in &self.spec.input_args {
            options.retain(|(key, _)| *key != arg.key);
            options.push((arg.key.clone(), arg.value.clone()));
        }
        let reading = Reading { pixels, size: feed.size, repeat: false, live: Some(live) };
        let link = Ffmpeg::start(location, reading, &options, may_copy, &self.stop)
            .map_err(|fault| Loss::new("config", fault.to_string()))?;
        Ok(Link::Ffmpeg(Box::new(link)))
    }

    /// Reads pictures until the link ends.
    fn watch(&mut self, link: &mut Link, known: &mut KnownSource) -> LinkEnd {
        let now = Tick::now();
        let mut course = SessionState {
            began: now,
            last: None,
            cell: None,
            captured: 0.0,
            digest: 0,
            changed: now,
            shown: None,
            lines: 0,
            lines_since: now,
            left_out: 0,
            cpu: 0.0,
        };
        let mut still = Still::default();
        let _ = self.slot.take_refusal();
        let (open, further) = (self.spec.feed.open_timeout_ms, self.spec.feed.no_frame_ms);
        let end = loop {
            let until = match course.last {
                None => course.began.after(Duration::from_millis(open)),
                Some(last) => last.after(Duration::from_millis(further)),
            };
            self.status.touch();
            let next = link.next(&mut still, until);
            self.status.count(SendOutcome::DecodeError, link.take_damages());
            self.report(link, &mut course);
            match next {
                Ok(captured) => {
                    if let Some(codec) =
                        link.codec().filter(|codec| known.codec.as_deref() != Some(codec))
                    {
                        known.codec = Some(codec.to_owned());
                    }
                    if let Err(end) = self.frame(link, &mut still, captured, &mut course) {
                        break end;
                    }
                }
                Err(LinkEnd::Lost(loss)) if loss.reason == "timeout" && course.last.is_some() => {
                    let text = format!("no picture for {further} ms");
                    break Loss::new("stalled", text).into();
                }
                Err(end) => break end,
            }
            if self.stop.is_draining() {
                break Loss::new("ended", "stopped").into();
            }
        };
        self.cpu(link, &mut course);
        let asked = self.spec.feed.hwaccel.is_some() && !known.no_hardware;
        if asked
            && course.last.is_none()
            && matches!(&end, LinkEnd::Lost(loss) if loss.reason == "ended")
        {
            return LinkEnd::Found(LinkFinding::NoHardware);
        }
        end
    }

    fn frame(
        &mut self,
        link: &mut Link,
        still: &mut Still,
        captured: f64,
        course: &mut SessionState,
    ) -> Result<(), LinkEnd> {
        if still.bytes.is_empty() {
            self.status.count(SendOutcome::DecodeError, 1);
            return Ok(());
        }
        let now = Tick::now();
        if course.last.is_none() && self.status.enter(State::Live) {
            let Still { width, height, .. } = *still;
            let (camera, after) = (self.spec.id.as_str(), course.began.elapsed().as_secs_f64());
            tracing::info!(camera, "live after {after:.1} s, {width}x{height}");
        }
        if course.last.is_none_or(|last| now.since(last) > Duration::from_secs(1)) {
            self.cpu(link, course);
        }
        course.last = Some(now);
        if captured > unix_seconds() + CLOCK_STEP_SECONDS {
            // A decoder keeps its times ascending and would continue from the old ones.
            let text = "the clock of this machine was set back";
            return Err(Loss::new("ended", text).into());
        }
        if captured < course.captured - CLOCK_STEP_SECONDS {
            let (camera, by) = (self.spec.id.as_str(), course.captured - captured);
            tracing::warn!(camera, "the clock of this machine was set back by {by:.0} s");
            (course.captured, course.cell) = (0.0, None);
        }
        // Capture times of a camera must ascend, even if a decoder reorders pictures.
        let captured = captured.max(course.captured + 1e-6);
        course.captured = captured;
        self.status.arrived(captured, (still.width, still.height), link.codec());
        self.same(still, now, course)?;
        if let Some(fps) = self.spec.feed.fps {
            // Each cell of a regular time grid gets one picture, so changes of the camera's rate do
            // not matter.
            let cell = (captured * fps).floor() as i64;
            if course.cell == Some(cell) {
                self.status.count(SendOutcome::SampledOut, 1);
                return Ok(());
            }
            course.cell = Some(cell);
        }
        match self.shot(still, captured, now, course) {
            Ok(shot) => {
                if self.slot.put(shot) {
                    self.status.count(SendOutcome::Superseded, 1);
                }
            }
            Err(reject) => {
                self.status.count(SendOutcome::DecodeError, 1);
                tracing::debug!(camera = self.spec.id.as_str(), "{reject}");
            }
        }
        let Some(why) = self.slot.take_refusal() else { return Ok(()) };
        // The waiting frame would be refused as well, and reported after this camera has started
        // again.
        if self.slot.take().is_some() {
            self.status.count(SendOutcome::Superseded, 1);
        }
        Err(Loss::new("ring", why).into())
    }

    /// Encodes the picture to send in a separate buffer, and updates the picture for pages now and
    /// then.
    fn shot(
        &mut self,
        still: &mut Still,
        captured: f64,
        now: Tick,
        course: &mut SessionState,
    ) -> Result<Shot, Reject> {
        let is_due = course.shown.is_none_or(|at| now.since(at) >= SHOW_EVERY);
        let ready = self.coder.code(still)?;
        let InputImage { format, layout, width, height, channels, bytes } = ready.picture;
        if is_due && format == Format::Jpeg {
            course.shown = Some(now);
            self.status.show(bytes, true);
        }
        let (quality, is_found) = (ready.quality, ready.is_found);
        let mut buffer = self.slot.buffer();
        if !is_found {
            buffer.extend_from_slice(bytes);
        } else if is_due && format != Format::Jpeg && self.status.is_watched() {
            course.shown = Some(now);
            self.status.show(self.coder.preview(still)?.picture.bytes, false);
        }
        if is_found {
            std::mem::swap(&mut buffer, &mut still.bytes);
        }
        let age = Duration::try_from_secs_f64(unix_seconds() - captured).unwrap_or_default();
        let (bytes, arrived) = (buffer, now.before(age));
        Ok(Shot { bytes, format, layout, width, height, channels, quality, captured, arrived })
    }

    /// Detects a frozen camera, whose picture never changes.
    fn same(&self, still: &Still, now: Tick, course: &mut SessionState) -> Result<(), LinkEnd> {
        let limit = self.spec.feed.same_frame_ms;
        if limit == 0 {
            return Ok(());
        }
        let digest = XxHash3_64::oneshot(&still.bytes);
        if digest != course.digest {
            (course.digest, course.changed) = (digest, now);
        } else if now.since(course.changed) >= Duration::from_millis(limit) {
            let text = format!("the same picture for {limit} ms");
            return Err(Loss::new("same_frame", text).into());
        }
        Ok(())
    }

    /// Logs lines of `ffmpeg`, at a limited rate.
    fn report(&self, link: &mut Link, course: &mut SessionState) {
        let camera = self.spec.id.as_str();
        if course.lines_since.elapsed() >= LINES_PER {
            if course.left_out > 0 {
                tracing::warn!(camera, "{} more lines of ffmpeg", course.left_out);
            }
            (course.lines, course.left_out, course.lines_since) = (0, 0, Tick::now());
        }
        while let Some(line) = link.take_line() {
            if !is_worth(&line) {
                continue;
            }
            if course.lines < LINES_MAX {
                course.lines += 1;
                tracing::warn!(camera, "ffmpeg: {}", line.text);
            } else {
                course.left_out += 1;
            }
        }
    }

    /// Adds the CPU time that the child has used since the last call.
    fn cpu(&self, link: &mut Link, course: &mut SessionState) {
        let Some(used) = link.child().and_then(super::pause::cpu_seconds) else { return };
        self.status.add_cpu((used - course.cpu).max(0.0));
        course.cpu = course.cpu.max(used);
    }
}
