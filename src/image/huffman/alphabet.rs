//! Which symbols can occur in a picture of a given quality.
//!
//! A sample is an integer of 0 to 255, shifted to -128 to 127. This bounds each of the 64
//! coefficients (T.81, A.3.3), and the bound is divided by the coefficient's entry in the
//! quantisation table. A table for that quality needs codes for values up to the result and no
//! others.

use super::super::quality::{CHROMINANCE, LUMINANCE, quantisation, zigzag};
use super::{END_OF_BLOCK, SIXTEEN_ZEROS};

/// Maximum bits of an AC value; libjpeg-turbo refuses larger ones.
const AC_BITS_MAX: u32 = 10;
/// Maximum bits of a DC difference.
const DC_BITS_MAX: u32 = 11;
/// Generous bound of the error of libjpeg-turbo's integer transform.
const SLACK: f64 = 2.0;

/// The symbols of a component's two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alphabet {
    /// Bits of the largest DC difference.
    dc_bits: u32,
    /// Bits of the largest value after a run of as many zeros as the index; 0 if none can occur.
    ac_bits: [u32; 16],
    /// Whether sixteen zeros can come before another value.
    has_long_runs: bool,
}

impl Alphabet {
    /// The alphabet of luma or chroma at a quality of 1 to 100.
    pub(super) fn of(quality: u8, is_chroma: bool) -> Alphabet {
        let standard = if is_chroma { &CHROMINANCE } else { &LUMINANCE };
        let steps = quantisation(standard, quality);
        let bits = |value: f64, step: u16| {
            let quantised = ((value + SLACK + f64::from(step) / 2.0) / f64::from(step)) as u32;
            u32::BITS - quantised.leading_zeros()
        };
        // From the darkest block to the brightest.
        let dc_bits = bits(2.0 * 127.5 * 8.0, steps[0]).min(DC_BITS_MAX);
        let mut ac_bits = [0; 16];
        let mut has_long_runs = false;
        for (place, at) in zigzag().enumerate().skip(1) {
            let bits = bits(bound(at % 8, at / 8), steps[at]).min(AC_BITS_MAX);
            for most in &mut ac_bits[..place.min(16)] {
                *most = bits.max(*most);
            }
            has_long_runs |= place > 16 && bits > 0;
        }
        Alphabet { dc_bits, ac_bits, has_long_runs }
    }

    pub(super) fn dc(&self) -> impl Iterator<Item = u8> {
        0..=self.dc_bits as u8
    }

    pub(super) fn ac(&self) -> impl Iterator<Item = u8> {
        let values = (0_u8..16).zip(self.ac_bits);
        let values =
            values.flat_map(|(run, most)| (1..=most as u8).map(move |bits| run << 4 | bits));
        let long = self.has_long_runs.then_some(SIXTEEN_ZEROS);
        std::iter::once(END_OF_BLOCK).chain(long).chain(values)
    }
}

/// The largest magnitude of a coefficient, reached if every sample is at the end of its range that
/// adds to it.
fn bound(across: usize, down: usize) -> f64 {
    let sum = |frequency: usize| {
        let cosines = (0..8).map(|at| {
            let angle = (2 * at + 1) as f64 * frequency as f64 * std::f64::consts::PI / 16.0;
            angle.cos().abs()
        });
        let factor = if frequency == 0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
        cosines.sum::<f64>() * factor
    };
    127.5 / 4.0 * sum(across) * sum(down)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finest_quality_has_all_symbols_and_the_coarsest_few() {
        let finest = Alphabet::of(100, false);
        assert_eq!((finest.dc().count(), finest.ac().count()), (12, 162));
        let coarsest = Alphabet::of(1, true);
        assert_eq!((coarsest.dc().count(), coarsest.ac().count()), (5, 50));
        let usual = Alphabet::of(60, true);
        assert!(usual.ac().count() < 100, "{}", usual.ac().count());
    }
}
