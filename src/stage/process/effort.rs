//! `webp_method: auto` and `png_level: auto`: as much effort as idle cores and the latency target
//! allow.
//!
//! Each frame gets the highest level whose predicted time meets two conditions: the age of the
//! frame stays below half of the target, and the workers are busy for less than [`BUSY_MAX`] of the
//! time. Costs are learnt at run time, by picture size. When frames queue, the level falls to the
//! lowest at once. Without a queue it rises by one with each [`WINDOW`].

use std::time::Duration;

use parking_lot::Mutex;

use crate::metrics::clock::Tick;

/// Largest share of the workers' time for coding at a level.
const BUSY_MAX: f64 = 0.8;
/// How often the frame rate is measured and the level may rise.
const WINDOW: Duration = Duration::from_millis(500);
/// Picture sizes, by powers of two of their pixels.
const SIZES: usize = 32;
/// Levels of all formats.
const LEVELS: usize = 10;
/// Nanoseconds per pixel at the lowest level of WebP, before a measurement.
const FIRST_GUESS: f64 = 30.0;
/// Cost of each level relative to the others, used until it is measured: methods 0 to 6 of WebP,
/// then fast, balanced and high of PNG.
const RELATIVE: [f64; LEVELS] = [0.8, 1.0, 1.4, 3.0, 3.6, 5.0, 8.0, 0.2, 1.5, 6.0];

/// The formats for which an effort is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Methods 1 to 6. Method 0 saves little time and costs many bytes.
    Webp,
    /// Fast, balanced, high.
    Png,
}

impl Scale {
    /// The index of its first level among all, and the lowest and highest level that are chosen.
    fn levels(self) -> (usize, u8, u8) {
        match self {
            Scale::Webp => (0, 1, 6),
            Scale::Png => (7, 0, 2),
        }
    }
}

/// What is known of a frame before it is coded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub pixels: usize,
    /// Time since it was read.
    pub age: Duration,
    /// Time since a worker began with it.
    pub worked: Duration,
    /// Whether more frames wait than the workers can begin with.
    pub is_queue: bool,
    pub workers: usize,
    pub target: Duration,
}

/// The effort chosen for all workers.
#[derive(Debug)]
pub(super) struct Effort(Mutex<EffortState>);

#[derive(Debug)]
struct EffortState {
    /// Nanoseconds per pixel; 0 if unknown.
    costs: [[f64; LEVELS]; SIZES],
    /// The same for the last picture, whatever its size.
    last: [f64; LEVELS],
    /// How far levels may rise above the lowest.
    rise: u8,
    since: Tick,
    frames: u32,
    /// Frames per second.
    rate: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Effort(Mutex::new(EffortState {
            costs: [[0.0; LEVELS]; SIZES],
            last: [0.0; LEVELS],
            rise: 1,
            since: Tick::now(),
            frames: 0,
            rate: 0.0,
        }))
    }
}

impl Effort {
    /// The level for a frame.
    pub(super) fn choose(&self, scale: Scale, ahead: &Ahead) -> u8 {
        self.0.lock().choose(scale, ahead, Tick::now())
    }

    /// Learns from the time a picture took.
    pub(super) fn note(&self, scale: Scale, level: u8, pixels: usize, took: Duration) {
        self.0.lock().note(scale, level, pixels, took);
    }
}

impl EffortState {
    fn choose(&mut self, scale: Scale, ahead: &Ahead, now: Tick) -> u8 {
        let (_, lowest, highest) = scale.levels();
        self.frames += 1;
        let since = now.since(self.since);
        if since >= WINDOW {
            self.rate = f64::from(self.frames) / since.as_secs_f64();
            (self.since, self.frames) = (now, 0);
            self.rise = (self.rise + 1).min(highest - lowest);
        }
        if ahead.is_queue {
            self.rise = 0;
            (self.since, self.frames) = (now, 0);
        }
        let fits = |level: &u8| {
            let took = self.predict(scale, *level, ahead.pixels);
            let busy =
                self.rate * (ahead.worked.as_secs_f64() + took) / ahead.workers.max(1) as f64;
            ahead.age.as_secs_f64() + took <= ahead.target.as_secs_f64() / 2.0 && busy <= BUSY_MAX
        };
        let highest = highest.min(lowest + self.rise);
        (lowest..=highest).rev().find(fits).unwrap_or(lowest)
    }

