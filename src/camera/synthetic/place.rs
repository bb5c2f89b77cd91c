//! The static scene: asphalt, markings, grass, houses, trees, lamps and sky.
//!
//! Almost nothing is stored: the appearance of a point is a function of its position.

use super::lens::Lens;
use super::traffic::FAR;
use crate::camera::random::{Random, lattice, mix, smooth, step};

const LANE: f32 = 3.5;
const MEDIAN: f32 = 0.8;
const SHOULDER: f32 = 1.2;
/// Distance between street lamps, in metres.
const LAMP_DISTANCE: f32 = 28.0;
/// Height of a tree trunk, in metres.
const TRUNK: f32 = 1.6;
const HAZE: [f32; 3] = [186.0, 194.0, 202.0];
const LAMPLIGHT: [f32; 3] = [1.0, 0.84, 0.56];

/// What a pixel shows.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// Colour in white light.
    pub(super) colour: [f32; 3],
    /// Light added by lamps.
    pub(super) lamp: [f32; 3],
}

impl Seen {
    fn unlit(colour: [f32; 3]) -> Self {
        Seen { colour, lamp: [0.0; 3] }
    }

    fn hazy(self, ahead: f32) -> Self {
        let share = 1.0 - (-ahead / 420.0).exp();
        Seen {
            colour: [0, 1, 2].map(|i| mix(self.colour[i], HAZE[i], share)),
            lamp: self.lamp.map(|value| value * (1.0 - share)),
        }
    }
}

/// An upright object that faces the camera, with the position of its anchor in the picture.
#[derive(Debug)]
struct Upright {
    ahead: f32,
    /// Pixel of the anchor.
    at: (f32, f32),
    /// Metres per pixel.
    metres: f32,
    /// Tree: radius of the crown, in metres. Lamp post: -1 on the left side, 1 on the right.
    shape: f32,
}

impl Upright {
    fn new(lens: &Lens, (x, up, ahead): (f32, f32, f32), shape: f32) -> Self {
        Upright { ahead, at: lens.project(x, up, ahead), metres: 1.0 / lens.scale(ahead), shape }
    }

    /// Metres to the right of and below the anchor.
    fn offset(&self, column: f32, row: f32) -> (f32, f32) {
        ((column - self.at.0) * self.metres, (row - self.at.1) * self.metres)
    }
}

/// One stretch of road and its surroundings.
#[derive(Debug)]
pub(super) struct Scenery {
    lanes: usize,
    /// Distance from the middle of the road to the walls of the houses, in metres.
    houses: f32,
    seed: u32,
    /// Anchored in the middle of their crowns, nearest first.
    trees: Vec<Upright>,
    /// Anchored at their feet, nearest first.
    posts: Vec<Upright>,
}

impl Scenery {
    pub(super) fn new(lens: &Lens, random: &mut Random) -> Self {
        let lanes = 2 + random.below(2);
        let seed = random.bits() as u32;
        let (trees, posts) = (Vec::new(), Vec::new());
        let mut place = Scenery { lanes, houses: 0.0, seed, trees, posts };
        place.houses = place.edge() + random.between(7.0, 12.0);
        for _ in 0..26 {
            let side = if random.unit() < 0.5 { -1.0 } else { 1.0 };
            let x = side * (place.edge() + random.between(2.5, 5.5));
            let radius = random.between(1.6, 3.2);
            let anchor = (x, radius + TRUNK, random.between(28.0, FAR));
            place.trees.push(Upright::new(lens, anchor, radius));
        }
        place.trees.sort_by(|a, b| a.ahead.total_cmp(&b.ahead));
        for number in 1..6 {
            for side in [-1.0, 1.0] {
                let x = side * (place.edge() + 1.4);
                let anchor = (x, 0.0, LAMP_DISTANCE * number as f32);
                place.posts.push(Upright::new(lens, anchor, side));
            }
        }
        place
    }

    /// Middle of each lane, and whether it is oncoming. Traffic drives on the right.
    pub(super) fn lanes(&self) -> impl Iterator<Item = (f32, bool)> {
        (0..self.lanes).flat_map(|lane| {
            let middle = MEDIAN + LANE * (lane as f32 + 0.5);
            [(-middle, true), (middle, false)]
        })
    }

    /// Distance from the middle of the road to its edge, in metres.
    fn edge(&self) -> f32 {
        MEDIAN + LANE * self.lanes as f32 + SHOULDER
    }

