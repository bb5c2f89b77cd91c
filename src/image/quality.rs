//! The quality a JPEG was written with, judged by its quantisation table.

use super::markers;

/// Luminance quantisation of ITU-T T.81, table K.1, row by row.
const LUMINANCE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, //
    12, 12, 14, 19, 26, 58, 60, 55, //
    14, 13, 16, 24, 40, 57, 69, 56, //
    14, 17, 22, 29, 51, 87, 80, 62, //
    18, 22, 37, 56, 68, 109, 103, 77, //
    24, 35, 55, 64, 81, 104, 113, 92, //
    49, 64, 78, 87, 103, 121, 120, 101, //
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// Estimates the quality setting of libjpeg, 1 to 100, that gives the luma quantisation table
/// nearest to the file's: exact for files written by libjpeg and its kin, a close guess for
/// others.
///
/// `None` if the bytes are not a JPEG with a luma table. The scaling is libjpeg's
/// `jpeg_quality_scaling`: `5000 / q` per cent below 50, `200 - 2 q` per cent from there on,
/// entries limited to 1..255.
pub fn jpeg_quality(bytes: &[u8]) -> Option<u8> {
    let table = markers::read(bytes).ok()?.luma_table?;
    (1..=100).min_by_key(|&quality| distance(&table, quality))
}

fn distance(table: &[u16; 64], quality: u8) -> u32 {
    let quality = u32::from(quality);
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    let mut sum = 0;
    for (at, &found) in zigzag().zip(table) {
        let ideal = ((u32::from(LUMINANCE[at]) * scale + 50) / 100).clamp(1, 255);
        sum += ideal.abs_diff(u32::from(found));
    }
    sum
}

/// Positions in a block of 8 rows of 8, diagonal by diagonal (T.81, figure A.6).
fn zigzag() -> impl Iterator<Item = usize> {
    (0..15_usize).flat_map(|diagonal| {
        let first = diagonal.saturating_sub(7);
        let last = diagonal.min(7);
        (first..=last).map(move |step| {
            let (row, column) = if diagonal % 2 == 0 {
                (first + last - step, diagonal - (first + last - step))
            } else {
                (step, diagonal - step)
            };
            8 * row + column
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_walks_as_in_the_standard() {
        let order: Vec<_> = zigzag().collect();
        assert_eq!(order[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
        assert_eq!(order[59..], [54, 47, 55, 62, 63]);
        assert_eq!(order.iter().sum::<usize>(), 63 * 64 / 2);
    }

    #[test]
    fn files_of_libjpeg_are_read_exactly() {
        let pixels: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 7 % 251) as u8).collect();
        for quality in 10..=100 {
            let image = turbojpeg::Image {
                pixels: &pixels[..],
                width: 32,
                pitch: 96,
                height: 32,
                format: turbojpeg::PixelFormat::RGB,
            };
            let file = turbojpeg::compress(image, quality, turbojpeg::Subsamp::Sub2x2).unwrap();
            assert_eq!(jpeg_quality(&file), Some(quality as u8));
        }
    }

    #[test]
    fn nothing_is_guessed_without_a_table() {
        assert_eq!(jpeg_quality(b""), None);
        assert_eq!(jpeg_quality(b"\x89PNG\r\n\x1a\n"), None);
        assert_eq!(jpeg_quality(&[0xff, 0xd8, 0xff, 0xd9]), None);
    }
}
