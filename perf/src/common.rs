//! Shared by all measurements: frames, random numbers from a seed, CPU clocks, spreads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use framepress::Producer;
use framepress::internals::base::Stop;
use framepress::internals::camera::{Full, Outbound, ProducerOptions};
use framepress::internals::image::{Format, InputImage};
use framepress::internals::instruments::{Scene, Size};
use framepress::internals::redis::Address;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::Outcome;

/// Number of cameras that the frames name.
pub const CAMERAS: usize = 4;

/// Pictures of a synthetic road, sent over and over.
pub struct Pictures {
    pub size: Size,
    pub format: Format,
    files: Vec<Vec<u8>>,
}

impl Pictures {
    /// The first frame of each of `cameras` synthetic roads, raw or as JPEG.
    pub fn of_a_road(size: Size, format: Format, cameras: usize) -> Outcome<Pictures> {
        let scene = Scene::of_cameras(size, u32::try_from(cameras)?)?;
        let files = if format == Format::Jpeg { scene.jpeg()? } else { scene.frames };
        Ok(Pictures { size, format, files })
    }

    /// Frame number `number` of a sequence, ready to be sent under the given name.
    pub fn frame<'a>(&'a self, number: u64, id: &'a str, camera: &'a str) -> Outbound<'a> {
        Outbound {
            frame_id: id,
            camera_id: camera,
            timestamp: 1_700_000_000.0 + number as f64 / 30.0,
            picture: InputImage {
                format: self.format,
                width: self.size.width,
                height: self.size.height,
                channels: 3,
                layout: Default::default(),
                bytes: &self.files[number as usize % self.files.len()],
            },
            quality: 0,
        }
    }
}

/// A producer for one stream.
pub fn producer(address: &Address, stream: &str) -> Outcome<Producer> {
    let options = ProducerOptions {
        topology: address.into(),
        streams: vec![stream.to_owned()],
        length_max: 0,
        wait_replicas: 0,
        timeout: Duration::from_secs(10),
        retry: false,
        full: Full::Block,
        ring: None,
    };
    Ok(Producer::connect(options, &Stop::default())?)
}

/// Random numbers from a seed: SplitMix64, see <https://prng.di.unimi.it/splitmix64.c>.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A number below `bound`, which must be small.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// A seed from the clock, for runs without a given one.
pub fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_nanos() as u64 % 1_000_000_000
}

/// CPU time of the calling thread so far.
pub fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Minimum, median and maximum of several rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Spread { min: at(0), median: (at(last / 2) + at(values.len() / 2)) / 2.0, max: at(last) }
    }
}
