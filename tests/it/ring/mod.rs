//! Frames whose pixels lie in a ring of shared memory: the engine reads them as if they came with
//! the entry, and no ring content harms it.

mod broken;
mod whole_path;

use std::path::{Path, PathBuf};
use std::time::Duration;

use framepress::internals::base::Stop;
use framepress::internals::camera::{Full, Outbound, Producer, ProducerOptions, Reuse, RingUse};
use framepress::internals::image::{Format, InputImage, PixelLayout, RawLayout};
use framepress::internals::redis::Address;
use framepress::internals::ring::RingOptions;
use tempfile::TempDir;

use crate::support::{INPUT, RedisServer};

/// A folder for rings, on a tmpfs if there is one.
pub fn rings_folder() -> TempDir {
    let shared_memory = Path::new("/dev/shm");
    let parent = if shared_memory.is_dir() { shared_memory.into() } else { std::env::temp_dir() };
    tempfile::tempdir_in(parent).unwrap()
}

fn ring(folder: &Path, name: &str, slots: u32) -> RingOptions {
    let folder = PathBuf::from(folder);
    RingOptions { folder, name: name.into(), slots, frame_bytes_max: 64 * 48 * 3 }
}

fn producer(server: &RedisServer, ring: Option<RingOptions>, reuse: Reuse, full: Full) -> Producer {
    let options = ProducerOptions {
        topology: Address::tcp("127.0.0.1", server.port()).into(),
        streams: vec![INPUT.to_owned()],
        length_max: 0,
        wait_replicas: 0,
        timeout: Duration::from_secs(10),
        retry: true,
        full,
        ring: ring.map(|ring| RingUse { ring, reuse }),
    };
    Producer::connect(options, &Stop::default()).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Pixels of a picture of 64x48, which differs with `seed`.
fn pixels(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| ((at / 7 + at / 640 + 31 * seed) % 220 + 16) as u8).collect()
}

/// A raw picture of 64x48 in a layout.
fn raw(layout: PixelLayout, bytes: &[u8]) -> InputImage<'_> {
    let layout = RawLayout { pixels: Some(layout), ..RawLayout::default() };
    let channels = if layout.pixels == Some(PixelLayout::Gray) { 1 } else { 3 };
    InputImage { format: Format::Raw, width: 64, height: 48, channels, layout, bytes }
}

fn frame<'a>(frame_id: &'a str, picture: InputImage<'a>) -> Outbound<'a> {
    Outbound { frame_id, camera_id: "cam", timestamp: 1_700_000_000.5, picture, quality: 0 }
}
