//! The static part of the scene: painted once, lit again whenever the light changes.
//!
//! Two pictures are kept: colours in white light, and the light that lamps add at night. Lighting
//! is one multiplication and one addition per byte, so a change of light costs about as much as
//! copying the picture twice.

use super::lens::Lens;
use super::light::Light;
use super::place::Scenery;

/// The unlit background and the last lit one.
#[derive(Debug)]
pub(super) struct Backdrop {
    colours: Vec<u8>,
    lamps: Vec<u8>,
    lit: Vec<u8>,
    light: Option<Light>,
    row_bytes: usize,
    strengths: Vec<u16>,
}

impl Backdrop {
    /// Paints `place` as seen through `lens`.
    pub(super) fn new(width: u32, height: u32, lens: &Lens, place: &Scenery) -> Self {
        let row_bytes = width as usize * 3;
        let len = row_bytes * height as usize;
        let (mut colours, mut lamps) = (Vec::with_capacity(len), Vec::with_capacity(len));
        for row in 0..height {
            for column in 0..width {
                let (colour, lamp) = pixel(lens, place, column as f32, row as f32);
                let across = (column as f32 + 0.5) / width as f32 - 0.5;
                let down = (row as f32 + 0.5) / height as f32 - 0.5;
                let vignette = 1.0 - 0.32 * (across * across + down * down);
                colours.extend(colour.map(|value| (value * vignette).clamp(0.0, 255.0) as u8));
                lamps.extend(lamp.map(|value| (value * vignette).clamp(0.0, 255.0) as u8));
            }
        }
        let lit = vec![0; len];
        Backdrop { colours, lamps, lit, light: None, row_bytes, strengths: vec![0; row_bytes] }
    }

    /// The background in this light, interleaved RGB.
    pub(super) fn lit(&mut self, light: Light) -> &[u8] {
        if self.light != Some(light) {
            self.light = Some(light);
            for strengths in self.strengths.chunks_exact_mut(3) {
                strengths.copy_from_slice(&light.sky);
            }
            let rows = self.lit.chunks_exact_mut(self.row_bytes);
            let sources = self.colours.chunks_exact(self.row_bytes);
            let lamps = self.lamps.chunks_exact(self.row_bytes);
            for ((row, colours), lamps) in rows.zip(sources).zip(lamps) {
                light_row(row, colours, lamps, &self.strengths, light.lamps);
            }
        }
        &self.lit
    }
}

/// Lights one row. The strengths are at most 512 and 256, so the sum fits 18 bits before it is
/// clipped to a byte.
fn light_row(row: &mut [u8], colours: &[u8], lamps: &[u8], strengths: &[u16], lamp: u16) {
    let sources = colours.iter().zip(lamps).zip(strengths);
    for (value, ((colour, glow), strength)) in row.iter_mut().zip(sources) {
        let day = (u32::from(*colour) * u32::from(*strength)) >> 8;
        let night = (u32::from(*glow) * u32::from(lamp)) >> 8;
        *value = (day + night).min(255) as u8;
    }
}

/// Averages one pixel over four samples: colour, and lamp light.
fn pixel(lens: &Lens, place: &Scenery, column: f32, row: f32) -> ([f32; 3], [f32; 3]) {
    const WITHIN: [(f32, f32); 4] =
        [(0.125, 0.375), (0.625, 0.125), (0.375, 0.875), (0.875, 0.625)];
    let (mut colour, mut lamp) = ([0.0; 3], [0.0; 3]);
    for (right, down) in WITHIN {
        let seen = place.seen(lens, column + right, row + down);
        for channel in 0..3 {
            colour[channel] += seen.colour[channel] / 4.0;
            lamp[channel] += seen.lamp[channel] / 4.0;
        }
    }
    (colour, lamp)
}