    /// What the camera sees at a point of the picture.
    pub(super) fn seen(&self, lens: &Lens, column: f32, row: f32) -> Seen {
        if let Some(seen) = self.lamp_post(column, row) {
            return seen;
        }
        let ground = lens.ground(column, row);
        if let Some((x, ahead)) = ground
            && x.abs() < self.edge() + 1.0
            && ahead < FAR * 3.0
        {
            // Tree crowns are only above the verge, so they never hide the road.
            return self.road(x, ahead).hazy(ahead);
        }
        if let Some(seen) = self.tree(column, row) {
            return seen;
        }
        for side in [-1.0, 1.0] {
            if let Some((up, ahead)) = lens.wall(side * self.houses, column, row)
                && (0.0..FAR * 1.5).contains(&ahead)
                && let Some(seen) = self.house(side, up, ahead)
            {
                return seen.hazy(ahead);
            }
        }
        match ground {
            Some((x, ahead)) if ahead < FAR * 3.0 => self.verge(x, ahead).hazy(ahead),
            _ => self.sky(lens, column, row),
        }
    }

    fn road(&self, x: f32, ahead: f32) -> Seen {
        let from_middle = x.abs();
        // Detail finer than a pixel would shimmer, so it fades with distance.
        let near = 1.0 / (1.0 + (ahead / 38.0).powi(2));
        let grain = smooth(x * 21.0, ahead * 14.0, self.seed) - 0.5;
        let stains = smooth(x * 1.1, ahead * 0.25, self.seed + 1) - 0.5;
        let patch = lattice((x / 3.5).floor() as i32, (ahead / 17.0).floor() as i32, self.seed + 2);
        let within = (from_middle - MEDIAN).rem_euclid(LANE) / LANE;
        let tracks = (std::f32::consts::TAU * 2.0 * within).cos();
        let crack = smooth(x * 0.9 + 4.0, ahead * 0.45, self.seed + 3) - 0.5;
        let crack = if crack.abs() < 0.012 { -16.0 * near } else { 0.0 };
        let gray = 100.0 + 26.0 * grain * near + 20.0 * stains + 5.0 * tracks + 7.0 * patch + crack;
        let mut colour = [gray, gray * 1.005, gray * 1.02];
        if let Some(worn) = self.marking(x, ahead) {
            let paint = 205.0 - 60.0 * worn;
            colour = [paint, paint, paint * 0.97];
        } else if from_middle < MEDIAN * 0.45 {
            let concrete = 138.0 + 24.0 * stains + 14.0 * grain * near;
            colour = [concrete, concrete, concrete * 0.95];
        } else if from_middle > self.edge() {
            let kerb = 150.0 + 20.0 * grain * near;
            colour = [kerb, kerb * 0.99, kerb * 0.95];
        }
        self.under_lamps(colour, x, ahead)
    }

    /// Wear of the road marking at this point; `None` if there is no marking.
    fn marking(&self, x: f32, ahead: f32) -> Option<f32> {
        let across = x.abs() - MEDIAN;
        let line = (across / LANE).round();
        let outer = line == 0.0 || line as usize == self.lanes;
        let dashed = ahead.rem_euclid(9.0) < 3.6;
        let on = (across - line * LANE).abs() < 0.085
            && across > -0.2
            && line as usize <= self.lanes
            && (outer || dashed);
        on.then(|| smooth(x * 6.0, ahead * 3.0, self.seed + 4))
    }

    fn verge(&self, x: f32, ahead: f32) -> Seen {
        let near = 1.0 / (1.0 + (ahead / 45.0).powi(2));
        let blades = smooth(x * 9.0, ahead * 7.0, self.seed + 5) - 0.5;
        let tufts = smooth(x * 1.3, ahead * 0.6, self.seed + 6) - 0.5;
        let green = 98.0 + 52.0 * blades * near + 34.0 * tufts;
        let dry = 0.15 * smooth(x * 0.3, ahead * 0.1, self.seed + 7);
        self.under_lamps([green * (0.80 + dry), green, green * 0.55], x, ahead)
    }

    /// A row of houses; `None` in the gaps.
    fn house(&self, side: f32, up: f32, ahead: f32) -> Option<Seen> {
        let number = (ahead / 19.0).floor() as i32;
        let seed = self.seed.wrapping_add(if side > 0.0 { 50 } else { 60 });
        let within = ahead - number as f32 * 19.0;
        let height = 6.5 + 3.2 * (lattice(number, 1, seed) * 4.0).floor();
        if up < -0.5 || up > height || within > 16.5 || lattice(number, 2, seed) < 0.22 {
            return None;
        }
        let tone = 105.0 + 85.0 * lattice(number, 3, seed);
        let warm = 0.72 + 0.24 * lattice(number, 4, seed);
        let grain = smooth(ahead * 5.0, up * 5.0, seed) - 0.5;
        let wall = tone + 12.0 * grain;
        let (floor, bay) = ((up / 3.2).floor(), (within / 2.75).floor());
        let (rise, reach) = (up / 3.2 - floor, within / 2.75 - bay);
        let window = (0.28..0.78).contains(&rise) && (0.25..0.75).contains(&reach);
        if !window {
            let shadow = if up > height - 0.4 { 0.7 } else { 1.0 };
            return Some(Seen::unlit(
                [wall, wall * (warm + 0.14).min(1.0), wall * warm].map(|v| v * shadow),
            ));
        }
        let pane = lattice(number * 16 + bay as i32, floor as i32, seed + 1);
        let glass = 46.0 + 46.0 * pane;
        let lamp = if pane > 0.62 { [150.0, 122.0, 74.0] } else { [6.0, 6.0, 7.0] };
        Some(Seen { colour: [glass, glass * 1.06, glass * 1.14], lamp })
    }

