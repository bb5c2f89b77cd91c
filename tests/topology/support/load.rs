//! Cameras: frames sent one after the other, by the producer of the library.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use framepress::config::Config;
use framepress::internals::base::threads::{self, Identity, Role, Running};
use framepress::internals::base::{Fault, Stop};
use framepress::internals::camera::{Full, Outbound, Producer, ProducerOptions};
use framepress::internals::engine;
use framepress::internals::frame::View;
use framepress::internals::image::{Encoder, Format, InputImage, Target};

use super::wait_until;

/// Cameras of a load; enough for several shards.
const CAMERAS: usize = 8;

/// A small JPEG.
pub fn picture() -> Vec<u8> {
    let (width, height) = (64, 48);
    let pixels: Vec<u8> = (0..width * height * 3).map(|at| (at * 7 % 251) as u8).collect();
    let view = View { width, height, channels: 3, interleaved: Some(&pixels), planes: None };
    let target = Target { format: Format::Jpeg, quality: 90, webp_method: 0 };
    let mut file = Vec::new();
    Encoder::new().unwrap().encode(&view, &target, &mut file).unwrap();
    file
}

/// A frame with a small picture.
pub fn frame<'a>(frame_id: &'a str, camera_id: &'a str, picture: &'a [u8]) -> Outbound<'a> {
    Outbound {
        frame_id,
        camera_id,
        timestamp: 1_700_000_000.25,
        picture: InputImage {
            format: Format::Jpeg,
            width: 64,
            height: 48,
            channels: 3,
            layout: Default::default(),
            bytes: picture,
        },
        quality: 90,
    }
}

/// A producer as configured.
pub fn producer(config: &Config, stop: &Stop) -> Producer {
    let (topology, _) = engine::find_server(&config.redis_queue, stop).unwrap();
    let options = ProducerOptions {
        topology,
        streams: engine::input_streams(config),
        length_max: 0,
        wait_replicas: config.redis_queue.wait_replicas,
        timeout: Duration::from_secs(config.redis_queue.timeout),
        retry: true,
        full: Full::Block,
        ring: None,
    };
    Producer::connect(options, stop).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Cameras that send frames until stopped.
pub struct Load {
    stop: Stop,
    sent: Arc<AtomicUsize>,
    acks_missing: Arc<AtomicUsize>,
    thread: Option<Running>,
}

impl Load {
    /// Cameras of all shards.
    pub fn start(config: &Config) -> Load {
        Load::of(config, (0..CAMERAS).map(|number| format!("camera-{number}")).collect())
    }

    /// The given cameras.
    pub fn of(config: &Config, cameras: Vec<String>) -> Load {
        let stop = Stop::default();
        let sent = Arc::new(AtomicUsize::new(0));
        let acks_missing = Arc::new(AtomicUsize::new(0));
        let mut producer = producer(config, &stop);
        let identity = Identity { role: Role::Camera, index: 0, core: None };
        let (until, count, missing) = (stop.clone(), Arc::clone(&sent), Arc::clone(&acks_missing));
        let thread = threads::spawn(identity, &stop, move || {
            let picture = picture();
            while !until.sleep(Duration::from_millis(3)) {
                let number = count.load(Ordering::Relaxed);
                let camera = &cameras[number % cameras.len()];
                match producer.send(&frame(&format!("frame-{number}"), camera, &picture)) {
                    Ok(_) => count.fetch_add(1, Ordering::Relaxed),
                    Err(_) if until.is_draining() => break,
                    Err(fault) => return Err(fault),
                };
                missing.store(producer.replica_acks_missing() as usize, Ordering::Relaxed);
            }
            Ok(())
        });
        Load { stop, sent, acks_missing, thread: Some(thread.unwrap()) }
    }

    /// Frames whose sending has been confirmed.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Frames that fewer replicas than requested have confirmed.
    pub fn replica_acks_missing(&self) -> usize {
        self.acks_missing.load(Ordering::Relaxed)
    }

    /// Waits until `count` more frames have been sent.
    #[track_caller]
    pub fn wait_for_more(&self, count: usize) {
        let goal = self.sent() + count;
        wait_until(&format!("{count} more frames sent"), || self.sent() >= goal);
    }

    /// Stops the load; returns how many frames have been confirmed.
    #[track_caller]
    pub fn stop(mut self) -> usize {
        self.stop.drain();
        let end: Result<(), Fault> = self.thread.take().map_or(Ok(()), Running::join);
        assert!(end.is_ok(), "the cameras film to the end: {end:?}");
        self.sent()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.drain();
    }
}
