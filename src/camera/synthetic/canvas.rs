//! The picture into which vehicles are painted, and the mask of their pixels.

/// A picture being painted, and a mask with one byte per pixel, which is 1 for vehicle pixels.
pub(super) struct Canvas<'a> {
    /// Interleaved RGB.
    pub(super) rgb: &'a mut [u8],
    pub(super) mask: &'a mut [u8],
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Corners of a convex shape, in pixels, in order around it.
pub(super) type Quad = [(f32, f32); 4];

impl Canvas<'_> {
    /// Paints a part of a vehicle with a gradient from `upper` to `lower` colour.
    pub(super) fn body(&mut self, quad: &Quad, upper: [u8; 3], lower: [u8; 3]) {
        let (top, bottom) = extent(quad);
        let steps = (bottom - top).max(1.0);
        let width = self.width;
        self.spans(quad, |canvas, row, from, to| {
            let share = ((row as f32 + 0.5 - top) / steps).clamp(0.0, 1.0);
            let colour: [u8; 3] = std::array::from_fn(|channel| {
                let (upper, lower) = (f32::from(upper[channel]), f32::from(lower[channel]));
                (upper + (lower - upper) * share) as u8
            });
            // The end pixels of a span are partly covered; rounding decides whether they are in the
            // mask.
            let (first, last) = (from.floor() as usize, (to.ceil() as usize).min(width) - 1);
            let pixels = &mut canvas.rgb[(row * width + first) * 3..][..(last + 1 - first) * 3];
            let (head, tail) = (first as f32 + 1.0 - from, to - last as f32);
            let count = last - first;
            for (index, pixel) in pixels.chunks_exact_mut(3).enumerate() {
                let covered = match index {
                    0 => head,
                    _ if index == count => tail,
                    _ => 1.0,
                };
                if covered >= 1.0 {
                    pixel.copy_from_slice(&colour);
                } else {
                    blend(pixel, colour, covered);
                }
            }
            let (from, to) = (from.round() as usize, (to.round() as usize).min(width));
            canvas.mask[row * width..][from..to.max(from)].fill(1);
        });
    }

    /// Darkens the shape to `share` / 256.
    pub(super) fn shadow(&mut self, quad: &Quad, share: u16) {
        let width = self.width;
        self.spans(quad, |canvas, row, from, to| {
            let (from, to) = (from.round() as usize, to.round() as usize);
            for value in &mut canvas.rgb[(row * width + from) * 3..(row * width + to.max(from)) * 3]
            {
                *value = ((u16::from(*value) * share) >> 8) as u8;
            }
        });
    }

    /// Adds light around a point that fades to zero at an ellipse with half axes `half`.
    pub(super) fn glow(&mut self, middle: (f32, f32), half: (f32, f32), colour: [f32; 3]) {
        let rows = clip(middle.1 - half.1, middle.1 + half.1, self.height);
        let columns = clip(middle.0 - half.0, middle.0 + half.0, self.width);
        for row in rows {
            let down = (row as f32 + 0.5 - middle.1) / half.1;
            let line = &mut self.rgb[row * self.width * 3..][..self.width * 3];
            for (offset, pixel) in
                line[columns.start * 3..columns.end * 3].chunks_exact_mut(3).enumerate()
            {
                let right = ((columns.start + offset) as f32 + 0.5 - middle.0) / half.0;
                let left_over = (1.0 - right * right - down * down).max(0.0);
                let strength = left_over * left_over;
                for (value, light) in pixel.iter_mut().zip(colour) {
                    *value = value.saturating_add((light * strength) as u8);
                }
            }
        }
    }

    /// Calls `paint` for each row of a convex shape, with the row and the exact first and last
    /// column, clipped to the picture. Empty rows are skipped.
    fn spans(&mut self, quad: &Quad, mut paint: impl FnMut(&mut Self, usize, f32, f32)) {
        let (top, bottom) = extent(quad);
        for row in clip(top.round(), bottom.round(), self.height) {
            let middle = row as f32 + 0.5;
            let (mut from, mut to) = (f32::MAX, f32::MIN);
            for (index, start) in quad.iter().enumerate() {
                let end = quad[(index + 1) % 4];
                if (start.1 <= middle) != (end.1 <= middle) {
                    let share = (middle - start.1) / (end.1 - start.1);
                    let crossing = start.0 + (end.0 - start.0) * share;
                    (from, to) = (from.min(crossing), to.max(crossing));
                }
            }
            let (from, to) = (from.max(0.0), to.min(self.width as f32));
            if from < to {
                paint(self, row, from, to);
            }
        }
    }
}

fn extent(quad: &Quad) -> (f32, f32) {
    quad.iter().fold((f32::MAX, f32::MIN), |(top, bottom), corner| {
        (top.min(corner.1), bottom.max(corner.1))
    })
}

/// The pixels between two positions, clipped to `limit`.
fn clip(from: f32, to: f32, limit: usize) -> std::ops::Range<usize> {
    let bound = |place: f32| place.clamp(0.0, limit as f32) as usize;
    bound(from)..bound(to.ceil())
}

fn blend(pixel: &mut [u8], colour: [u8; 3], share: f32) {
    let share = (share.clamp(0.0, 1.0) * 256.0) as u16;
    for (value, new) in pixel.iter_mut().zip(colour) {
        *value = ((u16::from(*value) * (256 - share) + u16::from(new) * share) >> 8) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_half_outside_covers_only_what_is_inside() {
        let (mut rgb, mut mask) = (vec![0; 20 * 10 * 3], vec![0; 20 * 10]);
        let mut canvas = Canvas { rgb: &mut rgb, mask: &mut mask, width: 20, height: 10 };
        let quad = [(-5.0, -5.0), (4.0, -5.0), (4.0, 5.0), (-5.0, 5.0)];
        canvas.body(&quad, [200; 3], [200; 3]);
        canvas.glow((19.0, 9.0), (50.0, 50.0), [10.0; 3]);
        assert_eq!(mask.iter().filter(|&&bit| bit == 1).count(), 4 * 5);
        assert_eq!(mask[4 * 20 + 3], 1);
    }
}
