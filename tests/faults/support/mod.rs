//! Shared by all fault tests: a Redis that can be killed, engines, frames, and waiting for a
//! condition.

mod engine;
mod server;

pub use engine::{ProgramUnderTest, RunningEngine};
pub use server::Server;

use std::time::Duration;

use framepress::internals::frame::View;
use framepress::internals::image::{Encoder, Format, Target};
use framepress::internals::metrics::clock::{Tick, unix_seconds};
use framepress::internals::wire::proto::{ImageData, ProcessedFrame};
use prost::Message;

/// Longer than any wait in a healthy test, also on a busy machine.
pub const LONG: Duration = Duration::from_secs(180);

pub const INPUT: &str = "camera_frames";
pub const OUTPUT: &str = "processed_frames";
pub const GROUP: &str = "stream_processor";

/// Waits until `condition` holds; fails with `what` after `limit`. Returns how long it took.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Tick::now();
    while !condition() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    began.elapsed()
}

/// Pseudo-random numbers that repeat with their seed (Vigna's splitmix64).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice seeded by `FRAMEPRESS_SEED` or by the time of day; prints the seed.
    pub fn thrown() -> Dice {
        let given = std::env::var("FRAMEPRESS_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| unix_seconds().to_bits());
        eprintln!("FRAMEPRESS_SEED={seed}");
        Dice(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A random duration between the two, in milliseconds.
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.next() % (most - least + 1))
    }
}

/// Interleaved RGB with gradients and a texture, so that encoding it takes real work.
pub fn pixels(width: usize, height: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let texture = ((x * 31) ^ (y * 17)) % 61;
            out.extend([(x + texture) as u8, (y + texture) as u8, (x + y) as u8]);
        }
    }
    out
}

/// A picture as the image of a message.
pub fn picture(format: Format, width: usize, height: usize) -> ImageData {
    let pixels = pixels(width, height);
    let view = View { width, height, channels: 3, interleaved: Some(&pixels), planes: None };
    let target = Target { format, quality: 85, webp_method: 0 };
    let mut compressed_data = Vec::new();
    Encoder::new().unwrap().encode(&view, &target, &mut compressed_data).unwrap();
    ImageData {
        compressed_data,
        width: i32::try_from(width).unwrap(),
        height: i32::try_from(height).unwrap(),
        channels: 3,
        compression_format: format.name().to_owned(),
        quality: 85,
        ..Default::default()
    }
}

/// The `data` field of a frame with that picture.
pub fn frame(frame_id: &str, camera_id: &str, image: &ImageData) -> Vec<u8> {
    let frame = ProcessedFrame {
        frame_id: frame_id.to_owned(),
        camera_id: camera_id.to_owned(),
        timestamp: 1_700_000_000.25,
        original_image: Some(image.clone()),
        ..Default::default()
    };
    frame.encode_to_vec()
}
