//! An embedding program: an engine, a producer of its own and a reader of results, written only
//! against the public interface.

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::Duration;

use framepress::config::{CameraConfig, Config, Loader};
use framepress::proto::ProcessedFrame;
use framepress::{
    Conservation, Fault, Format, Full, InputImage, Outbound, PixelLayout, Producer, RawLayout,
    Reuse, RingOptions, RingUse, Stop, create_producer, create_stream_processor,
};
use prost::Message as _;
use redis::streams::StreamRangeReply;

/// How often, and after which pause, the program looks for the results of all frames.
const RESULTS_ATTEMPTS: u32 = 6000;
const RESULTS_TICK: Duration = Duration::from_millis(5);

const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;

/// The configuration for a server, as a program gets it from its own settings.
///
/// # Errors
/// What [`Loader::load`] finds wrong with the values.
pub fn configure(url: &str) -> Result<Config, Box<dyn Error>> {
    let loaded = Loader::new()
        .flag("redis_queue.url", url)
        .flag("redis_queue.input_queue", "embedded_input")
        .flag("redis_queue.output_queue", "embedded_output")
        .flag("redis_queue.retention", "delete")
        .flag("redis_queue.compression_format", "jpeg")
        .load()?;
    Ok(loaded.config)
}

/// Runs an engine, sends `frames` frames of each of two cameras, their pixels through a ring in
/// `ring_folder` or through Redis, waits for the results, and stops it. Returns the account of the engine and the stored results.
///
/// # Errors
/// Those of the library and of the Redis client; a text if results are missing.
pub fn run(
    url: &str,
    frames: u32,
    ring_folder: Option<&Path>,
) -> Result<(Conservation, Vec<ProcessedFrame>), Box<dyn Error>> {
    let mut config = configure(url)?;
    config.ring.dir = ring_folder.map(Path::to_path_buf);
    let processor = create_stream_processor(&config)?;
    processor.register_stream(&CameraConfig::named("north"));

    let ring = ring_folder.map(|folder| RingUse {
        ring: RingOptions {
            folder: folder.into(),
            name: "embedding".into(),
            slots: 4,
            frame_bytes_max: u64::from(WIDTH * HEIGHT * 3 / 2),
        },
        reuse: Reuse::Lossless,
    });
    let mut producer = create_producer(&config, Full::Block, ring, &Stop::default())?;
    for number in 0..frames {
        for camera in ["north", "south"] {
            send(&mut producer, camera, number)?;
        }
    }

    let processed = || processor.get_processing_stats().frames_processed;
    for _ in 0..RESULTS_ATTEMPTS {
        if processed() >= u64::from(2 * frames) {
            break;
        }
        thread::sleep(RESULTS_TICK);
    }
    if processed() < u64::from(2 * frames) {
        return Err(format!("results are missing: {:?}", processor.get_queue_health()).into());
    }
    let north = processor.get_stream_status("north").ok_or("the camera is not known")?;
    if north.frames_processed != u64::from(frames) {
        return Err(
            format!("the engine counted {} frames of the camera", north.frames_processed).into()
        );
    }
    let conservation = processor.get_processing_stats().conservation;
    processor.stop()?;
    Ok((conservation, results(url)?))
}

/// Sends one gray picture as planes of 4:2:0.
fn send(producer: &mut Producer, camera: &str, number: u32) -> Result<(), Fault> {
    let pixels = (WIDTH * HEIGHT) as usize;
    let mut bytes = vec![(16 + number % 200) as u8; pixels];
    bytes.resize(pixels + pixels / 2, 128);
    let layout = RawLayout { pixels: Some(PixelLayout::Yuv420p), ..RawLayout::default() };
    producer.send(&Outbound {
        frame_id: &format!("{camera}-{number}"),
        camera_id: camera,
        timestamp: 1_700_000_000.0 + f64::from(number),
        picture: InputImage {
            format: Format::Raw,
            width: WIDTH,
            height: HEIGHT,
            channels: 3,
            layout,
            bytes: &bytes,
        },
        quality: 0,
    })?;
    Ok(())
}

/// All messages of the output stream.
fn results(url: &str) -> Result<Vec<ProcessedFrame>, Box<dyn Error>> {
    let mut connection = redis::Client::open(url)?.get_connection()?;
    let reply: StreamRangeReply =
        redis::cmd("XRANGE").arg("embedded_output").arg("-").arg("+").query(&mut connection)?;
    let messages = reply.ids.iter().map(|entry| {
        let data: Vec<u8> = entry.get("data").ok_or("an entry without data")?;
        Ok(ProcessedFrame::decode(&*data)?)
    });
    messages.collect()
}
