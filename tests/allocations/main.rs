//! Heap allocations per frame in steady state, by thread role.
//!
//! A separate binary, as its allocator counts. The engine, its threads and its redis-server are
//! real. `rayon::spawn` boxes each job and allocates a block for every 63 of them, so the
//! dispatcher may make slightly more than one allocation per frame. All other roles may make none.
//!
//! With `FRAMEPRESS_TRACES=20`, the first 20 counted allocations print a backtrace.
#![allow(unsafe_code, clippy::unwrap_used)]

mod counter;
mod leaks;

use std::sync::Arc;
use std::time::Duration;

use framepress::Producer;
use framepress::config::{CameraConfig, CompressionFormat, Config, RedisUrl, Retention, RoiBox};
use framepress::internals::base::Stop;
use framepress::internals::camera::{Full, Outbound, ProducerOptions};
use framepress::internals::engine::{Engine, Hooks, input_streams};
use framepress::internals::frame::View;
use framepress::internals::image::{Encoder, Format, InputImage, Target};
use framepress::internals::redis::Control;
use parking_lot::{Condvar, Mutex};

const WIDTH: usize = 640;
const HEIGHT: usize = 480;
const CAMERAS: [&str; 2] = ["north", "south"];
/// Different pictures, so that results differ in size as those of a camera do.
const PICTURES: usize = 8;
/// Frames until every buffer, string and table has reached its final size.
const WARM_UP: u64 = 200;
/// Frames that fill every lane and slot.
const FULL_HOUSE: u64 = 40;
const COUNTED: u64 = 600;
/// The box of a job, and a share of a block of rayon's queue: one for 63 jobs, with some slack for
/// the moment at which counting begins.
const DISPATCHER_PER_FRAME: f64 = 1.03;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Slopes and noise; each number gives another picture.
fn pixels(number: usize) -> Vec<u8> {
    let mut state = 1 + number as u32;
    let strength = 12 + number % 4;
    (0..3 * WIDTH * HEIGHT)
        .map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (x, y) = (index / 3 % WIDTH, index / 3 / WIDTH);
            (x / 8 + y / 4 + (state >> 16) as usize % strength + number) as u8
        })
        .collect()
}

fn jpeg(rgb: &[u8]) -> Vec<u8> {
    let view =
        View { width: WIDTH, height: HEIGHT, channels: 3, interleaved: Some(rgb), planes: None };
    let mut out = Vec::new();
    let target = Target { format: Format::Jpeg, quality: 90, webp_method: 0 };
    Encoder::new().unwrap().encode(&view, &target, &mut out).unwrap();
    out
}

/// Holds the workers while closed.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock() = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.closed.lock();
        while *closed {
            self.changed.wait(&mut closed);
        }
    }
}

struct Run {
    engine: Engine,
    gate: Arc<Gate>,
    producer: Producer,
    format: Format,
    pictures: Vec<Vec<u8>>,
    sent: u64,
}

impl Run {
    fn start(mut config: Config, format: Format) -> Run {
        config.redis_queue.url = RedisUrl::parse("embedded://").unwrap();
        config.redis_queue.retention = Retention::Delete;
        config.stats.addr = None;
        config.check().unwrap();
        let gate = Arc::new(Gate::default());
        let probe = {
            let gate = Arc::clone(&gate);
            Arc::new(move |_: &str| gate.pass())
        };
        let engine = Engine::start(
            &config,
            Hooks { probe: Some(probe), ..Hooks::default() },
            Stop::default(),
        )
        .unwrap();
        let options = ProducerOptions {
            topology: engine.view().topology.clone(),
            wait_replicas: 0,
            streams: input_streams(&config),
            length_max: 0,
            timeout: Duration::from_secs(10),
            retry: false,
            full: Full::Block,
            ring: None,
        };
        let producer = Producer::connect(options, engine.stop()).unwrap();
        let pictures = (0..PICTURES).map(pixels);
        let pictures = match format {
            Format::Jpeg => pictures.map(|rgb| jpeg(&rgb)).collect(),
            _ => pictures.collect(),
        };
        Run { engine, gate, producer, format, pictures, sent: 0 }
    }

