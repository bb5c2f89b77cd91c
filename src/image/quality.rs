//! Estimates the quality setting of a JPEG from its quantisation tables.

use super::markers;

/// Luminance quantisation of ITU-T T.81, table K.1, row by row.
pub(super) const LUMINANCE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, //
    12, 12, 14, 19, 26, 58, 60, 55, //
    14, 13, 16, 24, 40, 57, 69, 56, //
    14, 17, 22, 29, 51, 87, 80, 62, //
    18, 22, 37, 56, 68, 109, 103, 77, //
    24, 35, 55, 64, 81, 104, 113, 92, //
    49, 64, 78, 87, 103, 121, 120, 101, //
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// Chrominance quantisation of ITU-T T.81, table K.2.
pub(super) const CHROMINANCE: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, //
    18, 21, 26, 66, 99, 99, 99, 99, //
    24, 26, 56, 99, 99, 99, 99, 99, //
    47, 66, 99, 99, 99, 99, 99, 99, //
    99, 99, 99, 99, 99, 99, 99, 99, //
    99, 99, 99, 99, 99, 99, 99, 99, //
    99, 99, 99, 99, 99, 99, 99, 99, //
    99, 99, 99, 99, 99, 99, 99, 99,
];

/// The libjpeg quality setting, 1 to 100, that a JPEG was written with: exact for files written by
/// libjpeg and its derivatives, a close estimate for others.
///
/// Each component's quantisation table is compared with the standard one at every setting, and the
/// nearest setting is taken. The standard tables are T.81, annex K: luminance for the first
/// component, chrominance for the others. The component with the highest quality decides, so a file
/// with coarse luma and fine chroma is judged by its chroma. The scaling is libjpeg's
/// `jpeg_quality_scaling`: `5000 / q` per cent below 50, `200 - 2 q` per cent from 50 on, entries
/// limited to 1..255. Chroma subsampling is ignored.
///
/// `None` if the bytes are not a JPEG, or a table is missing.
pub fn jpeg_quality(bytes: &[u8]) -> Option<u8> {
    let frame = markers::read(markers::from_start(bytes)?).ok()?;
    let components = frame.quantisation.iter().take(frame.components.into());
    let standards = [&LUMINANCE, &CHROMINANCE, &CHROMINANCE];
    let mut finest = None;
    for (table, standard) in components.zip(standards) {
        finest = finest.max(nearest(table.as_ref()?, standard));
    }
    finest
}

fn nearest(table: &[u16; 64], standard: &[u16; 64]) -> Option<u8> {
    (1..=100).min_by_key(|&quality| distance(table, standard, quality))
}

fn distance(table: &[u16; 64], standard: &[u16; 64], quality: u8) -> u32 {
    let ideal = quantisation(standard, quality);
    zigzag().zip(table).map(|(at, &found)| u32::from(ideal[at].abs_diff(found))).sum()
}

/// A quantisation table of libjpeg, row by row.
pub(super) fn quantisation(standard: &[u16; 64], quality: u8) -> [u16; 64] {
    let quality = u32::from(quality.clamp(1, 100));
    let scale = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    standard.map(|entry| ((u32::from(entry) * scale + 50) / 100).clamp(1, 255) as u16)
}

/// Positions in a block of 8 rows of 8, diagonal by diagonal (T.81, figure A.6).
pub(super) fn zigzag() -> impl Iterator<Item = usize> {
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

    fn file(quality: i32, subsampling: turbojpeg::Subsamp) -> Vec<u8> {
        let pixels: Vec<u8> = (0..32 * 32 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let image = turbojpeg::Image {
            pixels: &pixels[..],
            width: 32,
            pitch: 96,
            height: 32,
            format: turbojpeg::PixelFormat::RGB,
        };
        turbojpeg::compress(image, quality, subsampling).unwrap().to_vec()
    }

    /// Overwrites entries of table `id` of a file from zigzag index `from` on.
    fn with_table(mut file: Vec<u8>, id: u8, from: usize, value: u8) -> Vec<u8> {
        let head = [0xff, 0xdb, 0, 67, id];
        let at = file.windows(5).position(|window| window == head).unwrap() + 5;
        file[at + from..at + 64].fill(value);
        file
    }

    #[test]
    fn files_of_libjpeg_are_read_exactly() {
        for subsampling in [turbojpeg::Subsamp::Sub2x2, turbojpeg::Subsamp::None] {
            for quality in 5..=100 {
                assert_eq!(jpeg_quality(&file(quality, subsampling)), Some(quality as u8));
            }
        }
        for quality in 10..=100 {
            let gray = file(quality, turbojpeg::Subsamp::Gray);
            assert_eq!(jpeg_quality(&gray), Some(quality as u8));
        }
    }

    #[test]
    fn the_finest_table_decides() {
        let coarse = file(40, turbojpeg::Subsamp::Sub2x2);
        assert_eq!(jpeg_quality(&with_table(coarse.clone(), 1, 0, 1)), Some(100));
        assert_eq!(jpeg_quality(&with_table(coarse, 0, 0, 1)), Some(100));
    }

    #[test]
    fn unusual_tables_are_judged_by_the_nearest() {
        let between = |file: &[u8]| jpeg_quality(file).unwrap();
        // Flat tables: finer in the high frequencies, coarser in the low ones.
        let flat = |value| {
            let file = with_table(file(90, turbojpeg::Subsamp::Sub2x2), 0, 0, value);
            between(&with_table(file, 1, 0, value))
        };
        assert_eq!((flat(1), flat(255)), (100, 1));
        assert!(flat(10) > flat(20) && flat(20) > flat(60), "{} {}", flat(10), flat(60));
        // A few different entries hardly matter.
        let tuned = with_table(file(75, turbojpeg::Subsamp::Sub2x2), 0, 60, 40);
        assert!(between(&tuned).abs_diff(75) <= 2, "{}", between(&tuned));
    }

    #[test]
    fn nothing_is_guessed_without_a_table() {
        assert_eq!(jpeg_quality(b""), None);
        assert_eq!(jpeg_quality(b"\x89PNG\r\n\x1a\n"), None);
        assert_eq!(jpeg_quality(&[0xff, 0xd8, 0xff, 0xd9]), None);
    }
}