    fn tree(&self, column: f32, row: f32) -> Option<Seen> {
        for (number, tree) in self.trees.iter().enumerate() {
            let (ahead, radius) = (tree.ahead, tree.shape);
            let (right, down) = tree.offset(column, row);
            if right.abs() > radius * 1.3 || down < -radius * 1.3 || down > radius + TRUNK {
                continue;
            }
            let seed = self.seed.wrapping_add(100 + number as u32);
            let rough =
                smooth(right * 2.2, down * 2.2, seed) + 0.5 * smooth(right * 6.0, down * 6.0, seed);
            let inside = (right * right + down * down).sqrt() < radius * (0.72 + 0.4 * rough);
            if inside {
                let leaf = smooth(right * 8.0, down * 8.0, seed + 1) - 0.5;
                let sun = 0.5 - 0.5 * (down + 0.4 * right) / radius;
                let green = 44.0 + 40.0 * sun + 36.0 * leaf;
                return Some(Seen::unlit([green * 0.78, green, green * 0.48]).hazy(ahead));
            }
            if right.abs() < 0.16 && down > 0.0 {
                return Some(Seen::unlit([70.0, 58.0, 46.0]).hazy(ahead));
            }
        }
        None
    }

    /// Lamp posts on both sides; their heads reach over the road.
    fn lamp_post(&self, column: f32, row: f32) -> Option<Seen> {
        for post in &self.posts {
            let (right, down) = post.offset(column, row);
            let (outward, up) = (right * post.shape, -down);
            if (8.15..8.38).contains(&up) && (-2.3..-1.5).contains(&outward) {
                let lamp = LAMPLIGHT.map(|share| 255.0 * share.sqrt());
                return Some(Seen { colour: [168.0; 3], lamp });
            }
            let pole = (0.0..8.4).contains(&up) && outward.abs() < 0.09;
            let arm = (8.3..8.45).contains(&up) && (-2.2..0.09).contains(&outward);
            if pole || arm {
                return Some(Seen::unlit([110.0, 112.0, 114.0]).hazy(post.ahead));
            }
        }
        None
    }

    /// A surface with the light that street lamps cast on it.
    fn under_lamps(&self, colour: [f32; 3], x: f32, ahead: f32) -> Seen {
        let along = (ahead / LAMP_DISTANCE).round().max(1.0) * LAMP_DISTANCE - ahead;
        let across = x.abs() - (self.edge() - 0.6);
        let pool = 0.95 / (1.0 + (along * along + across * across) / 40.0) + 0.08;
        Seen { colour, lamp: [0, 1, 2].map(|i| colour[i] * LAMPLIGHT[i] * pool) }
    }

    fn sky(&self, lens: &Lens, column: f32, row: f32) -> Seen {
        let height = (lens.horizon() - row) / lens.horizon().max(1.0);
        // A distant skyline just above the horizon.
        let block = (column / lens.horizon() * 9.0).floor() as i32;
        if height < 0.05 + 0.22 * lattice(block, 7, self.seed).powi(2) {
            let pane = lattice((column / 2.0) as i32, (row / 3.0) as i32, self.seed + 8);
            let tone = 148.0 + 14.0 * lattice(block, 8, self.seed) - 10.0 * pane;
            let lamp = if pane > 0.86 { [70.0, 60.0, 40.0] } else { [0.0; 3] };
            return Seen { colour: [tone, tone * 1.02, tone * 1.06], lamp };
        }
        let (right, up) = (column / lens.horizon(), height * 2.5);
        let cloud = 0.65 * smooth(right * 1.4, up * 2.0, self.seed + 9)
            + 0.35 * smooth(right * 4.0, up * 6.0, self.seed + 10);
        let cloud = step(0.35, 0.8, cloud);
        let clear =
            [mix(204.0, 132.0, height), mix(214.0, 170.0, height), mix(222.0, 214.0, height)];
        let glow = 22.0 * (1.0 - height).max(0.0);
        let lamp = [glow, glow * 0.8, glow * 0.55];
        Seen { colour: [0, 1, 2].map(|i| mix(clear[i], 232.0, 0.8 * cloud)), lamp }
    }
}