    /// Fills every lane and slot once. It first holds the workers until the engine takes no more
    /// frames, then Redis, so that all results wait for their commit.
    fn full_house(&mut self) {
        self.gate.set(true);
        self.send(FULL_HOUSE);
        std::thread::sleep(Duration::from_millis(100));
        let timeout = Duration::from_secs(10);
        let mut control = Control::new(&self.engine.view().topology, timeout);
        let mut pause = redis::cmd("CLIENT");
        pause.arg("PAUSE").arg(300).arg("WRITE");
        control.run::<()>("CLIENT PAUSE", &pause).unwrap();
        self.gate.set(false);
        self.wait();
    }

    /// Sends frames as fast as possible, and waits until all are out.
    fn frames(&mut self, count: u64) {
        self.send(count);
        self.wait();
    }

    fn send(&mut self, count: u64) {
        for _ in 0..count {
            let number = self.sent as usize;
            let picture = InputImage {
                format: self.format,
                width: WIDTH as u32,
                height: HEIGHT as u32,
                channels: 3,
                layout: Default::default(),
                bytes: &self.pictures[number % PICTURES],
            };
            self.producer
                .send(&Outbound {
                    frame_id: &format!("frame-{number:08}"),
                    camera_id: CAMERAS[number % CAMERAS.len()],
                    timestamp: 1_700_000_000.0 + number as f64 / 30.0,
                    picture,
                    quality: 0,
                })
                .unwrap();
            self.sent += 1;
        }
    }

    fn wait(&self) {
        let ledger = &self.engine.view().metrics.ledger;
        for _ in 0..6_000 {
            if ledger.read().out == self.sent {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not all frames came out: {:?}", ledger.read());
    }
}

/// Counts allocations per frame of reader, dispatcher, workers and committer.
fn steady_state(what: &str, config: Config, format: Format) {
    let _alone = ONE_AT_A_TIME.lock();
    let mut run = Run::start(config, format);
    for _ in 0..4 {
        run.full_house();
        run.frames(WARM_UP / 4 + 1); // shift the picture order for the next round
    }
    let traces = std::env::var("FRAMEPRESS_TRACES").ok().and_then(|text| text.parse().ok());
    counter::arm(traces.unwrap_or(0));
    run.frames(COUNTED);
    let counts = counter::disarm();
    let slots = run.engine.view().plan.slots as u64;
    run.engine.stop().drain();
    run.engine.wait().unwrap();

    println!("{what}: allocations of {COUNTED} frames (per frame), and those of C libraries");
    for (role, (rust, c)) in counter::ROLES.iter().zip(counts) {
        let per_frame = |count: u64| count as f64 / COUNTED as f64;
        println!("  {role:<12} {rust:>5} ({:.3})   C {:.1}", per_frame(rust), per_frame(c));
    }
    let [reader, dispatcher, workers, committer] = counts.map(|(rust, _)| rust);
    // None per frame, except when the pool reaches a new depth. If Redis is slow for a moment, more
    // results of one size wait than ever before, at most one for each slot. If a camera's Huffman
    // tables are learnt meanwhile, as many of another size may wait.
    for (who, count) in [("reader", reader), ("workers", workers), ("committer", committer)] {
        assert!(count <= 2 * slots, "{who}: {count} allocations in {COUNTED} frames");
    }
    let per_frame = dispatcher as f64 / COUNTED as f64;
    assert!(per_frame <= DISPATCHER_PER_FRAME, "the dispatcher allocated {per_frame} per frame");
}

fn plain() -> Config {
    let mut config = Config::builtin();
    config.analysis.enabled = false;
    config
}

#[test]
fn raw_frames_to_jpeg_allocate_nothing() {
    steady_state("raw to JPEG", plain(), Format::Raw);
}

#[test]
fn jpeg_frames_to_jpeg_allocate_nothing() {
    steady_state("JPEG to JPEG", plain(), Format::Jpeg);
}

#[test]
fn analysis_and_extra_pictures_allocate_nothing() {
    let mut config = Config::builtin();
    config.analysis.ml_image = true;
    config.analysis.thumbnail = true;
    let roi = |label: &str| RoiBox { x: 8, y: 8, width: 200, height: 100, label: label.into() };
    config.cameras.push(CameraConfig {
        roi_boxes: vec![roi("left"), roi("right")],
        ..CameraConfig::named(CAMERAS[0])
    });
    steady_state("raw to JPEG with everything", config.clone(), Format::Raw);
    steady_state("JPEG to JPEG with everything", config.clone(), Format::Jpeg);
    config.redis_queue.compression_format = CompressionFormat::Webp;
    config.redis_queue.webp_method = framepress::config::WebpMethod::Fixed(0);
    steady_state("raw to WebP with everything", config, Format::Raw);
}
