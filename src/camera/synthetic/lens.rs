//! Projection from metres on the road to pixels and back.
//!
//! The camera is on a pole above a straight, level road and looks along it. Metres: `x` to the
//! right of the middle of the road, `up` above its surface, `ahead` of the pole. Pixels: right and
//! down from the upper left corner. The picture plane is upright (as with a shift lens), so
//! verticals stay vertical and either direction of the projection needs one division.

use crate::camera::random::Random;

/// Position and view of one camera.
#[derive(Clone, Debug)]
pub(super) struct Lens {
    focal: f32,
    centre: f32,
    horizon: f32,
    /// Metres above the road.
    pub(super) height: f32,
    /// Metres to the right of the middle of the road.
    pub(super) aside: f32,
}

impl Lens {
    /// The lens for a picture of `width x height` pixels, with small random variations.
    pub(super) fn new(width: u32, height: u32, random: &mut Random) -> Self {
        let (width, height) = (width as f32, height as f32);
        Lens {
            // A tall picture has the same angle of view as a wide one.
            focal: random.between(0.9, 1.15) * width.max(height),
            centre: width * random.between(0.38, 0.62),
            horizon: height * random.between(0.17, 0.25),
            height: random.between(7.0, 9.0),
            aside: random.between(-3.5, 3.5),
        }
    }

    /// The pixel that shows a point.
    pub(super) fn project(&self, x: f32, up: f32, ahead: f32) -> (f32, f32) {
        let scale = self.scale(ahead);
        (self.centre + scale * (x - self.aside), self.horizon + scale * (self.height - up))
    }

    /// Pixels per metre at this distance.
    pub(super) fn scale(&self, ahead: f32) -> f32 {
        self.focal / ahead
    }

    /// The row of the horizon.
    pub(super) fn horizon(&self) -> f32 {
        self.horizon
    }

    /// The ground point (`x`, `ahead`) that a pixel shows; `None` above the horizon.
    pub(super) fn ground(&self, column: f32, row: f32) -> Option<(f32, f32)> {
        let below = row - self.horizon;
        if below < 0.5 {
            return None;
        }
        let ahead = self.focal * self.height / below;
        Some((self.aside + (column - self.centre) * ahead / self.focal, ahead))
    }

    /// The point (`up`, `ahead`) that a pixel shows of an upright wall along the road, `x` metres
    /// right of its middle; `None` if the pixel does not face that wall.
    pub(super) fn wall(&self, x: f32, column: f32, row: f32) -> Option<(f32, f32)> {
        let ahead = self.focal * (x - self.aside) / (column - self.centre);
        (ahead.is_finite() && ahead > 1.0)
            .then(|| (self.height - (row - self.horizon) * ahead / self.focal, ahead))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_on_the_ground_comes_back() {
        let lens = Lens::new(640, 480, &mut Random::new(1, 1));
        let (column, row) = lens.project(2.5, 0.0, 40.0);
        let (x, ahead) = lens.ground(column, row).unwrap();
        assert!((x - 2.5).abs() < 1e-3 && (ahead - 40.0).abs() < 1e-2, "{x} {ahead}");
        let (column, row) = lens.project(12.0, 6.0, 55.0);
        let (up, ahead) = lens.wall(12.0, column, row).unwrap();
        assert!((up - 6.0).abs() < 1e-3 && (ahead - 55.0).abs() < 1e-2, "{up} {ahead}");
    }
}
