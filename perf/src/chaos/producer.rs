//! The producer: numbers the frames of each camera and adds them, and remembers what it knows of
//! each.
//!
//! A frame is never sent twice. If the answer to its XADD is lost, it may be in the stream or not,
//! and the checker is content with either; the next frame has the next number.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64_simd::STANDARD;
use framepress::image::Format;

use super::archive::Archive;
use super::draw::Setup;
use super::names::Streams;
use super::world::Finder;
use crate::Outcome;
use crate::common::Pictures;

/// Pause after a refusal.
const PAUSE: Duration = Duration::from_millis(30);
/// With a full backlog a frame is sent all the same after this time: frames that are lost in
/// silence must not end the load.
const TRICKLE: Duration = Duration::from_millis(60);

/// A frame that was sent, or may have been.
#[derive(Clone, Debug)]
pub struct Sent {
    pub frame: String,
    pub camera: usize,
    pub number: u64,
    /// Its entry; `None` if the answer was lost.
    pub entry: Option<String>,
    /// When it was sent and when the answer came, in milliseconds from the start.
    pub at_ms: u64,
    pub answered_ms: u64,
}

/// The producer's thread; ended with the value.
pub struct Producer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Outcome<Vec<Sent>>>>,
}

impl Producer {
    pub fn start(
        setup: &Setup,
        streams: &Streams,
        finder: Finder,
        archive: Arc<Archive>,
        began: Instant,
    ) -> Outcome<Producer> {
        let bodies = bodies(setup)?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let (setup, input) = (setup.clone(), streams.input.clone());
        let thread = std::thread::spawn(move || {
            run(&setup, &input, &bodies, finder, &archive, began, &flag)
        });
        Ok(Producer { stop, thread: Some(thread) })
    }

    /// Ends it; everything it has sent.
    pub fn end(mut self) -> Outcome<Vec<Sent>> {
        self.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take().ok_or("the producer has ended before")?;
        thread.join().map_err(|_| "the producer panicked")?
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One picture for each camera, in base64.
fn bodies(setup: &Setup) -> Outcome<Vec<String>> {
    let size = (setup.width, setup.height);
    let pictures = Pictures::of_a_road(size, Format::Jpeg, setup.cameras)?;
    let body = |camera: usize| {
        STANDARD.encode_to_string(pictures.frame(camera as u64, "", "").picture.bytes)
    };
    Ok((0..setup.cameras).map(body).collect())
}

fn run(
    setup: &Setup,
    input: &str,
    bodies: &[String],
    mut finder: Finder,
    archive: &Archive,
    began: Instant,
    stop: &AtomicBool,
) -> Outcome<Vec<Sent>> {
    let gap = Duration::from_micros(1_000_000 * setup.burst / setup.rate);
    let now = || began.elapsed().as_millis() as u64;
    let mut sent: Vec<Sent> = Vec::new();
    let mut number: u64 = 0;
    let mut last = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let in_burst = !number.is_multiple_of(setup.burst);
        let outstanding = (sent.len() as u64).saturating_sub(archive.settled());
        let wait = match outstanding < setup.backlog {
            true if in_burst => Duration::ZERO,
            true => gap,
            false => TRICKLE.max(gap),
        };
        let waited = last.elapsed();
        if waited < wait {
            std::thread::sleep((wait - waited).min(Duration::from_millis(5)));
            continue;
        }
        last = Instant::now();
        let camera = number as usize % setup.cameras;
        let of_camera = number / setup.cameras as u64;
        let (frame, name) = (format!("c{camera}-{of_camera:06}"), format!("camera-{camera}"));
        let data = format!(
            r#"{{"frame_id":"{frame}","camera_id":"{name}","timestamp":{}.5,"image_base64":"{}"}}"#,
            1_700_000_000 + number,
            bodies[camera]
        );
        let mut command = redis::cmd("XADD");
        command.arg(input).arg("*").arg("data").arg(data);
        command.arg("frame_id").arg(&frame).arg("camera_id").arg(&name);
        let at_ms = now();
        let entry = match finder.primary().and_then(|link| Ok(link.query::<String>(&command)?)) {
            Ok(entry) => Some(entry),
            Err(error) => {
                let error = error.downcast_ref::<redis::RedisError>();
                finder.lost();
                std::thread::sleep(PAUSE);
                // A refusal, or no connection: it was not sent, and keeps its number.
                if error.is_none_or(|error| error.code().is_some() || error.is_connection_refusal())
                {
                    continue;
                }
                None
            }
        };
        sent.push(Sent { frame, camera, number: of_camera, entry, at_ms, answered_ms: now() });
        number += 1;
    }
    Ok(sent)
}
