//! Opens a camera once and reports what it sends, and what would be sent to Redis.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::camera::{CameraReader, coder};
use super::slot::{FrameSlot, bell};
use super::source::Spec;
use super::status::{IngestStatus, SendOutcome, State};
use crate::base::threads::{self, Identity, Role};
use crate::base::{Fault, Stop};
use crate::config::Config;
use crate::image::Format;
use crate::metrics::clock::{Tick, calendar_time, unix_seconds};

/// How long to count pictures.
const WATCHED: Duration = Duration::from_secs(3);
/// Time limit for asking the camera's clock.
const CLOCK_LIMIT: Duration = Duration::from_secs(2);

/// Result of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraFound {
    /// The codec, if known.
    pub codec: Option<String>,
    /// Width and height of its pictures, in pixels.
    pub size: (u32, u32),
    /// Received pictures per second.
    pub fps: f64,
    /// Time to the first picture.
    pub opened_after: Duration,
    /// Median time from the arrival of a picture until it is ready to be sent.
    pub delay: Duration,
    /// How far the camera's clock is ahead of this machine's, in whole seconds, if the camera
    /// reports it.
    pub clock_ahead: Option<i64>,
    /// Number of times that the requested hardware decoder failed.
    pub hwaccel_fallbacks: u64,
    /// Frames per second that would be sent.
    pub sent_fps: f64,
    /// Format in which they would be sent.
    pub form: String,
    /// Bytes per second that would be sent.
    pub bytes_per_second: f64,
    /// Size of the camera's frame ring in bytes, if frames would be written to one.
    pub ring_bytes: Option<u64>,
}

/// Opens the camera and counts its pictures for three seconds.
///
/// [`Fault::Unusable`] with the reason, without secrets; [`Fault::Io`] if no thread can be started.
pub fn try_out(config: &Config, spec: &Spec, stop: &Stop) -> Result<CameraFound, Fault> {
    let feed = &spec.feed;
    let limit = Duration::from_millis(feed.open_timeout_ms);
    let status = Arc::new(IngestStatus::new(&spec.id, State::Connecting, limit));
    let (wake, rung) = bell();
    let slot = Arc::new(FrameSlot::new(wake));
    let ended = Stop::default();
    let reader = CameraReader {
        spec: spec.clone(),
        slot: Arc::clone(&slot),
        status: Arc::clone(&status),
        stop: ended.clone(),
        once: true,
        coder: coder(config, feed)?,
    };
    let began = Tick::now();
    let identity = Identity { role: Role::Camera, index: 0, core: None };
    let thread = threads::spawn(identity, &ended, move || reader.run())?;
    let arrivals = || {
        let sampled =
            status.frames(SendOutcome::SampledOut) + status.frames(SendOutcome::DecodeError);
        sampled + status.frames(SendOutcome::Superseded)
    };
    let (mut opened, mut before) = (None, 0);
    let (mut count, mut bytes, mut form) = (0_u64, 0, String::new());
    let mut ring_bytes = None;
    let mut delays = Vec::new();
    while !thread.is_finished() && !stop.is_draining() {
        let _ = rung.recv_timeout(Duration::from_millis(20));
        if let Some(shot) = slot.take() {
            if opened.is_none() {
                opened = Some(Tick::now());
                before = arrivals();
                continue; // the first picture may have waited in the decoder
            }
            count += 1;
            bytes += shot.bytes.len() as u64;
            let in_ring = feed.ring > 0 && shot.format == Format::Raw;
            ring_bytes = in_ring.then(|| u64::from(feed.ring) * shot.bytes.len() as u64);
            form = shot.layout.pixels.map_or(shot.format.name(), |layout| layout.name()).into();
            delays.push(
                Duration::try_from_secs_f64(unix_seconds() - shot.captured).unwrap_or_default(),
            );
        }
        if opened.is_some_and(|opened| opened.elapsed() >= WATCHED) {
            break;
        }
    }
    let watched = opened.map(Tick::elapsed);
    ended.drain();
    thread.join()?;
    let (Some(opened), Some(watched)) = (opened, watched) else {
        return Err(Fault::Unusable(format!("camera {}: stopped before it was open", spec.id)));
    };
    let seconds = watched.as_secs_f64();
    delays.sort_unstable();
    let json = status.json();
    let side = |name: &str| json[name].as_u64().and_then(|side| u32::try_from(side).ok());
    Ok(CameraFound {
        codec: json["codec"].as_str().map(str::to_owned),
        size: (side("width").unwrap_or(0), side("height").unwrap_or(0)),
        fps: (count + arrivals() - before) as f64 / seconds,
        opened_after: opened.since(began),
        delay: delays.get(delays.len() / 2).copied().unwrap_or_default(),
        clock_ahead: clock_ahead(spec),
        hwaccel_fallbacks: status.hwaccel_fallbacks(),
        sent_fps: count as f64 / seconds,
        form,
        bytes_per_second: bytes as f64 / seconds,
        ring_bytes,
    })
}

/// Asks for the camera's clock in the `Date` header, by a request that needs no login.
fn clock_ahead(spec: &Spec) -> Option<i64> {
    let authority = spec.place(false).ok()?.authority()?;
    let address = authority.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, CLOCK_LIMIT).ok()?;
    stream.set_read_timeout(Some(CLOCK_LIMIT)).ok()?;
    stream.set_write_timeout(Some(CLOCK_LIMIT)).ok()?;
    let (host, port) = &authority;
    let request = match spec.place(false).ok()?.location.is_rtsp() {
        true => format!("OPTIONS rtsp://{host}:{port}/ RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
        false => format!("HEAD / HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"),
    };
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 2048];
    let count = stream.read(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer[..count]).into_owned();
    let date = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim().to_owned())
    })?;
    let theirs = seconds(httpdate::parse_http_date(&date).ok()?);
    Some(theirs - seconds(calendar_time()))
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
