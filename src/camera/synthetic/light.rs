//! The light of a day that lasts a few minutes.

use std::f32::consts::TAU;

use crate::camera::random::{mix, step};

/// Length of a full day, in seconds of scene time.
pub(super) const DAY_SECONDS: f64 = 360.0;

/// Light of the scene at one moment; 256 is full strength. The values are integers, so that moments
/// with equal light compare equal and the background is not lit again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Light {
    /// Strength of sun and sky, for red, green and blue.
    pub(super) sky: [u16; 3],
    /// Strength of street lamps, windows and headlights.
    pub(super) lamps: u16,
}

impl Light {
    /// The light at `hour` of the day, `0.0..1.0`; 0 is midnight.
    pub(super) fn at(hour: f32) -> Self {
        // The sun is above the horizon for slightly more than half the day.
        let elevation = 0.22 - (TAU * hour).cos();
        let day = step(-0.3, 0.5, elevation);
        let strength = mix(0.13, 1.0, day);
        // Reddish for a low sun, white for a high one, bluish at night.
        let low_sun = step(-0.35, 0.05, elevation) * (1.0 - step(0.05, 0.7, elevation));
        let tint = [1.0 + 0.10 * low_sun, 1.0 - 0.03 * low_sun, 1.0 - 0.18 * low_sun];
        let night = [0.80, 0.90, 1.15];
        let sky = [0, 1, 2].map(|channel| {
            let colour: f32 = mix(night[channel], tint[channel], day.max(low_sun));
            (256.0 * strength * colour) as u16
        });
        Light { sky, lamps: (256.0 * (1.0 - step(-0.25, 0.25, elevation))) as u16 }
    }

    /// Darkness, from 0 by day to 1 at night.
    pub(super) fn darkness(self) -> f32 {
        1.0 - f32::from(self.sky[1].min(256)) / 256.0
    }

    /// Colour of a surface in this light. Lamps contribute 20 to 30 per cent of their strength.
    pub(super) fn on(self, colour: [f32; 3]) -> [u8; 3] {
        let lamp = [0.30, 0.26, 0.20].map(|share| share * f32::from(self.lamps));
        [0, 1, 2].map(|channel| {
            let strength = f32::from(self.sky[channel]) + lamp[channel];
            (colour[channel] * strength / 256.0).min(255.0) as u8
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noon_is_bright_without_lamps_and_midnight_dark_with_them() {
        let (noon, midnight) = (Light::at(0.5), Light::at(0.0));
        assert_eq!((noon.lamps, midnight.lamps), (0, 256));
        assert!(noon.sky[1] > 250 && midnight.sky[1] < 40, "{noon:?} {midnight:?}");
        assert!(midnight.darkness() > 0.8 && noon.darkness() < 0.05);
    }
}