    fn note(&mut self, scale: Scale, level: u8, pixels: usize, took: Duration) {
        let at = scale.levels().0 + usize::from(level);
        let found = took.as_secs_f64() * 1e9 / pixels.max(1) as f64;
        for known in [&mut self.costs[size_of(pixels)][at], &mut self.last[at]] {
            // Slower pictures weigh more, so that the prediction errs on the high side.
            let weight = if found > *known { 0.5 } else { 0.1 };
            *known = if *known == 0.0 { found } else { *known + weight * (found - *known) };
        }
    }

    /// Seconds for a picture.
    fn predict(&self, scale: Scale, level: u8, pixels: usize) -> f64 {
        let (first, lowest, highest) = scale.levels();
        let at = first + usize::from(level);
        let of_size = &self.costs[size_of(pixels)];
        // From the nearest measured level, of this size or of the last picture.
        let measured = [of_size, &self.last].into_iter().find_map(|costs| {
            let known = (first + usize::from(lowest)..=first + usize::from(highest))
                .filter(|near| costs[*near] > 0.0)
                .min_by_key(|near| near.abs_diff(at))?;
            Some(costs[known] * RELATIVE[at] / RELATIVE[known])
        });
        measured.unwrap_or(FIRST_GUESS * RELATIVE[at]) * pixels as f64 / 1e9
    }
}

fn size_of(pixels: usize) -> usize {
    (pixels.max(1).ilog2() as usize).min(SIZES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXELS: usize = 640 * 480;

    fn ahead(age_ms: u64, is_queue: bool) -> Ahead {
        Ahead {
            pixels: PIXELS,
            age: Duration::from_millis(age_ms),
            worked: Duration::from_millis(1),
            is_queue,
            workers: 2,
            target: Duration::from_millis(100),
        }
    }

    /// Frames at a rate for some seconds. Each takes the time of method 1 times the relative cost.
    /// Returns the methods chosen.
    fn run(
        state: &mut EffortState,
        at: &mut Tick,
        fps: u64,
        seconds: u64,
        method_1_ms: f64,
    ) -> Vec<u8> {
        (0..fps * seconds)
            .map(|_| {
                *at = at.after(Duration::from_secs(1) / fps as u32);
                let method = state.choose(Scale::Webp, &ahead(1, false), *at);
                let took = method_1_ms / 1e3 * RELATIVE[usize::from(method)];
                state.note(Scale::Webp, method, PIXELS, Duration::from_secs_f64(took));
                method
            })
            .collect()
    }

    fn state() -> (EffortState, Tick) {
        let effort = Effort::default();
        let state = effort.0.into_inner();
        let since = state.since;
        (state, since)
    }

    #[test]
    fn idle_cores_are_used_step_by_step() {
        let (mut state, mut at) = state();
        let methods = run(&mut state, &mut at, 10, 10, 4.0);
        assert!(methods.is_sorted(), "{methods:?}");
        assert_eq!((methods[0], methods.last()), (2, Some(&6)));
    }

    #[test]
    fn the_latency_target_and_the_rate_bound_the_effort() {
        let (mut state, mut at) = state();
        // 8 ms at method 1: method 5 takes 40, method 6 takes 64 of the 50 allowed.
        assert_eq!(run(&mut state, &mut at, 5, 10, 8.0).last(), Some(&5));
        // 100 frames a second leave 16 ms a frame on two workers: method 1 at 8, method 2 at 11.
        assert_eq!(run(&mut state, &mut at, 100, 10, 8.0).last(), Some(&2));
        // More frames than even the lowest method can manage.
        assert_eq!(run(&mut state, &mut at, 400, 10, 8.0).last(), Some(&1));
    }

    #[test]
    fn a_queue_brings_the_lowest_level_at_once_and_it_rises_slowly() {
        let (mut state, mut at) = state();
        run(&mut state, &mut at, 10, 10, 2.0);
        assert_eq!(state.choose(Scale::Webp, &ahead(1, false), at), 6);
        assert_eq!(state.choose(Scale::Webp, &ahead(1, true), at), 1);
        assert_eq!(state.choose(Scale::Webp, &ahead(1, false), at), 1);
        let methods = run(&mut state, &mut at, 10, 1, 2.0);
        assert!(methods.last().unwrap() <= &3, "{methods:?}");
    }

    #[test]
    fn an_old_frame_is_not_made_older() {
        let (mut state, mut at) = state();
        run(&mut state, &mut at, 10, 10, 4.0);
        assert!(state.choose(Scale::Webp, &ahead(44, false), at) <= 2);
        assert_eq!(state.choose(Scale::Webp, &ahead(200, false), at), 1);
        assert_eq!(state.choose(Scale::Png, &ahead(200, false), at), 0);
    }
}
