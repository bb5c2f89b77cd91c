//! What moves and what stands still on the road of one camera.

use super::mixture::{self, BACKGROUND_WEIGHT, Block, LANES};
use super::reduced::{Reduced, ReducedShape};
use super::region::RegionBox;

/// Memory of the model, in seconds: in this time, a level that does not occur loses weight by 1/e.
const MEMORY_SECONDS: f32 = 200.0;

/// Memory while nearly everything is foreground, because the scene or the camera's exposure has
/// changed.
const MEMORY_SECONDS_CHANGED: f32 = 14.0;

/// Share of foreground that counts as a change of scene. A traffic jam stays below it, because sky,
/// kerb and verge stay visible.
const CHANGED_SHARE: f32 = 0.8;

/// A young model learns faster: its memory is its age times this, as in MOG2.
const MEMORY_PER_AGE: f32 = 2.0;

/// Longest time that one frame represents, in seconds, so that a camera that was offline does not
/// relearn everything.
const STEP_SECONDS_MAX: f64 = 1.0;

/// The assumed time between frames if their clock stands still or runs backwards.
const STEP_SECONDS_NOMINAL: f64 = 0.04;

/// Largest share of its knowledge that the model replaces for one frame.
const RATE_MAX: f32 = 0.5;

/// Mean absolute change of luma, in 8-bit levels, that counts as full motion.
const FULL_MOTION: f32 = 32.0;

/// After a cut to another scene that changes at least four fifths of the picture, density is back
/// to normal within this many seconds. A camera with less than two frames a second needs three
/// further frames.
///
/// A new level is background when it weighs 0.1, that is after 14 s x -ln(0.9) = 1.5 s.
pub const RECOVERY_SECONDS: f64 = 2.0;

/// How long a stopped vehicle counts as foreground, in seconds, once the camera has been watched
/// for 100 s. Before that it is a little under a quarter of the time watched.
///
/// 200 s x -ln(0.9).
pub const STOPPED_SECONDS: f64 = 21.0;

const _: () = assert!(BACKGROUND_WEIGHT == 0.1);

/// What one frame shows compared with the past of its camera.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity {
    /// Share of the picture that is foreground, 0 to 1; 0 for the first frame.
    pub density: f32,
    /// Mean absolute change of the reduced luma against the previous frame, / 32 levels, at most
    /// 1; 0 for the first frame.
    pub motion: f32,
}

/// The background model of one camera, at the resolution of [`Reduced`].
///
/// A mixture of three Gaussians per sample (after Stauffer and Grimson, and MOG2). It learns by
/// time, not by frames, so that all frame rates behave alike. A change of picture size restarts it.
/// See [`RECOVERY_SECONDS`] and [`STOPPED_SECONDS`] for how soon it forgets.
#[derive(Debug, Default)]
pub struct Background {
    shape: ReducedShape,
    blocks: Vec<Block>,
    last_seconds: f64,
    age_seconds: f32,
    density: f32,
    /// Steps through 0..1 by the golden ratio, which covers it evenly.
    dither: f32,
}

impl Background {
    /// A model without any frame; it allocates nothing before its first one.
    pub fn new() -> Self {
        Background::default()
    }

    /// Judges a frame and learns from it. `time_seconds` is its capture time on any clock.
    ///
    /// One frame counts for at most 1 s. Time that stands still, runs backwards or is NaN counts as
    /// 0.04 s.
    pub fn update(&mut self, frame: &Reduced, time_seconds: f64) -> Activity {
        if frame.samples().is_empty() {
            return Activity::default();
        }
        let step = self.step(time_seconds);
        if frame.shape() != self.shape {
            self.start(frame);
            return Activity::default();
        }
        let rate = self.rate(step);
        self.age_seconds = (self.age_seconds + step).min(MEMORY_SECONDS);
        self.dither = (self.dither + 0.618_034) % 1.0;
        let levels = frame.samples();
        let compared = mixture::learn(&mut self.blocks, levels, rate, self.dither);
        let share = |sum: u32| sum as f32 / levels.len() as f32;
        self.density = share(compared.foreground);
        let motion = share(compared.change) / FULL_MOTION;
        Activity { density: self.density, motion: motion.min(1.0) }
    }

    /// Share of foreground within `region` at the last update, 0 to 1.
    ///
    /// The region is in pixels of a picture of `picture_width x picture_height` and is clipped to
    /// it. Samples covered in part count in part. 0 if nothing remains or before the first update.
    pub fn region_density(
        &self,
        region: &RegionBox,
        picture_width: usize,
        picture_height: usize,
    ) -> f32 {
        let Some([left, top, right, bottom]) = region.clip(picture_width, picture_height) else {
            return 0.0;
        };
        let (columns, rows) = (self.shape.columns(), self.shape.rows());
        if self.blocks.is_empty() {
            return 0.0;
        }
        // From picture pixels to samples, keeping fractions.
        let across = self.shape.width as f64 / (picture_width * self.shape.factor) as f64;
        let down = self.shape.height as f64 / (picture_height * self.shape.factor) as f64;
        let (left, right) = (left as f64 * across, right as f64 * across);
        let (top, bottom) = (top as f64 * down, bottom as f64 * down);
        let (mut covered, mut filled) = (0.0, 0.0);
        for row in top as usize..(bottom.ceil() as usize).min(rows) {
            let height = overlap(row, top, bottom);
            for column in left as usize..(right.ceil() as usize).min(columns) {
                let area = height * overlap(column, left, right);
                let at = row * columns + column;
                covered += area;
                let is_foreground = self.blocks[at / LANES].is_foreground(at % LANES);
                filled += area * f64::from(u8::from(is_foreground));
            }
        }
        if covered > 0.0 { (filled / covered) as f32 } else { 0.0 }
    }

    /// Seconds that this frame represents.
    fn step(&mut self, time_seconds: f64) -> f32 {
        let step = time_seconds - self.last_seconds;
        self.last_seconds = time_seconds;
        // This comparison is false for NaN.
        let step = if step > 0.0 { step } else { STEP_SECONDS_NOMINAL };
        step.min(STEP_SECONDS_MAX) as f32
    }

    fn rate(&self, step: f32) -> f32 {
        let young = MEMORY_PER_AGE * self.age_seconds + step;
        let memory = young.min(MEMORY_SECONDS);
        let changed = self.density >= CHANGED_SHARE;
        let memory = if changed { memory.min(MEMORY_SECONDS_CHANGED) } else { memory };
        (step / memory).min(RATE_MAX)
    }

    fn start(&mut self, frame: &Reduced) {
        let levels = frame.samples();
        self.shape = frame.shape();
        self.age_seconds = 0.0;
        self.density = 0.0;
        self.blocks.clear();
        self.blocks.extend(mixture::padded(levels).map(|(levels, _)| Block::knowing(&levels)));
    }
}

/// How much of sample `at` lies between two borders, 0 to 1.
fn overlap(at: usize, from: f64, to: f64) -> f64 {
    let at = at as f64;
    ((at + 1.0).min(to) - at.max(from)).max(0.0)
}
