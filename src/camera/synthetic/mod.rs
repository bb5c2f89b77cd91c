//! A synthetic road: traffic as seen by a camera on a pole, generated from a seed.
//!
//! The static part of the scene is painted once and lit again when the light changes. Vehicles are
//! painted over a copy of it, then sensor noise is added. Equal options give equal bytes. The true
//! share of vehicle pixels is known for every frame.

mod backdrop;
mod canvas;
mod lens;
mod light;
mod noise;
mod place;
mod traffic;
mod vehicle;

use self::backdrop::Backdrop;
use self::canvas::Canvas;
use self::lens::Lens;
use self::light::{DAY_SECONDS, Light};
use self::noise::Noise;
use self::place::Scenery;
use self::traffic::{LANE_VEHICLES, Traffic};
use self::vehicle::PlacedVehicle;
use super::random::Random;
use super::{Coding, FrameSource, SIDE_MAX, Still};
use crate::base::Fault;

/// Options of a synthetic camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SyntheticOptions {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames per second of scene time.
    pub fps: f64,
    /// Seed of all randomness.
    pub seed: u64,
    /// Number of the camera within an installation: each has its own road, lens, traffic and hour
    /// of the day.
    pub camera: u32,
}

impl Default for SyntheticOptions {
    fn default() -> Self {
        SyntheticOptions { width: 640, height: 480, fps: 15.0, seed: 1, camera: 0 }
    }
}

/// Lowest and highest rate, in frames per second. Traffic advances in steps of fixed length, so at
/// a lower rate one frame would take minutes to compute.
const FPS_MIN: f64 = 0.001;
/// See `FPS_MIN`.
const FPS_MAX: f64 = 10_000.0;

/// An endless synthetic traffic camera.
#[derive(Debug)]
pub struct Synthetic {
    options: SyntheticOptions,
    lens: Lens,
    backdrop: Backdrop,
    traffic: Traffic,
    noise: Noise,
    /// (distance, lane, place in its queue) of every vehicle; the storage is reused.
    order: Vec<(f32, usize, usize)>,
    mask: Vec<u8>,
    frame: u64,
}

impl Synthetic {
    /// A camera with painted scene and moving traffic. The first frame of camera 0 is in the
    /// morning; each further camera is some hours later.
    ///
    /// # Errors
    /// [`Fault::Unusable`] for a size of 0 or above 16384, or a rate outside 0.001 to 10000.
    pub fn new(options: SyntheticOptions) -> Result<Self, Fault> {
        let SyntheticOptions { width, height, fps, seed, camera } = options;
        if !(1..=SIDE_MAX).contains(&width) || !(1..=SIDE_MAX).contains(&height) {
            return Err(Fault::Unusable(format!(
                "a synthetic camera cannot be {width}x{height}: both sides must be 1 to {SIDE_MAX}"
            )));
        }
        if !(FPS_MIN..=FPS_MAX).contains(&fps) {
            return Err(Fault::Unusable(format!(
                "{fps} is not a frame rate: it must be {FPS_MIN} to {FPS_MAX}"
            )));
        }
        let chance = |purpose| Random::new(seed, u64::from(camera) << 8 | purpose);
        let lens = Lens::new(width, height, &mut chance(1));
        let place = Scenery::new(&lens, &mut chance(2));
        Ok(Synthetic {
            options,
            backdrop: Backdrop::new(width, height, &lens, &place),
            traffic: Traffic::new(place.lanes(), chance(3)),
            noise: Noise::new(width, chance(4)),
            lens,
            order: Vec::with_capacity(place.lanes().count() * LANE_VEHICLES),
            mask: vec![0; width as usize * height as usize],
            frame: 0,
        })
    }

    fn light(&self) -> Light {
        let day = self.frame as f64 / self.options.fps / DAY_SECONDS;
        let hour = (0.36 + day + 0.23 * f64::from(self.options.camera)).fract();
        Light::at(hour as f32)
    }

    /// Paints all vehicles into a picture and the mask, farthest first.
    fn paint_vehicles(&mut self, rgb: &mut [u8], light: Light) {
        self.order.clear();
        for (number, lane) in self.traffic.lanes.iter().enumerate() {
            let queue = lane.vehicles.iter().enumerate();
            self.order.extend(queue.map(|(place, it)| (lane.near_end(it), number, place)));
        }
        self.order.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let (width, height) = (self.options.width as usize, self.options.height as usize);
        let mut canvas = Canvas { rgb, mask: &mut self.mask, width, height };
        for &(near, number, place) in &self.order {
            let lane = &self.traffic.lanes[number];
            let it = &lane.vehicles[place];
            let x = lane.middle + it.aside;
            let placed =
                PlacedVehicle { kind: it.kind, paint: it.paint, x, near, oncoming: lane.oncoming };
            placed.paint(&mut canvas, &self.lens, light);
        }
    }
}

impl FrameSource for Synthetic {
    fn next(&mut self, still: &mut Still) -> Result<bool, Fault> {
        let light = self.light();
        still.bytes.clear();
        still.bytes.extend_from_slice(self.backdrop.lit(light));
        self.mask.fill(0);
        self.paint_vehicles(&mut still.bytes, light);
        self.noise.add(&mut still.bytes, light.darkness());
        let vehicles: u64 = self.mask.iter().map(|&pixel| u64::from(pixel)).sum();
        still.vehicle_share = Some((vehicles as f64 / self.mask.len() as f64) as f32);
        (still.width, still.height) = (self.options.width, self.options.height);
        (still.channels, still.coding) = (3, Coding::Rgb);
        self.traffic.advance(1.0 / self.options.fps);
        self.frame += 1;
        Ok(true)
    }

    fn fps(&self) -> Option<f64> {
        Some(self.options.fps)
    }

    fn frames(&self) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests;
