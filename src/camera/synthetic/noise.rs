//! Sensor noise, computed once and added in one pass.
//!
//! Each row of each frame takes its noise from a random position in a table. This costs one
//! saturating addition and one saturating subtraction per byte; both are single vector
//! instructions.

use crate::camera::random::Random;

/// Standard deviations of the tables, from good light to poor.
const DEVIATIONS: [f32; 4] = [1.5, 2.0, 2.7, 3.6];
/// Number of positions at which a row may begin, in pixels.
const STARTS: usize = 8192;
/// Offset added to every table value, so that it is unsigned.
const BIAS: u8 = 16;

/// Noise tables for pictures of one width.
#[derive(Debug)]
pub(super) struct Noise {
    tables: Vec<Vec<u8>>,
    row_bytes: usize,
    random: Random,
}

impl Noise {
    pub(super) fn new(width: u32, mut random: Random) -> Self {
        let width = width as usize;
        let tables =
            DEVIATIONS.map(|deviation| table(STARTS + width, deviation, &mut random)).into();
        Noise { tables, row_bytes: width * 3, random }
    }

    /// Adds noise to a picture; `darkness` from 0 to 1 selects the sensor gain.
    pub(super) fn add(&mut self, rgb: &mut [u8], darkness: f32) {
        let last = self.tables.len() - 1;
        let table = &self.tables[((darkness * last as f32).round() as usize).min(last)];
        for row in rgb.chunks_exact_mut(self.row_bytes) {
            let start = 3 * self.random.below(STARTS);
            for (value, noise) in row.iter_mut().zip(&table[start..start + self.row_bytes]) {
                *value = value.saturating_add(*noise).saturating_sub(BIAS);
            }
        }
    }
}

/// Makes a table of noise, mostly in brightness and a little in colour. Neighbouring pixels are
/// correlated, as after the demosaicking of a real sensor.
fn table(pixels: usize, deviation: f32, random: &mut Random) -> Vec<u8> {
    let mut before = [0.0f32; 4];
    let mut bytes = Vec::with_capacity(pixels * 3);
    for _ in 0..pixels {
        let fresh = [(); 4].map(|()| gaussian(random));
        let soft: [f32; 4] = std::array::from_fn(|i| 0.8 * fresh[i] + 0.6 * before[i]);
        before = fresh;
        for colour in &soft[1..] {
            let value = f32::from(BIAS) + deviation * (0.9 * soft[0] + 0.4 * colour);
            bytes.push(value.round().clamp(0.0, 2.0 * f32::from(BIAS)) as u8);
        }
    }
    bytes
}

/// Approximates a standard normal: the sum of six uniform numbers has a variance of 1/2.
fn gaussian(random: &mut Random) -> f32 {
    let sum: f32 = (0..6).map(|_| random.unit()).sum();
    (sum - 3.0) * std::f32::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_no_mean_and_the_deviation_asked_for() {
        let mut noise = Noise::new(101, Random::new(3, 3));
        let mut rgb = vec![100u8; 101 * 67 * 3];
        noise.add(&mut rgb, 0.0);
        let count = rgb.len() as f32;
        let mean = rgb.iter().map(|&v| f32::from(v)).sum::<f32>() / count;
        let variance = rgb.iter().map(|&v| (f32::from(v) - mean).powi(2)).sum::<f32>() / count;
        assert!((mean - 100.0).abs() < 0.2, "mean {mean}");
        assert!((1.2..1.8).contains(&variance.sqrt()), "deviation {}", variance.sqrt());
    }
}
