//! Range and matrix of the planes from `ffmpeg`, parsed from its description of the output.

use crate::image::{Matrix, PixelLayout, Range, RawLayout};

/// The layout of planes; `None` if an entry cannot name the matrix, or if the line does not
/// describe planes. `line` describes a video stream, for example `Stream #0:0: Video: rawvideo
/// (I420 / 0x30323449), yuv420p(tv, bt709, progressive), 640x480`.
pub(super) fn layout(line: &str) -> Option<RawLayout> {
    let (at, pixels) = [PixelLayout::Yuvj420p, PixelLayout::Yuv420p]
        .into_iter()
        .find_map(|layout| Some((line.find(&format!(", {}", layout.name()))?, layout)))?;
    let behind = &line[at + 2 + pixels.name().len()..];
    let about = match behind.strip_prefix('(') {
        Some(list) => list.split_once(')')?.0,
        None if behind.starts_with([',', ' ']) => "",
        None => return None,
    };
    let mut layout = RawLayout { pixels: Some(pixels), ..RawLayout::default() };
    for word in about.split(',').map(str::trim) {
        match word {
            "tv" if pixels == PixelLayout::Yuvj420p => layout.range = Some(Range::Limited),
            "pc" if pixels == PixelLayout::Yuv420p => layout.range = Some(Range::Full),
            // The position of chroma samples does not affect their values.
            "tv" | "pc" | "progressive" | "" | "left" | "center" | "topleft" | "top"
            | "bottomleft" | "bottom" => {}
            // Matrix, primaries and transfer; one word if all three have the same name.
            names => match names.split('/').next().unwrap_or_default() {
                "bt709" => layout.matrix = Matrix::Bt709,
                // FFmpeg treats unspecified video as BT.601.
                "smpte170m" | "bt470bg" | "unknown" => {}
                other if other.contains(" first") => {} // the order of fields
                _ => return None,
            },
        }
    }
    Some(layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pixels: &str) -> Option<(PixelLayout, Option<Range>, Matrix)> {
        let line = format!(
            "Stream #0:0: Video: rawvideo (I420 / 0x30323449), {pixels}, 320x240 [SAR 1:1 DAR 4:3], \
             q=2-31, 4608 kb/s, 5 fps, 81920 tbn (default)"
        );
        layout(&line).map(|found| (found.pixels.unwrap(), found.range, found.matrix))
    }

    #[test]
    fn range_and_matrix_are_what_ffmpeg_says() {
        use PixelLayout::{Yuv420p, Yuvj420p};
        use Range::{Full, Limited};
        let cases = [
            ("yuv420p", Yuv420p, None, Matrix::Bt601),
            ("yuv420p(progressive)", Yuv420p, None, Matrix::Bt601),
            ("yuv420p(tv, progressive, left)", Yuv420p, None, Matrix::Bt601),
            ("yuv420p(tv, bt709, progressive)", Yuv420p, None, Matrix::Bt709),
            ("yuv420p(tv, bt709/unknown/unknown, progressive)", Yuv420p, None, Matrix::Bt709),
            ("yuv420p(pc, smpte170m)", Yuv420p, Some(Full), Matrix::Bt601),
            ("yuv420p(tv, unknown/bt709/bt709)", Yuv420p, None, Matrix::Bt601),
            ("yuv420p(tv, top coded first (swapped))", Yuv420p, None, Matrix::Bt601),
            ("yuvj420p(pc, bt470bg/unknown/unknown, progressive)", Yuvj420p, None, Matrix::Bt601),
            ("yuvj420p(tv)", Yuvj420p, Some(Limited), Matrix::Bt601),
        ];
        for (pixels, layout, range, matrix) in cases {
            assert_eq!(of(pixels), Some((layout, range, matrix)), "{pixels}");
        }
    }

    #[test]
    fn what_no_entry_can_say_has_no_layout() {
        for pixels in ["yuv420p(tv, bt2020nc/bt2020/unknown)", "yuv420p10le(tv)", "gray", "rgb24"] {
            assert_eq!(of(pixels), None, "{pixels}");
        }
        assert_eq!(layout(""), None);
        assert_eq!(layout("x, yuv420p(tv"), None);
    }
}
